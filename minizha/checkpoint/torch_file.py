"""``pytorch_model.bin`` without torch, as an untrusted file: the arrays that ``torch.save`` wrote.

Since torch 1.6 such a file is a zip archive: ``data.pkl`` holds names, shapes and strides, and
each storage is a member of the archive. The legacy format before is five pickles, the fourth with
names, shapes and strides, followed by the storages.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minizha.checkpoint.pickle_machine import (
    PARAMETER,
    REBUILD,
    REBUILD_V2,
    STORAGE_DTYPES,
    Call,
    Global,
    Persistent,
    PickleMachine,
)
from minizha.checkpoint.stored import (
    StoredFile,
    StoredTensor,
    check_shape,
    decode,
    other_format,
    raw_dtype,
    shown,
)
from minizha.checkpoint.torch_zip import TorchArchive
from minizha.checkpoint.wrappers import find_model
from minizha.errors import FileError, listed

_ZIP = b"PK\3\4"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY = b"\x80\2\x8a\n" + _LEGACY_MAGIC.to_bytes(10, "little") + b"."
_LEGACY_VERSION = 1001
_MAX_PICKLE_BYTES = 64 * 1024**2


class Storage(NamedTuple):
    """The numbers that tensors are views of: ``count`` of them in ``file``, from the byte ``start``.
    ``raw`` is the dtype to read them with."""

    dtype: str
    raw: np.dtype
    count: int
    file: StoredFile
    start: int


def stored_torch(path: Path) -> dict[str, StoredTensor]:
    """The tensors in a file that ``torch.save(state_dict, path)`` wrote, of any version of torch.

    The state dict may be inside of others, as trainers write it
    (:func:`~minizha.checkpoint.wrappers.find_model`). Other values than tensors are left out. Tensors
    may be views and may share a storage.

    Raises:
        FileError: the file is missing or damaged, torch did not write it, it would run code if
            Python's pickle read it, or its tensors are not plain arrays (sparse, quantised,
            complex).
    """
    file = StoredFile(path)
    head = file.peek(0, len(_LEGACY))
    if head.startswith(_ZIP):
        value, storages = _read_zip(file)
    elif head == _LEGACY:
        value, storages = _read_legacy(file)
    else:
        raise FileError(f"{path}: not a file that torch.save wrote{other_format(file)}")
    calls = _state_dict(path, value)
    # tied weights are one tensor under two names
    distinct = {id(call): (name, call) for name, call in calls.items()}
    stored = {key: _tensor(path, name, call, storages) for key, (name, call) in distinct.items()}
    return {name: stored[id(call)] for name, call in calls.items()}


def _read_zip(file: StoredFile) -> tuple[Any, dict[str, Storage]]:
    archive, path = TorchArchive(file), file.path
    start, size = archive.member("data.pkl")
    if size > _MAX_PICKLE_BYTES:
        raise FileError(
            f"{path}: data.pkl: expected at most {_MAX_PICKLE_BYTES:,} bytes, found {size:,}"
        )
    machine = PickleMachine(path, file.peek(start, size), _memory_budget(file))
    orders, order = {b"little": "<", b"big": ">"}, b"little"
    if "byteorder" in archive:
        start, size = archive.member("byteorder")
        order = file.peek(start, min(size, 10))
    if order not in orders:
        raise FileError(f"{path}: byteorder: expected little or big, found {shown(order)}")
    value = machine.load()
    storages = {}
    for key, (dtype, count) in _declared_storages(path, machine.persistent).items():
        (start, size), raw = archive.member(f"data/{key}"), raw_dtype(dtype, orders[order])
        if size != count * raw.itemsize:
            raise FileError(
                f"{path}: data/{shown(key)}: expected {count} numbers of {dtype}, found {size} bytes"
            )
        storages[key] = Storage(dtype, raw, count, file, start)
    return value, storages


def _read_legacy(file: StoredFile) -> tuple[Any, dict[str, Storage]]:
    path = file.path
    machine = PickleMachine(path, file.peek(0, _MAX_PICKLE_BYTES + 4096), _memory_budget(file))
    _magic, version, system = machine.load(), machine.load(), machine.load()
    if type(version) is not int or version != _LEGACY_VERSION:
        raise FileError(f"{path}: expected version {_LEGACY_VERSION} of torch's legacy format")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise FileError(f"{path}: written on a machine that is not little-endian")
    value = machine.load()
    declared = _declared_storages(path, machine.persistent)
    keys, end = machine.load(), machine.position
    are_keys = type(keys) is list and all(type(key) is str for key in keys)
    if not are_keys or sorted(keys) != sorted(declared):
        raise FileError(f"{path}: the listed storages are not those that the tensors use")
    storages = {}
    for key in keys:
        dtype, count = declared[key]
        raw = raw_dtype(dtype)
        start, end = end + 8, end + 8 + count * raw.itemsize
        if end > file.size or int.from_bytes(file.peek(start - 8, 8), "little") != count:
            raise FileError(f"{path}: storage {shown(key)}: damaged, or the file is truncated")
        storages[key] = Storage(dtype, raw, count, file, start)
    if end != file.size:
        raise FileError(f"{path}: {file.size - end} bytes too many at the end")
    return value, storages


def _memory_budget(file: StoredFile) -> int:
    # about 10 kB a tensor: enough for 800 very small ones, and for 5,000 at most, which take a
    # second
    return 8 * 1024**2 + min(file.size, 48 * 1024**2)


def _declared_storages(path: Path, ids: Iterable[Persistent]) -> dict[str, tuple[str, int]]:
    """``{key: (dtype, count)}`` of the storages in the pickle's persistent ids."""
    declared: dict[str, tuple[str, int]] = {}
    for (value,) in ids:
        # ("storage", type, key, device, count); in the legacy format a view follows
        fits = type(value) is tuple and len(value) in (5, 6) and value[0] == "storage"
        if not fits or not _is_storage(*value[1:3], value[4]):
            raise FileError(f"{path}: a damaged pickle: expected a storage, found something else")
        if value[5:] not in ((), (None,)):
            raise FileError(f"{path}: storage {shown(value[2])}: a view of another storage")
        storage = (STORAGE_DTYPES[value[1].name], value[4])
        if declared.setdefault(value[2], storage) != storage:
            raise FileError(f"{path}: storage {shown(value[2])} has two dtypes or sizes")
    return declared


def _is_storage(storage_type: Any, key: Any, count: Any) -> bool:
    known = type(storage_type) is Global and storage_type.name in STORAGE_DTYPES
    return known and type(key) is str and type(count) is int and 0 <= count < 2**60


def _state_dict(path: Path, value: Any) -> dict[str, Call]:
    if type(value) is not dict:
        found = "a tensor" if type(value) is Call else f"a {type(value).__name__}"
        raise FileError(f"{path}: expected a dict of names and tensors, found {found}")
    found = find_model(value, Call)
    if not found:
        raise FileError(
            f"{path}: expected a dict of names and tensors, found no named tensor in it"
        )
    if len(found) > 1:
        several = listed([shown(".".join(f.keys)) for f in found], " and ", most=3)
        raise FileError(
            f"{path}: expected one model, found {len(found)}, under the keys {several}: save one of "
            "them alone"
        )
    return found[0].tensors


def _tensor(path: Path, name: str, call: Call, storages: dict[str, Storage]) -> StoredTensor:
    """The view of a storage that torch would make of a ``_rebuild_tensor…`` call."""
    where = f"{path}: {shown(name)}"
    if call.function == PARAMETER and call.arguments and type(call.arguments[0]) is Call:
        call = call.arguments[0]
    if call.function not in (REBUILD, REBUILD_V2) or len(call.arguments) < 4:
        raise FileError(f"{where}: a damaged pickle: expected a tensor, found something else")
    storage_id, offset, shape, strides, *options = call.arguments
    if type(storage_id) is not Persistent:
        raise FileError(f"{where}: a tensor without a storage")
    if len(options) > 2 and options[2]:  # (requires_grad, hooks, metadata)
        raise FileError(f"{where}: a lazily negated or conjugated tensor, which can't be read")
    if not _are_sizes((offset,)) or not _are_sizes(shape) or not _are_sizes(strides):
        raise FileError(f"{where}: offset, shape and strides must be integers of at least 0")
    check_shape(where, shape)
    storage = storages[storage_id.id[2]]
    if len(strides) != len(shape):
        raise FileError(f"{where}: {len(shape)} axes, but {len(strides)} strides")
    size = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    fault = "is larger than" if size > storage.count else ""
    if offset > storage.count or (size and last >= storage.count):
        fault = "reaches beyond"
    if fault:
        raise FileError(
            f"{where}: a view of shape {reprlib.repr(shape)} that {fault} its storage of "
            f"{storage.count} numbers"
        )
    # the stride of an axis of length 1 is never used and may be any number
    strides = tuple(s if size and n > 1 else 0 for n, s in zip(shape, strides, strict=True))
    return StoredTensor(storage.dtype, shape, partial(_view, storage, offset, shape, strides))


def _are_sizes(numbers: Any) -> bool:
    return type(numbers) is tuple and all(type(n) is int and n >= 0 for n in numbers)


def _view(storage: Storage, offset: int, shape: tuple, strides: tuple) -> np.ndarray:
    if not math.prod(shape):
        return decode(np.empty(shape, storage.raw), storage.dtype)
    size = storage.raw.itemsize
    last = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    numbers = storage.file.array(storage.raw, last + 1, storage.start + offset * size)
    byte_strides = tuple(stride * size for stride in strides)
    return decode(np.ndarray(shape, storage.raw, numbers, 0, byte_strides), storage.dtype)
