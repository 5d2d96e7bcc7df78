"""The docstrings' "Shapes:" lines, executed.

    Shapes: x (…, I), weight (O, I), bias (O) → y (…, O)

Left of the arrow stand arguments, right of it results, in order (a cache is no result). An axis
is a symbol that means the same number throughout one call, an expression like ``2K+1``, ``P+L``
or ``N·d``, a choice like ``D or F``, or ``…`` for any number of axes. Of the words behind an item
three are read: ``integers``, ``of x's dtype``, and ``or None`` for a result that may be missing.
An item may be a named tuple of arrays that all have its shape; where the result as a whole is a
named tuple, the line names its fields.
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

from minizha.ops import activation

# whole numbers among the arguments that are sizes
SIZES = {"length_q": "Lq", "length_k": "Lk", "max_relative_position": "K", "head_size": "d"}

ITEM = re.compile(r"(?P<name>\w+) \((?P<axes>[^()]*)\)(?P<words>(?: [^\s,;.()→]++(?! \())*)")
TERM = re.compile(r"(?P<number>\d*)(?P<symbols>(?:[A-Za-z]\w*(?:·[A-Za-z]\w*)*)?)")


class ShapeError(AssertionError):
    """Documentation and call differ, or the line can't be read."""


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
    """The items on both sides of the arrow; a bracket that belongs to none is an error."""
    sides = text.split("→")
    if len(sides) != 2:
        raise ShapeError(f"expected one arrow: {text}")
    items = []
    for side in sides:
        found = tuple(
            Item(m["name"], tuple(re.findall(r"[^,\s][^,]*", m["axes"])), m["words"].strip())
            for m in ITEM.finditer(side)
        )
        if len(found) != len(re.findall(r"\([^()]*\)", side)):
            raise ShapeError(f"expected every (…) behind a name: {text}")
        items.append(found)
    if not items[1]:
        raise ShapeError(f"expected a result behind the arrow: {text}")
    return Line(*items)


# --- comparing ------------------------------------------------------------------------------------


def check(function: Callable, arguments: dict, result: Any, known: dict | None = None) -> dict:
    """Compare a call with the docstring; return what each symbol stands for, ``known`` included."""
    line, sizes = parse(shapes_line(function)), dict(known or {})
    for name, value in arguments.items():
        if name in SIZES:
            _fit_axis(SIZES[name], value, sizes, f"{name} = {value}")
    for item in line.arguments:
        if item.name not in arguments:
            raise ShapeError(f"{function.__name__} has no argument {item.name}")
        if arguments[item.name] is not None:  # an optional one that was not given
            _fit(function, item, arguments[item.name], sizes, arguments)
    results = _results(function, line, result)
    if len(results) != len(line.results):
        raise ShapeError(f"{function.__name__}: {len(line.results)} results, found {len(results)}")
    for item, value in zip(line.results, results, strict=True):
        _fit(function, item, value, sizes, arguments)
    return sizes


def _results(function: Callable, line: Line, result: Any) -> list:
    if hasattr(result, "_fields"):
        if {item.name for item in line.results} != set(result._fields):
            raise ShapeError(f"{function.__name__}: expected the results {result._fields}")
        return [getattr(result, item.name) for item in line.results]
    if type(result) is not tuple:
        return [result]
    return [value for value in result if not type(value).__name__.endswith("Cache")]


def _fit(function: Callable, item: Item, value: Any, sizes: dict, arguments: dict) -> None:
    if value is None:
        if not item.words.startswith("or None"):
            raise ShapeError(f"{function.__name__}: {item.name}: found None")
        return
    if hasattr(value, "_fields"):
        for part in value:
            _fit(function, item, part, sizes, arguments)
        return
    shape = getattr(value, "shape", ())  # a Python number has no axes
    what = f"{function.__name__}: {item.name} ({', '.join(item.axes)}), found {tuple(shape)}"
    what += f" where {sizes}"
    axes = list(item.axes)
    if "…" in axes:
        place, rest = axes.index("…"), len(axes) - 1
        lead = tuple(shape[place : len(shape) - (rest - place)])
        if len(shape) < rest or sizes.setdefault("…", lead) != lead:
            raise ShapeError(what)
        axes[place : place + 1] = [str(n) for n in lead]
    if len(axes) != len(shape):
        raise ShapeError(what)
    for axis, size in zip(axes, shape, strict=True):
        _fit_axis(axis, size, sizes, what)
    _fit_dtype(item.words, value, arguments, what)


def _fit_axis(axis: str, size: int, sizes: dict, what: str) -> None:
    if " or " in axis:
        if all(sizes.get(choice, size) != size for choice in axis.split(" or ")):
            raise ShapeError(what)
        return
    total = 0
    for number, symbols in _unknown_last(axis, sizes, what):
        *known, last = symbols or [None]
        product = int(number or 1) * math.prod(sizes[symbol] for symbol in known)
        total += product * (sizes.setdefault(last, (size - total) // product) if last else 1)
    if size != total:
        raise ShapeError(what)


def _unknown_last(axis: str, sizes: dict, what: str) -> list[tuple[str, list[str]]]:
    """Number and symbols of each term of a sum; the one symbol that may be unknown is the last."""
    found = [TERM.fullmatch(term) if term else None for term in axis.split("+")]
    terms = [(m["number"], m["symbols"].split("·") if m["symbols"] else []) for m in found if m]
    unknown = [symbol for _, symbols in terms for symbol in symbols if symbol not in sizes]
    if None in found or len(unknown) > 1:
        raise ShapeError(f"{what}: can't read the axis {axis!r}")
    terms = [(number, sorted(symbols, key=unknown.count)) for number, symbols in terms]
    return sorted(terms, key=lambda term: sum(map(unknown.count, term[1])))


def _fit_dtype(words: str, value: Any, arguments: dict, what: str) -> None:
    if words.split(" ")[0] == "integers" and value.dtype.kind not in "iu":
        raise ShapeError(f"{what}: expected integers, found {value.dtype}")
    same = re.match(r"of (\w+)[’']s dtype", words)
    if same and value.dtype != arguments[same[1]].dtype:
        raise ShapeError(f"{what}: expected {arguments[same[1]].dtype}, found {value.dtype}")


# --- watching -------------------------------------------------------------------------------------


def checked(function: Callable, called: set, known: dict | None = None) -> Callable:
    """The same function; each call is compared with the docstring and its name put in ``called``."""
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
    """Every module of minizha calls the checked twins; gives the set of names called."""
    called: set = set()
    watched = set(functions.values())
    twin = functools.cache(lambda function: checked(function, called, known))

    def is_watched(value) -> bool:
        return inspect.isfunction(value) and getattr(value, "plain", value) in watched

    with pytest.MonkeyPatch.context() as patch:
        modules = [m for name, m in sys.modules.items() if name.partition(".")[0] == "minizha"]
        for module in modules:
            for name, value in list(vars(module).items()):
                if is_watched(value):
                    patch.setattr(module, name, twin(value))
        for name, pair in activation.ACTIVATIONS.items():
            if is_watched(pair.forward):
                twins = activation.Activation(*map(twin, pair))
                patch.setitem(activation.ACTIVATIONS, name, twins)
        yield called
