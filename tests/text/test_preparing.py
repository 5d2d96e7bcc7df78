"""A prepared folder holds what reading the text gives, whatever its size and the processes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minizha.errors import ArgumentError, FileError, MinizhaError
from minizha.text import data_writer, layouts, preparing
from minizha.text.data_folder import read_data
from minizha.training.corpora import open_corpus, prepare_folder
from tests.support.paths import ROOT
from tests.support.prepared import TEXT, content, options, prepared, text


def assert_same_corpus(a, b):
    assert a.tokenizer.convert_ids_to_tokens(range(len(a.tokenizer))) == (
        b.tokenizer.convert_ids_to_tokens(range(len(b.tokenizer)))
    )
    for one, other in zip(a.packed, b.packed, strict=True):
        assert np.array_equal(one, other)
    for name in ("train_documents", "held_out", "counts", "left_out", "digest"):
        assert getattr(a, name) == getattr(b, name)


@pytest.mark.parametrize("part", [1, 60, 10**6])
@pytest.mark.parametrize("held_out", [2, 3, 12])
def test_a_folder_is_what_its_text_is(part, held_out, tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "PART", part)
    monkeypatch.setattr(layouts, "AT_ONCE", min(part, 1 << 20))
    folder = prepared(tmp_path, held_out=held_out)
    monkeypatch.undo()
    in_memory = open_corpus(str(tmp_path / "corpus.txt"), options(held_out=held_out))
    mapped = open_corpus(str(folder), options(held_out=12))  # the default goes with every folder
    assert_same_corpus(mapped, in_memory)
    assert isinstance(mapped.packed.tokens, np.memmap)
    assert mapped.packed.tokens.dtype == np.uint8  # the smallest type for this vocabulary
    assert mapped.counts.short_documents == 1


def test_processes_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "PART", 40)
    one = content(prepared(tmp_path))
    monkeypatch.setattr(preparing, "SMALL", 0)
    assert content(prepared(tmp_path, processes=2)) == one


def test_words_begin_where_no_continuation_is(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "PART", 1)  # parts do not end at bytes
    folder = prepared(tmp_path)
    corpus, _ = read_data(folder)
    bits = np.unpackbits(np.frombuffer((folder / "words.bin").read_bytes(), np.uint8))
    tokens = corpus.tokenizer.convert_ids_to_tokens(corpus.packed.tokens.tolist())
    begins = [not token.startswith("##") for token in tokens]
    assert bits[: len(tokens)].tolist() == begins
    assert not all(begins)
    assert len(bits) - len(tokens) < 8


def test_several_texts_are_one_corpus(tmp_path):
    half = TEXT.index("己")
    half = TEXT.rindex("\n\n", 0, half) + 2
    names = [text(tmp_path, TEXT[:half], "a"), text(tmp_path, TEXT[half:], "b")]
    prepare_folder(names, str(tmp_path / "two"), options(), 1)
    assert_same_corpus(read_data(tmp_path / "two")[0], read_data(prepared(tmp_path))[0])
    record = json.loads((tmp_path / "two" / "data.json").read_text("utf-8"))
    assert record["corpus"]["files"] == ["a", "b"]
    assert record["corpus"]["bytes"] == len(TEXT.encode())


def test_the_digest_is_that_of_ids_vocabulary_and_division(tmp_path):
    def found(**changed):
        return read_data(prepared(tmp_path, **changed))[0].digest

    first = found()
    assert found() == first
    assert found(seed=5) == first  # no option of the corpus
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_bytes((tmp_path / "data" / "vocab.txt").read_bytes() + b"new\n")
    assert len({first, found(held_out=4), found(min_count=2), found(vocab=str(vocabulary))}) == 4
    assert found(path=text(tmp_path, TEXT.replace("北", "南"))) != first


def test_the_layouts(tmp_path):
    lines = [line for line in TEXT.split("\n") if line]
    per_line = text(tmp_path, "\n".join(lines), "lines.txt")
    rows = [json.dumps({"id": 1, "text": block}) for block in TEXT.split("\n\n")]
    as_json = text(tmp_path, "\n".join(rows), "rows.jsonl")
    assert_same_corpus(
        read_data(prepared(tmp_path, as_json, json_field="text"))[0],
        open_corpus(text(tmp_path), options()),
    )
    changed = {"document_per_line": True, "held_out": 4}
    assert_same_corpus(
        read_data(prepared(tmp_path, per_line, **changed))[0],
        open_corpus(per_line, options(**changed)),
    )


def test_titles_by_the_convention(tmp_path):
    content = "".join(f"第{c}回\n{c}一二。三四。\n五六七。\n\n" for c in "甲乙丙丁")
    path = text(tmp_path, content)
    with pytest.warns(match="4 first lines"):
        folder = prepared(tmp_path, path, titles="auto")
    with pytest.warns(match="4 first lines"):
        assert_same_corpus(read_data(folder)[0], open_corpus(path, options(titles="auto")))
    assert read_data(folder)[0].left_out.startswith("left out: 4 titles (12 characters)")


def test_held_out_sentences_are_kept_as_text(tmp_path, monkeypatch):
    path = text(tmp_path, TEXT.replace("你好吗", "问得很好的一个问题你今天好吗"))
    found = read_data(prepared(tmp_path, path))[0].held_out_documents[0].paragraphs
    assert [s[0] for s in found if "问" in s] == ["乙", "戊", "辛"]
    monkeypatch.setattr(preparing, "MOST_SENTENCES", 1)
    assert len(read_data(prepared(tmp_path, path))[0].held_out_documents[0].paragraphs) == 1


@pytest.mark.parametrize(
    ("content", "changed", "message"),
    [
        ("", {}, "expected text, found an empty file"),
        ("一。二。\n\n三。四。", {}, "expected at least 3 documents, found 2"),
        (TEXT.encode("gb18030"), {}, "line 1: expected UTF-8 text, found the byte"),
        (TEXT.encode("utf-16"), {}, "found UTF-16"),
        (TEXT.encode() + b"\n\xff", {}, "line 43: expected UTF-8 text, found the byte 0xff"),
        (TEXT, {"min_count": 1000}, "min_count: no character occurs 1000 times"),
        (TEXT, {"json_field": "text"}, "line 1: expected a JSON object"),
        ("一。\n\n" * 5, {}, "expected at least 2 documents of 2 or more sentences each, found 0"),
    ],
)
def test_unusable_texts_leave_nothing(content, changed, message, tmp_path):
    path = text(tmp_path, content)
    with pytest.raises(FileError, match=message) as caught:
        prepared(tmp_path, path, **changed)
    assert str(caught.value).startswith(path)
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())


def test_a_text_that_changes_meanwhile(tmp_path, monkeypatch):
    path, survey = text(tmp_path), preparing.Survey.check

    def check_and_change(self, *arguments):
        survey(self, *arguments)
        text(tmp_path, TEXT + "又")

    monkeypatch.setattr(preparing.Survey, "check", check_and_change)
    with pytest.raises(FileError, match="a file that stays the same; it has changed"):
        prepared(tmp_path, path)


def test_where_it_may_be_written(tmp_path):
    path = text(tmp_path)
    folder = prepared(tmp_path)
    before = content(folder)
    with pytest.raises(FileError, match="already holds a prepared corpus; --overwrite replaces it"):
        prepare_folder([path], str(folder), options(), 1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "vocab.txt").write_text("")
    for name, message in (
        ("other", "a new folder, .* found letter.txt in it"),
        ("model", "expected a folder with data.json, found vocab.txt"),
        ("corpus.txt", "expected a folder"),
    ):
        for overwrite in (False, True):
            with pytest.raises(FileError, match=message):
                prepare_folder([path], str(tmp_path / name), options(), 1, overwrite=overwrite)
    with pytest.raises(
        ArgumentError, match=r"--out: expected another file, found .*vocab\.txt, wh"
    ):
        prepare_folder([str(folder / "vocab.txt")], str(folder), options(), 1, overwrite=True)
    assert content(folder) == before


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_preparation_leaves_the_old_folder(after, tmp_path, monkeypatch):
    folder = prepared(tmp_path)
    before, append, calls = content(folder), data_writer.DataWriter.append, []

    def interrupt(self, packed):
        calls.append(packed)
        if len(calls) == after:
            raise KeyboardInterrupt
        append(self, packed)

    monkeypatch.setattr(preparing, "PART", 1)
    monkeypatch.setattr(data_writer.DataWriter, "append", interrupt)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, min_count=2)
    assert content(folder) == before


@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.8, 1.1])
def test_a_killed_preparation_leaves_the_old_folder_or_the_new_one(seconds, tmp_path):
    old = content(prepared(tmp_path, processes=1))
    large = large_text(tmp_path / "large.txt", 1)
    command = [
        sys.executable,
        "-m",
        "minizha",
        "prepare",
        str(large),
        "--out",
        "data",
        "--overwrite",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    run.kill()
    run.wait()
    corpus, _ = read_data(tmp_path / "data")
    if {name: (tmp_path / "data" / name).read_bytes() for name in old} != old:
        assert corpus.counts.characters > 300_000
    assert content(prepared(tmp_path, processes=1)) == old  # and nothing is left over


# --- memory ---------------------------------------------------------------------------------------

# not ru_maxrss, which begins with the memory of the process that starts this one
PEAK = """
import re, sys
from minizha.cli import main
assert main(sys.argv[1:]) == 0
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def peak_megabytes(*arguments):
    run = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return int(run.stdout.split()[-1])


def large_text(path, megabytes):
    rng = np.random.default_rng(0)
    characters = [chr(0x4E00 + i) for i in range(3000)] + ["。"] * 150
    with open(path, "w", encoding="utf-8") as file:
        for _ in range(megabytes):
            drawn = "".join(rng.choice(characters, 333_000))
            file.write(
                "\n\n".join(drawn[i : i + 3000] for i in range(0, len(drawn), 3000)) + "\n\n"
            )
    return path


SIZES = "--hidden-size 8 --heads 2 --layers 1 --intermediate-size 8"
STEP = f"--steps 1 --workers 1 {SIZES}".split()


def peaks(folder, megabytes):
    """The most megabytes of memory that prepare, pretrain from its folder and pretrain from the text
    take for a text of this size."""
    path = large_text(folder / f"{megabytes}.txt", megabytes)
    out = folder / f"data{megabytes}"
    return (
        peak_megabytes("prepare", path, "--out", out, "--workers", 1),
        peak_megabytes("pretrain", "--corpus", out, "--out", folder / f"m{megabytes}", *STEP),
        peak_megabytes("pretrain", "--corpus", path, "--out", folder / f"t{megabytes}", *STEP),
    )


@pytest.mark.parametrize(
    ("small", "large"), [(2, 20), pytest.param(10, 100, marks=pytest.mark.heavy)]
)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux' /proc")
def test_memory_does_not_grow_with_the_text(small, large, tmp_path):
    few, many = peaks(tmp_path, small), peaks(tmp_path, large)
    grown = [many[i] - few[i] for i in range(3)]
    assert grown[0] < 15, grown
    # the arrays are mapped: a run touches what it reads of them, which the system can take back
    assert grown[1] < 20 + (large - small) / 2, grown
    # the control: a text itself is read into memory
    assert grown[2] > 2 * (large - small), grown


def test_a_process_that_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "SMALL", 0)
    monkeypatch.setattr(preparing, "count_characters", sys.exit)  # ends each process
    with pytest.raises(MinizhaError, match="a worker process ended"):
        prepared(tmp_path, processes=2)
