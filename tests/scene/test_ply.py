"""scene/datasets/ply.py: PLY files byte by byte."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError, MissingFileError
from scene.datasets.ply import read_ply

HEADER = """ply
format {form} 1.0
comment made by hand
element vertex 4
property float x
property float y
property float z
property uchar red
element face 2
property list uchar int vertex_indices
property short object
end_header
"""
XYZ = np.array([[0, 0, 0], [1.5, 0, 0], [0, -2, 0], [0, 0, 0.25]], np.float32)
FACES = [(0, 1, 2), (1, 2, 3)]


def binary(order: str = "<", form: str = "binary_little_endian", faces=FACES) -> bytes:
    rows = b"".join(struct.pack(f"{order}fffB", *xyz, 40 * k) for k, xyz in enumerate(XYZ))
    lists = b"".join(struct.pack(f"{order}B{len(f)}ih", len(f), *f, 7 + k) for k, f in enumerate(faces))
    return HEADER.format(form=form).encode() + rows + lists


ASCII = (HEADER.format(form="ascii") + "0 0 0 0\n1.5 0 0 40\n0 -2 0 80\n0 0 0.25 120\n3 0 1 2 7\n3 1 2 3 8\n").encode()


def read(folder, content: bytes):
    path = folder / "scan.ply"
    path.write_bytes(content)
    return read_ply(path)


@pytest.mark.parametrize("content", [binary(), binary(">", "binary_big_endian"), ASCII, ASCII.replace(b"\n", b"\r\n")])
def test_every_form_gives_the_same_table(tmp_path, content):
    table = read(tmp_path, content)
    vertex, face = table["vertex"], table["face"]
    assert np.array_equal(np.stack([vertex[k] for k in "xyz"], axis=1), XYZ) and vertex["x"].dtype == np.float32
    assert vertex["red"].tolist() == [0, 40, 80, 120] and vertex["red"].dtype == np.uint8
    assert face["vertex_indices"].tolist() == [list(f) for f in FACES] and face["vertex_indices"].dtype == np.int32
    assert face["object"].tolist() == [7, 8]


def test_a_truncated_file_names_expected_and_found_bytes(tmp_path):
    # 4 vertices of 13 bytes and 2 faces of 15 bytes = 82
    with pytest.raises(InputError, match="in its face table: expected at least 82 bytes after the header, found 77"):
        read(tmp_path, binary()[:-5])
    with pytest.raises(InputError, match="in its vertex table: expected at least 52 bytes after the header, found 20"):
        read(tmp_path, binary()[: len(HEADER.format(form="binary_little_endian")) + 20])
    with pytest.raises(InputError, match="expected at least 26 numbers after the header, found 25"):
        read(tmp_path, ASCII.rsplit(b" ", 1)[0])
    with pytest.raises(InputError, match="no end_header"):
        read(tmp_path, ASCII[:40])
    with pytest.raises(InputError, match="83 bytes after the header, expected 82"):
        read(tmp_path, binary() + b"x")


def test_faces_must_be_triangles_of_vertices_that_exist(tmp_path):
    with pytest.raises(InputError, match="face 0 has 4 corners, expected triangles"):
        read(tmp_path, binary(faces=[(0, 1, 2, 3), (0, 1, 2, 3)]))
    with pytest.raises(InputError, match="expected one length"):
        read(tmp_path, binary(faces=[(0, 1, 2), (1, 2)]) + b"1234")
    with pytest.raises(InputError, match=r"faces name vertices 0\.\.4, but there are 0\.\.3"):
        read(tmp_path, binary(faces=[(0, 1, 2), (1, 2, 4)]))


def test_numbers_that_their_type_cannot_hold_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds 300, expected a whole number 0\.\.255"):
        read(tmp_path, ASCII.replace(b" 40\n", b" 300\n"))
    with pytest.raises(InputError, match="no number"):
        read(tmp_path, ASCII.replace(b"1.5", b"1.5x"))


def test_other_files_are_told_apart(tmp_path):
    with pytest.raises(MissingFileError):
        read_ply(tmp_path / "none.ply")
    for content, reason in ((b"OFF\n1 2 3\n", "no PLY file"), (b"ply\nformat binary 1.0\nend_header\n", "PLY format")):
        with pytest.raises(InputError, match=reason):
            read(tmp_path, content)
    with pytest.raises(InputError, match="line 5: 'property floot x'"):
        read(tmp_path, ASCII.replace(b"property float x", b"property floot x"))


def test_an_element_without_rows_or_lists_without_faces_read_as_empty(tmp_path):
    content = b"ply\nformat ascii 1.0\nelement face 0\nproperty list uchar int vertex_index\nend_header\n"
    assert len(read(tmp_path, content)["face"]["vertex_index"]) == 0


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([binary(), ASCII]), st.data())
def test_damaged_files_read_or_say_so(tmp_path_factory, content, data):
    at = data.draw(st.integers(0, len(content) - 1))
    broken = bytearray(content)
    broken[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(1, len(content)))
    for damaged in (bytes(broken), content[:cut]):
        try:
            table = read(tmp_path_factory.mktemp("ply"), damaged)
        except InputError:
            continue
        assert all(isinstance(values, np.ndarray) for element in table.values() for values in element.values())
