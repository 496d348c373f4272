import html
import re
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest

from agents.reward_metrics import Rows, paths_table, tables
from agents.score_page import CONTROLS, PATHS, WorstFrame, score_page, verdict

PROMPTS = ("the red armchair close by", "a <red> armchair & nothing else")


def rows(count: int = 8) -> Rows:
    """Walks of 11 moments in several homes: experts arrive, failures turn back half way."""
    time, parts = np.linspace(0, 1, 11), []
    for k in range(count):
        for path, progress in (("oracle", time), ("failed", 0.5 - abs(time - 0.5)), ("stare", 0 * time + 0.1)):
            parts.append((path, f"home{k % 4}", progress))
    progress = np.concatenate([part[2] for part in parts])
    return Rows(
        score=progress,
        progress=progress,
        success=progress > 0.9,
        trajectory=np.repeat(np.arange(len(parts)), 11),
        step=np.tile(np.arange(11), len(parts)),
        path=np.repeat([part[0] for part in parts], 11),
        group=np.repeat([part[1] for part in parts], 11),
        goal=np.zeros(len(progress), np.int64),
        frame=np.full(len(progress), -1),
    )


@pytest.fixture(scope="module")
def result() -> dict:
    moments, rng = rows(), np.random.default_rng(0)
    scores = {
        "alpha 0.5": moments.progress + rng.normal(0, 0.3, len(moments)),
        "random weights": rng.normal(0, 1, len(moments)),
        "constant": np.full(len(moments), 0.5),
    }
    return {
        "task": "find_object",
        "homes": 4,
        "frames": 12345,
        "seconds": {"scoring": 12.625},
        "rewards": tables(moments, scores, resamples=50),
        "paths": {name: paths_table(moments.scored(score)) for name, score in scores.items()},
        "sweep": {
            prompt: {alpha: {"epic": rng.random(), "auc": rng.random()} for alpha in ("0", "0.5", "1")}
            for prompt in PROMPTS
        },
    }


@pytest.fixture(scope="module")
def page(result) -> str:
    worst = [
        WorstFrame(np.full((40, 60, 3), 9, np.uint8), 0.875, 0.125, PROMPTS[1], "stare", too_high=True),
        WorstFrame(np.full((40, 60, 3), 9, np.uint8), 0.0625, 1.0, PROMPTS[0], "oracle", too_high=False),
    ]
    return score_page("find_object", result, "alpha 0.5", rows().scored(np.linspace(0, 1, len(rows()))), worst)


def cells(page: str) -> list[str]:
    """The texts of all table cells, a line of a cell on its own."""
    found = re.findall(r"<td[^>]*>(.*?)</td>", page)
    return [html.unescape(part) for cell in found for part in re.split(r"<br>|</?small>", cell) if part]


def test_the_page_holds_every_number_of_the_result(page, result):
    shown = cells(page)
    for name, figures in result["rewards"].items():
        assert name in shown
        for metric, entry in figures.items():
            if all(other[metric]["value"] is None for other in result["rewards"].values()):
                continue  # a column without any value is left out
            assert ("–" if entry["value"] is None else f"{entry['value']:.3f}") in shown
            assert f"n {entry['n']}" in shown
            if entry["interval"]:
                low, high = (f"{end:.3f}" for end in entry["interval"])
                assert f"{low}–{high}" in shown or f"{low} to {high}" in shown
    for walks in result["paths"].values():
        for path, values in walks.items():
            assert PATHS[path][0] in shown
            assert {f"{value:.3f}" for value in values} <= set(shown)
    for prompt, row in result["sweep"].items():
        assert prompt in shown
        for alpha, entry in row.items():
            assert alpha in shown and {f"{value:.3f}" for value in entry.values()} <= set(shown)
    assert {"find_object", "4", "12,345", "seconds · scoring", "12.625"} <= set(shown)


def test_the_worst_errors_stand_under_their_direction_with_score_truth_goal_and_path(page):
    high, low = page.index("Scored high, truth low"), page.index("Scored low, truth high")
    too_high = page.index("score 0.875, truth 0.12 · “a &lt;red&gt; armchair &amp; nothing else” · staring at a wall")
    too_low = page.index("score 0.062, truth 1.00 · “the red armchair close by” · shortest way to the goal")
    assert high < too_high < low < too_low


def test_the_page_fetches_nothing_and_closes_every_tag(page):
    sources = re.findall(r'(?:src|href)="([^"]{0,12})', page)
    assert len(sources) > 8 and all(source.startswith(("data:image/", "#")) for source in sources)
    assert "url(" not in page and "@import" not in page and "<script" not in page

    class Nesting(HTMLParser):
        open: list[str] = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "br"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    Nesting().feed(page)
    assert not Nesting.open


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


def test_what_was_not_measured_has_no_section():
    moments = rows(2)
    unknown = moments.chosen(np.arange(22))
    unknown.progress[:] = np.nan
    bare = {"rewards": tables(unknown, {"mine": unknown.score}, resamples=0)}
    page = score_page("a video", bare, "mine", unknown)
    assert "True progress is not known of any moment." in page
    assert not re.search('id="(along-paths|prompts-and-alpha|worst-errors)"', page)


def table(auc, interval=None, **others):
    return {"auc": {"value": auc, "interval": interval, "n": 1}} | {
        name: {"value": value, "interval": None, "n": 1} for name, value in others.items()
    }


@pytest.mark.parametrize(
    ("mine", "blind", "grade", "said"),
    [
        (table(0.95, (0.92, 0.97)), table(0.55), "good", "reliably tells success .* 0.95, 0.92–0.97.* reach 0.55"),
        (table(0.80, (0.75, 0.85)), table(0.55), "mixed", "mostly tells success"),
        (table(0.60, (0.55, 0.65)), table(0.50), "mixed", "only weakly tells success"),
        (table(0.55, (0.45, 0.65)), table(0.30), "bad", "does not show that it tells success"),
        (table(0.95, (0.90, 0.97)), table(0.92), "bad", "random weights are as good"),
        (table(0.95, (0.92, 0.97), false_positives=0.3), table(0.5), "mixed", "30% of failed endings score like"),
        (table(0.95, (0.92, 0.97), false_positives=0.1, false_positives_adversarial=0.6), table(0.5), "bad", "60% of"),
        (table(0.95, (0.92, 0.97), voc_failed=0.7), table(0.5), "good", "rises with time on walks that fail"),
        (table(None, spearman=0.8), table(None, spearman=0.1), "good", "rises and falls with true progress .Spearman"),
        (table(None, voc_expert=-0.2), table(None), "bad", "does not show that it rises along experts' walks"),
        (table(None), table(None), "bad", "Nothing is known of the truth"),
    ],
)
def test_the_verdict_follows_its_rule(mine, blind, grade, said):
    found, words = verdict({"mine": mine, "random weights": blind}, "mine")
    assert found == grade and re.search(said, words), words


def test_a_control_scored_for_itself_is_not_compared_with_itself():
    assert "random weights are" not in verdict({"random weights": table(0.6, (0.5, 0.7))}, "random weights")[1]
    assert set(CONTROLS) == {"random weights", "constant", "oracle"}
