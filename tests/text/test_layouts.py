"""The three layouts of a text file, read in parts; a fault names the line that it is in."""

import json

import pytest

from minizha.errors import ArgumentError, FileError
from minizha.text import layouts
from minizha.text.corpus import Document, read_corpus
from minizha.text.layouts import Layout, read_blocks
from tests.support.text_files import write

TEXT = "一\n二\n\n\n 三 \n\n四\n五"
BLOCKS = [["一", "二"], ["三"], ["四", "五"]]


def lines_of(*objects):
    return "\n".join(json.dumps(o, ensure_ascii=False) for o in objects)


@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
def test_the_parts_of_a_file_change_nothing(at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "AT_ONCE", at_once)
    seen = []
    path = write(tmp_path / "f", "\ufeff" + TEXT)
    assert list(read_blocks(path, Layout(), seen.append)) == BLOCKS
    assert b"".join(seen) == path.read_bytes()
    assert (len(seen) > 1) == (at_once < 1 << 20)
    per_line = list(read_blocks(path, Layout(document_per_line=True)))
    assert per_line == [[line] for block in BLOCKS for line in block]


@pytest.mark.parametrize("at_once", [1, 1 << 20])
def test_a_fault_is_named_with_its_line(at_once, tmp_path, monkeypatch):
    monkeypatch.setattr(layouts, "AT_ONCE", at_once)
    path = write(tmp_path / "f", TEXT.encode() + b"\n\xff")
    with pytest.raises(FileError, match="f, line 9: expected UTF-8 text, found the byte 0xff"):
        list(read_blocks(path, Layout()))
    # in the middle of a file the bytes of a mark are bytes like others, and no encoding is told
    path = write(tmp_path / "g", TEXT.encode() + b"\n\xff\xfe")
    with pytest.raises(FileError, match="g, line 9: expected UTF-8 text, found the byte 0xff"):
        list(read_blocks(path, Layout()))
    path = write(tmp_path / "h", TEXT.encode() + b"\n\0")
    with pytest.raises(FileError, match="found NUL bytes"):
        list(read_blocks(path, Layout()))


def test_json_lines(tmp_path):
    text = lines_of({"text": "一。\n\n 二。", "id": 1}, {"text": " \n"}, {"text": "三。"}) + "\n\n"
    path = write(tmp_path / "f.jsonl", text)
    assert list(read_blocks(path, Layout(json_field="text"))) == [["一。", "二。"], ["三。"]]
    documents = read_corpus(path, 2, json_field="text")
    assert documents == [Document("", ("一。", "二。")), Document("", ("三。",))]
    titled = read_corpus(path, 2, json_field="text", titles=True)
    assert titled == [Document("一。", ("二。",)), Document("", ("三。",))]
    with pytest.raises(FileError, match="at least 3 documents, found 2: the field 'text' of each"):
        read_corpus(path, json_field="text")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "expected a JSON object, found '{'"),
        ("text", "expected a JSON object, found 'text'"),
        ('["text"]', r"expected a JSON object, found \['text'\]"),
        ("[" * 100_000, "expected a JSON object"),
        ("1" * 5000, "expected a JSON object"),
        ('{"content": "一"}', r"a string in the field 'text', found the fields \['content'\]"),
        ('{"text": null}', "expected a string in the field 'text', found None"),
        ('{"text": 5}', "expected a string in the field 'text', found 5"),
        ('{"text": "\\ud800"}', "text: not valid Unicode"),
    ],
)
def test_wrong_json_lines(line, message, tmp_path):
    path = write(tmp_path / "f", lines_of({"text": "一"}) + "\n" + line)
    with pytest.raises(FileError, match=message) as caught:
        list(read_blocks(path, Layout(json_field="text")))
    assert str(caught.value).startswith(f"{path}, line 2: ")


def test_options_that_do_not_go_together(tmp_path):
    path = write(tmp_path / "f", TEXT)
    with pytest.raises(ArgumentError, match="json_field: expected none with document_per_line"):
        read_corpus(path, json_field="text", document_per_line=True)
    with pytest.raises(ArgumentError, match="json_field: expected a string, found 3"):
        read_corpus(path, json_field=3)
