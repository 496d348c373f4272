import pytest
import torch

from agents.object_memory import LOW, SceneScores
from envs.pool import HomePool
from scene.grounder import Grounder
from tests.agents.tiny import make_grounder
from tests.envs.homes import three_homes


@pytest.fixture(scope="module")
def grounder(tmp_path_factory) -> Grounder:
    return Grounder.from_pretrained(make_grounder(tmp_path_factory.mktemp("grounder")))


def test_scores_are_those_of_the_grounder_whatever_the_order_of_sentences(grounder):
    home = HomePool(three_homes()).homes[1]
    texts = ["find the red armchair", "find the green armchair"]
    scores = SceneScores(grounder)
    scores.prepare(home, texts)
    ranking = grounder.locate(home.scene, "the red armchair")
    found = scores(home, texts[0])
    assert found.shape == (len(home.scene.objects), 3)
    for item in ranking.objects:
        assert found[item.id, 0].item() == pytest.approx(item.score, abs=1e-5)
    best = ranking.best.id
    assert found[best, 1:].tolist() == [0, 1] and float(found[:, 1].min()) >= LOW / 6
    torch.testing.assert_close(SceneScores(grounder)(home, texts[0]), found, rtol=1e-4, atol=1e-5)


def test_a_home_and_sentence_are_scored_once(grounder, monkeypatch):
    home, scores, calls = HomePool(three_homes()).homes[0], SceneScores(grounder), []
    score = grounder.score
    monkeypatch.setattr(grounder, "score", lambda objects, texts: calls.append(list(texts)) or score(objects, texts))
    for _ in range(2):
        scores(home, "find the red armchair")
    scores.prepare(home, ["find the red armchair", "find the blue sofa"])
    assert calls == [["the red armchair"], ["the blue sofa"]]
