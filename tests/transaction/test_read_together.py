"""Files of one save are read together: beside a writer, no reader mixes two saves."""

import contextlib
import itertools
import os
import threading

import pytest

from minizha import NezhaForPreTraining, NezhaTokenizer, predict
from minizha.convert import convert
from minizha.errors import FileError, MinizhaError
from minizha.files import read_bytes, read_together
from minizha.predict import load_for_text
from minizha.text import tokenizer as tokenizer_module
from tests.support.files.killing import NAMES, content, folder_of_a, save, state
from tests.transaction.test_killed_saves import expected, model_and_tokenizer, vocabulary_of


@pytest.fixture
def old():
    with folder_of_a() as folder:
        yield folder


@contextlib.contextmanager
def writer(folder):
    """Another thread, which saves one model after the other."""
    done, pairs = threading.Event(), [model_and_tokenizer(which) for which in "AB"]

    def write():
        for model, tokenizer in itertools.cycle(pairs):
            model.save_pretrained(folder, tokenizer=tokenizer)
            if done.wait(0.005):
                return

    pairs[0][0].save_pretrained(folder, tokenizer=pairs[0][1])
    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def letters(model, tokenizer):
    """The save that the model is from, and the one that the tokenizer is from."""
    size = model.config.hidden_size
    return "A" if size == 8 else "B", "A" if vocabulary_of(tokenizer) == expected("A")[2] else "B"


def test_a_model_and_its_tokenizer_beside_a_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def mixed(count):
        found, errors = [], 0
        for _ in range(count):
            try:
                found.append(letters(*load_for_text(NezhaForPreTraining, str(tmp_path / "m"))))
            except MinizhaError:
                errors += 1
        assert len(set(found)) > 1  # both were seen
        return errors + sum(a != b for a, b in found)

    with writer(tmp_path / "m"):
        assert mixed(60) == 0
        # negative control: without a second look, some are mixed
        monkeypatch.setattr(predict, "read_together", lambda _, read: read())
        assert mixed(300) > 0


def test_a_conversion_beside_a_writer(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
    with writer(tmp_path / "m"):
        for count in range(20):
            convert(tmp_path / "m", target := tmp_path / str(count))
            model = NezhaForPreTraining.from_pretrained(target)
            assert len(set(letters(model, NezhaTokenizer.from_pretrained(target)))) == 1


def test_the_two_files_of_a_tokenizer(tmp_path, monkeypatch):
    pairs = {which: model_and_tokenizer(which)[1] for which in "AB"}
    pairs["A"].save_pretrained(tmp_path)
    read, saves = tokenizer_module.read_tokenizer_folder, []

    def read_and_save(folder):
        tokens, *_ = read(folder)
        if not saves:  # another save ends between the two files
            saves.append(pairs["B"].save_pretrained(tmp_path))
        return tokens, *read(folder)[1:]

    monkeypatch.setattr(tokenizer_module, "read_tokenizer_folder", read_and_save)
    assert vocabulary_of(NezhaTokenizer.from_pretrained(tmp_path)) == expected("B")[2]
    # negative control
    saves.clear()
    pairs["A"].save_pretrained(tmp_path)
    monkeypatch.setattr(tokenizer_module, "read_together", lambda _, read: read())
    found = vocabulary_of(NezhaTokenizer.from_pretrained(tmp_path))
    assert found not in (expected("A")[2], expected("B")[2])


def test_a_save_in_between_is_seen(old):
    paths = [old / name for name in NAMES]
    saves = iter("BCD")

    def read():
        first = read_bytes(paths[0])
        if which := next(saves, None):
            save(which, old)
        return first, read_bytes(paths[1])

    assert read_together(paths, read) == (content("D", NAMES[0]), content("D", NAMES[1]))
    assert state(old) == "DDD"


def test_errors_count_only_if_nothing_changed(old):
    paths = [old / name for name in NAMES]
    tries = []

    def fail():
        tries.append(1)
        if len(tries) == 1:
            save("B", old)
        if len(tries) < 3:
            raise FileError("damaged")
        return "right"

    with pytest.raises(FileError, match="damaged"):
        read_together(paths, fail)
    assert len(tries) == 2


def test_a_folder_that_never_rests(old):
    with pytest.raises(FileError, match="old: expected files that stay the same while they are"):
        read_together([old / NAMES[0]], lambda: save("B", old))


def test_a_file_that_is_not_read_may_change(old):
    def read():
        (old / "log.txt").write_text("more")
        return "right"

    assert read_together([old / name for name in NAMES], read) == "right"
