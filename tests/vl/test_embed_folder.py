"""Facts about vl/embed_folder.py."""

import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import InputError, MissingFileError
from tests.vl.conftest import COLORS
from tests.vl.fusing import fusing_model
from vl.embed_folder import embed_folder, folder_features, score_folder

TEXTS = ["a red box", "a blue box on the left"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("own")
    (path / "more").mkdir()
    for name, color in COLORS.items():
        Image.new("RGB", (48, 32), color).save(path / ("more" if name == "blue" else "") / f"{name}.png")
    (path / "cut.png").write_bytes((path / "red.png").read_bytes()[:40])
    (path / "notes.txt").write_text("no picture")
    return path


NAMES = ["green.png", "more/blue.png", "red.png", "white.png"]


def pictures():
    return torch.tensor([COLORS[name.rpartition("/")[2][:-4]] for name in NAMES], dtype=torch.uint8)[
        :, None, None
    ].repeat(1, 32, 32, 1)


def test_each_readable_picture_gets_its_embedding_and_the_rest_are_counted(folder, tiny_model):
    with pytest.warns(UserWarning, match="1 pictures left out: 1 "):
        names, features = embed_folder(tiny_model, folder)
    assert names == NAMES and features.shape == (4, tiny_model.dim)
    assert np.allclose(features, tiny_model.encode_images(pictures()).numpy(), atol=1e-5)


def test_a_folder_of_a_model_serves_as_the_model(folder, tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path / "model")
    with pytest.warns(UserWarning):
        names, scores = score_folder(tmp_path / "model", folder, TEXTS)
    wanted = tiny_model.encode_images(pictures()) @ tiny_model.encode_texts(TEXTS).T
    assert names == NAMES and np.allclose(scores, wanted.numpy(), atol=1e-5)


def test_scores_of_a_model_with_a_fusion_are_its_match_probabilities(folder, tiny_config):
    model = fusing_model(tiny_config)
    found = folder_features(model, folder, TEXTS)
    for column, text in enumerate(TEXTS):
        assert np.allclose(found.match[:, column], model.match(pictures(), [text] * 4).numpy(), atol=1e-5)
    assert list(found.unreadable) == ["cut.png"]
    with pytest.warns(UserWarning):
        assert (score_folder(model, folder, TEXTS)[1] == found.match).all()


def test_folders_without_a_readable_picture_are_errors(folder, tiny_model, tmp_path):
    with pytest.raises(InputError, match="no pictures in"):
        embed_folder(tiny_model, tmp_path)
    (tmp_path / "cut.png").write_bytes((folder / "cut.png").read_bytes())
    with pytest.raises(InputError, match="none of the 1 pictures"):
        embed_folder(tiny_model, tmp_path)
    with pytest.raises(MissingFileError):
        embed_folder(tiny_model, tmp_path / "nowhere")
    with pytest.raises(InputError, match="a list of sentences"):
        score_folder(tiny_model, folder, "a red box")
