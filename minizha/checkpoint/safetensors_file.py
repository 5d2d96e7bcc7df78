"""Arrays in a safetensors file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from minizha.backend import refuse_masked
from minizha.checkpoint.stored import (
    StoredFile,
    StoredTensor,
    check_shape,
    decode,
    one_line,
    other_format,
    raw_dtype,
    shown,
)
from minizha.errors import FileError
from minizha.files import check_file, file_identity, read_current

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
# the bits of one number, for dtypes that can't be read
_UNSUPPORTED_BITS = {
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "C64": 64,
}

CHECKPOINT = ("format", "pt")
"""The metadata without which Transformers 4.37 refuses to load a checkpoint."""


def to_safetensors(
    arrays: Mapping[str, np.ndarray], metadata: tuple[str, str] = CHECKPOINT
) -> bytes:
    """The content of a safetensors file with ``arrays``.

    Convention: the metadata is one key and its value; several keys would be in random order.

    Raises:
        ArgumentError: a masked array; names it.
    """
    from safetensors.numpy import save

    for name, array in arrays.items():
        refuse_masked(array, name)
    arrays = {name: c_contiguous(array) for name, array in arrays.items()}
    return save(arrays, metadata=dict([metadata]))


def c_contiguous(array: np.ndarray) -> np.ndarray:
    """The array, C-contiguous in memory. safetensors writes the bytes in their order in memory, and
    so would write any other array wrong, without an error."""
    return np.asarray(array, order="C")  # ascontiguousarray would give a scalar an axis


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The file's metadata.

    Raises:
        FileError: the file is missing, or not a valid safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    check_file(path)
    try:
        with read_current(path, lambda current: safe_open(current, framework="numpy")) as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise FileError(f"{path}: not a valid safetensors file: {one_line(error)}") from error


def stored_safetensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors in the file, in the order of their data.

    Raises:
        FileError: the file is missing, truncated, or not a valid safetensors file. A dtype that
            NumPy lacks is refused only when the tensor is read.
    """
    before = file_identity(path, follow_links=True)
    file = StoredFile(path)
    header_length = int.from_bytes(file.peek(0, 8), "little")
    stored, start = {}, 8 + header_length
    for name, file_dtype, shape in _tensors(file, header_length):
        where = f"{path}: {shown(name)}"
        check_shape(where, shape)
        dtype = _DTYPES.get(file_dtype)
        if dtype is None and file_dtype not in _UNSUPPORTED_BITS:
            raise FileError(f"{where}: unknown dtype {file_dtype}")
        bits = raw_dtype(dtype).itemsize * 8 if dtype else _UNSUPPORTED_BITS[file_dtype]
        end = start + math.prod(shape) * bits // 8
        read = partial(_read, file, start, dtype, shape)
        stored[name] = StoredTensor(
            dtype or file_dtype, shape, read if dtype else partial(_refuse, where, file_dtype)
        )
        start = end
    # the library opened the file by itself: make sure that it is the file opened here
    if start != file.size or file_identity(path, follow_links=True) != before:
        raise FileError(f"{path}: not a valid safetensors file: it changed while it was read")
    return stored


def _tensors(file: StoredFile, header_length: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """Name, dtype and shape of each tensor, in the order of the data.

    The library makes sure that the data of the tensors follow each other without gaps and fill the
    file, so their order tells where each begins.
    """
    from safetensors import SafetensorError, safe_open

    try:
        # parsed by the library, a header takes many times its length
        if header_length > 4 * 1024**2 + file.size // 16:
            raise ValueError(f"a header of {header_length:,} bytes in a file of {file.size:,}")
        with read_current(
            file.path, lambda current: safe_open(current, framework="numpy")
        ) as opened:
            names = opened.offset_keys()
            if len(names) > 8000 + file.size // 512:
                raise ValueError(f"{len(names):,} tensors in a file of {file.size:,} bytes")
            slices = [(name, opened.get_slice(name)) for name in names]
            return [(name, s.get_dtype(), tuple(s.get_shape())) for name, s in slices]
    except (SafetensorError, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise FileError(
            f"{file.path}: not a valid safetensors file{other_format(file)}: {one_line(error)}"
        ) from error


def _read(file: StoredFile, start: int, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return decode(file.array(raw_dtype(dtype), math.prod(shape), start).reshape(shape), dtype)


def _refuse(where: str, dtype: str) -> np.ndarray:
    raise FileError(f"{where}: expected dtype F64, F32, F16 or BF16, found {dtype}")
