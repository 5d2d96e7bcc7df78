"""The docstrings' "Shapes:" lines, executed.

    Shapes: x (…, I), weight (O, I), bias (O) → y (…, O)

Left of the arrow are the arguments, right of it the results, in order (a cache is no result). An
axis is a symbol that means the same number throughout one call, an expression like ``2K+1``, ``P+L``,
``N·d`` or ``d/2``, a choice like ``D or F``, or ``…`` for any number of axes. Of the words after an
item three are read: ``integers``, ``of x's dtype``, and ``or None`` for a result that may be missing.
An item may be a named tuple of arrays that all have its shape; where the whole result is a named
tuple, the line names its fields. A dotted name is a field of a named tuple, ``inputs.past
(B, N, P, d)``; a field that is None has no shape.
"""

import functools
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest

from minizha.nezha import losses
from minizha.ops import activation

# integer arguments that are sizes
SIZES = {"length_q": "Lq", "length_k": "Lk", "max_relative_position": "K", "head_size": "d"}

ITEM = re.compile(
    r"(?P<name>\w+(?:\.\w+)*) \((?P<axes>[^()]*)\)(?P<words>(?: [^\s,;.()→]++(?! \())*)"
)
TERM = re.compile(
    r"(?P<number>\d*)(?P<symbols>(?:[A-Za-z]\w*(?:·[A-Za-z]\w*)*)?)(?:/(?P<divisor>[1-9]\d*))?"
)


class ShapeError(AssertionError):
    """Docstring and call differ, or the line can't be read."""


class TwoUnknownsError(ShapeError):
    """A sum or product of symbols, two of which have no size yet."""


class Item(NamedTuple):
    name: str
    axes: tuple[str, ...]
    words: str


class Line(NamedTuple):
    arguments: tuple[Item, ...]
    results: tuple[Item, ...]


# --- reading --------------------------------------------------------------------------------------


def shapes_line(function: Callable) -> str | None:
    """The paragraph of the docstring that starts with "Shapes:", without that word."""
    paragraphs = re.split(r"\n\s*\n", inspect.getdoc(function) or "")
    found = [p for p in paragraphs if p.startswith("Shapes:")]
    return " ".join(found[0].removeprefix("Shapes:").split()) if found else None


def parse(text: str) -> Line:
    """The items on both sides of the arrow; a bracket that follows no name is an error."""
    sides = text.split("→")
    if len(sides) != 2:
        raise ShapeError(f"expected one arrow: {text}")
    items = []
    for side in sides:
        found = tuple(
            Item(m["name"], axes_of(m["axes"]), m["words"].strip()) for m in ITEM.finditer(side)
        )
        if len(found) != len(re.findall(r"\([^()]*\)", side)):
            raise ShapeError(f"expected every (…) behind a name: {text}")
        items.append(found)
    if not items[1]:
        raise ShapeError(f"expected a result behind the arrow: {text}")
    return Line(*items)


def axes_of(text: str) -> tuple[str, ...]:
    """The axes between two brackets."""
    return tuple(re.findall(r"[^,\s][^,]*", text))


# --- comparing ------------------------------------------------------------------------------------


def check(function: Callable, arguments: dict, result: Any, known: dict | None = None) -> dict:
    """Compare a call with the docstring; return the size of each symbol, ``known`` included."""
    line, sizes = parse(shapes_line(function)), dict(known or {})
    for name, value in arguments.items():
        if name in SIZES:
            _fit_axis(SIZES[name], value, sizes, f"{name} = {value}")
    given = [(item, argument(function, item.name, arguments)) for item in line.arguments]
    found = [(item, value) for item, value in given if value is not None]  # None: was not given
    found += zip(line.results, _results(function, line, result), strict=True)
    later = []
    for item, value in found:
        try:
            _fit(function, item, value, sizes, arguments)
        except TwoUnknownsError:  # P+S of an argument, where results tell P and S
            later.append((item, value))
    for item, value in later:
        _fit(function, item, value, sizes, arguments)
    return sizes


def argument(function: Callable, name: str, arguments: dict) -> Any:
    """The argument, or for a dotted name its field."""
    if _head(name) not in arguments:
        raise ShapeError(f"{function.__name__} has no argument {_head(name)}")
    return _field(function, name, arguments[_head(name)])


def _results(function: Callable, line: Line, result: Any) -> list:
    """The values of the items of the results."""
    names = list(dict.fromkeys(_head(item.name) for item in line.results))
    fields = getattr(result, "_fields", ())
    if fields and line.results[0].name != names[0] not in fields:
        fields = ()  # the line names the result, and fields of it
    if fields and set(names) != set(fields):
        raise ShapeError(f"{function.__name__}: expected the results {fields}")
    if fields:
        values = [getattr(result, name) for name in names]
    elif type(result) is tuple:
        values = [value for value in result if not type(value).__name__.endswith("Cache")]
    else:
        values = [result]
    if len(values) != len(names):
        raise ShapeError(f"{function.__name__}: {len(names)} results, found {len(values)}")
    by_name = dict(zip(names, values, strict=True))
    return [_field(function, item.name, by_name[_head(item.name)]) for item in line.results]


def _head(name: str) -> str:
    return name.partition(".")[0]


def _field(function: Callable, name: str, value: Any) -> Any:
    """``value``, or its field that the rest of a dotted ``name`` leads to."""
    for field in name.split(".")[1:]:
        if value is None:
            return None
        if field not in getattr(value, "_fields", ()):
            raise ShapeError(f"{function.__name__}: {name}: no field {field}")
        value = getattr(value, field)
    return value


def _fit(function: Callable, item: Item, value: Any, sizes: dict, arguments: dict) -> None:
    if value is None:
        if "." not in item.name and not item.words.startswith("or None"):
            raise ShapeError(f"{function.__name__}: {item.name}: found None")
        return
    if hasattr(value, "_fields"):
        for part in value:
            _fit(function, item, part, sizes, arguments)
        return
    shape = tuple(getattr(value, "shape", ()))  # a Python number has no axes
    what = f"{function.__name__}: {item.name} ({', '.join(item.axes)}), found {shape}"
    what += f" where {sizes}"
    fit_shape(item.axes, shape, sizes, what)
    _fit_dtype(item.words, value, arguments, what)


def fit_shape(axes: tuple[str, ...], shape: tuple[int, ...], sizes: dict, what: str) -> None:
    """Compare a shape with axes; a symbol that is not in ``sizes`` yet is added."""
    axes = list(axes)
    if "…" in axes:
        first, rest = axes.index("…"), len(axes) - 1
        lead = shape[first : len(shape) - (rest - first)]
        if len(shape) < rest or sizes.setdefault("…", lead) != lead:
            raise ShapeError(what)
        axes[first : first + 1] = [str(n) for n in lead]
    if len(axes) != len(shape):
        raise ShapeError(what)
    for axis, size in zip(axes, shape, strict=True):
        _fit_axis(axis, size, sizes, what)


def _fit_axis(axis: str, size: int, sizes: dict, what: str) -> None:
    if " or " in axis:
        if all(sizes.get(choice, size) != size for choice in axis.split(" or ")):
            raise ShapeError(what)
        return
    total = 0
    for number, symbols, divisor in _unknown_last(axis, sizes, what):
        *known, last = symbols or [None]
        product = number * math.prod(sizes[symbol] for symbol in known)
        if last is not None:
            product *= sizes.setdefault(last, (size - total) * divisor // product)
        total += product / divisor
    if size != total:
        raise ShapeError(what)


class Term(NamedTuple):
    number: int
    symbols: list[str]
    divisor: int


def _unknown_last(axis: str, sizes: dict, what: str) -> list[Term]:
    """The terms of a sum; a symbol of unknown size, at most one, comes last."""
    found = [TERM.fullmatch(term) if term else None for term in axis.split("+")]
    if None in found:
        raise ShapeError(f"{what}: can't read the axis {axis!r}")
    symbols = [m["symbols"].split("·") if m["symbols"] else [] for m in found]
    unknown = [symbol for names in symbols for symbol in names if symbol not in sizes]
    if len(unknown) > 1:
        raise TwoUnknownsError(f"{what}: can't read the axis {axis!r}")
    terms = [
        Term(int(m["number"] or 1), sorted(names, key=unknown.count), int(m["divisor"] or 1))
        for m, names in zip(found, symbols, strict=True)
    ]
    return sorted(terms, key=lambda term: sum(map(unknown.count, term.symbols)))


def _fit_dtype(words: str, value: Any, arguments: dict, what: str) -> None:
    if words.split(" ")[0] == "integers" and value.dtype.kind not in "iu":
        raise ShapeError(f"{what}: expected integers, found {value.dtype}")
    same = re.match(r"of (\w+)[’']s dtype", words)
    if same and value.dtype != arguments[same[1]].dtype:
        raise ShapeError(f"{what}: expected {arguments[same[1]].dtype}, found {value.dtype}")


# --- watching -------------------------------------------------------------------------------------


def checked(function: Callable, called: set, known: dict | None = None) -> Callable:
    """The same function; each call is compared with the docstring, and the name added to ``called``."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        result = function(*args, **kwargs)
        check(function, bound.arguments, result, known)
        called.add(function.__name__)
        return result

    return wrapper


@contextmanager
def watching(functions: dict[str, Callable], known: dict | None = None) -> Iterator[set]:
    """Every module of minizha calls the checked functions; yields the set of names called."""
    called: set = set()
    watched = set(functions.values())
    checked_once = functools.cache(lambda function: checked(function, called, known))

    def is_watched(value) -> bool:
        return inspect.isfunction(value) and getattr(value, "plain", value) in watched

    with pytest.MonkeyPatch.context() as patch:
        modules = [m for name, m in sys.modules.items() if name.partition(".")[0] == "minizha"]
        for module in modules:
            for name, value in list(vars(module).items()):
                if is_watched(value):
                    patch.setattr(module, name, checked_once(value))
        for table in (activation.ACTIVATIONS, losses.LOSSES):
            for name, pair in table.items():
                if is_watched(pair.forward):
                    patch.setitem(table, name, type(pair)(*map(checked_once, pair)))
        yield called
