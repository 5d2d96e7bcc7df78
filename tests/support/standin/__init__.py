"""A stand-in for CuPy: NumPy does the arithmetic, CuPy's rules decide what is allowed.

``install()`` makes ``import cupy`` find it, and the whole test suite runs as it would on a GPU,
but for speed and rounding. Its use is to refuse what CuPy refuses, and to show where the host
would have to synchronise with the device::

    cupy = standin.install()
    x = cupy.asarray([1.0, 2.0])
    x + numpy.ones(2)                     # TypeError: Unsupported type <class 'numpy.ndarray'>
    with standin.count_synchronisations() as events:
        if x.sum() > 1.0: ...             # events == [("bool", "/…/this_file.py:4")]

Like CuPy: integers in index arrays wrap around; a reduction and ``x[0]`` are arrays of shape ();
functions and keywords are those that CuPy has (table.py); ``empty`` holds NaN or −1; there are no
floating-point warnings; of several values written to one place, the last need not win.

Stricter than CuPy, on purpose: NumPy's functions take no array of the stand-in (there,
``numpy.exp`` calls ``cupy.exp``); a NumPy array or a list is no index (there, it is copied to the
device in silence); no function passes a NumPy array through (there, ``cupy.swapaxes`` and others
do).

Not covered: kernels (``ElementwiseKernel``, ``RawKernel``), streams, random numbers.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

from .array import (
    add_at,
    array_operand,
    count_synchronisations,
    ndarray,
    operand,
    synchronisations,
    synchronise,
    wrap,
)
from .table import CONSTANTS, FUNCTIONS, METHODS, NOT_IN_CUPY

__all__ = ["count_synchronisations", "cupy", "install", "ndarray", "synchronisations"]


def install() -> ModuleType:
    """Let ``import cupy`` find the stand-in; call it before anything imports the real one."""
    sys.modules["cupy"] = cupy
    return cupy


# --- functions that are not simply NumPy's --------------------------------------------------------


def _asarray(a: Any, dtype: Any = None) -> Any:
    if not isinstance(a, ndarray):
        return np.array(a, dtype=dtype)  # always a copy: the device has memory of its own
    return a if dtype is None else a.astype(dtype, copy=False)


def _array(obj: Any, dtype: Any = None, copy: bool = True, order: str = "K") -> Any:
    if not isinstance(obj, ndarray):
        return np.array(obj, dtype=dtype, order=order)
    return obj.astype(obj.dtype if dtype is None else dtype, order=order, copy=copy)


def _asnumpy(a: Any) -> np.ndarray:
    return a.get() if isinstance(a, ndarray) else np.asarray(a)


def _filled_with_nan(make: Callable) -> Callable:
    def empty(*args: Any, **kwargs: Any) -> np.ndarray:
        host = make(*args, **kwargs)
        host[...] = np.asarray(np.nan if host.dtype.kind in "fc" else -1).astype(host.dtype)
        return host

    return empty


def _stable_only(sort: Callable) -> Callable:
    def sorted_(a: np.ndarray, axis: int = -1, kind: str | None = None) -> np.ndarray:
        if kind not in (None, "stable"):
            raise ValueError("kind can only be None or 'stable'")
        return sort(a, axis=axis, kind="stable")

    return sorted_


def _synchronising(name: str) -> Callable:
    def function(*args: Any, **kwargs: Any) -> Any:
        synchronise(name)  # the shape of the result is known to the device only
        return getattr(np, name)(*args, **kwargs)

    return function


def _where(condition: np.ndarray, *choices: Any) -> Any:
    return np.where(condition, *choices) if choices else _synchronising("nonzero")(condition)


def _take(a: np.ndarray, indices: Any, axis: int | None = None) -> Any:
    return np.take(a, indices, axis=axis, mode="wrap")


def _take_along_axis(a: np.ndarray, indices: np.ndarray, axis: int) -> np.ndarray:
    return np.take_along_axis(a, indices % a.shape[axis], axis=axis)


def _result_type(*arrays_and_dtypes: Any) -> np.dtype:
    return np.result_type(*(x._host if isinstance(x, ndarray) else x for x in arrays_and_dtypes))


_OWN = {
    "add.at": add_at,
    "array": _array,
    "asarray": _asarray,
    "asnumpy": _asnumpy,
    "argsort": _stable_only(np.argsort),
    "empty": _filled_with_nan(np.empty),
    "empty_like": _filled_with_nan(np.empty_like),
    "flatnonzero": _synchronising("flatnonzero"),
    "nonzero": _synchronising("nonzero"),
    "result_type": _result_type,
    "sort": _stable_only(np.sort),
    "take": _take,
    "take_along_axis": _take_along_axis,
    "unique": _synchronising("unique"),
    "where": _where,
}
_ON_THE_HOST = ("asnumpy", "iscomplexobj", "result_type")  # results that are no arrays of CuPy


# --- from a row of the table to a function --------------------------------------------------------


def _plain(value: Any) -> Any:
    if isinstance(value, ndarray):
        raise TypeError("expected a Python number, tuple or dtype, found an array on the device")
    return value


def _each(check: Callable, values: Any) -> tuple[Any, ...]:
    return tuple(check(value) for value in values)


CHECKS: dict[str, Callable] = {
    "@": array_operand,
    "+": partial(_each, array_operand),
    "~": operand,
    "?": lambda value: value,
    "": _plain,
}


def parse(row: str) -> tuple[inspect.Signature, dict[str, Callable]]:
    """The signature that a row of the table describes, and what checks each parameter."""
    parameters, checks = [], {}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for word in row.split():
        if word == "/":
            parameters = [p.replace(kind=inspect.Parameter.POSITIONAL_ONLY) for p in parameters]
            continue
        if word == "*":
            kind = inspect.Parameter.KEYWORD_ONLY
            continue
        if word.startswith("*"):
            word, kind = word[1:], inspect.Parameter.VAR_POSITIONAL
        mark = word[0] if word[0] in CHECKS else ""
        name, check = word.removeprefix(mark), CHECKS[mark]
        parameters.append(inspect.Parameter(name, kind))
        if kind is inspect.Parameter.VAR_POSITIONAL:
            check, kind = partial(_each, check), inspect.Parameter.KEYWORD_ONLY
        checks[name] = check
    return inspect.Signature(parameters), checks


def _function(name: str, row: str) -> Callable:
    signature, checks = parse(row)
    compute = _OWN.get(name) or getattr(np, name)

    def function(*args: Any, **kwargs: Any) -> Any:
        place = name
        try:
            bound = signature.bind_partial(*args, **kwargs)
            for key, value in bound.arguments.items():
                place = f"{name}, {key}"
                if value is not None:
                    bound.arguments[key] = checks[key](value)
        except TypeError as error:
            raise TypeError(f"cupy.{place}: {error}") from None
        with np.errstate(all="ignore"):
            result = compute(*bound.args, **bound.kwargs)
        if kwargs.get("out") is not None:
            return kwargs["out"]
        return result if name in _ON_THE_HOST else wrap(result)

    function.__name__ = function.__qualname__ = name
    return function


def _build() -> ModuleType:
    module = ModuleType("cupy", "The stand-in for CuPy of minizha's tests.")
    module.__version__ = "0+standin"
    module.is_available = lambda: True
    module.ndarray = ndarray
    for name in CONSTANTS.split():
        setattr(module, name, getattr(np, name))
    for name, row in FUNCTIONS.items():
        owner, _, last = name.rpartition(".")  # "add.at" is a method of the function add
        setattr(getattr(module, owner) if owner else module, last, _function(name, row))
    for name in METHODS.split():
        setattr(ndarray, name, getattr(module, name))
    ndarray.clip = lambda self, min=None, max=None: module.clip(self, min, max)
    module.__getattr__ = _missing
    return module


def _missing(name: str) -> Any:
    why = (
        ""
        if name in NOT_IN_CUPY.split() or not hasattr(np, name)
        else " yet in tests/standin/table.py"
    )
    raise AttributeError(f"module 'cupy' has no attribute {name!r}{why}")


cupy = _build()
"""The module that ``install`` puts in place."""
