"""Weights in a folder: the four layouts, their order, and untrusted indexes."""

import json
import os
import sys

import numpy as np
import pytest

from minizha.checkpoint.folder import WEIGHTS_NAMES, stored_weights, write_folder
from minizha.checkpoint.safetensors_file import to_safetensors
from minizha.errors import FileError
from tests.support.files.hostile_torch_files import RAN, evil
from tests.support.files.refusals import check_refusal
from tests.support.files.torch_files import equal, legacy_of, pickled, zip_file, zip_of

A = {"one": np.arange(6, dtype=np.float32).reshape(2, 3), "two": np.array([7], np.int64)}
B = {"three": np.array([1.5, -2.0], np.float16)}
BOTH = A | B
LAYOUTS = {
    "safetensors": ("model.safetensors", to_safetensors),
    "zip": ("pytorch_model.bin", zip_of),
    "legacy": ("pytorch_model.bin", legacy_of),
}
SHARD_OF = {"one": 0, "two": 0, "three": 1}  # the shard of each


def shard_name(single_file, i):
    stem, suffix = single_file.split(".")
    return f"{stem}-0000{i + 1}-of-00002.{suffix}"


def write_index(folder, layout, weight_map=None, **others):
    single_file = LAYOUTS[layout][0]
    if weight_map is None:
        weight_map = {name: shard_name(single_file, i) for name, i in SHARD_OF.items()}
    index = {"metadata": {"total_size": 36}, "weight_map": weight_map} | others
    (folder / f"{single_file}.index.json").write_text(json.dumps(index), "utf-8")
    return folder / f"{single_file}.index.json"


def write_shards(folder, layout):
    single_file, make = LAYOUTS[layout]
    for i, arrays in enumerate((A, B)):
        (folder / shard_name(single_file, i)).write_bytes(make(arrays))


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture
def sharded(layout, tmp_path):
    write_shards(tmp_path, layout)
    write_index(tmp_path, layout)
    check(tmp_path)  # the control: unchanged, the folder is valid
    return tmp_path


def check(folder, expected=BOTH):
    stored = stored_weights(folder)
    assert list(stored) == list(expected)
    for name, array in expected.items():
        dtype = np.float32 if array.dtype == np.float16 else array.dtype
        assert (stored[name].dtype, stored[name].shape) == (array.dtype.name, array.shape)
        assert equal(stored[name].read(), array.astype(dtype))


def test_one_file(layout, tmp_path):
    name, make = LAYOUTS[layout]
    (tmp_path / name).write_bytes(make(BOTH))
    stored = stored_weights(tmp_path)
    assert stored.keys() == BOTH.keys()
    assert all(np.array_equal(stored[name].read(), BOTH[name]) for name in BOTH)


def test_shards(sharded, layout):
    # a tensor that the index does not name is not read
    single_file = LAYOUTS[layout][0]
    write_index(sharded, layout, {"two": shard_name(single_file, 0)})
    check(sharded, {"two": BOTH["two"]})


def test_the_order_of_the_layouts(tmp_path):
    """What a save writes is read, whatever files were in the folder before."""
    for name in reversed(WEIGHTS_NAMES):
        layout = "safetensors" if name.startswith("model") else "zip"
        if name.endswith("json"):
            write_shards(tmp_path, layout)
            write_index(tmp_path, layout)
            check(tmp_path)
        elif layout == "zip":
            (tmp_path / name).write_bytes(zip_of(B))
            check(tmp_path, B)
    write_folder(tmp_path, "{}", {"saved": A["one"]})
    check(tmp_path, {"saved": A["one"]})
    assert set(WEIGHTS_NAMES) <= set(os.listdir(tmp_path))


def test_a_folder_without_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileError) as caught:
        stored_weights(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'model.safetensors'}: can't be read: No such file, nor "
        "model.safetensors.index.json, pytorch_model.bin or pytorch_model.bin.index.json"
    )
    with pytest.raises(FileError, match=r"config\.json: expected a folder with"):
        stored_weights(tmp_path / "config.json")


def test_a_name_that_is_there_but_no_file(tmp_path):
    """The error names it; the next file is not read instead."""
    (tmp_path / "pytorch_model.bin").write_bytes(zip_of(A))
    check(tmp_path, A)
    (tmp_path / "model.safetensors").symlink_to("nowhere")
    with pytest.raises(FileError, match=r"model\.safetensors: can't be read: No such file"):
        stored_weights(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(FileError, match=r"model\.safetensors: expected a file, found a folder"):
        stored_weights(tmp_path)


def refused(folder, path, message):
    check_refusal(stored_weights, folder, message, named=path)


def test_a_missing_shard(sharded, layout):
    name = shard_name(LAYOUTS[layout][0], 1)
    (sharded / name).unlink()
    refused(sharded, sharded / name, r"this shard is missing; .*\.index\.json names it$")


def test_a_damaged_shard(sharded, layout):
    path = sharded / shard_name(LAYOUTS[layout][0], 1)
    path.write_bytes(path.read_bytes()[:-9])
    refused(sharded, path, "not a valid safetensors file|truncated")
    path.unlink()
    os.mkfifo(path)  # opening it would never end
    refused(sharded, path, "expected a file, found a pipe or a device")


def test_a_tensor_that_is_in_another_shard(sharded, layout):
    single_file = LAYOUTS[layout][0]
    names = {name: shard_name(single_file, 1 - i) for name, i in SHARD_OF.items()}
    path = write_index(sharded, layout, names)
    refused(sharded, path, f"one is not in {shard_name(single_file, 1)}, where it should be")
    names = {"no\nsuch": shard_name(single_file, 1)}
    write_index(sharded, layout, names)
    refused(sharded, path, r"'no\\nsuch' is not in")


OUTSIDE = [
    "../secret",
    "../{folder}/{shard}",
    "/etc/passwd",
    "{absolute}",
    "sub/{shard}",
    "./{shard}",
    "sub\\{shard}",
    "C:{shard}",
    "\\\\host\\{shard}",
    "",
    ".",
    "..",
    "...",
    "{shard}.",
    " {shard}",
    "{shard}\0",
    "{shard}\n",
    "a\x1b[2J",
    "x" * 256,
    "*",
    "\ud800",
    "good|bad",
    "{shard}:stream",
    None,
    3,
    1.5,
    True,
    ["{shard}"],
    {"{shard}": 1},
]


@pytest.mark.parametrize("found", OUTSIDE, ids=lambda found: repr(found)[:30])
def test_shards_outside_of_the_folder(found, sharded, layout):
    if isinstance(found, str):
        shard = shard_name(LAYOUTS[layout][0], 1)
        found = found.replace("{shard}", shard).replace("{folder}", sharded.name)
        found = found.replace("{absolute}", str(sharded / shard))
    (sharded / "sub").mkdir()
    path = write_index(sharded, layout, {"one": shard_name(LAYOUTS[layout][0], 0), "three": found})
    refused(sharded, path, "files in the same folder, found")


INDEXES = {
    "nothing": (b"", "not valid JSON"),
    "a list": (b"[]", "expected a JSON object, found list"),
    "no map": (b"{}", "weight_map: expected the file of each tensor"),
    "a map that is a list": (
        b'{"weight_map":["a"]}',
        "weight_map: expected the file of each tensor",
    ),
    "an empty map": (b'{"weight_map":{}}', "weight_map: expected the file of each tensor"),
    "a map of null": (
        b'{"weight_map":null}',
        "weight_map: expected the file of each tensor",
    ),
    "a name twice": (b'{"weight_map":{"a":"x","a":"y"}}', "the key 'a' appears 2 times"),
    "two maps": (b'{"weight_map":{"a":"x"},"weight_map":{}}', "'weight_map' appears 2 times"),
    "no UTF-8": (b'{"weight_map":{"\xff":"x"}}', "expected UTF-8 text"),
    "half of it": (b'{"weight_map":{"a":', "not valid JSON"),
    "a deep list": (b'{"weight_map":' + b"[" * 100_000, "too deep for an index"),
    "a wide list": (
        b'{"x":[%s1]}' % (b"[]," * 300_000),
        "expected at most 409,600 bytes, found ",
    ),
    "2 MB of names": (
        b'{"weight_map":{%s}}' % b",".join(b'"%d":"x"' % i for i in range(200_000)),
        "expected at most 409,600 bytes, found ",
    ),
    "35,000 names": (
        b'{"weight_map":{%s}}' % b",".join(b'"%d":""' % i for i in range(35_000)),
        "files in the same folder, found ''",
    ),
    "a number of 300,000 digits": (b'{"x":%s}' % (b"1" * 300_000), "not valid JSON"),
}


@pytest.mark.parametrize("name", INDEXES)
def test_bad_indexes(name, sharded, layout):
    content, message = INDEXES[name]
    path = sharded / f"{LAYOUTS[layout][0]}.index.json"
    path.write_bytes(content)
    refused(sharded, path, message)


def test_a_shard_that_would_run_code(tmp_path):
    (tmp_path / "x.bin").write_bytes(zip_file(pickled({"a": evil("antigravity", "fly")}), {}))
    write_index(tmp_path, "zip", {"a": "x.bin"})
    refused(tmp_path, tmp_path / "x.bin", "names antigravity.fly: a pickle that would run code")
    # an index of safetensors files opens no other files
    (tmp_path / "pytorch_model.bin.index.json").rename(tmp_path / "model.safetensors.index.json")
    index = tmp_path / "model.safetensors.index.json"
    refused(tmp_path, index, "expected .safetensors files in the same folder, found x.bin")
    assert RAN == []
    assert "antigravity" not in sys.modules
