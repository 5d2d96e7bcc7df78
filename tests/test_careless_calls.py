"""Random careless calls of every public class, function and command: each is refused in one line, or it
had a meaning.

A call has one or two arguments replaced by what people pass by mistake (``tests/support/careless/``),
lacks an argument, or has an unknown keyword. The suite makes 600 calls, ``pytest -m heavy`` 20,000 others.
They are made in a separate process of limited memory, so that what asks for too much meets a MemoryError
on every machine.
"""

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import minizha
from minizha import crosscheck
from tests.support.careless.calls import DOORS
from tests.support.careless.world import World
from tests.support.files.scratch import temporary_folder
from tests.support.paths import ROOT

COUNT, SHARD, SHARDS = 600, 2000, 10


def made(first, count, *control):
    with temporary_folder() as folder:
        program = [
            sys.executable,
            "-m",
            "tests.support.careless.calls",
            str(first),
            str(count),
            folder,
        ]
        done = subprocess.run(
            [*program, *control], capture_output=True, text=True, cwd=ROOT, timeout=900
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def check(first, count):
    report = made(first, count)
    assert report["faults"] == []
    outcomes = report["outcomes"]
    assert sum(outcomes.values()) == count
    assert outcomes["refused"] > count * 0.6
    assert outcomes["accepted"] > count * 0.05  # the values are not all absurd
    assert outcomes["keyword"] > count * 0.05
    assert len(report["called"]) > 0.95 * len(DOORS)


def test_careless_calls():
    check(0, COUNT)


@pytest.mark.heavy
@pytest.mark.parametrize("shard", range(SHARDS))
def test_more_careless_calls(shard):
    check(COUNT + shard * SHARD, SHARD)


@pytest.fixture(scope="module")
def world():
    with temporary_folder() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setenv("HF_HUB_OFFLINE", "1")
        yield World(Path(folder))


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.name)
def test_what_is_changed_was_right(door, world):
    """The control of every door: it takes its good arguments, and their kinds say that they are good."""
    good = door.good(world)
    assert [
        name for name, kind in door.kinds.items() if name in good and not kind(good[name])
    ] == []
    assert set(door.required) <= set(good)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        door.call(**door.good(world))


def test_every_public_name_has_a_door():
    names = {door.name.split(".")[0].removeprefix("minizha ") for door in DOORS}
    names |= {door.name.split(".")[-1] for door in DOORS}
    public = {*minizha.__all__, *crosscheck.__all__} - {"MinizhaError", "crosscheck", "adapters"}
    # what functions return, and what another test calls with bad arguments
    elsewhere = {"Report", "GradientReport", "PairReport", "Trace", "diagnose", "compare"}
    assert public - names - elsewhere == set()
    commands = {"fill-mask", "next-sentence", "info", "convert", "trace", "compare", "pretrain"}
    assert commands | {"vectors verify"} <= names


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("LEAKS", "leaks KeyError at wrong_doors.py"),
        ("TWO_LINES", "says not one line: 'one\\ntwo'"),
        ("NO_NUMBER", "returns NaN or infinity"),
        ("ANY_KEYWORD", "accepts the unknown keyword"),
        ("ACCEPTS", "accepts x"),
        ("ACCEPTS", "accepts a call without x"),
        ("WARNING", "leaks RuntimeWarning"),
    ],
)
def test_a_wrong_door_is_seen(name, fault):
    report = made(0, 60, name)
    assert any(fault in found for found in report["faults"]), report["faults"]


def test_a_door_that_hangs_is_seen():
    (fault,) = made(0, 1, "SLOW", "1")["faults"]
    assert "takes more than 1 s" in fault


def test_a_right_door_is_not_at_fault():
    assert made(0, 200, "RIGHT")["faults"] == []


def test_a_call_is_known_by_its_number():
    assert made(3, 5, "LEAKS")["faults"] == made(3, 5, "LEAKS")["faults"]
    assert made(3, 5, "LEAKS")["faults"] != made(30, 5, "LEAKS")["faults"]
