"""Arrays in a safetensors file."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from minizha.checkpoint.stored import (
    StoredTensor,
    check_shape,
    foreign_kind,
    in_a_line,
    map_file,
    raw_dtype,
    shown,
    widened,
)
from minizha.errors import FileError
from minizha.files import at_newest, check_file

_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8",
    "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
# numbers that NumPy lacks, and how many bits one of them takes
_OTHER_BITS = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "C64": 64,
}  # fmt: skip


CHECKPOINT = ("format", "pt")
"""The metadata without which Transformers 4.37 refuses to load a checkpoint."""


def to_safetensors(
    arrays: Mapping[str, np.ndarray], metadata: tuple[str, str] = CHECKPOINT
) -> bytes:
    """The content of a safetensors file that holds ``arrays``.

    Convention: the metadata has one key and its value; more would be written in random order.
    """
    from safetensors.numpy import save

    arrays = {name: in_plain_order(array) for name, array in arrays.items()}
    return save(arrays, metadata=dict([metadata]))


def in_plain_order(array: np.ndarray) -> np.ndarray:
    """The array as it has to lie for safetensors, which writes the memory as it lies: one that is
    not C-contiguous would be written wrong, without a word."""
    return np.asarray(array, order="C")  # ascontiguousarray would make a scalar an array of one


def safetensors_metadata(path: Path) -> dict[str, str]:
    """What the file says about itself.

    Raises:
        FileError: the file is missing, or no valid safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    check_file(path)
    try:
        with at_newest(path, lambda place: safe_open(place, framework="numpy")) as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise FileError(f"{path}: not a valid safetensors file: {in_a_line(error)}") from error


def stored_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors in the file, in the order in which they lie there.

    Raises:
        FileError: the file is missing, truncated, or no valid safetensors file. Numbers of a kind
            that NumPy does not have are refused when they are read.
    """
    before = _identity(path)
    data = map_file(path)
    length = int.from_bytes(data[:8], "little")
    parts = _parts(path, data, length)
    stored, place = {}, 8 + length
    for name, dtype, shape in parts:
        where = f"{path}: {shown(name)}"
        check_shape(where, shape)
        numpys, count = _DTYPES.get(dtype), math.prod(shape)
        if numpys is None and dtype not in _OTHER_BITS:
            raise FileError(f"{where}: numbers of the unknown kind {dtype}")
        bits = raw_dtype(numpys).itemsize * 8 if numpys else _OTHER_BITS[dtype]
        raw, place = data[place : place + count * bits // 8], place + count * bits // 8
        read = partial(_array, raw, numpys, shape) if numpys else partial(_refuse, where, dtype)
        stored[name] = StoredTensor(numpys or dtype, shape, read)
    # the library has looked at the file by itself: at the one that is mapped here?
    if place != len(data) or _identity(path) != before:
        raise FileError(f"{path}: not a valid safetensors file: it was changed during the reading")
    return stored


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = at_newest(path, os.stat)
    except (OSError, ValueError):  # map_file says why
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _parts(path: Path, data: np.ndarray, length: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, kind of number and shape of each tensor, in the order of the data.

    The library makes sure that the data lie one after the other and fill the file, so that the
    order tells where each begins.
    """
    from safetensors import SafetensorError, safe_open

    try:
        # what the library makes of a header is many times as large
        if length > 4 * 1024**2 + len(data) // 16:
            raise ValueError(f"a header of {length:,} bytes in a file of {len(data):,}")
        with at_newest(path, lambda place: safe_open(place, framework="numpy")) as file:
            names = file.offset_keys()
            if len(names) > 8000 + len(data) // 512:
                raise ValueError(f"{len(names):,} tensors in a file of {len(data):,} bytes")
            slices = [(name, file.get_slice(name)) for name in names]
            return [(name, s.get_dtype(), tuple(s.get_shape())) for name, s in slices]
    except (SafetensorError, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise FileError(
            f"{path}: not a valid safetensors file{foreign_kind(data)}: {in_a_line(error)}"
        ) from error


def _array(raw: np.ndarray, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return widened(raw.view(raw_dtype(dtype)).reshape(shape), dtype)


def _refuse(where: str, dtype: str) -> np.ndarray:
    raise FileError(f"{where}: expected numbers as F64, F32, F16 or BF16, found {dtype}")
