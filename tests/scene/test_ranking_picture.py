"""The picture of a ranking: whole for every number of objects, and different when nothing fits."""

import io

import pytest
from PIL import Image

from scene.grounder import Scored
from scene.ranking_picture import ranking_picture
from tests.scene.toy import toy_scene


def picture(count: int, sentence: str = "the red cube", **changes: object) -> Image.Image:
    scene = toy_scene(1, count)
    ranked = [Scored(item.id, item.label, item.box, 1 / (rank + 2)) for rank, item in enumerate(scene.objects)]
    return Image.open(io.BytesIO(ranking_picture(scene, sentence, ranked, **changes)))  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 30])
def test_any_number_of_objects_fits_a_page(count: int):
    image = picture(count)
    assert min(image.size) > 500 and max(image.size) < 2600


def test_what_may_be_meant_and_what_is_not_there_look_different():
    shown = {
        name: picture(6, present=present, level=0.9).convert("RGB").tobytes()
        for name, present in (("uncalibrated", None), ("two", {0, 1}), ("nothing", set()))
    }
    assert len(set(shown.values())) == 3


def test_no_words_and_very_many_do_not_break_it():
    assert picture(3, "").size == picture(3, "the red cube left of " * 100).size
