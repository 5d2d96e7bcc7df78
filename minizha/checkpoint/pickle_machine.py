"""The values in a pickle, without running it.

A pickle is a program for a small stack machine. Python's own machine imports whatever the program
names and calls it, so that opening a file runs its author's code. This one knows the opcodes that
tensors need and no more: what a pickle names becomes a :class:`Global`, what it would call a
:class:`Call`, and nothing is ever imported or called.

Source: the opcodes are documented in Python's ``pickletools``; protocol 2 is what torch writes.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from minizha.checkpoint.stored import shown
from minizha.errors import FileError

ORDERED_DICT = "collections.OrderedDict"
REBUILD = "torch._utils._rebuild_tensor"  # before torch 0.4
REBUILD_V2 = "torch._utils._rebuild_tensor_v2"
PARAMETER = "torch._utils._rebuild_parameter"
STORAGES = {
    "torch.DoubleStorage": "float64", "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16", "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64", "torch.IntStorage": "int32", "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8", "torch.ByteStorage": "uint8", "torch.BoolStorage": "bool",
}  # fmt: skip
# no danger, but nothing that an array of NumPy could hold
_NO_ARRAYS = {
    "torch._utils._rebuild_qtensor": "a quantised tensor",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without data",
    "torch._utils._rebuild_tensor_v3": "numbers of a newer kind (float8, uint16, …)",
    **dict.fromkeys(("torch.ComplexFloatStorage", "torch.ComplexDoubleStorage"), "complex numbers"),
    **{f"torch.{kind}Storage": "a quantised tensor"
       for kind in ("QInt8", "QInt32", "QUInt8", "QUInt4x2", "QUInt2x4")},
}  # fmt: skip

# what one step may leave in memory, in bytes and rounded up
_STEP, _MEMO, _CALL = 100, 250, 800


class Global(NamedTuple):
    """A name that the pickle would import."""

    name: str


class Call(NamedTuple):
    """What the pickle would call, and with what."""

    function: str
    arguments: tuple


class Persistent(NamedTuple):
    """What the pickle asks of its reader; torch puts a storage's key, dtype and size here."""

    id: Any


_GLOBALS = {
    name: Global(name) for name in (ORDERED_DICT, REBUILD, REBUILD_V2, PARAMETER, *STORAGES)
}


class PickleMachine:
    """Reads the pickles that lie one after the other in ``data``.

    ``budget`` bounds the memory that all of them together may take, in bytes; so it bounds the
    number of steps and the time too.

    Raises:
        FileError: from :meth:`load`, for anything that reading tensors does not need.
    """

    def __init__(self, path: Path | str, data: memoryview, budget: int) -> None:
        self.path, self.data, self.budget = path, data, budget
        self.place = 0  # of the next byte
        self.persistent: list[Persistent] = []

    def load(self) -> Any:
        """The value of the next pickle: dicts, lists, tuples, strings, numbers and the three
        tags of this module; ``place`` is then behind it."""
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        try:
            while (code := self.data[self.place]) != _STOP:
                self.place += 1
                self.spend(_STEP)
                step = _STEPS.get(code)
                if step is None:
                    self.refuse_opcode(code)
                step(self)
            self.place += 1
            return self.stack.pop()
        except (IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
            raise self.fault("a damaged or truncated pickle") from error

    def fault(self, reason: str) -> FileError:
        """The error to raise: path, place, reason."""
        return FileError(f"{self.path}: byte {self.place} of the pickle: {reason}")

    def spend(self, cost: int) -> None:
        """Take ``cost`` bytes off the budget."""
        self.budget -= cost
        if self.budget < 0:
            raise self.fault("more in it than a file of this size has use for")

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes."""
        end = self.place + count
        if end > len(self.data):
            raise self.fault("a damaged or truncated pickle")
        taken, self.place = self.data[self.place : end], end
        return taken

    def text(self, count: int) -> str:
        """The next ``count`` bytes as text."""
        taken = self.take(count)
        self.spend(4 * count)  # one rare character makes all of them four bytes wide
        return str(taken, "utf-8")

    def above_mark(self) -> list[Any]:
        """What was pushed since the last mark, taken off the stack."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def refuse_opcode(self, code: int) -> None:
        """Name what can't be done."""
        known = pickletools.code2op.get(chr(code))
        what = f"the opcode {known.name}" if known else f"the byte 0x{code:02x}, which is no opcode"
        raise self.fault(f"{what}, which no file of tensors needs" if known else what)


def _push(value: Any) -> Callable[[PickleMachine], None]:
    return lambda m: m.stack.append(value)


def _number(layout: str) -> Callable[[PickleMachine], None]:
    number = struct.Struct(layout)
    return lambda m: m.stack.append(number.unpack(m.take(number.size))[0])


def _long(m: PickleMachine) -> None:
    count = m.take(1)[0]
    if count > 16:
        raise m.fault(f"an integer of {count} bytes")
    m.stack.append(int.from_bytes(m.take(count), "little", signed=True))


def _text(layout: str) -> Callable[[PickleMachine], None]:
    length = struct.Struct(layout)
    return lambda m: m.stack.append(m.text(length.unpack(m.take(length.size))[0]))


def _tuple(count: int) -> Callable[[PickleMachine], None]:
    def step(m: PickleMachine) -> None:
        m.stack[-count:] = [tuple([m.stack[-i] for i in range(count, 0, -1)])]

    return step


def _put(layout: str) -> Callable[[PickleMachine], None]:
    index = struct.Struct(layout)

    def step(m: PickleMachine) -> None:
        m.spend(_MEMO)
        m.memo[index.unpack(m.take(index.size))[0]] = m.stack[-1]

    return step


def _get(layout: str) -> Callable[[PickleMachine], None]:
    index = struct.Struct(layout)
    return lambda m: m.stack.append(m.memo[index.unpack(m.take(index.size))[0]])


def _append(m: PickleMachine, items: list[Any]) -> None:
    if type(m.stack[-1]) is not list:
        raise m.fault("items for something else than a list")
    m.stack[-1].extend(items)


def _set(m: PickleMachine, pairs: list[Any]) -> None:
    target = m.stack[-1]
    if type(target) is not dict or len(pairs) % 2:
        raise m.fault("entries for something else than a dict, or a key without a value")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        # no tuples: hashing a deep one ends the process; no long integers: their hashes collide
        # at will
        if type(key) is not str and not (type(key) is int and abs(key) < 2**32):
            raise m.fault(f"a key of the kind {type(key).__name__}")
        target[key] = value


def _global(m: PickleMachine) -> None:
    lines = bytes(m.data[m.place : m.place + 400]).split(b"\n", 2)
    if len(lines) < 3:
        raise m.fault("a global without an end")
    m.place += len(lines[0]) + len(lines[1]) + 2
    name = f"{lines[0].decode()}.{lines[1].decode()}"
    if name in _NO_ARRAYS:
        raise FileError(f"{m.path}: holds {_NO_ARRAYS[name]} ({name}), which can't be read")
    if name not in _GLOBALS:
        raise FileError(
            f"{m.path}: names {shown(name)}: a pickle that would run code; only tensors are read"
        )
    m.stack.append(_GLOBALS[name])


def _persistent(m: PickleMachine) -> None:
    m.spend(_CALL)
    m.persistent.append(Persistent(m.stack.pop()))
    m.stack.append(m.persistent[-1])


def _reduce(m: PickleMachine) -> None:
    m.spend(_CALL)
    arguments, function = m.stack.pop(), m.stack.pop()
    if type(arguments) is not tuple or type(function) is not Global:
        raise m.fault("a call of something that is no function")
    if function.name != ORDERED_DICT:
        m.stack.append(Call(function.name, arguments))
        return
    pairs = arguments[0] if arguments else []  # Python 2 lists the entries here
    if type(pairs) is not list or len(arguments) > 1:
        raise m.fault("an OrderedDict of something else than pairs")
    m.spend(len(pairs) * _MEMO)
    m.stack.append({})
    for pair in pairs:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise m.fault("an OrderedDict of something else than pairs")
        _set(m, list(pair))


def _build(m: PickleMachine) -> None:
    m.stack.pop()  # attributes: torch notes the versions of modules there, which says nothing here
    if type(m.stack[-1]) is not dict:
        raise m.fault("attributes for something else than a dict")


def _protocol(m: PickleMachine) -> None:
    version = m.take(1)[0]
    if version != 2:
        raise m.fault(f"pickle protocol {version}, expected 2, which torch.save writes by itself")


_STOP = ord(".")
_STEPS: dict[int, Callable[[PickleMachine], None]] = {
    ord(code): step
    for code, step in {
        "\x80": _protocol,
        "N": _push(None), "\x88": _push(True), "\x89": _push(False), ")": _push(()),
        "K": _number("<B"), "M": _number("<H"), "J": _number("<i"), "G": _number(">d"),
        "\x8a": _long,
        "X": _text("<I"), "U": _text("<B"), "T": _text("<I"),
        "(": lambda m: m.marks.append(len(m.stack)),
        "t": lambda m: m.stack.append(tuple(m.above_mark())),
        "\x85": _tuple(1), "\x86": _tuple(2), "\x87": _tuple(3),
        "]": lambda m: m.stack.append([]),
        "a": lambda m: _append(m, [m.stack.pop()]),
        "e": lambda m: _append(m, m.above_mark()),
        "}": lambda m: m.stack.append({}),
        "s": lambda m: _set(m, [m.stack.pop(-2), m.stack.pop()]),
        "u": lambda m: _set(m, m.above_mark()),
        "q": _put("<B"), "r": _put("<I"), "h": _get("<B"), "j": _get("<I"),
        "c": _global, "Q": _persistent, "R": _reduce, "b": _build,
    }.items()
}  # fmt: skip
