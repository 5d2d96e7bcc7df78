"""The values in a pickle, read without running it.

A pickle is a program for a small stack machine. Python's own machine imports and calls whatever the
program names, so opening a file runs its author's code. This machine knows only the opcodes that
tensors need. A name in the pickle becomes a :class:`Global`, a call becomes a :class:`Call`, and
nothing is ever imported or called.

Source: the opcodes are documented in Python's ``pickletools``; torch writes protocol 2.
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
STORAGE_DTYPES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
}
# harmless, but not arrays that NumPy could hold
_UNSUPPORTED = {
    "torch._utils._rebuild_qtensor": "a quantised tensor",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor without data",
    "torch._utils._rebuild_tensor_v3": "a tensor of a newer dtype (float8, uint16, …)",
    **dict.fromkeys(("torch.ComplexFloatStorage", "torch.ComplexDoubleStorage"), "complex numbers"),
    **{
        f"torch.{dtype}Storage": "a quantised tensor"
        for dtype in ("QInt8", "QInt32", "QUInt8", "QUInt4x2", "QUInt2x4")
    },
}

# the most memory that a step, a memo entry or a call takes, rounded up
_STEP_BYTES, _MEMO_BYTES, _CALL_BYTES = 100, 250, 800


class Global(NamedTuple):
    """A name that the pickle would import."""

    name: str


class Call(NamedTuple):
    """A call that the pickle would make."""

    function: str
    arguments: tuple


class Persistent(NamedTuple):
    """A persistent id, which the reader has to resolve: in torch a storage's dtype, key and size."""

    id: Any


_GLOBALS = {
    name: Global(name) for name in (ORDERED_DICT, REBUILD, REBUILD_V2, PARAMETER, *STORAGE_DTYPES)
}


class PickleMachine:
    """Reads the pickles in ``data``, which follow each other.

    ``budget`` is the most memory in bytes that all of them may take. It bounds the number of steps
    and so the time too.

    Raises:
        FileError: from :meth:`load`, for anything that tensors do not need.
    """

    def __init__(self, path: Path | str, data: bytes, budget: int) -> None:
        self.path, self.data, self.budget = path, memoryview(data), budget
        self.position = 0  # of the next byte
        self.persistent: list[Persistent] = []

    def load(self) -> Any:
        """The value of the next pickle: dicts, lists, tuples, strings, numbers and the three
        classes of this module. Afterwards ``position`` is at the byte that follows the pickle."""
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        try:
            while (code := self.data[self.position]) != _STOP:
                self.position += 1
                self.spend(_STEP_BYTES)
                step = _STEPS.get(code)
                if step is None:
                    self.refuse_opcode(code)
                step(self)
            self.position += 1
            return self.stack.pop()
        except (IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
            raise self.error("a damaged or truncated pickle") from error

    def error(self, reason: str) -> FileError:
        """The error to raise, with path and position."""
        return FileError(f"{self.path}: byte {self.position} of the pickle: {reason}")

    def spend(self, cost: int) -> None:
        """Subtract ``cost`` bytes from the budget."""
        self.budget -= cost
        if self.budget < 0:
            raise self.error("needs more memory than a file of this size allows")

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes."""
        end = self.position + count
        if end > len(self.data):
            raise self.error("a damaged or truncated pickle")
        content, self.position = self.data[self.position : end], end
        return content

    def take_text(self, count: int) -> str:
        """The next ``count`` bytes as text."""
        content = self.take(count)
        self.spend(4 * count)  # one rare character makes all of them four bytes wide
        return str(content, "utf-8")

    def pop_to_mark(self) -> list[Any]:
        """Pop the values above the last mark from the stack."""
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def refuse_opcode(self, code: int) -> None:
        """Raise the error that names the opcode."""
        known = pickletools.code2op.get(chr(code))
        what = f"the opcode {known.name}" if known else f"the byte 0x{code:02x}, which is no opcode"
        raise self.error(f"{what}, which no file of tensors needs" if known else what)


def _push(value: Any) -> Callable[[PickleMachine], None]:
    return lambda m: m.stack.append(value)


def _number(layout: str) -> Callable[[PickleMachine], None]:
    number = struct.Struct(layout)
    return lambda m: m.stack.append(number.unpack(m.take(number.size))[0])


def _long(m: PickleMachine) -> None:
    count = m.take(1)[0]
    if count > 16:
        raise m.error(f"an integer of {count} bytes")
    m.stack.append(int.from_bytes(m.take(count), "little", signed=True))


def _text(layout: str) -> Callable[[PickleMachine], None]:
    length = struct.Struct(layout)
    return lambda m: m.stack.append(m.take_text(length.unpack(m.take(length.size))[0]))


def _tuple(count: int) -> Callable[[PickleMachine], None]:
    def step(m: PickleMachine) -> None:
        m.stack[-count:] = [tuple([m.stack[-i] for i in range(count, 0, -1)])]

    return step


def _put(layout: str) -> Callable[[PickleMachine], None]:
    index = struct.Struct(layout)

    def step(m: PickleMachine) -> None:
        m.spend(_MEMO_BYTES)
        m.memo[index.unpack(m.take(index.size))[0]] = m.stack[-1]

    return step


def _get(layout: str) -> Callable[[PickleMachine], None]:
    index = struct.Struct(layout)
    return lambda m: m.stack.append(m.memo[index.unpack(m.take(index.size))[0]])


def _append(m: PickleMachine, items: list[Any]) -> None:
    if type(m.stack[-1]) is not list:
        raise m.error("items for a value that is not a list")
    m.stack[-1].extend(items)


def _set(m: PickleMachine, pairs: list[Any]) -> None:
    target = m.stack[-1]
    if type(target) is not dict or len(pairs) % 2:
        raise m.error("entries for a value that is not a dict, or a key without a value")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        # no tuples, because hashing a deeply nested one ends the process; no long integers, because
        # an attacker can choose them with equal hashes
        if type(key) is not str and not (type(key) is int and abs(key) < 2**32):
            raise m.error(f"a key of type {type(key).__name__}, expected text or a short integer")
        target[key] = value


def _global(m: PickleMachine) -> None:
    lines = bytes(m.data[m.position : m.position + 400]).split(b"\n", 2)
    if len(lines) < 3:
        raise m.error("a global without an end")
    m.position += len(lines[0]) + len(lines[1]) + 2
    name = f"{lines[0].decode()}.{lines[1].decode()}"
    if name in _UNSUPPORTED:
        raise FileError(f"{m.path}: holds {_UNSUPPORTED[name]} ({name}), which can't be read")
    if name not in _GLOBALS:
        raise FileError(
            f"{m.path}: names {shown(name)}: a pickle that would run code; only tensors are read (if "
            "it holds a state dict too, save that alone with torch)"
        )
    m.stack.append(_GLOBALS[name])


def _persistent(m: PickleMachine) -> None:
    m.spend(_CALL_BYTES)
    m.persistent.append(Persistent(m.stack.pop()))
    m.stack.append(m.persistent[-1])


def _reduce(m: PickleMachine) -> None:
    m.spend(_CALL_BYTES)
    arguments, function = m.stack.pop(), m.stack.pop()
    if type(arguments) is not tuple or type(function) is not Global:
        raise m.error("a call of a value that is not a function")
    if function.name != ORDERED_DICT:
        m.stack.append(Call(function.name, arguments))
        return
    pairs = arguments[0] if arguments else []  # Python 2 passes the entries as a list
    if type(pairs) is not list or len(arguments) > 1:
        raise m.error("an OrderedDict of values that are not pairs")
    m.spend(len(pairs) * _MEMO_BYTES)
    m.stack.append({})
    for pair in pairs:
        if type(pair) not in (list, tuple) or len(pair) != 2:
            raise m.error("an OrderedDict of values that are not pairs")
        _set(m, list(pair))


def _build(m: PickleMachine) -> None:
    m.stack.pop()  # attributes: the versions of torch's modules, which are not needed here
    if type(m.stack[-1]) is not dict:
        raise m.error("attributes for a value that is not a dict")


def _protocol(m: PickleMachine) -> None:
    version = m.take(1)[0]
    if version != 2:
        raise m.error(f"pickle protocol {version}, expected 2, which torch.save writes by default")


_STOP = ord(".")
_STEPS: dict[int, Callable[[PickleMachine], None]] = {
    ord(code): step
    for code, step in {
        "\x80": _protocol,
        "N": _push(None),
        "\x88": _push(True),
        "\x89": _push(False),
        ")": _push(()),
        "K": _number("<B"),
        "M": _number("<H"),
        "J": _number("<i"),
        "G": _number(">d"),
        "\x8a": _long,
        "X": _text("<I"),
        "U": _text("<B"),
        "T": _text("<I"),
        "(": lambda m: m.marks.append(len(m.stack)),
        "t": lambda m: m.stack.append(tuple(m.pop_to_mark())),
        "\x85": _tuple(1),
        "\x86": _tuple(2),
        "\x87": _tuple(3),
        "]": lambda m: m.stack.append([]),
        "a": lambda m: _append(m, [m.stack.pop()]),
        "e": lambda m: _append(m, m.pop_to_mark()),
        "}": lambda m: m.stack.append({}),
        "s": lambda m: _set(m, [m.stack.pop(-2), m.stack.pop()]),
        "u": lambda m: _set(m, m.pop_to_mark()),
        "q": _put("<B"),
        "r": _put("<I"),
        "h": _get("<B"),
        "j": _get("<I"),
        "c": _global,
        "Q": _persistent,
        "R": _reduce,
        "b": _build,
    }.items()
}
