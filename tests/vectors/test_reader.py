"""The reader in JavaScript recomputes every forward array from the vectors alone."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.support.paths import ROOT

READER, VECTORS = ROOT / "vectors" / "reader.mjs", ROOT / "vectors" / "v1"
NAMES = json.loads((VECTORS / "manifest.json").read_text(encoding="utf-8"))["cases"]
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node (https://nodejs.org), 18 or newer")


def run(*arguments):
    return subprocess.run(
        [NODE, READER, *arguments], capture_output=True, text=True, encoding="utf-8", timeout=120
    )


@pytest.fixture(scope="module")
def lines():
    done = run(VECTORS)
    assert done.returncode == 0, done.stdout + done.stderr
    return {line.split()[1].rstrip(":"): line for line in done.stdout.splitlines()}


def test_every_case_is_equal(lines):
    assert list(lines) == NAMES
    assert all(line.startswith("equal ") for line in lines.values())
    errors = [float(line.split("largest error ")[1].split()[0]) for line in lines.values()]
    assert max(errors) < 1e-13


def test_it_computes_every_forward_array(lines):
    for name, line in lines.items():
        about = json.loads((VECTORS / "cases" / f"{name}.json").read_text(encoding="utf-8"))
        count = sum(not n.endswith((".grad", ".dropout")) for n in about["expected"])
        assert f": {count} arrays," in line


def run_on_damaged(folder, name, change):
    """The reader's result for a copy of one case, changed by ``change``."""
    (folder / "cases").mkdir(exist_ok=True)
    shutil.copy(VECTORS / "cases" / f"{name}.json", folder / "cases")
    arrays = load_file(VECTORS / "cases" / f"{name}.safetensors")
    change(arrays)
    save_file(arrays, folder / "cases" / f"{name}.safetensors")
    (folder / "manifest.json").write_text(json.dumps({"cases": [name]}), encoding="utf-8")
    return run(folder)


def entry(name, value, place=0):
    def change(arrays):
        arrays[name].flat[place] = value(arrays[name].flat[place])

    return change


def pooler_twice_as_long(arrays):
    arrays["expected/pooler"] = np.concatenate([arrays["expected/pooler"]] * 2)


LAYER = "expected/encoder.layer.0"
DAMAGE = {
    "nothing": ("nsp", lambda arrays: None, 0),
    "an expected number": ("nsp", entry(f"{LAYER}.attention.scores", lambda x: x + 1e-7), 1),
    "a parameter": ("nsp", entry("parameters/nezha.pooler.dense.bias", lambda x: x + 1e-7), 1),
    "an id": ("nsp", entry("inputs/input_ids", lambda x: (x + 1) % 23), 1),
    "a mask": ("cross-longer", entry("inputs/encoder_attention_mask", lambda x: 1 - x), 1),
    "the past": ("decoder-past", entry("inputs/past_key_values.0.1", lambda x: x + 1e-6, -1), 1),
    "a dropout factor": ("dropout-model", entry("expected/embeddings.dropout", lambda x: x + 1), 1),
    "a label": ("choice", entry("inputs/labels", lambda x: (x + 1) % 3), 1),
    "NaN": ("nsp", entry("expected/loss", lambda x: np.nan), 1),
    "a shape": ("nsp", pooler_twice_as_long, 1),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_vector_is_seen(tmp_path, damage):
    """Negative control; one copy is unchanged."""
    name, change, status = DAMAGE[damage]
    done = run_on_damaged(tmp_path, name, change)
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout.startswith("DIFFERENT" if status else "equal")


def test_chosen_cases_alone_are_read():
    done = run(VECTORS, "nsp", "choice")
    assert done.returncode == 0
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["nsp:", "choice:"]


@pytest.mark.parametrize("arguments", [(), ("nowhere",), (VECTORS, "no-such-case")])
def test_what_can_not_be_read_is_one_line(arguments):
    done = run(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
