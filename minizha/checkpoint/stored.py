"""A tensor that lies in a file: what is known of it before a byte of it is read."""

from __future__ import annotations

import math
import mmap
import reprlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minizha.errors import FileError
from minizha.files import at_newest, check_file

# what lies in the file, where that is not what NumPy calls it: a bfloat16 is the upper half of a
# float32, and a byte of a damaged file need be neither True nor False
_RAW = {"bfloat16": "uint16", "bool": "uint8"}
_PIECE = 2**20  # numbers that are copied before their pages are given back
_MOST_AXES = 64  # NumPy's own limit


class StoredTensor(NamedTuple):
    """``dtype`` is NumPy's name of the stored numbers, or "bfloat16", or the file's own name for
    numbers that NumPy does not have; ``read()`` is the array.

    Convention: the file is mapped, so that the array takes no memory until its numbers are looked
    at; it must not be written to. Half precision becomes float32, which is a copy.

    Raises:
        FileError: from ``read``, where NumPy has no numbers of that kind.
    """

    dtype: str
    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]

    @property
    def T(self) -> StoredTensor:
        """The transpose, still unread."""
        return StoredTensor(self.dtype, self.shape[::-1], lambda: self.read().T)

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def map_file(path: Path) -> np.ndarray:
    """The bytes of a file as a read-only uint8 array that takes no memory of its own.

    Convention: whoever replaces the file by another one leaves the mapping as it was.

    Raises:
        FileError: the file is missing, unreadable, or no ordinary file.
    """
    check_file(path)
    try:
        with at_newest(path, lambda place: open(place, "rb")) as file:
            if not file.seek(0, 2):
                return np.empty(0, np.uint8)  # nothing can't be mapped
            return np.asarray(np.memmap(file, np.uint8, "r"))
    except (OSError, ValueError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FileError(f"{path}: can't be read: {reason}") from error


def unmapped(array: np.ndarray) -> np.ndarray:
    """A copy in memory; the pages of the file that ``array`` was read from are given back.

    Reading a mapped file leaves what was read in memory, until the system wants it for something
    else. Whoever goes through a large file array by array need not fill the memory.
    """
    base = array
    while isinstance(base, np.ndarray) and base.base is not None:
        base = base.base
    gives_back = isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED")
    if not gives_back or not array.flags.c_contiguous:
        return np.array(array)
    copied = np.empty(array.shape, array.dtype)
    source, target = array.reshape(-1), copied.reshape(-1)
    for start in range(0, max(array.size, 1), _PIECE):
        piece = slice(start, start + _PIECE)
        target[piece] = source[piece]
        base.madvise(mmap.MADV_DONTNEED)
    return copied


def raw_dtype(dtype: str, order: str = "<") -> np.dtype:
    """How the numbers of a stored dtype lie in the file; ``order`` is "<" (little-endian) or ">"."""
    return np.dtype(_RAW.get(dtype, dtype)).newbyteorder(order)


def widened(raw: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers behind an array of :func:`raw_dtype`; a copy only where they change.

    Convention: float16 and bfloat16 become float32, exactly.
    """
    if dtype == "bool":
        return raw != 0
    if dtype == "bfloat16":
        wide = raw.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    native = np.dtype(np.float32 if dtype == "float16" else dtype)
    return raw.astype(native, copy=False)


def check_shape(where: str, shape: Sequence[int]) -> None:
    """Refuse a shape that no array can have, also where it holds no numbers at all.

    Raises:
        FileError: too many axes, or an axis beyond what an index can reach.
    """
    if len(shape) > _MOST_AXES:
        raise FileError(
            f"{where}: {len(shape)} axes, where the maximum supported dimension is {_MOST_AXES}"
        )
    # NumPy counts the bytes of the axes that are not empty, and that count must be an index
    if math.prod(n for n in shape if n) >= 2**63 // 8:
        raise FileError(f"{where}: the shape {reprlib.repr(tuple(shape))} is too big")


def shown(name: object) -> str:
    """A name out of a file, such that it can stand in a one-line message."""
    plain = isinstance(name, str) and name.isprintable() and 0 < len(name) <= 200
    return name if plain else reprlib.repr(name)


def in_a_line(error: Exception) -> str:
    """What a library said, which may quote the file, such that it can stand in a message."""
    words = " ".join(str(error).split())[:300]
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def foreign_kind(data: np.ndarray) -> str:
    """A word on files that often lie in another's place, or nothing."""
    head = data[:100].tobytes()
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"version https://git-lfs"):
        return ": a pointer of Git LFS lies in its place (git lfs pull fetches the file)"
    if text[:9].lower().startswith((b"<!doctype", b"<html")):
        return ": a web page lies in its place"
    # a header of 123 bytes begins with "{", too, but its length has zeros behind it
    if text.startswith((b"{", b"[")) and b"\0" not in head[:8]:
        return ": this is a JSON file"
    if head.startswith(b"PK\3\4"):
        return ": this is a zip file, as torch.save and numpy.savez write"
    if head.startswith(b"\x93NUMPY"):
        return ": this is a file of numpy.save"
    return ""
