"""The page of evaluate-reasoner: what it says of made-up figures, and that it is whole."""

import re
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from agents.reasoning import reasoner_plots
from agents.reasoning.answer_figures import (
    ALL,
    BEFORE,
    SEEN,
    TOLD,
    gains,
    manner,
    per_question,
    reflections,
    subsets,
    table,
)  # fmt: skip
from agents.reasoning.curves import Curve, over_epochs
from agents.reasoning.reasoner_page import Said, Shown, reasoner_page, verdict
from agents.reasoning.types import PICTURE, Sample
from tests.agents.reasoning.test_answer_figures import judged

HOSTILE = '<answer> <img src="http://x/y.png"> & "yes" </answer>'
SAMPLES = [
    Sample(
        f"q{k}", f"{PICTURE} is there a <b>lamp</b> ?", ("p.png",), str(k % 3), kind="existence", group=f"home {k % 5}"
    )
    if k % 4
    else Sample(f"q{k}", "1 + 1 ?", (), str(k % 3), kind="sum", needs_picture=False, group=f"home {k % 5}")
    for k in range(20)
]


def figures(before: bool = True) -> dict:
    draw = np.random.default_rng(0).random
    right = {"sampled": 0.6, "warm": 0.7, "cold": 0.8, "blind": 0.4, "exchanged": 0.3}
    ways = {
        way: judged((draw((20, 4 if way == "sampled" else 1)) < share).astype(int).tolist())
        for way, share in right.items()
    }
    if before:
        ways[BEFORE] = judged((draw((20, 1)) < 0.3).astype(int).tolist())
    rows = per_question(SAMPLES, ways, 4, np.ones(20))
    return {
        "data": "questions", "questions": 20, "groups": 5, "need_pictures": 15,
        "kinds": [part for part in subsets(SAMPLES) if part not in (ALL, SEEN, TOLD)],
        "accuracy": table(SAMPLES, rows), "gains": gains(SAMPLES, rows), "manner": manner(SAMPLES, ways),
        "reflection": reflections(ways["sampled"]),
    }  # fmt: skip


def result(**sets) -> dict:
    return {"model": "run/model", "k": 4, "max_new_tokens": 16, "seed": 0, "sets": sets, "curves": {}}


SAMPLED = (np.arange(80) % 9 + 1, np.arange(80) % 2 == 0)


@pytest.fixture(scope="module")
def page() -> str:
    lines = {f"seed of {name}": Curve(np.arange(3.0), np.full((3, 3), 0.5)) for name in ("grpo", "dapo")}
    whole = result(test=figures(), val=figures(before=False) | {"kinds": []})
    arms = {name: {"runs": ["a", "b", "c"], "seeds": [0, 1, 2]} for name in lines}
    whole["curves"] = {"x": "epoch", "arms": arms, "over": {"reward": {k: over_epochs(v) for k, v in lines.items()}}}
    picture = np.zeros((8, 8, 3), np.uint8)
    shown = [
        Shown(
            SAMPLES[1],
            [picture, picture],
            Said(HOSTILE, True, True, [("<a>", 0.0), ("b", 1.0)]),
            Said("", False, False),
        ),
        Shown(SAMPLES[0], [], Said("2", True)),
    ]
    return reasoner_page("a model", whole, SAMPLED, {"reward": lines}, shown)


def test_the_page_fetches_nothing_shows_answers_as_text_and_closes_every_tag(page):
    sources = re.findall(r'(?:src|href)="([^"]{0,12})', page)
    assert len(sources) > 8 and all(source.startswith(("data:image/", "#")) for source in sources)
    assert "&lt;img src=&quot;http://x/y.png&quot;&gt; &amp; &quot;yes&quot;" in page
    assert "is there a &lt;b&gt;lamp&lt;/b&gt; ?" in page and ">&lt;a&gt;</span>" in page

    class Nesting(HTMLParser):
        open: list[str] = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    Nesting().feed(page)
    assert not Nesting.open


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are named, not drawn: the page above has them."""
    monkeypatch.setattr(reasoner_plots, "figure_html", lambda figure, alt, *_, **__: f"<figure>{alt}</figure>")


def test_what_is_known_has_its_section_and_what_is_not_has_none(page, undrawn):
    sections = ["In short", "Accuracy", "Does it look?", "How it answers", "Learning curves", "Sample answers",
                "How it was measured"]  # fmt: skip
    assert re.findall(r"<h2>(.*?)</h2>", page) == sections
    assert page.count("before training, T = 0.01") == 1  # val was not asked of the model before
    assert "cut off at the limit" in page and "<dt>before</dt>" in page
    bare = reasoner_page("a model", result(test=figures(before=False)), SAMPLED, {}, [])
    assert not re.search("Learning curves|Sample answers|before training", bare)
    assert re.findall("<figure>(.*?)</figure>", bare)[1] == "accuracy by kind of question"


def test_curves_out_of_distribution_are_a_report_read_where_val_is_best(undrawn):
    line = Curve(np.arange(3.0), np.array([[0.1, 0.3, 0.2]]))
    whole = result(test=figures(before=False))
    over = {"accuracy on val": {"grpo": over_epochs(line)}, "accuracy on far": {"grpo": over_epochs(line, by=line)}}
    arms = {"grpo": {"runs": ["a"], "seeds": [0]}}
    whole["curves"] = {"x": "epoch", "arms": arms, "ood": ["far"], "over": over}
    page = reasoner_page(
        "a model", whole, SAMPLED, {"accuracy": {"grpo": line}}, [], {"accuracy": {"far": {"grpo": line}}}
    )
    assert "Out of distribution: far, a report and nothing to choose by." in page
    near, far = re.findall(r"<tr><td[^>]*>grpo</td>(.*?)</tr>", page)
    assert near.count("0.300") == 1 and "–" in near
    assert far.count("0.300") == 2 and "–" not in far


@pytest.mark.browser
def test_a_narrow_screen_needs_no_scrolling_sideways(page, tmp_path, chromium):
    script = "<script>document.title = `${innerWidth} ${document.documentElement.scrollWidth}`</script>"
    file = tmp_path / "page.html"
    file.write_text(page.replace("</body>", script + "</body>"))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    shown = subprocess.run(
        [chromium, *flags, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=400,800", "--dump-dom",
         file.as_uri()], capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip
    inner, wide = map(int, re.search(r"<title>(\d+) (\d+)</title>", shown).groups())
    assert wide <= inner <= 520


def told(value: float, half: float = 0.05) -> dict:
    return {"value": value, "interval": [value - half, value + half], "n": 100, "groups": 10}


@pytest.mark.parametrize(
    ("right", "guess", "gain", "need", "grade", "said"),
    [
        (0.8, 0.5, 0.2, 90, "good", "80% .75 to 85. .* seeing adds .20.0 points"),
        (0.5, 0.5, 0.2, 90, "mixed", "most frequent answers are right on 50%"),
        (0.8, 0.5, 0.04, 90, "bad", "seeing adds nothing that shows"),
        (0.8, 0.5, 0.0, 0, "good", "No question needs a picture"),
        (0.5, 0.5, 0.0, 0, "mixed", "whether it looks is not known"),
    ],
)
def test_the_verdict_follows_its_rule(right, guess, gain, need, grade, said):
    accuracy = {"cold": right, "most frequent answer": guess, "chance": 0.3, "blind": right - gain}
    parts = {row: {ALL: told(value), SEEN: told(value)} for row, value in accuracy.items()}
    found, words = verdict(
        {"accuracy": parts, "gains": {"blind": {ALL: told(gain), SEEN: told(gain)}}, "need_pictures": need}, "test"
    )
    assert found == grade and re.search(said, words), words
