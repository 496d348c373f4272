import pytest

from agents.prompt_sets import PromptSet, prompt_sets
from core.errors import InputError
from scene.captions import BASELINE_PROMPTS


def test_named_sets_and_templates_name_the_thing():
    assert PromptSet("label").goal("red armchair") == ["red armchair"]
    assert PromptSet("photo").goal("orange bed") == ["a photo of an orange bed"]
    assert PromptSet("the {thing} is here").goal("bed") == ["the bed is here"]
    assert PromptSet("captions").goal("red armchair")[0] == "a red armchair within reach on the left"


def test_baselines_are_named_or_sentences():
    assert PromptSet("label").baseline == BASELINE_PROMPTS
    assert PromptSet("label", "an empty street").baseline == ("an empty street",)


def test_a_baseline_is_told_only_where_there_are_several():
    assert list(prompt_sets(["captions", "label"], ["wall"])) == ["captions", "label"]
    assert list(prompt_sets(["label"], ["wall", "room"])) == ["label against wall", "label against room"]


@pytest.mark.parametrize("asked", ["capitons", "", "{thing} beside {thing}"])
def test_prompts_without_one_place_for_the_thing_are_refused(asked):
    with pytest.raises(InputError, match="prompts="):
        PromptSet(asked)


def test_a_baseline_about_the_thing_or_about_nothing_at_all_is_refused():
    for against in ("no {thing}", " "):
        with pytest.raises(InputError, match="baselines="):
            PromptSet("label", against)
    with pytest.raises(InputError, match="at least one"):
        prompt_sets([], ["wall"])
