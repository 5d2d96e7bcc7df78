"""Checks of single values. Each returns the value, or raises an ArgumentError that names the argument,
what was expected and what was found. This module does not import NumPy, so ``--help`` starts fast.
"""

from __future__ import annotations

import math
import numbers
import operator
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from minizha.errors import ArgumentError


def integer(
    name: str,
    value: Any,
    low: int | None = None,
    high: int | None = None,
    *,
    optional: bool = False,
) -> Any:
    """``value`` as an int in [low, high]; None is accepted if ``optional``. A bool is not an integer."""
    if value is None and optional:
        return None
    try:
        result = None if is_flag(value) else operator.index(value)
    except TypeError:
        result = None
    if result is None or (low is not None and result < low) or (high is not None and result > high):
        if low is None:
            span = "" if high is None else f" of at most {high}"
        else:
            span = f" of at least {low}" if high is None else f" in [{low}, {high}]"
        raise _refused(name, f"an integer{span}", value, optional)
    return result


def number(name: str, value: Any, interval: str = "(-inf, inf)", *, optional: bool = False) -> Any:
    """``value`` as a float in an interval such as ``"[0, 1)"``; None is accepted if ``optional``.

    A round bracket excludes its end, so no interval contains NaN or an infinity. A bool is not a number.
    """
    if value is None and optional:
        return None
    low, high = (float(end) for end in interval[1:-1].split(","))
    try:
        # a real number, or an object that converts to one: a str has no __float__, an array of
        # several numbers has axes
        real = isinstance(value, numbers.Real) or not isinstance(value, numbers.Complex)
        single = hasattr(value, "__float__") and getattr(value, "ndim", 0) == 0
        result = float(value) if real and single and not is_flag(value) else math.nan
    except OverflowError:
        result = math.inf
    except (TypeError, ValueError):
        result = math.nan
    above = low <= result if interval[0] == "[" else low < result
    below = result <= high if interval[-1] == "]" else result < high
    if not (above and below):
        raise _refused(name, _in_words(interval), value, optional)
    return result


def flag(name: str, value: Any, default: bool | None = None) -> bool:
    """``value`` as a bool. None gives ``default`` if there is one."""
    if value is None and default is not None:
        return default
    if not is_flag(value):
        text = "True or False" if default is None else "True, False or None"
        raise _refused(name, text, value)
    return bool(value)


def choice(name: str, value: Any, choices: Sequence[str | None]) -> Any:
    """``value``, which must be one of ``choices``."""
    if not isinstance(value, (str, type(None))) or value not in choices:
        raise _refused(name, "one of " + ", ".join(repr(c) for c in choices), value)
    return value


def mapping(name: str, value: Any, *, optional: bool = False) -> Any:
    """``value`` as a dict; None is accepted if ``optional``."""
    if value is None and optional:
        return None
    if not isinstance(value, Mapping):
        raise _refused(name, "a mapping", value, optional)
    return dict(value)


def is_flag(value: Any) -> bool:
    """Whether ``value`` is a bool, Python's or NumPy's."""
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")


def _in_words(interval: str) -> str:
    low, high = (end.strip() for end in interval[1:-1].split(","))
    if high != "inf":
        return f"a number in {interval}"
    ends = f" of at least {low}" if interval[0] == "[" else f" above {low}"
    return "a finite number" + ("" if low == "-inf" else ends)


def _refused(name: str, expected: str, value: Any, optional: bool = False) -> ArgumentError:
    either = " or None" if optional else ""
    return ArgumentError(f"{name}: expected {expected}{either}, found {reprlib.repr(value)}")
