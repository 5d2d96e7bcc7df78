"""Files as ``torch.save`` writes them, good ones and bad ones, made without torch.

``pickled`` is an assembler: nested values become the bytes of a pickle of protocol 2, and
``Raw`` puts any bytes in the place of a value.
"""

import io
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minizha.errors import FileError

STORAGE_OF = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
}


class Name(NamedTuple):
    """A global."""

    module: str
    name: str


class Reduce(NamedTuple):
    """A call, when Python reads it."""

    function: Any
    arguments: tuple


class Asked(NamedTuple):
    """A persistent id: what torch puts in a storage's place."""

    id: Any


class Raw(NamedTuple):
    """Opcodes that leave one value."""

    code: bytes


class Ordered(NamedTuple):
    """An OrderedDict, with the attributes that a module's state dict carries."""

    entries: Mapping
    attributes: Any = None


REBUILD = Name("torch._utils", "_rebuild_tensor_v2")
PARAMETER = Name("torch._utils", "_rebuild_parameter")
ORDERED_DICT = Name("collections", "OrderedDict")


def code(value: Any) -> bytes:
    """The opcodes that put ``value`` on the stack."""
    match value:
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            return _integer(value)
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            text = value.encode("utf-8", "surrogatepass")
            return b"X" + struct.pack("<I", len(text)) + text
        case Name(module, name):
            return f"c{module}\n{name}\n".encode()
        case Reduce(function, arguments):
            return code(function) + code(arguments) + b"R"
        case Asked(id):
            return code(id) + b"Q"
        case Raw(opcodes):
            return opcodes
        case Ordered(entries, attributes):
            build = b"" if attributes is None else code(attributes) + b"b"
            return code(Reduce(ORDERED_DICT, ())) + _entries(entries) + build
        case dict():
            return b"}" + _entries(value)
        case list():
            return b"](" + b"".join(map(code, value)) + b"e"
        case tuple():
            return b"(" + b"".join(map(code, value)) + b"t"
    raise TypeError(type(value))


def pickled(value: Any) -> bytes:
    """A whole pickle of protocol 2."""
    return b"\x80\2" + code(value) + b"."


def _integer(value: int) -> bytes:
    if 0 <= value < 256:
        return b"K" + bytes([value])
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    size = value.bit_length() // 8 + 1
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def _entries(entries: Mapping) -> bytes:
    return b"(" + b"".join(code(k) + code(v) for k, v in entries.items()) + b"u"


def storage(key: str, count: int, kind: str = "FloatStorage", *view: Any) -> Asked:
    """What torch writes in the place of a storage."""
    return Asked(("storage", Name("torch", kind), key, "cpu", count, *view))


def tensor(asked: Any, shape: Any, strides: Any, offset: Any = 0, **more: Any) -> Reduce:
    """A view of a storage."""
    hooks = Ordered({})
    return Reduce(REBUILD, (asked, offset, shape, strides, False, hooks, *more.values()))


def entry(key: str, array: np.ndarray, *view: Any) -> Reduce:
    """The tensor of a whole array, which is the storage ``key``."""
    kind = STORAGE_OF[array.dtype.name]
    strides = tuple(n // array.itemsize for n in np.ascontiguousarray(array).strides)
    return tensor(storage(key, array.size, kind, *view), array.shape, strides)


def zip_file(
    pickle: bytes,
    storages: Mapping[str, bytes],
    root: str = "archive",
    more: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """The format since torch 1.6. ``more`` are further parts, by default what torch adds."""
    parts = {"data.pkl": pickle, "byteorder": b"little"} if more is None else {"data.pkl": pickle}
    parts |= {f"data/{key}": data for key, data in storages.items()}
    parts |= {"version": b"3\n"} if more is None else more
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in parts.items():
            archive.writestr(zipfile.ZipInfo(f"{root}/{name}"), data, compression)
    return file.getvalue()


MAGIC = b"\x80\2\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4}}


def legacy_file(
    pickle: bytes,
    storages: Mapping[str, tuple[int, bytes]],
    version: Any = 1001,
    system: Any = SYSTEM,
    keys: Any = None,
) -> bytes:
    """The format before torch 1.6; ``storages`` are count and bytes of each."""
    head = MAGIC + pickled(version) + pickled(system) + pickle
    keys = list(storages) if keys is None else keys
    runs = [struct.pack("<q", count) + data for count, data in storages.values()]
    return head + pickled(keys) + b"".join(runs)


def zip_of(arrays: Mapping[str, np.ndarray], **options: Any) -> bytes:
    """A file of the zip format that holds ``arrays``."""
    keys = {name: str(i) for i, name in enumerate(arrays)}
    value = Ordered({name: entry(keys[name], array) for name, array in arrays.items()})
    return zip_file(
        pickled(value), {keys[name]: a.tobytes() for name, a in arrays.items()}, **options
    )


def legacy_of(arrays: Mapping[str, np.ndarray], **options: Any) -> bytes:
    """A file of the legacy format that holds ``arrays``."""
    keys = {name: str(94000 + i) for i, name in enumerate(arrays)}
    value = Ordered({name: entry(keys[name], array, None) for name, array in arrays.items()})
    storages = {keys[name]: (a.size, a.tobytes()) for name, a in arrays.items()}
    return legacy_file(pickled(value), storages, **options)


def equal(found: Any, expected: np.ndarray) -> bool:
    """Same kind, shape and bytes; and no array of another class."""
    return (
        type(found) is np.ndarray
        and found.dtype == expected.dtype
        and found.shape == expected.shape
        and found.tobytes() == expected.tobytes()
    )


# what reading a file may cost; the bytes come beside twice the file's size
SECONDS, ROOM = 1.0, 10_000_000


def measured(read: Callable, path: Path) -> tuple[float, int, FileError | None]:
    """Seconds of processor time without and peak bytes with a watch over the memory, and the error;
    every tensor is read."""
    error = None

    def attempt():
        nonlocal error
        try:
            for tensor in read(path).values():
                tensor.read()
        except FileError as caught:
            error = caught

    start = time.process_time()  # the machine may be busy
    attempt()
    seconds = time.process_time() - start
    tracemalloc.start()
    try:
        attempt()
        return seconds, tracemalloc.get_traced_memory()[1], error
    finally:
        tracemalloc.stop()
