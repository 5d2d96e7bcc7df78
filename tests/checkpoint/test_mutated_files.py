"""Random damage to every kind of file: it loads or is refused in one line, and nothing else happens.

Each of 20,000 mutants of small valid files (and of pickles that would run code) is opened by a
public reader: ``from_pretrained`` of a model class or of the tokenizer, or ``describe_folder``. Half
to two thirds of the weights and configurations are opened by the internal reader that those begin
with, which takes a third of the time. The numbers of a kind's mutants are its seeds: every run opens
the same ones. ``pytest -m heavy`` opens 500,000 others.

Checked for each: any exception is a MinizhaError whose text is one printable line that names the
path; any warning is a CheckpointWarning; nothing is imported, compiled or run, no socket is opened,
nothing is written, and no file of another folder is opened (Python's audit events); it takes at
most a second, and twice the files' size and 16 MB of memory by the process's peak, for one in 20
also by tracemalloc. The mutants are opened in a separate process, so that a crash or a hang is a
fault like any other.
"""

import json
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.support.files import accident_seeds, wrong_readers
from tests.support.files.accidents import ACCIDENTS
from tests.support.files.mutant_seeds import KINDS
from tests.support.files.scratch import temporary_folder
from tests.support.paths import ROOT

PROGRAM = "tests.support.files.mutants"
COUNTS = {
    "safetensors": 4000,
    "zip": 3500,
    "legacy": 3000,
    "safetensors index": 1700,
    "torch index": 1300,
    "config": 2500,
    "vocabulary": 1000,
    "tokenizer": 2200,
    "tokenizer settings": 800,
}
# the least number of different reasons for refusing a kind: the damage is not always the same
REASONS = dict.fromkeys(COUNTS, 20) | {"vocabulary": 7, "tokenizer settings": 8}
MODEL_READERS = {"info", "NezhaForMaskedLM", "NezhaForPreTraining", "NezhaModel"}
SHARDS = 25


def readers_of(kind):
    if kind.startswith(("vocabulary", "tokenizer")):
        return {"tokenizer"}
    return MODEL_READERS | {"NezhaConfig" if kind == "config" else "stored"}


def opened(kind, first, count, *control, patience=300):
    """The report of ``mutants.py``; a process that dies or hangs is a fault of its last mutant."""
    with temporary_folder() as folder:
        command = [sys.executable, "-m", PROGRAM, kind, str(first), str(count), folder, *control]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=patience, cwd=ROOT
            )
        except subprocess.TimeoutExpired:
            return {"faults": [f"{kind} {last_number(folder)}: hangs"]}
        if done.returncode < 0:
            return {"faults": [f"{kind} {last_number(folder)}: dies of signal {-done.returncode}"]}
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # a pickle may have printed before


def last_number(folder):
    return int(Path(folder, "progress").read_text())


def check(kind, first, count):
    report = opened(kind, first, count)
    assert report["faults"] == []
    assert report["loaded"] + report["refused"] == count
    assert report["loaded"] > count * 0.02
    assert report["refused"] > count * 0.5
    assert report["different"] > count * 0.75
    assert len(report["reasons"]) >= REASONS[kind]
    assert report["readers"].keys() == readers_of(kind)


@pytest.mark.parametrize("kind", COUNTS)
def test_mutants_load_or_are_refused(kind):
    check(kind, 0, COUNTS[kind])


@pytest.mark.heavy
@pytest.mark.parametrize("shard", range(1, 1 + SHARDS))
@pytest.mark.parametrize("kind", COUNTS)
def test_more_mutants(kind, shard):
    check(kind, shard * COUNTS[kind], COUNTS[kind])


def test_there_are_enough_of_them():
    assert COUNTS.keys() == KINDS.keys()
    assert sum(COUNTS.values()) == 20_000
    assert SHARDS * sum(COUNTS.values()) == 500_000


# --- accidents ----------------------------------------------------------------------------------


ACCIDENTAL = (*KINDS, *accident_seeds.KINDS)
FEW, MANY, ACCIDENT_SHARDS = 40, 1000, 8


def check_accidents(kind, first, count):
    """Few of these files load; that each kind does load now and then, many of them show."""
    report = opened(f"accidents of {kind}", first, count)
    assert report["faults"] == []
    assert report["loaded"] + report["refused"] == count
    assert report["refused"] > count * 0.3
    assert report["different"] > count * 0.5
    assert report["loaded"] > (0 if count == MANY else -1)
    assert len(report["reasons"]) >= (3 if kind == "corpus" else 5)


@pytest.mark.parametrize("kind", ACCIDENTAL)
def test_accidents_load_or_are_refused(kind):
    """Whole files in another encoding, from a broken disk, of another server (``accidents.py``)."""
    check_accidents(kind, 0, FEW)


@pytest.mark.heavy
@pytest.mark.parametrize("shard", range(ACCIDENT_SHARDS))
@pytest.mark.parametrize("kind", ACCIDENTAL)
def test_more_accidents(kind, shard):
    check_accidents(kind, FEW + shard * MANY, MANY)


def test_there_are_enough_accidents():
    assert len(ACCIDENTAL) * ACCIDENT_SHARDS * MANY > 100_000


def test_every_accident_changes_every_kind_of_file():
    """None of them is idle: each changes one of the seeds at least."""
    pool = [
        seed.files[n]
        for kind in (KINDS | accident_seeds.KINDS).values()
        for seed in kind()
        for n in seed.targets
    ]
    for change in set(ACCIDENTS):
        found = {change(Random(i), pool[i % len(pool)], pool) for i in range(60)}
        assert len(found - set(pool)) > 3, change.__name__


# --- the controls -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reader", "fault"),
    [
        ("leaks", "leaks KeyError: 'weight_map'"),
        ("sleeps", "takes 0.1"),
        ("allocates", "takes 40,"),
        ("allocates_unseen", "takes "),
        ("runs_the_pickle", "does what it must not: pickle.find_class"),
        ("follows_the_index", "does what it must not: open"),
        ("writes", "does what it must not: open"),
        ("warns", "leaks RuntimeWarning"),
        ("says_two_lines", "not a line"),
        ("names_no_path", "does not name the path"),
    ],
)
def test_a_wrong_reader_is_seen(reader, fault):
    report = opened("zip", 0, 21 if reader == "allocates" else 3, reader, "0.05")
    assert any(fault in found for found in report["faults"]), report["faults"]
    with pytest.raises(AssertionError):
        assert report["faults"] == []


def test_the_hostile_pickle_is_run_by_who_runs_pickles():
    """The code in the seeds does run if it is not stopped, and that is noticed."""
    faults = opened("zip", 0, 200, "runs_the_pickle", "1")["faults"]
    assert any("builtins" in fault and "exec" in fault for fault in faults)


@pytest.mark.parametrize(("reader", "fault"), [("crashes", "dies of signal"), ("hangs", "hangs")])
def test_an_end_of_the_process_is_seen(reader, fault):
    report = opened("vocabulary", 7, 1, reader, "1", patience=5)
    assert report == {"faults": [f"vocabulary 7: {fault}"]} or "signal 11" in report["faults"][0]


def test_a_reader_that_does_not_look_is_seen():
    for reader in (wrong_readers.refuses_all, wrong_readers.loads_all):
        report = opened("vocabulary", 0, 50, reader.__name__, "1")
        assert report["faults"] == []
        assert 50 in (report["loaded"], report["refused"])
        assert len(report["reasons"]) < REASONS["vocabulary"]


def test_a_wrong_reader_of_accidents_is_seen():
    faults = opened("accidents of config", 0, 5, "leaks", "1")["faults"]
    assert any("leaks KeyError" in fault for fault in faults)


def test_a_mutant_is_known_by_its_number():
    one = opened("config", 5, 20)
    assert one["reasons"] == opened("config", 5, 20)["reasons"]
    assert one["reasons"] != opened("config", 25, 20)["reasons"]
