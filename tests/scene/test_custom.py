"""Own scans: frames by hand, things from ids, boxes, masks and geometry, and every fault named."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from core.errors import InputError, MissingFileError
from scene.build import BuildScenesConfig
from scene.corpus import Skipped, SourceConfig, Wanted, custom_source
from scene.datasets.custom import homes_at, load, load_scan, points_in_boxes
from scene.geometry import object_points
from scene.graph import build_graph, candidates
from scene.ground import read_scene
from scene.io import load_scene, save_scene
from scene.language import generate_referrals
from scene.occupancy import occupancy
from scene.types import Scene

# two cubes of 0.4 m, 1 m apart, and a bar over the first; ids with gaps, as real scans have them
CORNERS = np.array([[x, y, z] for z in (0.0, 0.4) for y in (0.0, 0.4) for x in (0.0, 0.4)])
POINTS = np.concatenate([CORNERS, CORNERS + [1.4, 0, 0], CORNERS * [1, 1, 0.25] + [0, 0, 0.4]])
IDS = np.repeat([7, 3, 12], 8)
LABELS = {"7": "Table", "3": "office  chair", "12": "book"}
COLORS = np.arange(len(POINTS) * 3).reshape(-1, 3).astype(np.uint8)


def write_ply(
    path: Path,
    points: np.ndarray = POINTS,
    ids: np.ndarray | None = IDS,
    name: str = "instance",
    colors: np.ndarray | None = COLORS,
    faces: np.ndarray | None = None,
    text: bool = False,
) -> Path:
    """A PLY file as scanners write it."""
    color_type = "float" if colors is not None and colors.dtype.kind == "f" else "uchar"
    columns: list[tuple[str, str, np.ndarray]] = [("float", k, points[:, i]) for i, k in enumerate("xyz")]
    if colors is not None:
        columns += [(color_type, k, colors[:, i]) for i, k in enumerate(("red", "green", "blue"))]
    if ids is not None:
        columns.append(("int", name, ids))
    head = ["ply", f"format {'ascii' if text else 'binary_little_endian'} 1.0", f"element vertex {len(points)}"]
    head += [f"property {kind} {key}" for kind, key, _ in columns]
    if faces is not None:
        head += [f"element face {len(faces)}", "property list uchar int vertex_indices"]
    content = ("\n".join([*head, "end_header"]) + "\n").encode()
    code = {"float": "f", "int": "i", "uchar": "B"}
    for row in zip(*(values.tolist() for _, _, values in columns)):
        if text:
            content += (" ".join(map(repr, row)) + "\n").encode()
        else:
            content += struct.pack("<" + "".join(code[kind] for kind, _, _ in columns), *row)
    for face in [] if faces is None else faces.tolist():
        content += f"3 {face[0]} {face[1]} {face[2]}\n".encode() if text else struct.pack("<Biii", 3, *face)
    path.write_bytes(content)
    return path


def write_pcd(path: Path, points: np.ndarray = POINTS, text: bool = True) -> Path:
    head = f"VERSION 0.7\nFIELDS x y z instance\nSIZE 4 4 4 4\nTYPE F F F I\nCOUNT 1 1 1 1\nWIDTH {len(points)}\n"
    head += f"HEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA {'ascii' if text else 'binary'}\n"
    content = head.encode()
    for point, number in zip(points.tolist(), IDS.tolist()):
        row = (*point, number)
        content += (" ".join(map(str, row)) + "\n").encode() if text else struct.pack("<fffi", *row)
    path.write_bytes(content)
    return path


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    write(tmp_path / "den.labels.json", LABELS)
    return write_ply(tmp_path / "den.ply")


def in_file(scene: Scene) -> np.ndarray:
    """The scene's points where its file has them."""
    assert scene.points is not None
    return scene.points @ scene.to_source[:3, :3].T + scene.to_source[:3, 3]


# --- ids per point ---


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("name", ["instance", "instance_id", "objectId", "label_id"])
def test_ids_in_the_file_make_things_in_the_order_of_ids(tmp_path: Path, name: str, text: bool):
    write(tmp_path / "den.labels.json", LABELS)
    scene = load_scan(write_ply(tmp_path / "den.ply", name=name, text=text))
    assert (scene.id, scene.source) == ("den", "custom")
    assert [(item.source_id, item.label) for item in scene.objects] == [
        ("3", "office chair"),
        ("7", "table"),
        ("12", "book"),
    ]
    assert {item.attributes["instance_source"] for item in scene.objects} == {"points"}
    assert scene.instance.tolist() == [1] * 8 + [0] * 8 + [2] * 8
    assert np.array_equal(scene.colors, COLORS)
    np.testing.assert_allclose(scene.objects[1].box, [-0.7, 0, 0.2, 0.4, 0.4, 0.4, 0], atol=1e-6)


def test_the_scan_stands_on_zero_around_the_middle_and_leads_back(scan: Path):
    scene = load_scan(scan)
    assert scene.points is not None
    np.testing.assert_allclose(scene.points.min(axis=0), [-0.9, -0.2, 0], atol=1e-6)
    np.testing.assert_allclose(scene.points.max(axis=0), [0.9, 0.2, 0.5], atol=1e-6)
    np.testing.assert_allclose(in_file(scene), POINTS, atol=1e-6)
    unmoved = load_scan(scan, align=False)
    assert np.allclose(unmoved.points, POINTS, atol=1e-6) and np.array_equal(unmoved.to_source, np.eye(4))


def test_y_up_and_millimetres_become_z_up_and_metres(tmp_path: Path):
    raw = np.stack([POINTS[:, 0], POINTS[:, 2], -POINTS[:, 1]], axis=1) * 1000 + [5e5, 100, -7e5]
    scene = load_scan(write_ply(tmp_path / "a.ply", raw), up="y", scale=0.001, default_label="thing")
    assert np.ptp(scene.points, axis=0) == pytest.approx([1.8, 0.4, 0.5], abs=1e-3)
    np.testing.assert_allclose(in_file(scene), raw, atol=0.2)  # float32 of the file itself
    assert scene.objects[2].box[2] > scene.objects[1].box[2]  # the book lies on the table


def test_a_far_origin_costs_no_precision(tmp_path: Path):
    np.save(tmp_path / "ids.npy", IDS)
    path = write(tmp_path / "far.obj", "".join(f"v {x + 5e5} {y + 4e6} {z}\n" for x, y, z in POINTS))
    scene = load_scan(path, instances=tmp_path / "ids.npy", default_label="thing")
    np.testing.assert_allclose(scene.objects[1].box[:6], [-0.7, 0, 0.2, 0.4, 0.4, 0.4], atol=1e-6)


@pytest.mark.parametrize("ending", ["npy", "npz", "json", "csv"])
def test_ids_beside_the_scan_come_before_those_in_it(tmp_path: Path, ending: str):
    path = write_ply(tmp_path / "den.ply")
    file = tmp_path / f"den.instances.{ending}"
    ids = IDS + 100
    if ending == "npy":
        np.save(file, ids)
    elif ending == "npz":
        np.savez(file, instance=ids)
    elif ending == "json":
        write(file, {"instance": ids.tolist()})
    else:
        write(file, "instance\n" + "\n".join(map(str, ids)))
    assert [item.source_id for item in load_scan(path, default_label="thing").objects] == ["103", "107", "112"]


def test_negative_ids_and_a_nameless_zero_are_nothing(tmp_path: Path):
    ids = np.repeat([0, 3, -5], 8)
    path = write_ply(tmp_path / "a.ply", ids=ids)
    labels = write(tmp_path / "a.csv", "id,label\n3,chair\n")
    assert load_scan(path, labels=labels).instance.tolist() == [-1] * 8 + [0] * 8 + [-1] * 8
    labels = write(tmp_path / "b.csv", "label,id\ntable,0\nchair,3\n")
    assert load_scan(path, labels=labels).labels == ["table", "chair"]


@pytest.mark.parametrize("text", [True, False])
def test_pcd_is_read_with_its_ids(tmp_path: Path, text: bool):
    scene = load_scan(write_pcd(tmp_path / "a.pcd", text=text), default_label="thing")
    assert [item.source_id for item in scene.objects] == ["3", "7", "12"]
    np.testing.assert_allclose(in_file(scene), POINTS, atol=1e-6)


def test_faces_belong_to_the_thing_of_two_of_their_corners(tmp_path: Path):
    faces = np.array([[0, 1, 2], [0, 1, 8], [8, 9, 0], [0, 8, 16]])
    scene = load_scan(write_ply(tmp_path / "a.ply", faces=faces), default_label="thing")
    assert scene.mesh is not None and scene.mesh.face_instance.tolist() == [1, 1, 0, -1]
    assert scene.mesh.face_colors[0].tolist() == [3, 4, 5]  # mean of three neighbouring colours
    assert len(scene.points) == len(POINTS)


@pytest.mark.parametrize(
    ("colors", "first"), [(COLORS / 255.0, 3), (COLORS.astype(np.float32), 3), (np.zeros((24, 3), np.float32), 0)]
)
def test_fractions_up_to_one_are_shares_of_255(tmp_path: Path, colors: np.ndarray, first: int):
    scene = load_scan(write_ply(tmp_path / "a.ply", colors=colors), default_label="thing")
    assert scene.colors[1].tolist() == [first, first + (first > 0), first + 2 * (first > 0)]


def test_without_colours_everything_is_grey(tmp_path: Path):
    assert np.unique(load_scan(write_ply(tmp_path / "a.ply", colors=None), default_label="x").colors).tolist() == [127]


# --- boxes and masks ---


def test_a_smaller_box_has_the_points_of_a_larger_one(tmp_path: Path):
    path = write_ply(tmp_path / "den.ply", ids=None)
    boxes = [
        {"label": "Table", "center": [0.2, 0.2, 0.25], "size": [0.42, 0.42, 0.52]},
        {"label": "book", "center": [0.2, 0.2, 0.45], "size": [0.42, 0.42, 0.12], "yaw": 0.0, "id": "b"},
    ]
    write(tmp_path / "den.boxes.json", {"boxes": boxes})
    scene = load_scan(path)
    assert [(item.label, item.source_id) for item in scene.objects] == [("table", "0"), ("book", "b")]
    assert scene.instance.tolist() == [0] * 4 + [1] * 4 + [-1] * 8 + [1] * 8
    np.testing.assert_allclose(scene.objects[0].box, [-0.7, 0, 0.25, 0.42, 0.42, 0.52, 0], atol=1e-6)
    assert scene.objects[0].attributes == {"instance_source": "boxes"}


def test_boxes_turn_and_shrink_with_the_scan(tmp_path: Path):
    yaw = 0.5
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])  # about +y
    slab = np.array([[x, y, z] for x in (-1, 1) for y in (-2, 2) for z in (-3, 3)]) * 50.0  # 100 x 200 x 300 mm, y up
    path = write_ply(tmp_path / "a.ply", slab @ turn.T + [10, 20, 30], ids=None, colors=None)
    row = f"label,x,y,z,dx,dy,dz,yaw\nslab,10,20,30,101,201,301,{yaw}\n"
    scene = load_scan(path, boxes=write(tmp_path / "b.csv", row), up="y", scale=0.001)
    np.testing.assert_allclose(scene.objects[0].box, [0, 0, 0.1, 0.101, 0.301, 0.201, yaw], atol=1e-6)
    assert (scene.instance == 0).all()


def test_points_in_boxes_agrees_with_one_point_at_a_time():
    rng = np.random.default_rng(0)
    points, boxes = rng.random((200, 3)), np.column_stack([rng.random((6, 3)), rng.random((6, 3)), rng.random(6) * 3])
    slow = []
    for point in points:
        holding = []
        for k, box in enumerate(boxes):
            turn = np.array([[np.cos(box[6]), np.sin(box[6])], [-np.sin(box[6]), np.cos(box[6])]])
            local = np.array([*(turn @ (point - box[:3])[:2]), point[2] - box[2]])
            if (np.abs(local) <= box[3:6] / 2).all():
                holding.append((box[3:6].prod(), k))
        slow.append(min(holding)[1] if holding else -1)
    assert points_in_boxes(points, boxes).tolist() == slow and len(set(slow)) > 3


@pytest.mark.parametrize("form", ["dense", "csr", "csc", "coo"])
def test_masks_may_overlap_and_the_smaller_one_wins(tmp_path: Path, form: str):
    mask = np.zeros((2, 24), bool)
    mask[0, :16], mask[1, 12:16] = True, True
    file = tmp_path / "a.mask.npz"
    if form == "dense":
        np.savez(file, mask=mask, label=np.array(["sofa", "pillow"]))
    else:
        sparse.save_npz(file, sparse.coo_matrix(mask).asformat(form))
    scene = load_scan(write_ply(tmp_path / "a.ply"))
    assert scene.instance.tolist() == [0] * 12 + [1] * 4 + [-1] * 8
    assert scene.labels == (["sofa", "pillow"] if form == "dense" else ["object", "object"])
    assert scene.objects[0].attributes == {"instance_source": "mask"}


# --- nothing known: proposals; what follows from a scan ---


def room_points(seed: int = 0) -> np.ndarray:
    """A room of 4 x 3 x 2.5 m with a table of 1 x 0.8 x 0.7 m in its middle and a box of 0.4 m in a corner's reach."""
    rng = np.random.default_rng(seed)
    u = rng.random((9000, 3))
    size = np.array([4.0, 3.0, 2.5])
    shell = u * size
    wall = np.arange(9000) % 6
    shell[np.arange(9000), wall // 2] = np.where(wall % 2, size[wall // 2], 0.0)
    top = rng.random((1500, 3)) * [1.0, 0.8, 0.03] + [1.5, 1.1, 0.67]
    legs = rng.random((800, 3)) * [0.06, 0.06, 0.62] + [1.5, 1.1, 0.07]
    legs += np.repeat([[0, 0, 0], [0.94, 0, 0], [0, 0.74, 0], [0.94, 0.74, 0]], 200, axis=0)
    cube = rng.random((800, 3)) * 0.4 + [0.3, 0.4, 0.1]
    return np.concatenate([shell, top, legs, cube])


def test_a_bare_scan_gets_proposals_and_says_so(tmp_path: Path):
    path = write_ply(tmp_path / "room.ply", room_points(), ids=None, colors=None)
    scene = load_scan(path)
    assert scene.labels == ["object", "object"]
    assert scene.objects[0].attributes == {"instance_source": "proposals"}
    assert scene.boxes[:, 3:6].max(axis=1) == pytest.approx([1.0, 0.4], abs=0.06)
    again = load_scan(path)
    assert np.array_equal(again.instance, scene.instance) and np.array_equal(again.boxes, scene.boxes)


def test_graph_sentences_points_and_disk_take_a_scan_without_rooms(scan: Path, tmp_path: Path):
    scene = load_scan(scan)
    graph = build_graph(scene)
    assert graph.support_parent.tolist() == [-1, -1, 1]  # the book lies on the table
    sentences = generate_referrals(scene, graph, 10, np.random.default_rng(0))
    assert sentences and {item.targets[0] for item in sentences} <= {0, 1, 2}
    assert object_points(scene, 16, seed=0).shape == (3, 16, 6)
    save_scene(scene, tmp_path / "saved")
    assert load_scene(tmp_path / "saved", "den").objects[2].attributes == {"instance_source": "points"}


def test_a_large_scan_without_rooms_is_spoken_of_as_a_whole(tmp_path: Path):
    points = np.concatenate([CORNERS + [2.0 * k, 0, 0] for k in range(50)])
    scene = load_scan(
        write_ply(tmp_path / "a.ply", points, ids=np.repeat(np.arange(1, 51), 8), colors=None), default_label="cube"
    )
    assert candidates(scene) == list(range(50))


def test_a_room_around_a_scan_gives_it_a_floor_to_stand_on(tmp_path: Path):
    path = write_ply(tmp_path / "room.ply", room_points(), ids=None, colors=None)
    with pytest.raises(InputError, match="no rooms"):
        occupancy(load_scan(path))
    scene = load_scan(path, room="Dining Room")
    assert scene.rooms[0].kind == "dining room" and {item.room for item in scene.objects} == {0}
    grid = occupancy(scene)
    assert not grid.is_free(scene.boxes[0, :2]) and grid.is_free(np.array([0.0, 1.1]))
    assert 3.0 < grid.free.sum() * grid.cell_m**2 < 9.0  # of 12 square metres, less furniture and a margin


def test_ground_reads_a_scan_by_its_path(scan: Path, tmp_path: Path):
    assert read_scene(str(scan)).labels == load_scan(scan).labels
    assert read_scene(str(posed(tmp_path / "set"))).labels == ["table", "cup"]


# --- objects with poses ---


def posed(folder: Path, **changes: Any) -> Path:
    """A folder with a table and a cup on it: blocks of glTF, y up, in centimetres."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in {"table": (100, 70, 60), "cup": (8, 10, 8)}.items():
        block = trimesh.creation.box(size)
        block.apply_translation([0, size[1] / 2, 0])
        block.visual = trimesh.visual.ColorVisuals(block, vertex_colors=np.tile([200, 30, 30, 255], (8, 1)))
        (folder / f"{name}.glb").write_bytes(trimesh.Scene(block).export(file_type="glb"))
    objects = [
        {"file": "table.glb", "label": "table", "position": [1, 2, 0], "yaw": np.pi / 2},
        {"file": "cup.glb", "label": "cup", "position": [1, 2, 0.7], "id": "my cup"},
    ]
    write(folder / "poses.json", {"scale": 0.01, "objects": objects} | changes)
    return folder


def test_posed_meshes_become_things_with_boxes_and_faces(tmp_path: Path):
    (scene,) = load(posed(tmp_path / "set"))
    assert (scene.id, scene.labels) == ("set", ["table", "cup"])
    np.testing.assert_allclose(scene.objects[0].box, [1, 2, 0.35, 1.0, 0.6, 0.7, np.pi / 2], atol=1e-6)
    np.testing.assert_allclose(scene.objects[1].box, [1, 2, 0.75, 0.08, 0.08, 0.1, 0], atol=1e-6)
    assert [item.source_id for item in scene.objects] == ["table.glb#0", "my cup"]
    assert scene.mesh is not None and scene.mesh.face_instance.tolist() == [0] * 12 + [1] * 12
    assert np.unique(scene.mesh.face_colors, axis=0).tolist() == [[200, 30, 30]]
    assert build_graph(scene).support_parent.tolist() == [-1, 0]
    assert object_points(scene, 8, seed=0)[0, :, 2].max() <= 0.7 + 1e-6


def test_a_matrix_stands_for_position_and_yaw(tmp_path: Path):
    matrix = [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 0], [0, 0, 0, 1]]
    folder = posed(tmp_path / "set", objects=[{"file": "table.glb", "label": "table", "matrix": matrix}])
    (scene,) = load(folder)
    np.testing.assert_allclose(scene.objects[0].box, [1, 2, 0.35, 1.0, 0.6, 0.7, np.pi / 2], atol=1e-6)
    tipped = [[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]  # onto its back
    (scene,) = load(posed(tmp_path / "set", objects=[{"file": "table.glb", "label": "table", "matrix": tipped}]))
    np.testing.assert_allclose(scene.objects[0].box[3:], [1.0, 0.7, 0.6, 0], atol=1e-6)


GOOD = {"file": "cup.glb", "label": "cup", "position": [0, 0, 0]}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"objects": []}, "lists no objects"),
        ({"objects": {}}, "should hold"),
        ({"objects": ["cup"]}, "expected an object"),
        ({"objects": [{"label": "cup", "position": [0, 0, 0]}]}, "file None"),
        ({"objects": [GOOD | {"file": "../cup.glb"}]}, "leads out of"),
        ({"objects": [GOOD | {"file": "/etc/passwd"}]}, "leads out of"),
        ({"objects": [GOOD | {"file": "missing.glb"}]}, "not found"),
        ({"objects": [GOOD | {"label": 3}]}, "label 3"),
        ({"objects": [{"file": "cup.glb", "label": "cup"}]}, "neither position nor matrix"),
        ({"objects": [GOOD | {"position": [0, 0]}]}, "should be 3 numbers"),
        ({"objects": [GOOD | {"position": [0, 0, float("nan")]}]}, "no finite number"),
        ({"objects": [GOOD | {"positon": [0, 0, 0]}]}, "did you mean 'position'"),
        ({"objects": [GOOD | {"scale": 0}]}, "above 0"),
        ({"objects": [GOOD | {"matrix": np.eye(4).tolist()}]}, "either matrix"),
        ({"objects": [{"file": "cup.glb", "label": "cup", "matrix": np.zeros((4, 4)).tolist()}]}, "last row"),
        ({"objects": [GOOD | {"id": "a"}, GOOD | {"id": "a"}]}, "twice"),
        ({"up": "x"}, "up='x' is unknown"),
        ({"units": "cm"}, "'units' is unknown"),
    ],
)
def test_faulty_poses_are_named(tmp_path: Path, change: dict, fault: str):
    with pytest.raises(InputError, match=fault):
        list(load(posed(tmp_path / "set", **change)))


def test_a_gltf_that_reaches_out_of_its_folder_is_refused(tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.bin").write_bytes(b"\0" * 64)
    buffers = {"asset": {"version": "2.0"}, "buffers": [{"uri": "../secret.bin", "byteLength": 64}], "scenes": [{}]}
    with pytest.raises(InputError, match="outside its folder"):
        load_scan(write(tmp_path / "in/a.gltf", buffers))


# --- faults ---


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("write_scan", [write_ply, write_pcd])
def test_a_truncated_scan_is_noticed_at_every_length(tmp_path: Path, write_scan: Any, text: bool):
    path = write_scan(tmp_path / f"a.{write_scan.__name__[-3:]}", text=text)
    whole = path.read_bytes()
    assert len(load_scan(path, default_label="x").objects) == 3
    for end in (len(whole) - 4, len(whole) - 17, len(whole) // 2, 40, 3):  # of text, the last number at least
        path.write_bytes(whole[:end])
        with pytest.raises(InputError):
            load_scan(path, default_label="x")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("write_scan", [write_ply, write_pcd])
def test_points_that_are_no_numbers_are_counted(tmp_path: Path, write_scan: Any, value: float):
    points = POINTS.copy()
    points[2, 1], points[5, 0] = value, value
    with pytest.raises(InputError, match="2 of 24 points are NaN or infinite"):
        load_scan(write_scan(tmp_path / f"a.{write_scan.__name__[-3:]}", points, text=False), default_label="x")


@pytest.mark.parametrize(
    ("labels", "fault"),
    [
        ({"7": "table"}, r"ids \[3, 12\] have no label"),
        (LABELS | {"99": "ghost"}, r"labels name ids \[99\] that no point has"),
        ('{"7": "a", "3": "b", "12": "c", "7": "d"}', "'7' twice"),
        ([{"id": 7, "label": "a"}, {"id": "7", "label": "b"}], "id 7 twice"),
        ({"seven": "table"}, "no whole number"),
        ({"7": ""}, "should be a word"),
        ({"7": None}, "should be a word"),
        ([1, 2], "should hold"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_labels_and_ids_have_to_meet(tmp_path: Path, labels: Any, fault: str):
    path = write_ply(tmp_path / "den.ply")
    write(tmp_path / "den.labels.json", labels)
    with pytest.raises(InputError, match=fault):
        load_scan(path)


@pytest.mark.parametrize(
    ("boxes", "fault"),
    [
        ([{"label": "a", "center": [0, 0, 0], "size": [1, 0, 1]}], "should be positive"),
        ([{"label": "a", "center": [0, 0, 0], "size": [1, 1, -1]}], "should be positive"),
        ([{"label": "a", "center": [0, 0, float("inf")], "size": [1, 1, 1]}], "no finite number"),
        ([{"label": "a", "center": [0, 0, "high"], "size": [1, 1, 1]}], "no finite number"),
        ([{"label": "a", "center": [50, 0, 0], "size": [1, 1, 1]}], "hold no point"),
        ([{"label": "a", "size": [1, 1, 1]}], "lacks center"),
        ([{"label": "a", "center": [0, 0, 0], "size": [1, 1, 1], "id": 1}] * 2, "twice"),
        ([], "lists no boxes"),
        ({"objects": 3}, "should hold"),
    ],
)
def test_faulty_boxes_are_named(tmp_path: Path, boxes: Any, fault: str):
    with pytest.raises(InputError, match=fault):
        load_scan(write_ply(tmp_path / "a.ply", ids=None), boxes=write(tmp_path / "b.json", boxes))


def test_other_faults_are_named(tmp_path: Path):
    scan = write_ply(tmp_path / "a.ply")
    latin = tmp_path / "latin.csv"
    latin.write_bytes("id,label\n7,fauteuil Louis XIV brisé\n".encode("latin-1"))
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, mask=np.array([print, None], dtype=object))
    short, half = tmp_path / "short.npy", tmp_path / "half.npy"
    np.save(short, IDS[:-1])
    np.save(half, IDS + 0.5)
    narrow = tmp_path / "narrow.npz"
    np.savez(narrow, mask=np.ones((1, 23), bool))
    hollow = tmp_path / "hollow.npz"
    np.savez(hollow, mask=np.zeros((1, 24), bool))
    packed = tmp_path / "scans.zip"
    packed.write_bytes(b"PK\x03\x04 and so on")
    disguised = tmp_path / "scans.ply"
    disguised.write_bytes(b"PK\x03\x04 and so on")
    faults: list[tuple[str, str, dict[str, Any]]] = [
        ("is no UTF-8 text", "a.ply", {"labels": latin}),
        ("pickled objects, which are never run", "a.ply", {"mask": pickled}),
        ("pickled objects", "a.ply", {"instances": pickled}),
        ("holds 23 ids, but the scan has 24 points", "a.ply", {"instances": short}),
        ("24 of 24 instance ids are no whole numbers", "a.ply", {"instances": half}),
        ("but the scan has 24 points", "a.ply", {"mask": narrow}),
        (r"masks \[0\] hold no point", "a.ply", {"mask": hollow}),
        ("give one of instances, mask", "a.ply", {"instances": short, "mask": narrow}),
        ("is an archive, which is not unpacked", "scans.zip", {}),
        ("is an archive, which is not unpacked", "scans.ply", {}),
        ("up='x' is unknown", "a.ply", {"up": "x"}),
        ("above 0", "a.ply", {"scale": 0.0}),
        ("above 0", "a.ply", {"scale": float("nan")}),
    ]
    for fault, name, options in faults:
        with pytest.raises(InputError, match=fault):
            load_scan(tmp_path / name, **options)
    with pytest.raises(MissingFileError, match="not found"):
        load_scan(tmp_path / "none.ply")
    with pytest.raises(MissingFileError, match="labels file"):
        load_scan(scan, labels=tmp_path / "none.csv")
    with pytest.raises(InputError, match="holds no points"):
        load_scan(write_ply(tmp_path / "empty.ply", POINTS[:0], IDS[:0], colors=None))
    with pytest.raises(InputError, match="no point has an instance id"):
        load_scan(write_ply(tmp_path / "b.ply", ids=IDS * 0 - 1), default_label="x")
    with pytest.raises(InputError, match="nothing stands out"):
        load_scan(write_ply(tmp_path / "c.ply", POINTS[:5], ids=None, colors=None))
    with pytest.raises(InputError, match="colours run from"):
        load_scan(write_ply(tmp_path / "d.ply", colors=COLORS.astype(np.float32) * 300), default_label="x")


FILES = ("ply", "txt.ply", "pcd", "txt.pcd", "obj", "glb", "npz", "npy", "labels.json", "boxes.csv", "boxes.json")


def good(folder: Path, kind: str) -> tuple[Path, dict[str, Any]]:
    """A sound file of a kind, and how to read it."""
    scan, file = folder / f"a.{kind}", folder / f"b.{kind}"
    ids: dict[str, Any] = {"default_label": "x"}
    if kind.endswith("ply"):
        return write_ply(scan, text=kind.startswith("txt")), ids
    if kind.endswith("pcd"):
        return write_pcd(scan, text=kind.startswith("txt")), ids
    if kind in ("obj", "glb"):
        content = trimesh.Scene(trimesh.creation.icosphere(1)).export(file_type=kind)
        scan.write_bytes(content.encode() if isinstance(content, str) else content)
        return scan, {}
    if kind == "npz":
        sparse.save_npz(file, sparse.csr_matrix(np.eye(3, 24)))
        return file, {"mask": file}
    if kind == "npy":
        np.save(file, IDS)
        return file, ids | {"instances": file}
    if kind == "labels.json":
        return write(file, LABELS), {"labels": file}
    if kind == "boxes.csv":
        return write(file, "label,x,y,z,dx,dy,dz\nslab,0,0,0,1,1,1\n"), {"boxes": file}
    return write(file, [{"label": "a", "center": [0, 0, 0], "size": [1, 1, 1]}]), {"boxes": file}


@pytest.mark.parametrize("kind", FILES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_to_a_file_the_answer_is_a_scene_or_an_input_error(tmp_path: Path, kind: str, data: Any):
    path, options = good(tmp_path, kind)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        content = content or bytearray(b"x")
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content)
    scan = path if path.name.startswith("a.") else write_ply(tmp_path / "whole.ply")
    try:
        scene = load_scan(scan, **options)
    except InputError:
        return
    assert scene.objects and np.isfinite(scene.points).all() and (scene.boxes[:, 3:6] > 0).all()


# --- folders and the corpus ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "homes"
    posed(root / "set")
    write_ply(root / "good one.ply")
    write(root / "good one.labels.json", LABELS)
    (root / "broken.ply").write_bytes(b"ply\nformat")
    (root / "flat").mkdir()
    write_ply(root / "flat/scan.ply")
    write(root / "flat/scan.labels.json", LABELS)
    return root


def test_a_folder_of_scans_leaves_out_the_broken_one_and_says_why(folder: Path):
    with pytest.warns(UserWarning, match="left out scan broken: .*no end_header"):
        assert [scene.id for scene in load(folder)] == ["flat", "good-one", "set"]


def test_a_folder_of_broken_scans_is_an_error(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.ply").write_bytes(b"ply\nformat")
    with (
        pytest.warns(UserWarning),
        pytest.raises(InputError, match="all 2 scans .* broken; the first is a: .*end_header"),
    ):
        list(load(tmp_path))


def test_no_scan_is_read_before_its_turn(folder: Path):
    assert [name for name, _ in homes_at(folder)] == ["broken", "flat", "good-one", "set"]
    (folder / "nothing").mkdir()
    with pytest.raises(InputError, match="holds no poses.json and no scan"):
        homes_at(folder / "nothing")
    write_ply(folder / "good-one.ply")
    with pytest.raises(InputError, match="several scans named good-one"):
        homes_at(folder)


def wanted(path: Path, **options: Any) -> Wanted:
    return Wanted({"train": 5, "val": 5, "test": 3}, SourceConfig("custom", str(path), **options))


def test_scans_are_test_homes_unless_splits_json_says_otherwise(folder: Path):
    source = custom_source(wanted(folder))
    assert [source.count(split) for split in ("train", "val", "test")] == [0, 0, 3]  # at most as many as wanted
    homes = list(source.homes("test"))
    assert isinstance(homes[0], Skipped) and homes[0].name == "broken" and "end_header" in homes[0].reason
    assert [home.id for home in homes[1:] if isinstance(home, Scene)] == ["flat", "good-one"]
    write(folder / "splits.json", {"train": ["flat", "good-one"], "test": ["set", "broken"]})
    source = custom_source(wanted(folder))
    assert [source.count(split) for split in ("train", "val", "test")] == [2, 0, 2]


@pytest.mark.parametrize(
    ("splits", "fault"),
    [
        ({"train": ["flat", "good-one", "set", "broken", "attic"]}, "not there: attic"),
        ({"train": ["flat", "good-one"], "test": ["flat", "set", "broken"]}, "twice: flat"),
        ({"train": ["flat"]}, "leaves homes out: broken, good-one, set"),
        ({"dev": ["flat"]}, "should hold"),
        (["flat"], "should hold"),
    ],
)
def test_faulty_splits_are_named(folder: Path, splits: Any, fault: str):
    write(folder / "splits.json", splits)
    with pytest.raises(InputError, match=fault):
        custom_source(wanted(folder))


def test_settings_of_scans_belong_to_custom_only(folder: Path):
    with pytest.raises(InputError, match="source.up=y: only for scans of your own"):
        SourceConfig("procthor", "houses.jsonl", up="y")
    with pytest.raises(InputError, match="states scale itself"):
        custom_source(wanted(folder, scale=2.0))
    scaled = wanted(folder / "flat", scale=2.0, room="hall")
    (scene,) = custom_source(scaled).homes("test")
    assert isinstance(scene, Scene) and scene.rooms[0].kind == "hall"
    assert np.ptp(scene.points, axis=0) == pytest.approx([3.6, 0.8, 1.0], abs=1e-5)
    assert BuildScenesConfig(source=scaled.source).source.name == "custom"


# --- real files ---


@pytest.mark.shared_data
def test_household_scans_are_one_thing_each_with_the_size_their_list_says(shared_data: Path):
    sizes = json.loads((shared_data / "household_scans/objects.json").read_text())
    for name in ("mug", "book_1", "bowl", "fork"):
        scene = load_scan(shared_data / f"household_scans/{name}.ply")
        assert len(scene.objects) == 1 and scene.objects[0].attributes == {"instance_source": "proposals"}
        np.testing.assert_allclose(scene.boxes[0, 3:6], sizes[name]["extent_m"], rtol=0.05, atol=0.012)
        raw = trimesh.load_mesh(shared_data / f"household_scans/{name}.ply", process=False)
        back = scene.mesh.vertices @ scene.to_source[:3, :3].T + scene.to_source[:3, 3]
        np.testing.assert_allclose(back, raw.vertices, atol=1e-6)
        _, distance, _ = trimesh.proximity.closest_point_naive(raw, in_file(scene)[:40])
        assert distance.max() < 1e-4  # the drawn points lie on the file's surface


@pytest.mark.shared_data
def test_a_set_of_kaykit_furniture_stands_as_its_poses_say(shared_data: Path, tmp_path: Path):
    things = [  # game units are 0.6 m; front is +z there, which becomes -y
        ("kaykit_furniture", "couch", "sofa", [0, 0, 0], 0.0),
        ("kaykit_furniture", "table_low", "coffee table", [0, -1.2, 0], 0.0),
        ("kaykit_restaurant", "bowl", "bowl", [0.1, -1.2, 0.3], 0.0),
        ("kaykit_furniture", "chair_A", "chair", [-1.5, -1.4, 0], np.pi / 2),
    ]
    objects = []
    for source, name, label, position, yaw in things:
        for file in [f"{name}.gltf", f"{name}.bin", *(p.name for p in (shared_data / source / "gltf").glob("*.png"))]:
            (tmp_path / file).write_bytes((shared_data / source / "gltf" / file).read_bytes())
        objects.append({"file": f"{name}.gltf", "label": label, "position": position, "yaw": yaw})
    write(tmp_path / "poses.json", {"scale": 0.6, "objects": objects})
    (scene,) = load(tmp_path)
    assert np.allclose(scene.boxes[0, 3:6], [1.8, 0.96, 0.734], atol=1e-3)
    assert np.allclose(scene.boxes[:2, 2] - scene.boxes[:2, 5] / 2, 0, atol=0.01)
    assert build_graph(scene).support_parent.tolist() == [-1, -1, 1, -1]
    sofa = scene.mesh.face_colors[scene.mesh.face_instance == 0].mean(axis=0)
    assert sofa[2] > sofa[0] + 40  # its texture is blue
    assert generate_referrals(scene, build_graph(scene), 8, np.random.default_rng(0))
