"""Tests of scene/home_page.py: the page stands alone, and its rows name objects that the plan holds."""

import json
import re

from core.page import text
from scene.datasets.procedural import generate_home
from scene.graph import build_graph
from scene.home_page import home_page, svg
from scene.said import Said, generated
from scene.show import plan_figure


def test_sentences_and_rows_point_at_objects_of_the_plan_and_nothing_is_fetched():
    scene = generate_home(3)
    graph = build_graph(scene)
    texts = generated(scene, graph, seed=0)
    page = home_page(scene, graph, plan_figure(scene), [(b"png", "a <bed>")], texts, ["No & nothing."])
    drawn = set(re.findall(r'id="object-(\d+)"', page))
    assert drawn == {str(item.id) for item in scene.objects}  # doors, too, which are drawn with the walls
    rows = re.findall(r'data-targets="(\[.*?\])" data-anchors="(\[.*?\])"', page)
    assert len(rows) == len(texts) + len(scene.objects)
    assert [json.loads(targets) for targets, _ in rows[: len(texts)]] == [list(item.targets) for item in texts]
    assert "No &amp; nothing." in page and "a &lt;bed&gt;" in page
    sources = re.findall(r'\b(?:src|href)="([^"]{0,12})', page)
    assert sources and all(source.startswith(("data:", "#")) for source in sources)
    assert "url(http" not in page and "@import" not in page


def test_a_sentence_has_its_target_and_anchor_coloured_and_a_question_its_answer():
    scene = generate_home(3)
    names = [item.label for item in scene.objects[:2]]
    said = [
        Said("referral", "relation", f"the {names[0]} & the {names[1]}", (0,), (1,)),
        Said("question", "x", "is it?", answer="y<s"),
    ]
    page = home_page(scene, None, plan_figure(scene), [], said)
    target = f'<span class="target">{text(names[0])}</span>'
    assert f'the {target} &amp; the <span class="anchor">{text(names[1])}</span>' in page and "<b>y&lt;s</b>" in page


def test_equal_plans_are_equal_bytes_and_no_document_of_their_own():
    first, second = (svg(plan_figure(generate_home(0))) for _ in range(2))
    assert first == second and first.startswith("<svg") and "<metadata>" not in first and "DOCTYPE" not in first
