"""Arrays in a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minizha.errors import FileError
from minizha.files import read_bytes

FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16}


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
    """The float arrays in the file; half precision (float16, bfloat16) becomes float32.

    Integer arrays are left out: no parameter is one, but buffers such as ``position_ids`` are.

    Raises:
        FileError: the file is missing, truncated, or no valid safetensors file.
    """
    from safetensors import SafetensorError, deserialize

    data = read_bytes(path)
    try:
        tensors = deserialize(data)
        return {
            name: _array(info) for name, info in tensors if info["dtype"].startswith(("F", "BF"))
        }
    except (SafetensorError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise FileError(f"{path}: not a valid safetensors file: {error}") from error


def _array(info: dict[str, Any]) -> np.ndarray:
    raw, shape = info["data"], tuple(info["shape"])
    if info["dtype"] == "BF16":  # the upper half of a float32
        high = np.frombuffer(raw, dtype="<u2").astype(np.uint32)
        return (high << 16).view(np.float32).reshape(shape)
    if info["dtype"] not in FLOATS:
        raise ValueError(f"expected one of F64, F32, F16, BF16, found {info['dtype']}")
    array = np.frombuffer(raw, dtype=np.dtype(FLOATS[info["dtype"]]).newbyteorder("<"))
    wide = np.float64 if info["dtype"] == "F64" else np.float32
    return array.astype(wide).reshape(shape)
