from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from core.errors import InputError
from scene.crops import LEAST_SHARE, CropScorer, ObjectViews
from scene.geometry import boxes_mesh, object_points
from scene.types import Room, Scene, SceneMesh, SceneObject
from tests.scene.toy import COLORS, toy_scene

HALL = Room(0, "hall", np.array([[0.0, 0], [6, 0], [6, 6], [0, 6]]))


class Colors:
    """An embedder that sees the mean colour around the middle of a picture and reads colour words."""

    dim = 3

    def __init__(self) -> None:
        self.most = 0

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        self.most = max(self.most, len(images))
        third = images.shape[1] // 3
        middle = images[:, third:-third, third:-third].float().mean((1, 2))
        return torch.nn.functional.normalize(middle - middle.mean(-1, keepdim=True), dim=-1)

    def encode_texts(self, texts: Sequence[str]) -> torch.Tensor:
        rows = []
        for text in texts:
            known = [np.array(rgb, float) for color, rgb in COLORS.items() if color in text.split()]
            if not known:
                raise InputError(f"no colour in {text!r}")
            rows.append(torch.tensor(known[0] - known[0].mean(), dtype=torch.float32))
        return torch.nn.functional.normalize(torch.stack(rows), dim=-1)


def boxes_scene(boxes: list[tuple[str, list[float]]]) -> Scene:
    """Boxes of named colours on the floor of a hall."""
    objects = [
        SceneObject(k, "box", np.array([*xyz_size, 0.0]), attributes={"color": color}, room=0)
        for k, (color, xyz_size) in enumerate(boxes)
    ]
    vertices, faces = boxes_mesh(np.stack([item.box for item in objects]))
    colors = np.repeat(np.array([COLORS[color] for color, _ in boxes], np.uint8), 12, axis=0)
    mesh = SceneMesh(vertices, faces, colors, np.repeat(np.arange(len(boxes), dtype=np.int32), 12))
    return Scene("boxes", "toy", objects, [HALL], mesh=mesh)


def scan_of(scene: Scene) -> Scene:
    """The same as points without surfaces and rooms."""
    table = object_points(scene, 1500, seed=0)
    ids = np.repeat(np.arange(len(scene.objects), dtype=np.int32), 1500)
    objects = [replace(item, room=-1) for item in scene.objects]
    points, colors = table[..., :3].reshape(-1, 3), table[..., 3:].reshape(-1, 3).astype(np.uint8)
    return Scene("scan", "toy", objects, points=points, colors=colors, instance=ids)


TWO = boxes_scene([("red", [1.5, 3, 0.3, 0.5, 0.5, 0.6]), ("blue", [4.5, 3, 0.3, 0.5, 0.5, 0.6])])


@pytest.mark.parametrize("scene", [TWO, scan_of(TWO)], ids=["mesh", "points"])
def test_every_picture_shows_its_object_in_the_middle_and_nearly_fills(scene):
    studio = ObjectViews(scene, views=3, size=48)
    for index in range(2):
        rgb, instance, hidden = studio.look(index)
        assert rgb.shape == (3, 48, 48, 3)
        assert not hidden
        for picture in instance:
            rows, columns = np.nonzero(picture == index)
            assert abs(rows.min() + rows.max() - 47) <= 6
            assert abs(columns.min() + columns.max() - 47) <= 6
            assert 0.65 < max(np.ptp(rows), np.ptp(columns)) / 48 < 0.95


def test_pictures_are_taken_from_free_floor_and_from_different_sides():
    studio = ObjectViews(TWO, views=3)
    poses = studio._places(0)
    assert studio.grids[0] is not None
    assert studio.grids[0].is_free(poses[:, :2, 3]).all()
    share = studio._probe(0, poses, studio.scout)[1]
    looks = poses[studio._choose(poses, share)][:, :2, 2]
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    assert (looks @ looks.T)[~np.eye(3, dtype=bool)].max() < 0.5  # 60 degrees apart or more


def test_what_is_hidden_from_everywhere_is_drawn_alone():
    boxes = [("red", [3.0, 3, 0.4, 0.2, 0.2, 0.2]), ("blue", [3.0, 3, 0.4, 0.8, 0.8, 0.8])]
    rgb, instance, hidden = ObjectViews(boxes_scene(boxes), views=2, size=32).look(0)
    assert hidden
    assert set(np.unique(instance).tolist()) == {-1, 0}
    assert (rgb[..., 0].astype(int) - rgb[..., 2])[instance == 0].mean() > 100


def test_the_pictures_that_show_most_come_first():
    boxes = [("red", [3.0, 5.7, 0.25, 0.5, 0.4, 0.5]), ("blue", [2.2, 5.0, 0.6, 0.6, 0.3, 1.2])]
    studio = ObjectViews(boxes_scene(boxes), views=3)
    poses = studio._places(0)
    share = studio._probe(0, poses, studio.scout)[1]
    chosen = studio._choose(poses, share)
    assert share[chosen[0]] == share.max() > LEAST_SHARE
    assert min(share[chosen]) >= 0.6 * share.max()


@pytest.mark.parametrize("pool", ["max", "mean"])
@pytest.mark.parametrize("scene", [TWO, scan_of(TWO)], ids=["mesh", "points"])
def test_scores_follow_what_the_embedder_sees(pool, scene):
    scores = CropScorer(Colors(), views=2, size=32, pool=pool).scores(scene, [0, 1], ["the red box", "the blue box"])
    assert scores.shape == (2, 2)
    assert scores.argmax(1).tolist() == [0, 1]
    assert scores.abs().max() <= 1.0 + 1e-6


def test_permuting_candidates_permutes_scores_and_nothing_is_drawn_twice():
    scene = toy_scene(1, count=4)
    embedder = Colors()
    scorer = CropScorer(embedder, views=2, size=24, batch=4)
    once = scorer.scores(scene, [0, 1, 2, 3], ["the red pole"])
    assert scorer.objects == 4
    assert scorer.seconds_per_object > 0
    again = scorer.scores(scene, [3, 1, 0], ["the red pole", "the red pole"])
    assert scorer.objects == 4
    assert torch.equal(again[1], once[0, [3, 1, 0]])
    assert embedder.most <= 4


def test_only_the_scenes_used_last_stay_in_memory():
    scorer = CropScorer(Colors(), views=1, size=16, scenes=1)
    first, second = toy_scene(1, count=1), toy_scene(2, count=1)
    for scene in (first, second, second, first):
        scorer.scores(scene, [0], ["red"])
    assert len(scorer._known) == 1
    assert scorer.objects == 3


def test_a_sentence_the_embedder_cannot_read_scores_nothing_and_is_counted():
    scorer = CropScorer(Colors(), views=1, size=16)
    scores = scorer.scores(TWO, [0, 1], ["the red box", "the teal box"])
    assert scores[1].tolist() == [0.0, 0.0]
    assert scores[0, 0] > 0.5
    assert scorer.unread == ["the teal box"]


def test_no_candidates_or_no_sentences_give_empty_scores():
    scorer = CropScorer(Colors())
    assert scorer.scores(TWO, [], ["red"]).shape == (1, 0)
    assert scorer.scores(TWO, [0], []).shape == (0, 1)


def test_wrong_input_is_told():
    bare = Scene("bare", "toy", TWO.objects, [HALL])
    with pytest.raises(InputError, match="no mesh and no points"):
        CropScorer(Colors()).scores(bare, [0], ["red"])
    with pytest.raises(InputError, match="no object 7"):
        CropScorer(Colors()).scores(TWO, [7], ["red"])
    with pytest.raises(InputError, match="pool"):
        CropScorer(Colors(), pool="median")
    with pytest.raises(InputError, match="at least 1 picture"):
        ObjectViews(TWO, views=0)
