"""ProcTHOR houses: frames and sizes by hand on a tiny house, facts about the real file."""

import copy
import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from core.errors import InputError, MissingFileError
from scene.corpus import Skipped, SourceConfig, Wanted, procthor_source
from scene.datasets.procthor import color_of, house_scene, inside_polygon, load, our_box, read_houses, support_truth
from scene.datasets.procthor_files import HouseFile, house_files, iter_houses, read_assets
from scene.datasets.procthor_labels import label_of
from scene.geometry import axis_aligned
from scene.io import load_scene, save_scene
from scene.occupancy import occupancy
from scene.palette import PALETTE
from scene.types import Scene

ASSETS = {
    "Sofa": [{"assetId": "Sofa_1", "objectType": "Sofa", "boundingBox": {"x": 2.0, "y": 0.8, "z": 0.9}}],
    "DiningTable": [
        {
            "assetId": "Table_1",
            "objectType": "DiningTable",
            "boundingBox": {"x": 1.4, "y": 0.7, "z": 0.8},
            "primaryProperty": "Moveable",
            "secondaryProperties": ["Receptacle"],
        }
    ],
    "Mug": [{"assetId": "Mug_1", "objectType": "Mug", "boundingBox": {"x": 0.1, "y": 0.1, "z": 0.08}}],
    "Doorway": [{"assetId": "Doorway_1", "objectType": "Doorway", "boundingBox": {"x": 1, "y": 2, "z": 0.1}}],
    "Window": [{"assetId": "Window_1", "objectType": "Window", "boundingBox": {"x": 1, "y": 1, "z": 0.1}}],
}


def xyz(x: float, y: float, z: float) -> dict[str, float]:
    return {"x": x, "y": y, "z": z}


def wall(name: str, room: str | None, a: tuple[float, float], b: tuple[float, float]) -> dict:
    polygon = [xyz(a[0], 0, a[1]), xyz(b[0], 0, b[1]), xyz(a[0], 2.5, a[1]), xyz(b[0], 2.5, b[1])]
    return {"id": name, "polygon": polygon, "material": {"name": "PureWhite"}} | ({"roomId": room} if room else {})


def thing(asset: str, name: str, position: dict, turn: float = 0.0, children: list | None = None) -> dict:
    return {"assetId": asset, "id": name, "position": position, "rotation": xyz(0, turn, 0), "children": children or []}


def house() -> dict:
    """Two rooms, 4 x 3 and 4 x 3 metres, side by side along x; a door between them 1 to 2 m up z."""
    corners = {"room|2": (0.0, 4.0), "room|3": (4.0, 8.0)}
    rooms, walls = [], []
    for name, (x0, x1) in corners.items():
        ring = [(x0, 0.0), (x0, 3.0), (x1, 3.0), (x1, 0.0)]  # clockwise from above in (x, z)
        rooms.append(
            {
                "id": name,
                "roomType": "LivingRoom",
                "floorPolygon": [xyz(x, 0, z) for x, z in ring],
                "floorMaterial": {"name": "OakWood"},
            }
        )
        for k in range(4):
            walls.append(wall(f"wall|{name}|{k}", name, ring[k], ring[(k + 1) % 4]))
    outer = [(0.0, 0.0), (0.0, 3.0), (8.0, 3.0), (8.0, 0.0)]
    walls += [wall(f"wall|exterior|{k}", None, outer[(k + 1) % 4], outer[k]) for k in range(4)]
    return {
        "rooms": rooms,
        "walls": walls,
        "doors": [
            {
                "id": "door|2|3",
                "assetId": "Doorway_1",
                # along wall 2 of room 2, which runs from z = 3 to z = 0
                "holePolygon": [xyz(1.0, 0, 0), xyz(2.0, 2.0, 0)],
                "room0": "room|2",
                "room1": "room|3",
                "wall0": "wall|room|2|2",
                "wall1": "wall|room|3|0",
                "openable": True,
                "openness": 1,
            }
        ],
        "windows": [
            {
                "id": "window|2|0",
                "assetId": "Window_1",
                "holePolygon": [xyz(0.5, 0.9, 0), xyz(1.5, 1.9, 0)],  # along wall 1 of room 2, from x = 0 to x = 4
                "room0": "room|2",
                "room1": "room|2",
                "wall0": "wall|room|2|1",
                "wall1": "wall|exterior|1",
            }
        ],
        "objects": [
            thing("Sofa_1", "Sofa|2|0", xyz(0.5, 0.4, 1.5), 90),
            thing("Table_1", "Table|3|0", xyz(6.0, 0.35, 0.6), 0, [thing("Mug_1", "Mug|3|1", xyz(6.2, 0.75, 0.6))]),
        ],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "procthor_db").mkdir()
    (tmp_path / "houses").mkdir()
    with gzip.open(tmp_path / "procthor_db/asset-database.json.gz", "wt") as file:
        json.dump(ASSETS, file)
    return tmp_path


def write(folder: Path, *records: dict, name: str = "houses.jsonl.gz") -> Path:
    path = folder / "houses" / name
    text = "\n".join(json.dumps(record) for record in records)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def tiny(folder: Path) -> Scene:
    return next(load(write(folder, {"house": house(), "split": "train"})))


def test_a_sofa_that_faces_their_x_faces_ours(folder):
    scene = tiny(folder)
    sofa, table, mug = scene.objects[:3]
    assert np.allclose(sofa.box, [0.5, 1.5, 0.4, 0.9, 2.0, 0.8, 0.0], atol=1e-9)  # turned 90 degrees: yaw 0
    assert np.allclose(table.box, [6.0, 0.6, 0.35, 0.8, 1.4, 0.7, np.pi / 2])  # unturned: faces their z, our y
    assert np.allclose(mug.box[2] - 0.05, 0.7)
    assert [item.label for item in scene.objects] == ["sofa", "table", "mug", "door", "window"]
    assert [item.room for item in scene.objects[:3]] == [0, 1, 1] and table.affordances == ("push", "surface")


def test_our_frame_is_right_handed_and_leads_back(folder):
    """In a right-handed frame forward x up = right; in theirs, left-handed, the same product points left."""
    unity = {"right": np.array([1.0, 0, 0]), "up": np.array([0, 1.0, 0]), "forward": np.array([0, 0, 1.0])}
    ours = {name: v[[0, 2, 1]] for name, v in unity.items()}
    assert np.allclose(np.cross(ours["forward"], ours["up"]), ours["right"])
    assert np.allclose(np.cross(unity["forward"], unity["up"]), -unity["right"])
    scene = tiny(folder)
    assert np.allclose(scene.to_source @ np.append(scene.objects[2].box[:3], 1), [6.2, 0.75, 0.6, 1])


def test_turning_clockwise_from_above_is_negative_yaw():
    size, place = xyz(2.0, 1.0, 1.0), xyz(0, 0, 0)
    straight, turned = (our_box(place, xyz(0, t, 0), size) for t in (0.0, 30.0))
    assert turned[6] - straight[6] == pytest.approx(-np.pi / 6)
    # Unity: the local x axis of an object turned by 30 degrees points to (cos 30, 0, -sin 30)
    along = np.array([np.cos(turned[6] - np.pi / 2), np.sin(turned[6] - np.pi / 2)])  # our local -y is their local x
    assert np.allclose(along, [np.cos(np.pi / 6), -np.sin(np.pi / 6)])


def test_a_toppled_object_gets_the_upright_box_around_it():
    box = our_box(xyz(0, 0, 0), xyz(270, 0, 0), xyz(0.1, 0.3, 0.2))
    assert np.allclose(box[3:6], [0.3, 0.1, 0.2])  # depth and height have changed places


def test_rooms_are_counter_clockwise_and_know_their_kind(folder):
    for room in tiny(folder).rooms:
        following = np.roll(room.polygon, -1, axis=0)
        assert (room.polygon[:, 0] * following[:, 1] - room.polygon[:, 1] * following[:, 0]).sum() > 0
        assert room.kind == "living room" and room.height == 2.5


def test_the_door_is_a_passage_in_the_mesh_and_on_the_floor(folder):
    scene = tiny(folder)
    door = scene.doors[0]
    assert np.allclose(door.box[:6], [4.0, 1.5, 1.0, 0.08, 1.0, 2.0]) and door.rooms == (0, 1) and door.open
    assert abs(np.cos(door.box[6])) == pytest.approx(1.0)  # its thickness lies along x
    grid = occupancy(scene)
    assert ndimage.label(grid.free)[1] == 1
    assert grid.is_free(np.array([[4.0, 1.5], [2.0, 1.5], [5.5, 2.0]])).all()
    assert not grid.is_free(np.array([[4.0, 0.5], [4.0, 2.5]])).any()


def test_the_window_is_a_hole_in_both_walls(folder):
    scene = tiny(folder)
    window = axis_aligned(scene.boxes[4:5])[0]
    assert np.allclose(window, [0.5, 2.97, 0.9, 1.5, 3.03, 1.9])
    fixed = scene.mesh.vertices[scene.mesh.faces[scene.mesh.face_instance == -1]]
    low, high = fixed.min(axis=1), fixed.max(axis=1)
    middle = np.array([1.0, 3.0, 1.4])
    assert not ((low < middle + 0.3) & (high > middle - 0.3)).all(axis=1).any()


def test_truth_follows_the_files_nesting(folder):
    path = write(folder, {"house": house(), "split": "train"})
    assert support_truth(path) == {"procthor-train-00001": {0: None, 1: None, 2: 1, 3: None, 4: None}}


def test_splits_are_those_of_the_file(folder):
    path = write(folder, {"house": house(), "split": "train"}, {"house": house(), "split": "val"})
    assert [scene.id for scene in load(path, "val")] == ["procthor-val-00002"]
    with pytest.raises(InputError, match="did you mean 'train'"):
        list(load(path, "trian"))
    plain = write(folder, house(), name="val.jsonl")  # ProcTHOR-10K: a house per line, the split is the file's name
    assert [item.id for item in read_houses(plain, "val")] == ["procthor-val-00001"]
    single = write(folder, house(), name="mine.json")
    assert [scene.id for scene in load(single)] == ["procthor-00001"]


def test_colours_are_stable_and_said_to_be_assigned(folder):
    scene = tiny(folder)
    assert all(item.attributes["color_source"] == "assigned" for item in scene.objects)
    assert all(item.attributes["color"] in PALETTE for item in scene.objects)
    assert scene.objects[0].attributes["color"] == color_of("Sofa_1", "sofa")


def test_an_unknown_asset_names_itself_its_house_and_the_nearest(folder):
    wrong = house()
    wrong["objects"][0]["assetId"] = "Sofa_11"
    with pytest.raises(InputError, match=r"line 1: house procthor-train-00001 .*'Sofa_11'.*did you mean 'Sofa_1'"):
        next(load(write(folder, {"house": wrong, "split": "train"})))


def test_a_house_without_objects_or_parts_is_refused(folder):
    with pytest.raises(InputError, match="no objects"):
        next(load(write(folder, house() | {"objects": []})))
    lacking = house()
    del lacking["walls"]
    with pytest.raises(InputError, match="lacks walls"):
        next(load(write(folder, lacking)))
    garbled = copy.deepcopy(house())
    del garbled["objects"][0]["position"]
    with pytest.raises(InputError, match="'position'"):
        next(load(write(folder, garbled)))
    garbled["objects"][0]["position"] = xyz("left", 0, 0)
    with pytest.raises(InputError, match="could not convert string to float"):
        next(load(write(folder, garbled)))


def test_damaged_files_name_the_line(folder):
    path = write(folder, house(), house())
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match="truncated"):
        next(load(path))
    plain = write(folder, house(), house(), name="x.jsonl")
    plain.write_text(plain.read_text()[:-30])
    with pytest.raises(InputError, match="line 2 is damaged"):
        next(load(plain))


def test_a_house_file_holds_places_and_reads_one_house(folder):
    path = write(folder, {"house": house(), "split": "train"}, {"split": "val", "house": house() | {"objects": []}})
    scratch = folder / "scratch"
    file = HouseFile(path, scratch)
    assert [(line.line, line.split) for line in file.lines] == [(1, "train"), (2, "val")]
    assert file.house(file.lines[1]).content["objects"] == [] and file.house(file.lines[0]).id == "procthor-train-00001"
    (copy,) = scratch.iterdir()
    again = HouseFile(path, scratch)
    assert list(scratch.iterdir()) == [copy] and again.lines == file.lines  # unpacked once
    copy.unlink()
    assert again.house(again.lines[0]).content["walls"]  # who has it open keeps it


def test_the_unpacked_copy_is_gone_when_its_process_ends(folder):
    path = write(folder, {"house": house(), "split": "train"})
    code = "import sys, pathlib; from scene.datasets.procthor_files import HouseFile; HouseFile(*sys.argv[1:])"
    code += "; print(len(list(pathlib.Path(sys.argv[2]).iterdir())))"
    words = [sys.executable, "-c", code, str(path), str(folder / "scratch")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout == "1\n"
    assert list((folder / "scratch").iterdir()) == []


def test_splits_are_found_without_parsing_and_checked_when_a_house_is_made(folder):
    named = house()
    named["objects"][0]["split"] = "val"  # inside the house: two places, so the line is parsed
    inside = copy.deepcopy(named)
    path = write(folder, {"house": named, "split": "train"}, inside, {"house": house(), "split": "val"}, name="x.jsonl")
    file = HouseFile(path)
    assert [line.split for line in file.lines] == ["train", "val", "val"]
    with pytest.raises(InputError, match="line 2: its split is '', but it was counted to 'val'"):
        file.house(file.lines[1])


def test_a_broken_house_is_left_out_with_its_reason_and_the_rest_goes_on(folder):
    records = [{"house": house(), "split": "train"}] * 7 + [{"house": house(), "split": "val"}] * 3
    path = write(folder, *records, name="houses.jsonl")
    lines = path.read_text().splitlines()
    lines[1], lines[8] = lines[1][: len(lines[1]) // 2], lines[8].replace('"rooms"', '"rums"')
    path.write_text("\n".join(lines))
    source = procthor_source(Wanted({"train": 9, "val": 9, "test": 9}, SourceConfig("procthor", str(path))))
    made = {split: list(source.homes(split)) for split in source.makers}
    assert [[isinstance(home, Skipped) for home in homes] for homes in made.values()] == [
        [False, True],
        [False] * 5,
        [False, True, False],
    ]
    assert "line 2 is damaged" in made["train"][1].reason and "lacks rooms" in made["test"][1].reason


def test_procthor_10k_is_a_folder_of_a_file_per_split(folder):
    write(folder, *[house()] * 6, name="train.jsonl.gz")
    with pytest.raises(MissingFileError, match=r"no val\.jsonl or val\.jsonl\.gz"):
        house_files(folder / "houses", folder / "scratch")
    write(folder, house(), name="val.jsonl")
    config = SourceConfig("procthor", str(folder / "houses"), scratch=str(folder / "scratch"))
    source = procthor_source(Wanted({"train": 9, "val": 9, "test": 9}, config))
    assert {split: source.count(split) for split in source.makers} == {"train": 1, "val": 5, "test": 1}
    assert next(source.homes("test")).id == "procthor-val-00001"


def test_missing_assets_name_the_key_to_give(folder, tmp_path):
    path = write(folder, house())
    moved = (folder / "procthor_db").rename(folder / "elsewhere")
    with pytest.raises(MissingFileError, match=r"source\.assets=FOLDER"):
        next(load(path))
    assert next(load(path, assets=moved)).objects and next(load(path, assets=moved / "asset-database.json.gz")).objects
    with pytest.raises(InputError, match="no ProcTHOR asset database"):
        next(load(path, assets=write(folder, house(), house(), name="two.jsonl")))


def test_the_database_may_be_unpacked(folder):
    packed = folder / "procthor_db/asset-database.json.gz"
    (folder / "procthor_db/asset-database.json").write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()
    path = write(folder, house())
    assert next(load(path)).objects and next(load(path, assets=folder / "procthor_db")).objects


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["houses.jsonl.gz", "houses.jsonl", "houses.json"]), st.booleans(), st.data())
def test_damaged_houses_are_refused_or_still_a_scene(tmp_path_factory, name, cut, data):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "houses").mkdir()
    (folder / "houses/asset-database.json").write_text(json.dumps(ASSETS))
    path = write(folder, house(), name=name)
    content = bytearray(path.read_bytes())
    if cut:
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        houses = [house_scene(house, read_assets(path)) for house in iter_houses(path, scratch=folder)]
    except InputError as error:
        assert name in str(error)
        return
    assert all(scene.objects for scene in houses)


def test_labels_read_like_words():
    words = [
        label_of(name)
        for name in ("ArmChair", "CounterTop", "TVStand", "DiningTable", "FloorLamp", "ToiletPaperHanger")
    ]
    assert words == ["armchair", "countertop", "tv stand", "table", "floor lamp", "toilet paper hanger"]


def test_points_are_told_to_be_inside_concave_polygons():
    polygon = np.array([[0.0, 0], [3, 0], [3, 1], [1, 1], [1, 3], [0, 3]])
    assert [inside_polygon(np.array(p), polygon) for p in ((0.5, 2), (2, 0.5), (2, 2), (-1, 0.5))] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.shared_data
def test_real_houses_load_with_true_supports_and_walkable_doors(shared_data, tmp_path):
    path = shared_data / "procthor_houses/houses.jsonl.gz"
    scenes = list(load(path, "val"))
    truth = support_truth(path, "val")
    assert len(scenes) == 9 and len(read_houses(path, "train")) == 29
    resting: list[bool] = []
    for scene in scenes:
        assert set(truth[scene.id]) == set(range(len(scene.objects)))
        low, high = (getattr(np.concatenate([room.polygon for room in scene.rooms]), f)(axis=0) for f in ("min", "max"))
        bounds = axis_aligned(scene.boxes)
        assert (bounds[:, :2] > low - 0.1).all() and (bounds[:, 3:5] < high + 0.1).all()
        assert bounds[:, 2].min() > -0.1
        for child, parent in truth[scene.id].items():
            if parent is not None:
                base = bounds[parent]
                corners = np.array([base[:2], base[[3, 1]], base[3:5], base[[0, 4]]])
                resting.append(inside_polygon(scene.boxes[child, :2], corners))
    assert len(resting) > 100 and np.mean(resting) > 0.95  # a few things lean on their parent
    largest = max(scenes, key=lambda scene: len(scene.rooms))
    grid = occupancy(largest)
    free = grid.centers(np.argwhere(grid.free))[::7]
    reached = {k for k, room in enumerate(largest.rooms) if any(inside_polygon(p, room.polygon) for p in free)}
    assert len(reached) == len(largest.rooms)  # every room of an eight-room house through its doors
    save_scene(largest, tmp_path)
    assert load_scene(tmp_path, largest.id).labels == largest.labels
