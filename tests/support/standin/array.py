"""The stand-in's array, and the log of the points at which the host would wait for the device."""

from __future__ import annotations

import operator
import os
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np

_HERE = os.path.dirname(__file__)
_DTYPES = "?bhilqBHILQefdFD"
_SCALARS = (bool, int, float, complex, np.generic)

synchronisations: deque[tuple[str, str]] = deque(maxlen=1000)
"""The latest synchronisations: (what, "file:line" of the code that asked for it)."""

_watchers: list[list[tuple[str, str]]] = []


@contextmanager
def count_synchronisations() -> Iterator[list[tuple[str, str]]]:
    """A list of the synchronisations inside the ``with`` block, filled as they happen."""
    events: list[tuple[str, str]] = []
    _watchers.append(events)
    try:
        yield events
    finally:
        # by identity: list.remove takes the first of equal content, which may be another block's
        _watchers[:] = [watcher for watcher in _watchers if watcher is not events]


def synchronise(what: str) -> None:
    """Log ``what`` under the innermost line of code outside this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    event = (what, f"{frame.f_code.co_filename}:{frame.f_lineno}")
    for log in (synchronisations, *_watchers):
        log.append(event)


def operand(value: Any) -> Any:
    """What NumPy computes with: the memory of a stand-in array, or a scalar."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, _SCALARS):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def array_operand(value: Any) -> np.ndarray:
    """The same where CuPy takes no scalar either."""
    if isinstance(value, ndarray):
        return value._host
    raise TypeError(f"incorrect type (expected cupy.ndarray, got {type(value)})")


def wrap(result: Any) -> Any:
    """NumPy's result as the device would hold it: a number becomes an array of shape ()."""
    if result is None or isinstance(result, ndarray):
        return result
    if isinstance(result, (tuple, list)):
        return type(result)(wrap(item) for item in result)
    return ndarray(np.asarray(result))


class ndarray:
    """An array with CuPy's interface; ``_host`` is its memory on the simulated device."""

    __slots__ = ("__weakref__", "_host")
    __module__ = "cupy"
    __hash__ = None
    __array_ufunc__ = None  # numpy_array + x asks x.__radd__; numpy.exp(x) is a TypeError

    def __init__(self, host: np.ndarray):
        if not isinstance(host, np.ndarray):
            raise TypeError("make arrays with asarray, zeros, empty, …")
        if host.dtype.char not in _DTYPES:
            raise ValueError(f"Unsupported dtype {host.dtype}")
        self._host = host

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(f"numpy.{function.__name__} of a CuPy array; call xp.{function.__name__}")

    # known without asking the device
    shape = property(lambda self: self._host.shape)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    dtype = property(lambda self: self._host.dtype)
    itemsize = property(lambda self: self._host.itemsize)
    nbytes = property(lambda self: self._host.nbytes)
    strides = property(lambda self: self._host.strides)

    @property
    def flags(self) -> SimpleNamespace:
        names = ("c_contiguous", "f_contiguous", "owndata")
        return SimpleNamespace(**{name: getattr(self._host.flags, name) for name in names})

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[ndarray]:
        if self.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    # views and copies; many more methods come from table.METHODS
    T = property(lambda self: wrap(self._host.T))
    real = property(lambda self: wrap(self._host.real) if self.dtype.kind == "c" else self)
    imag = property(lambda self: wrap(self._host.imag))

    def reshape(self, *shape: Any, order: str = "C") -> ndarray:
        return wrap(self._host.reshape(*shape, order=order))

    def transpose(self, *axes: Any) -> ndarray:
        return wrap(self._host.transpose(*axes))

    def astype(self, dtype: Any, *, order: str = "K", copy: bool = True) -> ndarray:
        with np.errstate(all="ignore"):
            host = self._host.astype(dtype, order=order, copy=copy)
        return self if host is self._host else wrap(host)

    def copy(self, order: str = "C") -> ndarray:
        return wrap(self._host.copy(order=order))

    def conj(self) -> ndarray:
        return wrap(self._host.conj())

    def argsort(self, axis: int = -1) -> ndarray:  # CuPy 13 has kind= in cupy.argsort alone
        return wrap(np.argsort(self._host, axis=axis, kind="stable"))

    def fill(self, value: Any) -> None:
        self[...] = value

    # from the device to the host
    def get(self) -> np.ndarray:
        synchronise("get")
        return self._host.copy()

    def item(self) -> Any:
        if self.size != 1:
            raise ValueError("can only convert an array of size 1 to a Python scalar")
        synchronise("item")
        return self._host.item()

    def tolist(self) -> Any:
        synchronise("tolist")
        return self._host.tolist()

    def __bool__(self) -> bool:
        if self.size > 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous.")
        synchronise("bool")
        return bool(self._host)

    def __format__(self, spec: str) -> str:
        synchronise("format")
        return format(self._host, spec)

    # elements, views and rows
    def __getitem__(self, key: Any) -> ndarray:
        key, advanced = _index(self.shape, key)
        # CuPy copies wherever an index is an array, one of shape () too
        return wrap(np.array(self._host[key]) if advanced else self._host[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        key, advanced = _index(self.shape, key)
        if not advanced and not isinstance(value, (ndarray, *_SCALARS)):
            raise ValueError(f"non-scalar {type(value)} cannot be used for fill")
        value = operand(value)
        with np.errstate(all="ignore"):
            if advanced:
                _scatter(self._host, key, value)
            else:
                self._host[key] = value


def _index(shape: tuple[int, ...], key: Any) -> tuple[tuple[Any, ...], bool]:
    """``key`` for NumPy, its integer arrays wrapped around, and whether it holds an array."""
    key = key if isinstance(key, tuple) else (key,)
    width = [_axes_of(item) for item in key]
    result, axis, advanced = [], 0, False
    for item, n in zip(key, width, strict=True):
        if isinstance(item, ndarray):
            advanced = True
            if item.dtype.kind == "b":
                synchronise("boolean index")  # only the device knows the result's shape
                item = item._host
            elif item.dtype.kind in "iu":
                rows = shape[axis] if axis < len(shape) else 0
                item = item._host % rows if rows else item._host
            else:
                raise IndexError("arrays used as indices must be of integer or boolean type")
        result.append(item)
        axis += n if item is not Ellipsis else len(shape) - sum(width)
    return tuple(result), advanced


def _axes_of(item: Any) -> int:
    """The number of axes that one item of an index takes."""
    if item is None or item is Ellipsis:
        return 0
    if isinstance(item, (slice, int, np.integer)) and not isinstance(item, bool):
        return 1
    if isinstance(item, ndarray):
        return item.ndim if item.dtype.kind == "b" else 1
    raise TypeError(f"index of {type(item)}: a list or NumPy array must be moved to the device")


def _scatter(host: np.ndarray, key: tuple[Any, ...], value: Any) -> None:
    """``host[key] = value``, of several values for one element the first is written.

    NumPy keeps the last, CuPy an arbitrary one; code that is right on both gives the same result
    here too.
    """
    places = np.arange(host.size).reshape(host.shape)[key]
    values = np.broadcast_to(np.asarray(value), places.shape).astype(host.dtype)
    host.flat[np.ravel(places)[::-1]] = np.ravel(values)[::-1]


_ATOMIC = "iILQefd"
"""The dtypes that CuPy's threads can add in one step; complex numbers are not among them."""


def add_at(host: np.ndarray, key: Any, value: Any) -> None:
    """``cupy.add.at``, without its order of additions, which changes from run to run."""
    if host.dtype.char not in _ATOMIC:
        raise TypeError(f"cupy.add.at does not support {host.dtype}")
    np.add.at(host, _index(host.shape, key)[0], np.asarray(value).astype(host.dtype))


def _synchronising(name: str, convert: Callable) -> Callable:
    def method(self: ndarray) -> Any:
        synchronise(name)
        return convert(self._host)

    return method


def _unary(op: Callable) -> Callable:
    return lambda self: wrap(op(self._host))


def _binary(op: Callable, check: Callable, swapped: bool = False) -> Callable:
    def method(self: ndarray, other: Any) -> ndarray:
        a, b = self._host, check(other)
        with np.errstate(all="ignore"):
            return wrap(op(b, a) if swapped else op(a, b))

    return method


def _in_place(op: Callable, check: Callable) -> Callable:
    def method(self: ndarray, other: Any) -> ndarray:
        with np.errstate(all="ignore"):
            op(self._host, check(other))
        return self

    return method


for _convert in (float, int, complex, repr, str):
    setattr(ndarray, f"__{_convert.__name__}__", _synchronising(_convert.__name__, _convert))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", _unary(getattr(operator, _name)))
for _name in ("lt", "le", "eq", "ne", "gt", "ge"):
    setattr(ndarray, f"__{_name}__", _binary(getattr(operator, _name), operand))
for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "matmul"):
    _check = array_operand if _name == "matmul" else operand
    _op = getattr(operator, f"__{_name}__")
    setattr(ndarray, f"__{_name}__", _binary(_op, _check))
    setattr(ndarray, f"__r{_name}__", _binary(_op, _check, swapped=True))
    if _name != "matmul":  # CuPy has no @=, so Python makes it x = x @ y
        setattr(ndarray, f"__i{_name}__", _in_place(getattr(operator, f"__i{_name}__"), _check))
