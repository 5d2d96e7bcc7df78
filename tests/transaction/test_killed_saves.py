"""A save that is killed at any moment leaves the old model or the new one, never a mixture.

Real kills (SIGKILL) at random moments, and simulated kills at every step: before and after each
call to the system, an exception is raised, and no later call does anything.
"""

import functools
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaForPreTraining, NezhaTokenizer, transaction
from minizha.errors import FileError
from minizha.files import write_together
from minizha.transaction import COMMITTED
from tests.support.files.killing import (
    NAMES,
    NEVER,
    Kill,
    content,
    folder_of_a,
    killed_everywhere,
    save,
    state,
)
from tests.support.paths import ROOT

# --- real kills -----------------------------------------------------------------------------------


def model_and_tokenizer(which):
    size = {"A": 8, "B": 12}[which]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"魏蜀吴"[: 2 + (which == "B")]]
    config = NezhaConfig(
        vocab_size=len(tokens),
        hidden_size=size,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=2 * size,
        max_relative_position=3,
    )
    tokenizer = NezhaTokenizer(tokens, do_lower_case=which == "B")
    return NezhaForPreTraining(config, seed=size), tokenizer


def vocabulary_of(tokenizer):
    """The content of its two files."""
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return tokenizer.do_lower_case, tokens


def save_model(which, folder):
    model, tokenizer = model_and_tokenizer(which)
    model.save_pretrained(folder, tokenizer=tokenizer)


@functools.cache
def expected(which):
    with tempfile.TemporaryDirectory() as folder:
        save_model(which, folder)
        found = NezhaForPreTraining.from_pretrained(folder)
        model, tokenizer = model_and_tokenizer(which)
        assert found.num_parameters() == model.num_parameters()
        return found.config.to_dict(), model.state_dict(), vocabulary_of(tokenizer)


def model_in(folder):
    """Check that the folder holds one of the two models completely, and return its letter."""
    found = NezhaForPreTraining.from_pretrained(folder)
    which = "A" if found.config.hidden_size == 8 else "B"
    config, arrays, vocabulary = expected(which)
    assert found.config.to_dict() == config
    state = found.state_dict()
    assert state.keys() == arrays.keys()
    assert all(np.array_equal(state[name], arrays[name]) for name in arrays)
    assert vocabulary_of(NezhaTokenizer.from_pretrained(folder)) == vocabulary
    return which


# one process imports minizha; for each line it forks a process that saves until it is killed
SAVER = """
import itertools, os, sys, time
from tests.transaction.test_killed_saves import model_and_tokenizer
pairs = [model_and_tokenizer(which) for which in "BA"]
os.fsync = lambda _: None  # matters only if the power is cut; here it would take most of the time
for _ in range(2):
    started = time.monotonic()
    for model, tokenizer in pairs:
        model.save_pretrained(sys.argv[1], tokenizer=tokenizer)
print(time.monotonic() - started, flush=True)
for _ in sys.stdin:
    child = os.fork()
    if not child:
        for model, tokenizer in itertools.cycle(pairs):
            model.save_pretrained(sys.argv[1], tokenizer=tokenizer)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


# a save of an earlier version: the files are replaced one by one
ONE_BY_ONE = """
import contextlib, os
from minizha import transaction
from minizha.checkpoint import folder
def one_by_one(files):
    for path, data in files.items():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.tmp")
        transaction.write_synced(f"{path}.tmp", data)
    for path in files:
        os.replace(f"{path}.tmp", path)
folder.write_together = one_by_one
"""
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX")


def killed_at_random(folder, kills, script=SAVER):
    """Kill a saving process ``kills`` times; the caller examines the folder after each."""
    rng = random.Random(kills)
    paths = os.pathsep.join([str(ROOT), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as saver:
        seconds = float(saver.stdout.readline())  # for both models
        for _ in range(kills):
            print(file=saver.stdin, flush=True)
            child = int(saver.stdout.readline())
            time.sleep(rng.uniform(0, 4 * seconds))
            os.kill(child, signal.SIGKILL)
            assert int(saver.stdout.readline()) == -signal.SIGKILL
            yield
        saver.stdin.close()


@needs_fork
@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.heavy)])
def test_killed_at_random_moments(kills, tmp_path):
    found = set()
    for _ in killed_at_random(tmp_path, kills):
        found.add(model_in(tmp_path))
        assert sum(name.endswith(".tmp") for name in os.listdir(tmp_path)) <= 1
    assert found == {"A", "B"}
    save_model("A", tmp_path)
    assert model_in(tmp_path) == "A"
    assert sorted(os.listdir(tmp_path)) == sorted([*NAMES, "tokenizer_config.json"])


@needs_fork
def test_files_replaced_one_by_one_are_found_mixed(tmp_path):
    """Negative control: in a measurement, every third kill left a mixture."""

    def check_after_each_kill():
        for _ in killed_at_random(tmp_path, 300, ONE_BY_ONE + SAVER):
            model_in(tmp_path)

    with pytest.raises((FileError, AssertionError)):
        check_after_each_kill()


def test_the_check_finds_a_mixture(tmp_path):
    save_model("A", tmp_path / "A")
    save_model("B", tmp_path / "B")
    assert (model_in(tmp_path / "A"), model_in(tmp_path / "B")) == ("A", "B")
    for name in ("config.json", "vocab.txt"):
        mixed = shutil.copytree(tmp_path / "A", tmp_path / f"mixed {name}")
        os.replace(tmp_path / "B" / name, mixed / name)
        with pytest.raises((FileError, AssertionError)):
            model_in(mixed)


# --- killed at every step -------------------------------------------------------------------------


@pytest.fixture
def old():
    with folder_of_a() as folder:
        yield folder


def test_killed_at_every_step(old):
    """The next save removes what the kill leaves."""
    found = []
    for folder in killed_everywhere(old, lambda folder: save("B", folder)):
        found.append(state(folder))
        save("C", folder)
        assert state(folder) == "CCC"
        assert sorted(os.listdir(folder)) == NAMES
    before = found.index("BBB")
    assert 20 < before < len(found) - 10
    assert found == ["AAA"] * before + ["BBB"] * (len(found) - before)


def test_the_first_save_killed_at_every_step(tmp_path):
    (tmp_path / "empty").mkdir()
    step = lambda folder: save("B", folder)  # noqa: E731
    found = [state(folder) for folder in killed_everywhere(tmp_path / "empty", step)]
    assert [key for key, _ in itertools.groupby(found)] == ["---", "BBB"]


def test_the_save_after_a_kill_killed_too(old, monkeypatch):
    """Every state that a kill leaves, followed by every kill of the next save."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    seen = set()
    for folder in killed_everywhere(old, lambda folder: save("B", folder, NAMES[:2])):
        first = state(folder)
        files = frozenset(
            (path.parent.suffix or path.parent.name, path.suffix, path.stat().st_size)
            for path in folder.rglob("*")
        )
        if (first, files) in seen:
            continue
        seen.add((first, files))
        start = shutil.copytree(folder, old.parent / f"again{len(seen)}")
        found = []
        for again in killed_everywhere(start, lambda folder: save("C", folder, NAMES[:2])):
            found.append(state(again))
            save("D", again, NAMES[:2])
            assert (state(again), sorted(os.listdir(again))) == ("DDA", NAMES)
        assert [key for key, _ in itertools.groupby(found)] == [first, "CCA"]
    assert len(seen) > 8


def test_two_renamings_would_not_do(old):
    """Negative control: files replaced one by one, as in an earlier version."""

    def step(folder):
        for name in NAMES:
            transaction.write_synced(str(folder / f"{name}.tmp"), content("B", name))
        for name in NAMES:
            os.replace(folder / f"{name}.tmp", folder / name)

    found = [state(folder) for folder in killed_everywhere(old, step)]
    # the moment after a call is also the moment before the next
    assert found[-6:] == ["AAA", "BAA", "BAA", "BBA", "BBA", "BBB"]


def test_a_reader_who_does_not_know_would_find_a_mixture(old):
    """Negative control for reading, and all mixtures that Transformers can find."""
    seen = [
        state(folder, Path.read_bytes)
        for folder in killed_everywhere(old, lambda folder: save("B", folder))
    ]
    assert [key for key, _ in itertools.groupby(seen)] == ["AAA", "BAA", "BAB", "BBB"]


def test_where_the_configuration_stays_even_that_reader_finds_none(old):
    def step(folder):
        both = {"config.json": "A", "model.safetensors": "B"}
        write_together({folder / name: content(which, name) for name, which in both.items()})

    seen = {state(folder, Path.read_bytes) for folder in killed_everywhere(old, step)}
    assert seen == {"AAA", "ABA"}


def test_the_steps_in_their_order(old):
    with Kill(NEVER) as kill:
        save("B", old)
    staged = kill.steps()[0][1]
    assert kill.steps() == [
        ("mkdir", staged),
        ("replace", COMMITTED),
        ("replace", "config.json"),  # small files first, the one that replaces a large file last
        ("replace", "vocab.txt"),
        ("replace", "model.safetensors"),
        ("rmdir", COMMITTED),
        ("rmdir", staged),  # no longer exists
    ]
    calls = [name for name, *_ in kill.trace if name in ("fsync", "replace")]
    # three files and their folder; the commit; the moves
    assert calls == ["fsync"] * 4 + ["replace", "fsync"] + ["replace"] * 3 + ["fsync"]
