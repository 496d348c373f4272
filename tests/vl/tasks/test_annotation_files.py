import gzip

import pytest

from core.errors import InputError, MissingFileError
from vl.tasks.annotation_files import first_there, json_content, json_lines, text_field


def test_blank_lines_pass_and_lines_keep_their_numbers(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b'{"a": 1}\n\n{"a": "x\xe2\x80\xa8y"}\r\n')  # a line separator within a sentence
    assert list(json_lines(file, "records")) == [
        (f"{file}, line 1", {"a": 1}),
        (f"{file}, line 3", {"a": "x\u2028y"}),
    ]


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"a": 1}\n[1]\n', "line 2 holds list; expected one JSON object a line"),
        (b'{"a": 1}\n{"a": ', "line 2 is cut short or not JSON"),
        (b'{"a": "\xff"}', "is not UTF-8 text"),
        (b"", "is empty"),
    ],
)
def test_a_broken_file_of_lines_is_an_error(tmp_path, content, message):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(json_lines(tmp_path / "a.json", "records"))


def test_a_packed_file_reads_whole_or_not_at_all(tmp_path):
    packed = gzip.compress(b'{"a": 1}' + b" " * 1000)
    (tmp_path / "a.json.gz").write_bytes(packed)
    assert json_content(tmp_path / "a.json.gz", "records") == {"a": 1}
    for damaged in (packed[:-6], packed[:20] + b"?" + packed[21:], b"no gzip"):
        (tmp_path / "a.json.gz").write_bytes(damaged)
        with pytest.raises(InputError, match="cut short or no gzip file"):
            json_content(tmp_path / "a.json.gz", "records")


def test_a_missing_field_lists_those_that_are_there():
    with pytest.raises(InputError, match="here: field 'sentence' should be text, got 3 .fields there: id, sentence"):
        text_field({"sentence": 3, "id": 1}, "sentence", "here")


def test_places_that_were_looked_at_are_listed(tmp_path):
    (tmp_path / "b").mkdir()
    assert first_there([tmp_path / "a", tmp_path / "b"], "pictures") == tmp_path / "b"
    with pytest.raises(MissingFileError, match="pictures not found; looked for .*a, .*c"):
        first_there([tmp_path / "a", tmp_path / "c"], "pictures")
