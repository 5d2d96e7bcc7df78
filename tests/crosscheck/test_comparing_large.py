"""Two traces of a 12-layer base model, about a gigabyte each, are compared array by array."""

import json
import math
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minizha import NezhaConfig, NezhaForPreTraining, crosscheck
from minizha.crosscheck.comparison.overall import rounding_of

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="memory is read on Linux"),
]

SCORES = "encoder.layer.7.attention.scores"
MEASURED = """
import re, sys, time
from minizha.cli import main
started = time.monotonic()
status = main(sys.argv[1:])
seconds = time.monotonic() - started
# not getrusage, whose maximum a child inherits from the process that started it
peak = int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
print(status, seconds, peak, file=sys.stderr)
"""


def measured(*arguments):
    """Status, seconds, peak memory in bytes and output of a command in a separate process."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    status, seconds, peak = done.stderr.splitlines()[-1].split()
    return int(status), float(seconds), int(peak), done.stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    rng = np.random.default_rng(0)
    model = NezhaForPreTraining(NezhaConfig())
    ids = rng.integers(5, 21128, (2, 128))
    labels = np.where(rng.random(ids.shape) < 0.15, ids, -100)
    inputs = {"input_ids": ids, "labels": labels, "next_sentence_label": [0, 1]}
    trace = crosscheck.trace(model, inputs)
    rounding_of(trace, "float32")  # as `minizha trace` does
    trace.save(folder / "ours.safetensors")
    theirs = {}
    for name, array in trace.items():  # the rounding errors of another program
        noise = 1 + 1e-7 * rng.standard_normal(array.shape, np.float32)
        theirs[name] = np.asarray(array * noise, np.float32)
    save_file(theirs, folder / "right.safetensors")
    theirs[SCORES] = theirs[SCORES] * np.float32(math.sqrt(64))
    save_file(theirs, folder / "wrong.safetensors")
    return folder


@pytest.mark.parametrize(("name", "expected"), [("right", 0), ("wrong", 1)])
def test_a_comparison_streams(files, name, expected, capsys):
    ours, theirs = files / "ours.safetensors", files / f"{name}.safetensors"
    started = time.monotonic()
    # a command that fails at once needs the memory of Python itself
    _, _, nothing, *_ = measured("compare", theirs, theirs.with_name("missing"))
    assert time.monotonic() - started < 10
    status, seconds, peak, out = measured("compare", ours, theirs)
    largest = max(array.nbytes for array in load_file(theirs).values())
    with capsys.disabled():
        print(f"\n{name}: {seconds:.1f} s, {(peak - nothing) / largest:.2f} of the largest arrays")
    assert status == expected
    assert seconds < 30
    assert peak - nothing < 3 * largest
    assert ("layer 7 scores match: 1/√d missing" in out) == bool(expected)


def test_so_does_json(files):
    arguments = ("compare", files / "ours.safetensors", files / "wrong.safetensors", "--json")
    _, seconds, _, out = measured(*arguments)
    assert json.loads(out)["first_divergence"] == SCORES
    assert seconds < 30
