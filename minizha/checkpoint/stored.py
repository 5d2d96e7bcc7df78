"""A tensor stored in a file: its dtype and shape are known before its numbers are read."""

from __future__ import annotations

import math
import mmap
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minizha.errors import FileError
from minizha.files import check_file, read_current
from minizha.transaction import reason

# dtypes to read raw bytes with: a bfloat16 is the upper half of a float32, and a byte of a damaged
# file need not be a valid bool
_RAW = {"bfloat16": "uint16", "bool": "uint8"}
_CHUNK = 2**20  # numbers to copy before their pages are released
_MAX_AXES = 64  # NumPy's own limit


class StoredTensor(NamedTuple):
    """Dtype and shape of a stored tensor; ``read()`` returns its array.

    ``dtype`` is NumPy's name, "bfloat16", or for a dtype that NumPy lacks the file's own name.

    Convention: the file is mapped, so the array takes no memory until its numbers are used; it
    must not be written to. Half precision becomes float32, which is a copy.

    Raises:
        FileError: from ``read``, if NumPy lacks the dtype.
    """

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @property
    def T(self) -> StoredTensor:
        """The transpose, not yet read."""
        return StoredTensor(self.dtype, self.shape[::-1], lambda: self.read().T)

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def map_file(path: Path) -> np.ndarray:
    """The bytes of a file as a read-only uint8 array, mapped from the disk.

    Convention: the array stays the same if another file replaces this one.

    Raises:
        FileError: the file is missing, unreadable, or not an ordinary file.
    """
    check_file(path)
    try:
        with read_current(path, lambda current: open(current, "rb")) as file:
            if not file.seek(0, 2):
                return np.empty(0, np.uint8)  # an empty file can't be mapped
            return np.asarray(np.memmap(file, np.uint8, "r"))
    except (OSError, ValueError, OverflowError) as error:
        raise FileError(f"{path}: can't be read: {reason(error)}") from error


def copy_from_map(array: np.ndarray) -> np.ndarray:
    """A copy in memory; the pages of the mapped file that ``array`` is read from are released.

    The pages of a mapped file stay in memory until the system needs the memory. Copied this way,
    the arrays of a large file can be read one after the other without filling it.
    """
    base = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    releasable = isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED")
    if not releasable or not array.flags.c_contiguous:
        return np.array(array)
    copy = np.empty(array.shape, array.dtype)
    source, target = array.reshape(-1), copy.reshape(-1)
    for start in range(0, max(array.size, 1), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        target[chunk] = source[chunk]
        base.madvise(mmap.MADV_DONTNEED)
    return copy


def raw_dtype(dtype: str, order: str = "<") -> np.dtype:
    """The dtype to read raw bytes with; ``order`` is "<" (little-endian) or ">" (big-endian)."""
    return np.dtype(_RAW.get(dtype, dtype)).newbyteorder(order)


def decode(raw: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers of an array read with :func:`raw_dtype`; a copy only if they change.

    Convention: float16 and bfloat16 become float32, exactly.
    """
    if dtype == "bool":
        return raw != 0
    if dtype == "bfloat16":
        bits = raw.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    native = np.dtype(np.float32 if dtype == "float16" else dtype)
    return raw.astype(native, copy=False)


def check_shape(where: str, shape: Sequence[int]) -> None:
    """Refuse a shape that no NumPy array can have, even if it is empty.

    Raises:
        FileError: too many axes, or an axis longer than an index can be.
    """
    if len(shape) > _MAX_AXES:
        raise FileError(f"{where}: expected at most {_MAX_AXES} axes, found {len(shape)}")
    # NumPy multiplies the lengths of the axes that are not empty; the bytes must fit in an index
    if math.prod(n for n in shape if n) >= 2**63 // 8:
        raise FileError(f"{where}: the shape {reprlib.repr(tuple(shape))} is too big")


def shown(name: object) -> str:
    """A name from a file in a form that fits a one-line message."""
    plain = isinstance(name, str) and name.isprintable() and 0 < len(name) <= 200
    return name if plain else reprlib.repr(name)


def one_line(error: BaseException) -> str:
    """A library's message, which may quote the file, as one printable line."""
    words = " ".join(str(error).split())[:300]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def other_format(data: np.ndarray) -> str:
    """What the file is instead, as the end of a message, or "" if that is unknown."""
    head = data[:100].tobytes()
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"version https://git-lfs"):
        return ": this is a Git LFS pointer, not the file (git lfs pull fetches it)"
    if text[:9].lower().startswith((b"<!doctype", b"<html")):
        return ": this is a web page"
    # the length of a safetensors header of 123 bytes begins with "{" too, but zeros follow
    if text.startswith((b"{", b"[")) and b"\0" not in head[:8]:
        return ": this is a JSON file"
    if head.startswith(b"PK\3\4"):
        return ": this is a zip file, as torch.save and numpy.savez write it"
    if head.startswith(b"\x93NUMPY"):
        return ": this is a file of numpy.save"
    return ""
