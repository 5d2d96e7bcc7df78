"""Arrays in a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minizha.errors import FileError
from minizha.files import read_bytes

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip


def to_safetensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The content of a safetensors file that holds ``arrays``.

    Convention: the metadata is ``{"format": "pt"}``, without which Transformers 4.37 refuses to
    load; it has one key because more would be written in random order.
    """
    from safetensors.numpy import save

    # safetensors writes the memory as it lies: an array that is not C-contiguous would be
    # written wrong, without a word
    laid_out = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save(laid_out, metadata={"format": "pt"})


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays in the file; half precision (float16, bfloat16) becomes float32.

    Raises:
        FileError: the file is missing, truncated, no valid safetensors file, or holds numbers of
            a kind that NumPy does not have.
    """
    from safetensors import SafetensorError, deserialize

    data = read_bytes(path)
    try:
        return {name: _array(path, name, info) for name, info in deserialize(data)}
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise FileError(f"{path}: not a valid safetensors file: {error}") from error


def _array(path: Path, name: str, info: dict[str, Any]) -> np.ndarray:
    raw, shape, dtype = info["data"], tuple(info["shape"]), info["dtype"]
    if dtype == "BF16":  # the upper half of a float32
        high = np.frombuffer(raw, dtype="<u2").astype(np.uint32)
        return (high << 16).view(np.float32).reshape(shape)
    if dtype not in DTYPES:
        raise FileError(f"{path}: {name}: expected numbers as F64, F32, F16 or BF16, found {dtype}")
    array = np.frombuffer(raw, dtype=DTYPES[dtype])
    wide = np.float32 if dtype == "F16" else array.dtype.newbyteorder("=")
    return array.astype(wide).reshape(shape)
