"""What has a meaning for an argument: for each kind of argument, whether a value may be accepted.

Each condition is necessary, not sufficient: a function may refuse more. To accept what the condition
excludes is a fault.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from typing import Any

import numpy as np

Kind = Callable[[Any], bool]


def is_flag(value: Any) -> bool:
    return isinstance(value, (bool, np.bool_))


def anything(_: Any) -> bool:
    return True


def nothing(value: Any) -> bool:
    return value is None


def either(*kinds: Kind) -> Kind:
    return lambda value: any(kind(value) for kind in kinds)


def integer(low: float = -np.inf, high: float = np.inf) -> Kind:
    def kind(value: Any) -> bool:
        try:
            return not is_flag(value) and low <= operator.index(value) <= high
        except TypeError:
            return False

    return kind


def number(low: float = -np.inf, high: float = np.inf, *, above: bool = False) -> Kind:
    """A real number in [low, high], or with ``above`` in (low, high]; never NaN or infinity."""

    def kind(value: Any) -> bool:
        if is_flag(value) or isinstance(value, (str, bytes, list, tuple)) or np.ndim(value) != 0:
            return False
        try:
            x = float(value)
        except (TypeError, ValueError, OverflowError):
            return False
        return bool(np.isfinite(x)) and (low < x if above else low <= x) and x <= high

    return kind


def text(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(value.encode() or True)
    except UnicodeEncodeError:
        return False


def one_of(*choices: Any) -> Kind:
    return lambda value: isinstance(value, (str, bool, type(None))) and value in choices


def texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(text, value))


def path(value: Any) -> bool:
    return isinstance(value, PathLike) or (isinstance(value, str) and value not in ("", "\0"))


def instance(*classes: type) -> Kind:
    return lambda value: isinstance(value, classes)


def _array(value: Any) -> np.ndarray | None:
    if isinstance(value, (str, bytes, Mapping, set)) or not isinstance(
        value, (list, tuple, np.ndarray)
    ):
        return None
    try:
        return np.asarray(value)
    except (ValueError, TypeError):
        return None


def integers(shape: tuple | None, low: int, high: int, *, ignored: bool = False) -> Kind:
    """An array of integers in [low, high); None in ``shape`` stands for any length of at least 1."""

    def kind(value: Any) -> bool:
        array = _array(value)
        if array is None or array.dtype.kind not in "iu" or not _fits(array.shape, shape):
            return False
        right = (array >= low) & (array < high)
        return bool((right | (array == -100) if ignored else right).all())

    return kind


def floats(
    shape: tuple | None, low: float = -np.inf, high: float = np.inf, kinds: str = "iuf"
) -> Kind:
    """An array of finite real numbers in [low, high]."""

    def kind(value: Any) -> bool:
        array = _array(value)
        if array is None or array.dtype.kind not in kinds or not _fits(array.shape, shape):
            return False
        wide = array.astype(np.longdouble)  # in float16, the limits would overflow
        return bool((np.isfinite(wide) & (wide >= low) & (wide <= high)).all())

    return kind


def _fits(found: tuple, expected: tuple | None) -> bool:
    return expected is None or (
        len(found) == len(expected)
        and all(f == e if e is not None else f >= 1 for f, e in zip(found, expected, strict=True))
    )


def arrays(shapes: Mapping[str, tuple], *, all_of: bool = True, limit: float = np.inf) -> Kind:
    """``{name: array of real numbers in floating point}`` of these shapes."""

    def kind(value: Any) -> bool:
        if not isinstance(value, Mapping) or (all_of and value.keys() != shapes.keys()):
            return False
        return all(
            name in shapes
            and isinstance(a, np.ndarray)
            and a.dtype.kind == "f"
            and a.shape == shapes[name]
            and bool((np.abs(a.astype(np.longdouble)) <= limit).all())
            for name, a in value.items()
        )

    return kind


def iterable_of(kind: Kind) -> Kind:
    def of(value: Any) -> bool:
        if not isinstance(value, Iterable) or isinstance(value, str):
            return False
        if isinstance(value, np.ndarray) and value.ndim == 0:
            return False
        return all(map(kind, value))

    return of
