import io

import numpy as np
import pytest
from PIL import Image

from core.errors import InputError
from scene.failures import CHOSEN, MEANT, PER_SCENE, Failure, draw_failure, failures_html, same_class, worst
from scene.types import Scene, SceneObject
from tests.scene.toy import toy_scene


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def count(png: bytes, color: str) -> int:
    """Pixels of nearly that colour."""
    rgb = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)])
    return int((np.abs(pixels(png).astype(int) - rgb).max(-1) < 12).sum())


def test_both_answers_are_marked_in_their_colours():
    scene = toy_scene(2)
    png = draw_failure(scene, 0, 1, [2], "the red cube left of the pole")
    assert count(png, MEANT) > 800
    assert count(png, CHOSEN) > 800
    assert pixels(png).shape[1] == 1248


@pytest.mark.parametrize(
    ("targets", "predictions"),
    [((), (1,)), ((0,), ()), ((0, 1), (1, 2)), ((), ())],
    ids=["zero", "none", "multi", "both"],
)
def test_several_or_none_may_be_meant_or_chosen(targets, predictions):
    png = draw_failure(toy_scene(2), targets, predictions, None, "all the cubes")
    assert (count(png, MEANT) > 800) == bool(targets)
    assert (count(png, CHOSEN) > 800) == bool(predictions)


def test_a_scene_without_surfaces_and_rooms_has_a_map_only():
    objects = [SceneObject(k, "chair", np.array([k * 1.0, 0, 0.4, 0.5, 0.5, 0.8, 0.3])) for k in range(3)]
    png = draw_failure(Scene("boxes", "toy", objects), 0, 2, None, "the chair")
    assert count(png, MEANT) > 300
    assert count(png, CHOSEN) > 300


@pytest.mark.filterwarnings("ignore:Glyph")
@pytest.mark.parametrize("sentence", ["", "word " * 200, "左边的椅子 $x_1$ <b>", "the chair\nnext line"])
def test_any_sentence_can_stand_above(sentence):
    assert pixels(draw_failure(toy_scene(1, count=2), 0, 1, None, sentence)).shape[0] < 1300


def test_others_of_the_class_are_found_in_the_room():
    scene = toy_scene(4, count=8)
    alike = same_class(scene, [0], room=0)
    assert alike == [item.id for item in scene.objects if item.label == scene.objects[0].label]
    assert same_class(scene, [], room=0) == []


def test_the_worst_come_first_few_of_a_scene_and_kinds_in_turn():
    failures = [Failure("a", f"s{k}", (0,), (1,), margin=10 - k, kind="star") for k in range(4)]
    failures += [Failure("b", "t", (0,), (1,), margin=1, kind="zero"), Failure("c", "u", (0,), (1,), 5, "star")]
    chosen = worst(failures, 3)
    assert [f.sentence for f in chosen] == ["s0", "t", "s1"]
    assert sum(f.scene_id == "a" for f in worst(failures, 9)) == PER_SCENE


def test_a_sheet_has_a_picture_and_a_caption_for_each_in_order():
    scenes = {f"toy-{seed}": toy_scene(seed, count=3) for seed in (1, 2)}
    loaded = []

    def load(scene_id: str) -> Scene:
        loaded.append(scene_id)
        return scenes[scene_id]

    failures = [
        Failure(f"toy-{seed}", f"the <cube> {k}", (0,), (k,), 0.25, "star") for k, seed in enumerate((1, 2, 1), start=0)
    ]
    blocks = failures_html(failures, load)
    assert loaded == ["toy-1", "toy-2"]
    assert [f"the &lt;cube&gt; {k}" in block for k, block in enumerate(blocks)] == [True] * 3
    assert all("data:image/png;base64" in block and "wrong by 0.25" in block for block in blocks)
    assert "No sentence" in failures_html([], load)[0]


def test_wrong_ids_and_empty_scenes_are_told():
    with pytest.raises(InputError, match="no object 9"):
        draw_failure(toy_scene(1), 9, 0, None, "x")
    with pytest.raises(InputError, match="no objects"):
        draw_failure(Scene("empty", "toy", []), (), (), None, "x")
