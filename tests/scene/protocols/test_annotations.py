"""Annotation files that are damaged or of another kind, and the parts of a row."""

import json
from pathlib import Path

import pytest

from core.errors import InputError, MissingFileError
from scene.protocols.annotations import Row, read_rows, stimulus, view_group

GOOD = [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}]


def read(path: Path) -> list[Row]:
    return read_rows(path, "toy annotations", ("id", "text"))


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl", "rows.csv"])
def test_three_formats_give_the_same_rows(tmp_path: Path, name: str):
    content = {
        "rows.json": json.dumps(GOOD),
        "rows.jsonl": "\n".join(map(json.dumps, GOOD)) + "\n\n",
        "rows.csv": "id,text\n1,a\n2,b\n",
    }[name]
    (tmp_path / name).write_text("\ufeff" + content, encoding="utf-8")  # some editors put a byte order mark first
    rows = read(tmp_path / name)
    assert [(row.number, row.id("id"), row.text("text")) for row in rows] == [(0, "1", "a"), (1, "2", "b")]
    assert rows[1].where.endswith(f"{name}, row 2")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", json.dumps(GOOD)[:-9], r"a\.json is truncated or not JSON"),
        ("a.json", '{"questions": []}', r"a\.json holds a dict with keys questions, expected a list of rows"),
        ("a.json", "[3]", r"a\.json, row 1 is a int, expected an object with keys"),
        ("a.json", "[]", "toy annotations hold no rows"),
        ("a.json", "", "toy annotations is empty"),
        ("a.json", '[{"id": 1, "text": "x"}, {"id": 2, "caption": "y"}]', r"row 2 lacks text; it has id, caption"),
        ("a.jsonl", '{"id": 1, "text": "x"}\n{"id": 2, "te', r"a\.jsonl, line 2 is truncated or not JSON"),
        ("a.csv", "id,text\n1,a\n2", r"a\.csv, row 2 has 1 values for the 2 columns id, text; is the file truncated"),
        ("a.csv", 'id,text\n1,a\n2,"b', r"a\.csv, line 3 is truncated or no CSV"),
        ("a.csv", "id,text\n", "toy annotations hold no rows"),
        ("a.csv", "\n\n", "holds no header and no rows"),
        ("a.csv", "id,words\n1,a\n", r"row 1 lacks text; it has id, words. Expected toy annotations with id, text"),
        ("a.txt", "id", r"toy annotations are 'a\.txt', expected a file that ends in \.json, \.jsonl, \.csv"),
    ],
)
def test_a_bad_file_is_named_with_what_was_found(tmp_path: Path, name: str, content: str, message: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_only_line_ends_end_a_row(tmp_path: Path):
    (tmp_path / "a.csv").write_text('id,text\n1,"two\nlines"\n2,one\u2028line\n', encoding="utf-8")
    assert [row.text("text") for row in read(tmp_path / "a.csv")] == ["two\nlines", "one\u2028line"]


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path):
    with pytest.raises(MissingFileError, match="toy annotations not found"):
        read(tmp_path / "none.json")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="are no UTF-8 text"):
        read(tmp_path / "a.json")


def test_parts_of_a_row_are_checked():
    row = Row(Path("f.json"), 4, {"text": " ", "id": 1.5, "ids": ["3", 4], "flag": "TRUE"})
    with pytest.raises(InputError, match=r"f\.json, row 5: text is ' ', expected a text"):
        row.text("text")
    with pytest.raises(InputError, match="id is 1.5, expected an id"):
        row.id("id")
    assert row.ids("ids") == ["3", "4"] and row.flag("flag")


def test_a_stimulus_says_how_many_are_alike():
    def read(text: str) -> tuple[int, str]:
        return stimulus(Row(Path("f.csv"), 0, {"stimulus_id": text}))

    assert read("scene0525_00-plant-9-13-14-15-16-17-18-19-20-21") == (9, "13")
    assert read("scene0525_00-tv-1-7") == (1, "7")
    assert read("scene0525_00-t-shirt-2-7-8") == (2, "7")
    with pytest.raises(InputError, match="expected scan-label-n-target"):
        read("plant")


def test_view_words_are_whole_tokens():
    assert view_group(["the", "leftmost", "chair"]) == "view-dependent"
    assert view_group(["the", "backpack"]) == "view-independent"
