"""A tensor stored in a file: its dtype and shape are known before its numbers are read."""

from __future__ import annotations

import io
import math
import os
import reprlib
import threading
import weakref
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
_MAX_AXES = 64  # NumPy's own limit


class StoredTensor(NamedTuple):
    """Dtype and shape of a stored tensor; ``read()`` returns its array.

    ``dtype`` is NumPy's name, "bfloat16", or for a dtype that NumPy lacks the file's own name.

    Convention: each call of ``read`` reads the numbers into an array of its own. Half precision
    becomes float32.

    Raises:
        FileError: from ``read``, if NumPy lacks the dtype, or the file changed after it was opened.
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


class StoredFile:
    """An open file, ``size`` bytes long, of which parts are read on demand.

    Convention: the parts are those of this file even if another one replaces it. They are read, not
    mapped: a mapped file that becomes shorter kills the process that reads it (SIGBUS).

    Raises:
        FileError: the file is missing, unreadable, or not an ordinary file; and from every read, if
            its size or its time has changed since it was opened.
    """

    def __init__(self, path: Path) -> None:
        check_file(path)
        try:
            self._file = read_current(path, _open_unbuffered)
        except (OSError, ValueError) as error:
            raise FileError(f"{path}: can't be read: {reason(error)}") from error
        weakref.finalize(self, self._file.close)
        self.path, self._lock = path, threading.Lock()  # a read moves the position of the file
        self._stamp = self._current_stamp()
        self.size = self._stamp[0]

    def peek(self, start: int, count: int) -> bytes:
        """At most ``count`` bytes from ``start``; fewer at the end of the file."""
        start = min(max(start, 0), self.size)
        return self.array(np.dtype(np.uint8), min(count, self.size - start), start).tobytes()

    def array(self, dtype: np.dtype, count: int, start: int) -> np.ndarray:
        """``count`` numbers of ``dtype``, (count,), from the byte ``start``."""
        array = np.empty(count, dtype)
        raw, done = array.view(np.uint8), 0
        try:
            with self._lock:
                self._file.seek(start)
                while done < raw.size and (more := self._file.readinto(raw[done:])):
                    done += more
            changed = self._current_stamp() != self._stamp
        except (OSError, ValueError) as error:
            raise FileError(f"{self.path}: can't be read: {reason(error)}") from error
        if done < raw.size or changed:
            raise FileError(f"{self.path}: it changed while it was read")
        return array

    def _current_stamp(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_size, status.st_mtime_ns


def _open_unbuffered(path: str) -> io.FileIO:
    # it is closed with the last tensor of the file
    return open(path, "rb", buffering=0)


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


def other_format(file: StoredFile) -> str:
    """What the file is instead, as the end of a message, or "" if that is unknown."""
    head = file.peek(0, 100)
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
