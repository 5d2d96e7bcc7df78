"""Safetensors files, valid and damaged, made without the library."""

import json
import struct

import numpy as np


def safetensors_file(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """The header's length as 8 bytes, the header, the data; ``length`` states another length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<q", len(text) if length is None else length) + text + data


def safetensors_of(
    arrays: dict[str, np.ndarray], dtypes: dict[str, str] | None = None, **metadata: str
) -> bytes:
    """A file with ``arrays``; ``dtypes`` states dtypes other than the arrays' own."""
    letters = {"f": "F", "i": "I", "u": "U", "b": "BOOL"}
    header: dict = {"__metadata__": metadata} if metadata else {}
    end = 0
    for name, array in arrays.items():
        bits = "" if array.dtype == bool else f"{8 * array.itemsize}"
        dtype = (dtypes or {}).get(name, letters[array.dtype.kind] + bits)
        offsets = [end, end := end + array.nbytes]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": offsets}
    return safetensors_file(header, b"".join(array.tobytes() for array in arrays.values()))


def bfloat16(array: np.ndarray) -> np.ndarray:
    """The upper halves of float32 numbers, as uint16."""
    return (array.view(np.uint32) >> 16).astype(np.uint16)
