"""pytorch_model.bin: files of torch are read as torch reads them; others are refused in one line."""

import pickle
import struct
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from minizha.checkpoint import safetensors_file as reader
from minizha.checkpoint import torch_file
from minizha.checkpoint.safetensors_file import stored_safetensors, to_safetensors
from minizha.checkpoint.torch_file import stored_torch
from minizha.errors import FileError
from tests.support.files.hostile_torch_files import (
    CONTROLS,
    GOOD,
    GUARDED_MODULES,
    HOSTILE,
    RAN,
    evil,
)
from tests.support.files.refusals import EXTRA_BYTES, check_refusal, measured
from tests.support.files.safetensors_files import safetensors_file
from tests.support.files.torch_files import (
    Ordered,
    entry,
    equal,
    pickled,
    storage,
    tensor,
    zip_file,
    zip_of,
)
from tests.support.paths import DATA

REAL = DATA / "torch-files"


# --- files that torch wrote ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zip.bin", "legacy.bin"])
def test_what_torch_wrote(name):
    """All dtypes, views, a shared storage, a scalar, an empty tensor, parameters, tied ones."""
    expected = load_file(REAL / "expected.safetensors")
    stored = stored_torch(REAL / name)
    assert stored.keys() == expected.keys()
    for key, found in stored.items():
        assert found.shape == expected[key].shape
        assert found.size == expected[key].size
        assert equal(found.read(), expected[key]), key
        assert equal(found.T.read(), expected[key].T), key
    dtypes = {"float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"}
    assert {key: stored[key].dtype for key in dtypes} == {key: key for key in dtypes}
    assert stored["tied"] is stored["parameter"]
    # the control: a wrong value is seen
    assert not equal(stored["int64"].read() + 1, expected["int64"])


def test_a_state_dict_in_another_dict():
    expected = load_file(REAL / "expected.safetensors")["float32"]
    stored = stored_torch(REAL / "wrapped.bin")
    assert list(stored) == ["a"]
    assert equal(stored["a"].read(), expected)


def test_a_tensor_takes_memory_once_it_is_read(tmp_path):
    path = tmp_path / "f.bin"
    ones = np.ones(1_000_000, np.float32)
    path.write_bytes(zip_of({"a": ones, "b": 2 * ones}))
    tracemalloc.start()
    try:
        stored = stored_torch(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        assert stored["b"].read().sum() == 2_000_000
        assert 4_000_000 < tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    # each call reads an array of its own
    stored["a"].read()[:] = 7
    assert stored["a"].read().sum() == 1_000_000


# --- files made by hand -------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONTROLS)
def test_good_files_made_by_hand(name, tmp_path):
    (tmp_path / "f").write_bytes(CONTROLS[name])
    stored = stored_torch(tmp_path / "f")
    assert list(stored) == ["a"]
    views = {"view": (2,), "metadata": (2,), "a stride never taken": (1, 2)}
    expected = GOOD.reshape(-1)[4:].reshape(views[name]) if name in views else GOOD
    assert equal(stored["a"].read(), expected)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool"])
def test_either_order_of_the_bytes(order, dtype, tmp_path):
    array = np.array([[0, 1], [2, 3]]).astype(dtype)
    stored = array.astype(array.dtype.newbyteorder("<" if order == "little" else ">"))
    storages, others = {"0": stored.tobytes()}, {"byteorder": order.encode()}
    data = zip_file(pickled({"a": entry("0", array)}), storages, others=others)
    (tmp_path / "f").write_bytes(data)
    read_as = np.float32 if dtype == "float16" else dtype
    assert equal(stored_torch(tmp_path / "f")["a"].read(), array.astype(read_as))


@given(st.data())
def test_any_view_of_a_storage(tmp_path, data):
    """Any strides: the expected array takes each number from the storage by its index."""
    count = data.draw(st.integers(1, 60), "count")
    numbers = np.random.default_rng(count).standard_normal(count)
    shape = data.draw(st.lists(st.integers(0, 4), max_size=4), "shape")
    strides = [data.draw(st.integers(0, 20), "stride") for _ in shape]
    offset = data.draw(st.integers(0, count), "offset")
    indices = np.zeros((), int) + offset
    for n, stride in zip(shape, strides, strict=True):
        indices = indices[..., None] + stride * np.arange(n)
    call = tensor(storage("0", count, "DoubleStorage"), tuple(shape), tuple(strides), offset)
    (tmp_path / "f").write_bytes(zip_file(pickled(Ordered({"a": call})), {"0": numbers.tobytes()}))
    if indices.size <= count and (indices < count).all():
        assert equal(stored_torch(tmp_path / "f")["a"].read(), numbers[indices])
    else:
        with pytest.raises(
            FileError, match=r"reaches beyond its storage|is larger than its storage"
        ):
            stored_torch(tmp_path / "f")


@given(st.lists(st.integers(0, 2**16 - 1), max_size=20))
def test_any_bfloat16_and_any_bool(tmp_path, bits):
    """A bfloat16 is the upper half of a float32; a bool is True if its byte is not 0."""
    raw = np.array(bits, "<u2")
    value = {
        "a": tensor(storage("0", len(bits), "BFloat16Storage"), (len(bits),), (1,)),
        "b": tensor(storage("1", 2 * len(bits), "BoolStorage"), (2 * len(bits),), (1,)),
    }
    (tmp_path / "f").write_bytes(zip_file(pickled(value), {"0": raw.tobytes(), "1": raw.tobytes()}))
    stored = stored_torch(tmp_path / "f")
    expected = [struct.unpack("<f", struct.pack("<HH", 0, n))[0] for n in bits]
    assert (stored["a"].dtype, stored["a"].read().dtype) == ("bfloat16", np.float32)
    assert np.array_equal(stored["a"].read(), np.array(expected, np.float32), equal_nan=True)
    assert equal(stored["b"].read(), np.array([byte != 0 for byte in raw.tobytes()], bool))


# --- files that are refused ---------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(name, tmp_path):
    content, message = HOSTILE[name]
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(content)
    check_refusal(stored_torch, path, message)
    assert RAN == []
    assert not set(GUARDED_MODULES) & sys.modules.keys()


def test_there_are_enough_of_them():
    assert len(HOSTILE) >= 80


def test_the_hostile_pickle_runs_where_python_reads_it():
    """The control: Python's pickle runs such a file."""
    pickle.loads(pickled(evil()))
    assert RAN == ["ran"]
    RAN.clear()


def test_the_measure_sees_waste(tmp_path):
    """The control: the measured time and memory include what a reader wastes."""

    def wasteful(path):
        start = time.process_time()
        while time.process_time() - start < 0.02:
            pass
        return {} if bytes(3 * EXTRA_BYTES) else None

    seconds, peak, error = measured(wasteful, tmp_path)
    assert (seconds > 0.01, peak > 2 * EXTRA_BYTES, error) == (True, True, None)


def test_a_pickle_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "_MAX_PICKLE_BYTES", 100)
    (tmp_path / "f").write_bytes(zip_of({"a": GOOD}))
    with pytest.raises(FileError, match=r"data\.pkl: expected at most 100 bytes, found \d+$"):
        stored_torch(tmp_path / "f")


def test_no_file():
    with pytest.raises(FileError, match="missing: can't be read: No such file"):
        stored_torch(Path("missing"))


# --- safetensors --------------------------------------------------------------------------------


TENSOR = b'{"dtype":"%s","shape":%s,"data_offsets":[%d,%d]}'
# refused when the file is opened, or when the tensor is read
BAD_SAFETENSORS = {
    "100,000 tensors of nothing": (
        safetensors_file(
            b"{%s}"
            % b",".join(b'"%d":' % i + TENSOR % (b"U8", b"[0]", 0, 0) for i in range(100_000))
        ),
        "not a valid safetensors file: .*(header of|tensors in a file of)",
    ),
    "20,000 tensors of nothing": (
        safetensors_file(
            b"{%s}"
            % b",".join(b'"%d":' % i + TENSOR % (b"U8", b"[0]", 0, 0) for i in range(20_000))
        ),
        "20,000 tensors in a file of",
    ),
    "a header of 8 MB": (
        safetensors_file(b'{"__metadata__":{"a":"%s"}}' % (b"x" * 8_000_000)),
        "a header of 8,000,0.. bytes",
    ),
    "a name of 4 MB": (
        safetensors_file(
            b'{"%s":%s}' % (b"x" * 4_000_000, TENSOR % (b"F8_E4M3", b"[1]", 0, 1)), b"0"
        ),
        "expected dtype F64, F32, F16 or BF16, found F8_E4M3",
    ),
    "a name of two lines": (
        safetensors_file(b'{"a\\nb":%s}' % (TENSOR % (b"F8_E4M3", b"[1]", 0, 1)), b"0"),
        r"'a\\nb': expected dtype F64, F32, F16 or BF16, found F8_E4M3",
    ),
    "a fault in a name of two lines": (
        safetensors_file(b'{"a\\nb":%s}' % (TENSOR % (b"F32", b"[1]", 4, 8)), b"0" * 8),
        "not a valid safetensors file: .*invalid offset for tensor `a b`",
    ),
    "65 axes": (
        safetensors_file(
            b'{"a":%s}' % (TENSOR % (b"U8", b"[%s]" % b",".join([b"1"] * 65), 0, 1)), b"0"
        ),
        "a: expected at most 64 axes, found 65",
    ),
    "0 × 2**62": (
        safetensors_file(b'{"a":%s}' % (TENSOR % (b"U8", b"[0,%d]" % 2**62, 0, 0))),
        "a: the shape .* is too big",
    ),
    "a pointer of git-lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "this is a Git LFS pointer, not the file",
    ),
}


@pytest.mark.parametrize("name", BAD_SAFETENSORS)
def test_bad_safetensors(name, tmp_path):
    content, message = BAD_SAFETENSORS[name]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    check_refusal(stored_safetensors, path, message)
    # a dtype that NumPy lacks is refused only when the tensor is read
    if "expected dtype" in message:
        assert len(stored_safetensors(path)) == 1


def test_safetensors_are_read_tensor_by_tensor(tmp_path):
    """A tensor of a large file, an empty one, one that begins at an odd byte."""
    import safetensors.numpy

    arrays = {
        "large": np.arange(2_000_000, dtype=np.float32).reshape(1000, 2000),
        "empty": np.empty((0, 3), np.float32),
        "scalar": np.array(2.5),
        "half": np.array([1.5, -2.0, 65504.0], np.float16),
        "three": np.array([True, False, True]),
        "int8": np.array([-5], np.int8),
    }
    safetensors.numpy.save_file(arrays, tmp_path / "f")
    tracemalloc.start()
    try:
        stored = stored_safetensors(tmp_path / "f")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        large = stored["large"].read()
        assert tracemalloc.get_traced_memory()[1] < 9_000_000
    finally:
        tracemalloc.stop()
    assert equal(large, arrays["large"])
    assert {name: found.dtype for name, found in stored.items()} == {
        name: array.dtype.name for name, array in arrays.items()
    }
    for name, array in arrays.items():
        dtype = np.float32 if name == "half" else array.dtype
        assert equal(stored[name].read(), array.astype(dtype)), name
    # the data need not be in the order of the header
    header = b'{"b":%s,"a":%s}' % (TENSOR % (b"U8", b"[3]", 0, 3), TENSOR % (b"BF16", b"[1]", 3, 5))
    other = header.replace(b'"b"', b'"~"').replace(b'"a"', b'"b"').replace(b'"~"', b'"a"')
    for text, bytes_name, half_name in ((header, "b", "a"), (other, "a", "b")):
        (tmp_path / "g").write_bytes(safetensors_file(text, b"\1\2\3\x80\x3f"))
        stored = stored_safetensors(tmp_path / "g")
        assert stored[bytes_name].read().tolist() == [1, 2, 3]
        assert (stored[half_name].dtype, stored[half_name].read().tolist()) == ("bfloat16", [1.0])


def test_a_file_that_changes_during_the_reading(tmp_path, monkeypatch):
    arrays = {"a": np.ones(3, np.float32)}
    path = tmp_path / "f"
    path.write_bytes(to_safetensors(arrays))

    def open_and_replace(where, open_file=reader.StoredFile):
        file = open_file(where)
        (tmp_path / "g").write_bytes(to_safetensors({"b": arrays["a"]}))
        (tmp_path / "g").replace(where)
        return file

    assert list(stored_safetensors(path)) == ["a"]
    monkeypatch.setattr(reader, "StoredFile", open_and_replace)
    with pytest.raises(FileError, match="it changed while it was read"):
        stored_safetensors(path)
