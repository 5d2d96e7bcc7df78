"""Files as ``torch.save`` writes them, valid or not, made without torch.

``pickled`` turns nested values into the bytes of a pickle of protocol 2; ``Raw`` stands for a value
whose opcodes are given.
"""

import io
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

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
    """A global name."""

    module: str
    name: str


class Reduce(NamedTuple):
    """A call, which Python would make."""

    function: Any
    arguments: tuple


class Persistent(NamedTuple):
    """A persistent id, which torch writes for a storage."""

    id: Any


class Raw(NamedTuple):
    """Opcodes that leave one value."""

    code: bytes


class Ordered(NamedTuple):
    """An OrderedDict, with the attributes that a state dict has."""

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
        case Persistent(id):
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
    """A complete pickle of protocol 2."""
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


def storage(key: str, count: int, storage_type: str = "FloatStorage", *view: Any) -> Persistent:
    """What torch writes for a storage."""
    return Persistent(("storage", Name("torch", storage_type), key, "cpu", count, *view))


def tensor(storage: Any, shape: Any, strides: Any, offset: Any = 0, **options: Any) -> Reduce:
    """A view of a storage."""
    hooks = Ordered({})
    return Reduce(REBUILD, (storage, offset, shape, strides, False, hooks, *options.values()))


def entry(key: str, array: np.ndarray, *view: Any) -> Reduce:
    """The tensor of an array that is the whole storage ``key``."""
    strides = tuple(n // array.itemsize for n in np.ascontiguousarray(array).strides)
    in_storage = storage(key, array.size, STORAGE_OF[array.dtype.name], *view)
    return tensor(in_storage, array.shape, strides)


def zip_file(
    pickle: bytes,
    storages: Mapping[str, bytes],
    root: str = "archive",
    others: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_STORED,
) -> bytes:
    """The format since torch 1.6. ``others`` are other members, by default those that torch adds."""
    members = {"data.pkl": pickle}
    if others is None:
        members["byteorder"] = b"little"
    members |= {f"data/{key}": data for key, data in storages.items()}
    members |= {"version": b"3\n"} if others is None else others
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
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
    """The format before torch 1.6; ``storages`` has count and bytes of each."""
    head = MAGIC + pickled(version) + pickled(system) + pickle
    keys = list(storages) if keys is None else keys
    written = [struct.pack("<q", count) + data for count, data in storages.values()]
    return head + pickled(keys) + b"".join(written)


def zip_of(arrays: Mapping[str, np.ndarray], **options: Any) -> bytes:
    """A file of the zip format with ``arrays``."""
    keys = {name: str(i) for i, name in enumerate(arrays)}
    value = Ordered({name: entry(keys[name], array) for name, array in arrays.items()})
    return zip_file(
        pickled(value), {keys[name]: a.tobytes() for name, a in arrays.items()}, **options
    )


def legacy_of(arrays: Mapping[str, np.ndarray], **options: Any) -> bytes:
    """A file of the legacy format with ``arrays``."""
    keys = {name: str(94000 + i) for i, name in enumerate(arrays)}
    value = Ordered({name: entry(keys[name], array, None) for name, array in arrays.items()})
    storages = {keys[name]: (a.size, a.tobytes()) for name, a in arrays.items()}
    return legacy_file(pickled(value), storages, **options)


def equal(found: Any, expected: np.ndarray) -> bool:
    """Same dtype, shape and bytes, and not a subclass of NumPy's arrays."""
    return (
        type(found) is np.ndarray
        and found.dtype == expected.dtype
        and found.shape == expected.shape
        and found.tobytes() == expected.tobytes()
    )
