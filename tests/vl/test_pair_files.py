"""Facts about vl/pair_files.py: one corpus in every format, and files that are not what they seem."""

import csv
import io
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from core.errors import InputError, MissingFileError
from tests.vl.picture_files import encoded
from vl import pair_files
from vl.pair_files import KeptGroups, RowError, open_rows
from vl.pairs import open_pairs

ROWS = [(f"{i}.png", f'caption {i}, with "quotes"\nand a second line' if i % 3 else f"caption {i}") for i in range(70)]
COLUMNS = ("image", "caption")
PICTURE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def rows_of(file):
    return [file.value(row) for row in range(file.rows)]


def opened(path, columns=COLUMNS):
    return open_rows(path, columns, KeptGroups())


def csv_text(rows, **options) -> str:
    file = io.StringIO(newline="")
    csv.writer(file, **options).writerows(rows)
    return file.getvalue()


def as_jsonl(path, rows):
    lines = [json.dumps({"id": n, "caption": text, "image": image}) for n, (image, text) in enumerate(rows)]
    path.write_text("\ufeff" + "\n\n".join(lines), encoding="utf-8")  # a mark, empty lines, no line end at the end
    return path


def as_csv(path, rows):
    separator = "\t" if path.suffix == ".tsv" else ","
    table = [("caption", "id", "image"), *((text, n, image) for n, (image, text) in enumerate(rows))]
    path.write_text("\ufeff" + csv_text(table, delimiter=separator), encoding="utf-8", newline="")
    return path


def as_parquet(path, rows):
    images, texts = zip(*rows)
    parquet.write_table(pa.table({"id": range(len(rows)), "image": images, "caption": texts}), path, row_group_size=9)
    return path


def as_dataset(path, rows):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict(dict(zip(COLUMNS, map(list, zip(*rows))))).save_to_disk(str(path), num_shards=2)
    return path


WRITERS = {"a.jsonl": as_jsonl, "a.csv": as_csv, "a.tsv": as_csv, "a.parquet": as_parquet, "a": as_dataset}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows_in_any_order(name, tmp_path):
    file = opened(WRITERS[name](tmp_path / name, ROWS))
    assert file.rows == 70 and rows_of(file) == ROWS
    for row in (69, 31, 32, 0, 64):
        assert file.value(row) == ROWS[row]
    assert sum(block.rows for block in file.blocks()) == 70


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_column_is_named_with_those_there(name, tmp_path):
    path = WRITERS[name](tmp_path / name, ROWS[:3])
    with pytest.raises(InputError, match=r"has no column 'captions' but .*image.*text_column="):
        opened(path, ("image", "captions"))


def test_any_text_survives_csv_and_json_lines(tmp_path):
    rng = random.Random(0)
    letters = ",\"'\n\r\t\\ {}[]a:\u00e9\u2028\u0085\ufeff\U0001f600"
    for count in (1, 31, 32, 33, 64, 100):
        rows = [tuple("".join(rng.choices(letters, k=rng.randrange(1, 9))) for _ in range(2)) for _ in range(count)]
        path = tmp_path / "any.csv"
        path.write_text(csv_text([COLUMNS, *rows]), encoding="utf-8", newline="")
        assert rows_of(opened(path)) == rows
        assert rows_of(opened(as_jsonl(tmp_path / "any.jsonl", rows))) == rows


def test_files_of_a_pattern_are_joined_by_name_and_kinds_may_mix(tmp_path):
    as_csv(tmp_path / "part-2.csv", ROWS[20:50])
    as_jsonl(tmp_path / "part-1.jsonl", ROWS[:20])
    as_parquet(tmp_path / "part-3.parquet", ROWS[50:])
    (tmp_path / "7.png").write_bytes(encoded(PICTURE))
    pairs = open_pairs(tmp_path / "part-*")
    assert len(pairs) == 70
    assert [(pair.image, pair.texts) for pair in map(pairs.pair, range(70))] == [(i, (text,)) for i, text in ROWS]
    assert pairs.where(20) == f"row 0 of {tmp_path / 'part-2.csv'}"
    assert np.array_equal(pairs.picture(7, "7.png"), PICTURE)
    assert list(pairs.texts(7)) == [text for _, text in ROWS[::10]]
    with pytest.raises(IndexError):
        pairs.pair(70)


def test_pictures_may_lie_in_the_rows_themselves(tmp_path):
    datasets = pytest.importorskip("datasets")
    content = encoded(PICTURE)
    table = pa.table({"image": [content] * 3, "caption": [["one", "two"], ["three"], []]})
    parquet.write_table(table, tmp_path / "bytes.parquet")
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    rows = {"image": [{"bytes": content, "path": None}], "caption": ["one"]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    for name, texts in (("bytes.parquet", ("one", "two")), ("saved", ("one",))):
        pairs = open_pairs(tmp_path / name)
        pair = pairs.pair(0)
        assert pair.image == content and pair.texts == texts
        assert np.array_equal(pairs.picture(0, pair.image), PICTURE)
    pairs = open_pairs(tmp_path / "bytes.parquet")
    with pytest.raises(RowError, match="row 2 .* has \\[\\] as its text"):
        pairs.pair(2)
    with pytest.raises(InputError, match="the picture in row 1 of .*bytes.parquet is no whole picture"):
        pairs.picture(1, content[:20])


def test_a_dataset_of_splits_asks_for_one(tmp_path):
    datasets = pytest.importorskip("datasets")
    one = datasets.Dataset.from_dict({"image": ["a.png"], "caption": ["a"]})
    datasets.DatasetDict({"train": one, "test": one}).save_to_disk(str(tmp_path / "all"))
    with pytest.raises(InputError, match=r"holds the splits train, test; give one: .*all/train"):
        opened(tmp_path / "all")
    assert opened(tmp_path / "all" / "train").rows == 1


def test_rows_that_do_not_read_are_errors_with_a_cause_and_a_number(tmp_path):
    lines = ['{"image": "a", "caption": "b"}', '{"image": "a"', "[1]", '{"image": "a"}', "\xff", "[" * 100_000]
    (tmp_path / "a.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    file = opened(tmp_path / "a.jsonl")
    for row, cause in enumerate(["bad row", "bad row", "no column", "bad row", "bad row"], start=1):
        with pytest.raises(RowError, match=f"row {row} of ") as error:
            file.value(row)
        assert error.value.cause == cause
    (tmp_path / "a.csv").write_text("image,caption\na,b\na,b,c\n")
    with pytest.raises(RowError, match="row 1 .* has 3 values, the header names 2"):
        opened(tmp_path / "a.csv").value(1)
    (tmp_path / "b.jsonl").write_text('{"image": "", "caption": "b"}\n{"image": 3, "caption": "b"}\n')
    pairs = open_pairs(tmp_path / "b.jsonl")
    for row in range(2):
        with pytest.raises(RowError, match=f"row {row} .* as its image") as error:
            pairs.pair(row)
        assert error.value.cause == "no image"


def test_files_that_cannot_be_rows_are_refused_at_once(tmp_path, monkeypatch):
    def refused(name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            opened(tmp_path / name)

    refused("a.jsonl", b"\n \n", "has no rows")
    refused("b.jsonl", b"PK\x03\x04", "row 0 of .* is no line of JSON")
    refused("a.csv", b"image,caption\n", "has no rows")
    refused("b.csv", b'image,caption\na,b\na,"b\n' + b"c,d\n" * 40_000, "row 1 of .*is a quote left open")
    refused("c.csv", b"image,caption\na,\xff\n", "row 0 of .*is no row of UTF-8 text")
    refused("a.parquet", b"PAR1 nonsense PAR1", "does not read as Parquet")
    refused("a.xlsx", b"PK", "ends in '.xlsx'; pairs are read from .jsonl, .csv")
    refused("empty.jsonl", b"", "is empty")
    with pytest.raises(InputError, match="is a folder, but no saved Hugging Face dataset"):
        opened(tmp_path)
    with pytest.raises(MissingFileError, match="pairs not found"):
        opened(tmp_path / "nothing.jsonl")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "dataset_info.json").write_text("{}")
    with pytest.raises(InputError, match="does not load as a saved dataset"):
        opened(tmp_path / "state")
    as_parquet(tmp_path / "wide.parquet", ROWS)
    monkeypatch.setattr(pair_files, "LARGEST_GROUP", 400)
    with pytest.raises(InputError, match=r"row group \d of .* unpacks to .* again with row_group_size=1000"):
        opened(tmp_path / "wide.parquet")
    monkeypatch.setattr(pair_files, "LONGEST_LINE", 1000)
    refused("c.jsonl", b'{"image": "a", "caption": "b"}\n' + b" " * 1001, "line 2 of .* more than 1000 bytes")


def test_a_damaged_row_group_spoils_its_own_rows_only(tmp_path):
    images, texts = zip(*ROWS)
    table = pa.table({"image": images, "caption": texts})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=35, compression="gzip", use_dictionary=False)
    group = parquet.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(1)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    end = group.data_page_offset + group.total_compressed_size
    content[end - 60 : end] = bytes(60)
    (tmp_path / "a.parquet").write_bytes(content)
    file = opened(tmp_path / "a.parquet")
    assert file.value(40) == ROWS[40]
    with pytest.raises(RowError, match="row 4 of .* lies in row group 0, which does not read"):
        file.value(4)


def test_parquet_keeps_the_latest_groups_only(tmp_path, monkeypatch):
    path = as_parquet(tmp_path / "a.parquet", ROWS)
    kept = KeptGroups()
    file = open_rows(path, COLUMNS, kept)
    assert [block.rows for block in file.blocks()] == [9] * 7 + [7] and all(b.bytes > 50 for b in file.blocks())
    one = kept.get((path, 0), lambda: file._read(0)).nbytes
    monkeypatch.setattr(pair_files, "KEPT_BYTES", 3 * one)
    assert rows_of(file) == ROWS
    assert 1 <= len(kept._kept) <= 4 and (path, 7) in kept._kept and (path, 0) not in kept._kept


def test_without_the_library_a_saved_dataset_names_the_command_that_installs_it(tmp_path, monkeypatch):
    (tmp_path / "dataset_info.json").write_text("{}")
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'sightline\[datasets\]'"):
        opened(tmp_path)
