"""``pytorch_model.bin`` without torch and without trust: what ``torch.save`` wrote, as arrays.

Since torch 1.6 such a file is a zip archive: ``data.pkl`` holds names, shapes and strides, and
each storage is a part of its own. Before, it was five pickles in a row, the fourth with names,
shapes and strides, and the storages behind them.
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
    STORAGES,
    Call,
    Global,
    Persistent,
    PickleMachine,
)
from minizha.checkpoint.stored import (
    StoredTensor,
    check_shape,
    foreign_kind,
    map_file,
    raw_dtype,
    shown,
    widened,
)
from minizha.checkpoint.torch_zip import ZipParts
from minizha.errors import FileError

_ZIP = b"PK\3\4"
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY = b"\x80\2\x8a\n" + _LEGACY_MAGIC.to_bytes(10, "little") + b"."
_LEGACY_VERSION = 1001
_MOST_PICKLE = 64 * 1024**2
_WRAPPERS = ("state_dict", "model")


class Storage(NamedTuple):
    """A run of numbers that tensors are views of; ``numbers`` lie in the mapped file."""

    dtype: str
    count: int
    numbers: np.ndarray


def stored_torch(path: Path) -> dict[str, StoredTensor]:
    """The tensors in a file that ``torch.save(state_dict, path)`` wrote, of any version of torch.

    The state dict may lie under "state_dict" or "model" of an outer dict. What is no tensor is
    left out. Views and shared storages are honoured.

    Raises:
        FileError: the file is missing, damaged, none of torch's, would run code when opened by
            Python's own means, or holds tensors that are no plain arrays (sparse, quantised,
            complex).
    """
    data = map_file(path)
    head = data[: len(_LEGACY)].tobytes()
    if head.startswith(_ZIP):
        value, storages = _read_zip(path, data)
    elif head == _LEGACY:
        value, storages = _read_legacy(path, data)
    else:
        raise FileError(f"{path}: not a file that torch.save wrote{foreign_kind(data)}")
    named = _state_dict(path, value)
    # tied weights are one tensor under two names
    tensors = {id(call): (name, call) for name, call in named.items()}
    stored = {key: _tensor(path, name, call, storages) for key, (name, call) in tensors.items()}
    return {name: stored[id(call)] for name, call in named.items()}


def _read_zip(path: Path, data: np.ndarray) -> tuple[Any, dict[str, Storage]]:
    parts = ZipParts(path, data)
    pickled = parts.part("data.pkl")
    if len(pickled) > _MOST_PICKLE:
        raise FileError(f"{path}: a data.pkl of {len(pickled):,} bytes, {_MOST_PICKLE:,} at most")
    orders = {b"little": "<", b"big": ">"}
    order = parts.part("byteorder")[:10].tobytes() if "byteorder" in parts else b"little"
    if order not in orders:
        raise FileError(f"{path}: byteorder: expected little or big, found {shown(order)}")
    machine = PickleMachine(path, memoryview(pickled), _budget(data))
    value = machine.load()
    storages = {}
    for key, (dtype, count) in _declared(path, machine.persistent).items():
        numbers, kind = parts.part(f"data/{key}"), raw_dtype(dtype, orders[order])
        if len(numbers) != count * kind.itemsize:
            raise FileError(
                f"{path}: data/{shown(key)}: expected {count} numbers of {dtype}, "
                f"found {len(numbers)} bytes"
            )
        storages[key] = Storage(dtype, count, numbers.view(kind))
    return value, storages


def _read_legacy(path: Path, data: np.ndarray) -> tuple[Any, dict[str, Storage]]:
    machine = PickleMachine(path, memoryview(data[: _MOST_PICKLE + 4096]), _budget(data))
    _magic, version, system = machine.load(), machine.load(), machine.load()
    if type(version) is not int or version != _LEGACY_VERSION:
        raise FileError(f"{path}: expected version {_LEGACY_VERSION} of torch's legacy format")
    if type(system) is not dict or system.get("little_endian") is not True:
        raise FileError(f"{path}: written on a machine that is not little-endian")
    value = machine.load()
    declared = _declared(path, machine.persistent)
    keys, place = machine.load(), machine.place
    in_order = type(keys) is list and all(type(key) is str for key in keys)
    if not in_order or sorted(keys) != sorted(declared):
        raise FileError(f"{path}: the storages that are listed are not those that are used")
    storages = {}
    for key in keys:
        dtype, count = declared[key]
        kind = raw_dtype(dtype)
        start, place = place + 8, place + 8 + count * kind.itemsize
        if place > len(data) or int.from_bytes(data[start - 8 : start], "little") != count:
            raise FileError(f"{path}: storage {shown(key)}: damaged, or the file is truncated")
        storages[key] = Storage(dtype, count, data[start:place].view(kind))
    if place != len(data):
        raise FileError(f"{path}: {len(data) - place} bytes too many at the end")
    return value, storages


def _budget(data: np.ndarray) -> int:
    # about 10 kB a tensor: enough for 800 that hold next to nothing, and for 5,000 at most, which
    # take a second
    return 8 * 1024**2 + min(len(data), 48 * 1024**2)


def _declared(path: Path, asked: Iterable[Persistent]) -> dict[str, tuple[str, int]]:
    """``{key: (dtype, count)}`` of the storages that the pickle asks for."""
    declared: dict[str, tuple[str, int]] = {}
    for (found,) in asked:
        # ("storage", type, key, device, count), in the legacy format with a view behind
        fits = type(found) is tuple and len(found) in (5, 6) and found[0] == "storage"
        if not fits or not _is_storage(*found[1:3], found[4]):
            raise FileError(f"{path}: a damaged pickle: expected a storage, found something else")
        if found[5:] not in ((), (None,)):
            raise FileError(f"{path}: storage {shown(found[2])}: a view of another storage")
        storage = (STORAGES[found[1].name], found[4])
        if declared.setdefault(found[2], storage) != storage:
            raise FileError(f"{path}: storage {shown(found[2])} is of two kinds or sizes")
    return declared


def _is_storage(kind: Any, key: Any, count: Any) -> bool:
    known = type(kind) is Global and kind.name in STORAGES
    return known and type(key) is str and type(count) is int and 0 <= count < 2**60


def _state_dict(path: Path, value: Any) -> dict[str, Call]:
    if type(value) is not dict:
        found = "a tensor" if type(value) is Call else f"a {type(value).__name__}"
        raise FileError(f"{path}: expected a dict of names and tensors, found {found}")
    for inner in (value, *(value.get(name) for name in _WRAPPERS)):
        if type(inner) is dict:
            calls = {name: call for name, call in inner.items() if type(call) is Call}
            if calls and all(type(name) is str for name in calls):
                return calls
    raise FileError(f"{path}: expected a dict of names and tensors, found no named tensor in it")


def _tensor(path: Path, name: str, call: Call, storages: dict[str, Storage]) -> StoredTensor:
    """The view of a storage that a ``_rebuild_tensor…`` call would make."""
    where = f"{path}: {shown(name)}"
    if call.function == PARAMETER and call.arguments and type(call.arguments[0]) is Call:
        call = call.arguments[0]
    if call.function not in (REBUILD, REBUILD_V2) or len(call.arguments) < 4:
        raise FileError(f"{where}: a damaged pickle: expected a tensor, found something else")
    asked, offset, shape, strides, *more = call.arguments
    if type(asked) is not Persistent:
        raise FileError(f"{where}: a tensor without a storage")
    if len(more) > 2 and more[2]:  # (requires_grad, hooks, metadata)
        raise FileError(f"{where}: a tensor that is to be negated or conjugated")
    if not _counts((offset,)) or not _counts(shape) or not _counts(strides):
        raise FileError(f"{where}: offset, shape and strides must be integers of at least 0")
    check_shape(where, shape)
    storage = storages[asked.id[2]]
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
    # a stride never taken may be any number
    steps = tuple(s if size and n > 1 else 0 for n, s in zip(shape, strides, strict=True))
    return StoredTensor(storage.dtype, shape, partial(_view, storage, offset, shape, steps))


def _counts(numbers: Any) -> bool:
    return type(numbers) is tuple and all(type(n) is int and n >= 0 for n in numbers)


def _view(storage: Storage, offset: int, shape: tuple, steps: tuple) -> np.ndarray:
    kind = storage.numbers.dtype
    strides = tuple(step * kind.itemsize for step in steps)
    if not math.prod(shape):
        return widened(np.empty(shape, kind), storage.dtype)
    view = np.ndarray(shape, kind, storage.numbers, offset * kind.itemsize, strides)
    return widened(view, storage.dtype)
