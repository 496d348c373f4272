"""Files of SceneVerse and ScanNet as their descriptions have them, written small for the tests of the loaders."""

import json
import struct
from pathlib import Path

import numpy as np
import torch

SV_LABELS = {3: "Chair", 7: "wall", 12: "coffee  Table", 40: "Chair"}
BOXES = {3: (0, 0, 0), 7: (3, 0, 0), 12: (0, 2, 0.5), 40: (2, 2, 0)}  # lowest corner of a unit cube of each


def cloud(none: int = -1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The eight corners of a cube per instance, and two points of nothing."""
    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], np.float64)
    xyz = np.concatenate([corners + low for low in BOXES.values()] + [np.array([[5, 5, 0], [5, 6, 0]])])
    ids = np.concatenate([np.full(8, key) for key in BOXES] + [np.full(2, none)])
    rgb = np.tile(np.array([[10.0, 200.4, 255.0]]), (len(xyz), 1))
    return xyz, rgb, ids


def write_sceneverse(root: Path, scan: str = "scan_a", parts=None, labels=None, angle: float | None = None) -> Path:
    points, names = root / "scan_data/pcd_with_global_alignment", root / "scan_data/instance_id_to_label"
    for folder in (points, names, root / "annotations/splits"):
        folder.mkdir(parents=True, exist_ok=True)
    torch.save(cloud() if parts is None else parts, points / f"{scan}.pth")
    torch.save(SV_LABELS if labels is None else labels, names / f"{scan}.pth")
    if angle is not None:
        np.save(points / f"{scan}_align_angle.npy", angle)
    return root


NAME = "scene0000_00"
# objectId -> label, segments; segment 9 belongs to nobody
GROUPS = {4: ("Office Chair", [70]), 11: ("wall", [71]), 23: ("table", [100, 5])}
SEGMENTS = [70] * 4 + [71] * 4 + [100] * 2 + [5] * 2 + [9]
XYZ = np.array(
    [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    + [[5, 0, 0], [5, 1, 0], [5, 0, 1], [5, 1, 1]]
    + [[2, 2, 0], [3, 2, 0], [2, 3, 0], [2, 2, 2]]
    + [[9, 9, 9]],
    np.float32,
)
FACES = [(0, 1, 2), (0, 1, 3), (4, 5, 6), (8, 9, 10), (8, 10, 11), (3, 8, 9), (3, 8, 12)]
QUARTER = [[0.0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 0.5], [0, 0, 0, 1]]  # a turn by 90 degrees, then a shift
LABEL_TABLE = (
    "id\traw_category\tcategory\tnyu40id\tnyu40class\n1\tOffice Chair\tchair\t5\tchair\n2\twall\twall\t1\twall\n"
)
LABEL_TABLE += "3\ttable\ttable\t7\ttable\n4\tnothing\tnothing\t\t\n"


def scannet_ply() -> bytes:
    head = "ply\nformat binary_little_endian 1.0\nelement vertex 13\n"
    head += "".join(f"property float {k}\n" for k in "xyz")
    head += "".join(f"property uchar {k}\n" for k in ("red", "green", "blue", "alpha"))
    head += f"element face {len(FACES)}\nproperty list uchar int vertex_indices\nend_header\n"
    rows = b"".join(struct.pack("<fffBBBB", *xyz, 10 * k, 20, 30, 255) for k, xyz in enumerate(XYZ))
    return head.encode() + rows + b"".join(struct.pack("<Biii", 3, *face) for face in FACES)


def write_scannet(root: Path, groups=None, segments=SEGMENTS, matrix=QUARTER, labels: bool = True) -> Path:
    folder = root / "scans" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    listed = [
        {"id": k, "objectId": key, "segments": parts, "label": label}
        for k, (key, (label, parts)) in enumerate((groups or GROUPS).items())
    ]
    (folder / f"{NAME}_vh_clean_2.ply").write_bytes(scannet_ply())
    (folder / f"{NAME}.aggregation.json").write_text(json.dumps({"sceneId": f"scannet.{NAME}", "segGroups": listed}))
    (folder / f"{NAME}_vh_clean_2.0.010000.segs.json").write_text(json.dumps({"segIndices": segments}))
    line = "axisAlignment = " + " ".join(f"{x:f}" for row in matrix for x in row) + " \n" if matrix else ""
    (folder / f"{NAME}.txt").write_text(f"colorHeight = 968\n{line}sceneType = Office\n")
    if labels:
        (root / "scannetv2-labels.combined.tsv").write_text(LABEL_TABLE)
    return root
