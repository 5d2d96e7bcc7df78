"""A corpus that pre-training can't use gives one FileError that names the path, before any training."""

import dataclasses

import pytest

from minizha.errors import ArgumentError, FileError
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import prepare
from tests.support.text_files import write

OPTIONS = PretrainOptions(hidden_size=8, layers=1, heads=2, intermediate_size=8, length=16)
DOCUMENT = "一二三四五六七。八九十百千万。春夏秋冬。\n东西南北。你好吗？\n\n"


def write_corpus(folder, content):
    return write(folder / "corpus.txt", content)


def test_a_good_corpus(tmp_path):
    data = prepare(write_corpus(tmp_path, DOCUMENT * 3), OPTIONS)
    assert data.documents == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected text, found an empty file"),
        (" \n\r\n\t\n", "expected text, found an empty file"),
        (b"PK\3\4\0\0", "expected a text file, found NUL bytes"),
        (DOCUMENT.encode("utf-16"), "found NUL bytes|expected UTF-8 text"),
        (DOCUMENT.encode("gb18030"), "line 1: expected UTF-8 text, found the byte 0x"),
        (DOCUMENT.encode() + b"\xff", "line 4: expected UTF-8 text, found the byte 0xff"),
        (DOCUMENT, "expected at least 3 documents, found 1: a blank line separates"),
        (DOCUMENT * 2, "expected at least 3 documents, found 2"),
        ("一。\n\n" * 5, "expected at least 2 documents of 2 or more sentences each, found 0"),
        (DOCUMENT + "一。\n\n" * 5, "expected at least 2 documents of 2 or more sentences each"),
    ],
)
def test_unusable_corpora(content, message, tmp_path):
    path = write_corpus(tmp_path, content)
    with pytest.raises(FileError, match=message) as caught:
        prepare(path, dataclasses.replace(OPTIONS, min_count=1))
    assert str(caught.value).startswith(str(path))


def test_a_vocabulary_of_nothing(tmp_path):
    path = write_corpus(tmp_path, DOCUMENT * 3)
    with pytest.raises(FileError, match="min_count: no character occurs 1000 times"):
        prepare(path, dataclasses.replace(OPTIONS, min_count=1000))


def test_a_corpus_that_is_no_file(tmp_path):
    for path in (tmp_path / "missing", tmp_path, "/dev/zero"):
        with pytest.raises(FileError, match=f"^{path}: "):
            prepare(path, OPTIONS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, r"^steps: expected an integer in \[1, 1000000000\], found 0$"),
        ({"steps": 1.0}, r"^steps: expected an integer in .*, found 1\.0$"),
        ({"steps": True}, "^steps: expected an integer in .*, found True$"),
        ({"seed": -1}, "^seed: expected an integer of at least 0, found -1$"),
        ({"heads": 0}, "^heads: expected an integer in"),
        ({"heads": 3}, r"^hidden_size / heads: expected an even whole number, found 128 / 3$"),
        ({"hidden_size": 4}, r"^hidden_size / heads: expected an even whole number, found 4 / 4$"),
        ({"hidden_size": 10**9}, r"^hidden_size: expected an integer in \[1, 16384\], found"),
        ({"layers": 10**9}, r"^layers: expected an integer in \[1, 1000\], found"),
        ({"length": 7}, r"^length: expected an integer in \[8, 8192\], found 7$"),
        ({"length": 10**8}, r"^length: expected an integer in \[8, 8192\], found"),
        ({"batch_size": 10**9}, r"^batch_size: expected an integer in \[1, 65536\], found"),
        ({"max_relative_position": 10**11}, "^max_relative_position: expected an integer in"),
        (
            {"learning_rate": float("nan")},
            r"^learning_rate: expected a number in \[0, 1\], found nan$",
        ),
        ({"learning_rate": "0.1"}, r"^learning_rate: expected a number in \[0, 1\], found '0\.1'$"),
        (
            {"learning_rate": 1e300},
            r"^learning_rate: expected a number in \[0, 1\], found 1e\+300$",
        ),
        (
            {"max_norm": float("inf")},
            "^max_norm: expected a finite number of at least .*, found inf$",
        ),
        ({"dropout": 1.0}, r"^dropout: expected a number in \[0, 0\.9\], found 1\.0$"),
        ({"warmup": -0.1}, r"^warmup: expected a number in \[0, 1\], found -0\.1$"),
        ({"held_out": 1}, "^held_out: expected an integer of at least 2, found 1$"),
        ({"min_count": None}, "^min_count: expected an integer of at least 1, found None$"),
        ({"steps": 0, "learning_rate": -1, "heads": "x"}, "^steps: .*; heads: .*; learning_rate: "),
    ],
)
def test_bad_options(values, message):
    with pytest.raises(ArgumentError, match=message):
        PretrainOptions(**values)
