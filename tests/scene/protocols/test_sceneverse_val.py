"""SceneVerse-val: GPS's reading of easy, hard and view-dependent."""

from pathlib import Path
from typing import Any

from scene.protocols.records import Prediction
from scene.protocols.sceneverse_val import load, measure
from tests.scene.protocols.small import json_file, scan


def item(number: int, target: int, text: str, label: str = "chair", scene: str = "scene_00001_00") -> dict[str, Any]:
    return {
        "item_id": f"multiscan_{number}", "scan_id": scene, "target_id": target, "instance_type": label,
        "utterance": text,
    }  # fmt: skip


def test_groups_and_what_is_left_out(tmp_path: Path):
    scenes = {"scene_00001_00": scan("chair", "chair", "chair", "desk", "desk")}
    rows = [
        item(0, 10, "the chair left of the desk"),
        item(1, 13, "the desk to the left, near the wall", "desk"),  # "left," is no "left" between spaces
        item(2, 99, "the wall behind", "wall"),
        item(3, 5, "a chair of another split", scene="scene_00009_00"),
    ]
    examples = load(json_file(tmp_path / "anno.json", rows), scenes)
    assert [example.groups for example in examples] == [("hard", "view-dependent"), ("easy", "view-independent")]
    assert examples.report() == "2 examples; left out: 1 of a wall, floor or ceiling, 1 scene not loaded"
    right = {e.id: Prediction(e.id, objects=e.targets) for e in examples}
    assert [m.value() for m in measure(examples, right, scenes)] == [100.0]
