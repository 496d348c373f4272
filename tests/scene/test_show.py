"""Tests of the job show-scene: the files it writes can be opened and hold the home."""

import io

import numpy as np
import pytest
import trimesh
from PIL import Image

from core.errors import InputError, MissingFileError
from core.job import load_config
from scene.datasets.procedural import generate_home
from scene.io import save_scene
from scene.show import CONFIG, export_glb, run
from scene.store import save_manifest
from scene.types import Scene, SceneObject


def test_a_procedural_home_becomes_a_map_views_and_a_glb(tmp_path, capsys):
    out = tmp_path / "picture"
    words = ["home=5", f"out={out}", "views=1", "width=64", "height=48", "graph=true", "free_floor=true"]
    result = run(load_config("show-scene", CONFIG, words))
    assert result["files"] == ["map.png", "view_1.png", "home.png", "home.html", f"{result['scene']}.glb"]
    for name in result["files"][:3]:
        picture = np.asarray(Image.open(out / name).convert("RGB"))
        assert min(picture.shape[:2]) > 300 and picture.std() > 10
    assert str(out / "map.png") in capsys.readouterr().out


def test_the_glb_holds_every_object_by_name_upright_and_in_colour(tmp_path):
    home = generate_home(1)
    path = export_glb(home, tmp_path / "home.glb")
    read = trimesh.load(io.BytesIO(path.read_bytes()), file_type="glb")
    assert {f"{item.id:03d} {item.label}" for item in home.objects} | {"structure"} == set(read.graph.nodes_geometry)
    low, high = home.mesh.vertices.min(axis=0), home.mesh.vertices.max(axis=0)
    np.testing.assert_allclose(read.bounds, [[low[0], low[2], -high[1]], [high[0], high[2], -low[1]]], atol=1e-5)
    first = read.geometry[f"000 {home.objects[0].label}"]
    colors = {tuple(color) for color in home.mesh.face_colors[home.mesh.face_instance == 0].tolist()}
    assert {tuple(color[:3]) for color in first.visual.vertex_colors.tolist()} == colors
    assert len(first.faces) == (home.mesh.face_instance == 0).sum()


def test_a_saved_home_is_shown_by_its_id_or_the_first_test_home_is(tmp_path):
    homes = [generate_home(seed) for seed in (1, 4)]
    for home in homes:
        save_scene(home, tmp_path / "scenes")
    splits = {"train": [homes[0].id], "test": [homes[1].id]}
    save_manifest(tmp_path / "scenes", {"source": "procedural", "splits": splits})
    words = [f"scenes={tmp_path / 'scenes'}", "views=0"]
    assert run(load_config("show-scene", CONFIG, [*words, f"out={tmp_path / 'a'}"]))["scene"] == homes[1].id
    named = [*words, f"scene={homes[0].id}", f"out={tmp_path / 'b'}"]
    assert run(load_config("show-scene", CONFIG, named))["scene"] == homes[0].id
    with pytest.raises(MissingFileError, match="not found"):
        run(load_config("show-scene", CONFIG, [*words, "scene=elsewhere", f"out={tmp_path / 'c'}"]))
    assert not (tmp_path / "c").exists()


def test_a_scan_of_points_has_a_plan_and_a_page_and_says_what_is_missing(tmp_path, capsys):
    points = np.random.default_rng(0).uniform(0, 3, (500, 3)).astype(np.float32)
    things = [
        SceneObject(k, label, np.array([1.0 + k, 1, 0.4, 0.6, 0.6, 0.8, 0])) for k, label in enumerate(["bed", "box"])
    ]
    scan = Scene("scan", "custom", things, points=points, instance=np.zeros(500, np.int32))
    save_scene(scan, tmp_path / "scenes")
    save_manifest(tmp_path / "scenes", {"source": "custom", "splits": {"train": ["scan"]}})
    result = run(load_config("show-scene", CONFIG, [f"scenes={tmp_path / 'scenes'}", f"out={tmp_path / 'out'}"]))
    assert result["files"] == ["map.png", "home.png", "home.html"] and result["rooms"] == []
    assert "no surfaces" in result["notes"][0] and "points from above" in capsys.readouterr().out
    assert "no surfaces" in (tmp_path / "out" / "home.html").read_text()


def test_the_seed_is_the_number_of_the_home_unless_one_is_given(tmp_path):
    for k, (words, name) in enumerate(((["seed=2"], "00002"), (["seed=2", "home=1"], "00001"))):
        few = [*words, "views=0", "page=false", f"out={tmp_path / str(k)}"]
        assert run(load_config("show-scene", CONFIG, few))["scene"].endswith(name)
    shaped = ["seed=2", "rooms=3", "views=0", "page=false", "object=0", "relations=near,direction"]
    result = run(load_config("show-scene", CONFIG, [*shaped, f"out={tmp_path / 'c'}"]))
    assert len(result["rooms"]) == 3 and 1 <= result["arrows"] <= 10


def test_impossible_requests_are_refused():
    for words, message in (
        (["scene=x"], "needs scenes=FOLDER"),
        (["scenes=x", "home=1"], "procedural home"),
        (["rooms=7"], "1 to 6"),
        (["relations=beneath_of"], "no relation is called"),
        (["views=-1"], "from 0 on"),
        (["width=3"], "at least 16"),
        (["fov_deg=0"], "angle"),
    ):
        with pytest.raises(InputError, match=message):
            load_config("show-scene", CONFIG, words)
    with pytest.raises(InputError, match="no mesh to export"):
        export_glb(Scene("void", "test", []), "never.glb")
