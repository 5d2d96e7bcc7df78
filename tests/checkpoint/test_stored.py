"""Tensors are read from an open file: what changes in it is seen, what replaces it is not."""

import os
import threading
import warnings

import numpy as np
import pytest

from minizha.checkpoint.safetensors_file import stored_safetensors, to_safetensors
from minizha.checkpoint.stored import StoredFile
from minizha.checkpoint.torch_file import stored_torch
from minizha.errors import FileError
from tests.support.files.torch_files import legacy_of, zip_of

ARRAYS = {"a": np.arange(5000, dtype=np.float32), "b": np.arange(3, dtype=np.float64)}
LAYOUTS = {
    "safetensors": (to_safetensors, stored_safetensors),
    "zip": (zip_of, stored_torch),
    "legacy": (legacy_of, stored_torch),
}


def shorten(path):
    os.truncate(path, 100)


def overwrite(path):
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xff" * 8)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # a clock may be too coarse to show it


def write_anew(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.fixture(params=LAYOUTS)
def stored(request, tmp_path):
    make, read = LAYOUTS[request.param]
    (tmp_path / "f").write_bytes(make(ARRAYS))
    return read(tmp_path / "f")


def check(stored):
    assert stored.keys() == ARRAYS.keys()
    assert all(np.array_equal(stored[name].read(), array) for name, array in ARRAYS.items())


@pytest.mark.parametrize("change", [shorten, overwrite, write_anew])
def test_a_file_that_changes_in_place_is_refused(change, stored, tmp_path):
    check(stored)  # the control
    change(tmp_path / "f")
    for tensor in stored.values():
        with pytest.raises(FileError, match=r"f: it changed while it was read$"):
            tensor.read()


@pytest.mark.parametrize("content", [b"", b"other", None])
def test_a_file_that_is_replaced_stays_what_it_was(content, stored, tmp_path):
    if content is None:
        (tmp_path / "f").unlink()
    else:
        (tmp_path / "g").write_bytes(content)
        (tmp_path / "g").replace(tmp_path / "f")
    check(stored)


def test_a_read_that_is_too_short_is_refused(tmp_path):
    (tmp_path / "f").write_bytes(b"12345678")
    file = StoredFile(tmp_path / "f")
    assert file.array(np.dtype("u1"), 4, 4).tobytes() == b"5678"
    with pytest.raises(FileError, match="it changed while it was read"):
        file.array(np.dtype("u1"), 5, 4)
    assert [file.peek(*part) for part in ((6, 9), (99, 1), (-3, 2))] == [b"78", b"", b"12"]


def test_a_tensor_is_read_in_several_pieces(stored, tmp_path):
    """A system call may return less than it was asked for; the control is one that returns nothing."""
    file = StoredFile(tmp_path / "f")
    real = file._file

    class Slow:
        pieces = 10**9

        def readinto(self, target):
            self.pieces -= 1
            return real.readinto(target[:3]) if self.pieces >= 0 else 0

        def __getattr__(self, name):
            return getattr(real, name)

    file._file = slow = Slow()
    content = (tmp_path / "f").read_bytes()
    assert file.array(np.dtype("u1"), 100, 7).tobytes() == content[7:107]
    slow.pieces = 5
    with pytest.raises(FileError, match="it changed"):
        file.array(np.dtype("u1"), 100, 7)


def test_threads_read_from_one_file(tmp_path):
    numbers = np.arange(200_000)
    (tmp_path / "f").write_bytes(numbers.tobytes())
    file, wrong = StoredFile(tmp_path / "f"), []

    def read(start):
        for i in range(start, 200_000 - 1000, 1000):
            found = file.array(numbers.dtype, 1000, i * numbers.itemsize)
            if not np.array_equal(found, numbers[i : i + 1000]):
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_file_is_closed_with_its_last_tensor(stored):
    def opened():
        return len(os.listdir("/proc/self/fd"))

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc")
    before = opened()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stored.clear()
    assert opened() == before - 1
