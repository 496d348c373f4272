"""The table of grounding arms reads what evaluations write."""

from benchmarks.grounding_arms import said_verdict
from scene.provenance import Provenance, unseen


def test_the_verdict_is_said_in_the_evaluators_words():
    verdict = unseen(Provenance(), "procthor", [("house", "the bed")])
    assert said_verdict({"zero_shot": verdict.to_json()}) == str(verdict)
    assert str(verdict).startswith("zero-shot: no scene")
