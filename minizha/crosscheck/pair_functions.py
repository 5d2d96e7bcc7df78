"""The reader's two functions, called with copies: nothing that they write reaches a later call.

A function that raises gives one error with the line of the function at which it happened.
"""

from __future__ import annotations

import inspect
import linecache
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from minizha.backend import is_array, namespace, to_backend, to_host
from minizha.errors import ArgumentError


class Pair:
    """A forward function, its backward function, and the arguments at which they are checked.

    ``floats`` are the numbers of the arguments that have a gradient, ``names`` what forward calls
    its arguments, ``remarks`` what was noticed about the functions.
    """

    def __init__(
        self, forward: Callable[..., Any], backward: Callable[..., Any], arguments: Sequence[Any]
    ) -> None:
        for name, function in (("forward", forward), ("backward", backward)):
            if not callable(function):
                found = type(function).__name__
                raise ArgumentError(f"check_pair: {name}: expected a function, found {found}")
        self.forward, self.backward = forward, backward
        self.floats = _float_arguments(arguments)
        self.remarks: list[str] = []
        self.arguments = [self._in_float64(k, a) for k, a in enumerate(arguments)]
        self.names = _parameter_names(forward, len(self.arguments))
        self.complex_error = ""

    def run(self) -> tuple[Any, Any]:
        """``(y, cache)`` at the arguments, from copies of them."""
        given = [_copied(a) for a in self.arguments]
        shapes = ", ".join(
            f"{name} {a.shape}" if is_array(a) else f"{name} ({type(a).__name__})"
            for name, a in zip(self.names, self.arguments, strict=True)
        )
        expected = f"a pair (y, cache) of the arguments {shapes}"
        result = _call(self.forward, given, "forward", expected)
        for k in self.floats:
            if not _same(given[k], self.arguments[k]):
                self._remark(f"forward writes into {self.label(k)}; it was given a copy")
        y, cache = _checked_pair(result)
        return y.copy(), cache  # backward may write into its cache, and y may be part of it

    def gradients(self, dy: Any, cache: Any) -> list[Any]:
        """What backward returns, one gradient for each float argument, as copies on the host."""
        given, before = _copied(dy), [(a, _copied(a)) for a in _arrays(cache)]
        names = ", ".join(self.names[k] for k in self.floats)
        expected = (
            f"the gradients of {names}, given dy of shape {dy.shape} and forward's cache, "
            f"a {type(cache).__name__}"
        )
        result = _call(self.backward, [given, cache], "backward", expected)
        result = list(result) if isinstance(result, (tuple, list)) else [result]
        if len(result) != len(self.floats) or isinstance(result[0], Mapping):
            found = "a dict" if result and isinstance(result[0], Mapping) else len(result)
            raise ArgumentError(
                f"backward: expected {len(self.floats)} gradients, one for each float argument of "
                f"forward ({names}), in their order, found {found}"
            )
        copies = [np.array(to_host(g)) if is_array(g) else _as_array(g) for g in result]
        if not _same(given, dy):
            self._remark("backward writes into dy; it was given a copy")
        if any(not _same(a, b) for a, b in before):
            self._remark("backward writes into its cache; a second call with it would go wrong")
        return copies

    def outputs(
        self, k: int, x: np.ndarray, replaced: dict[int, np.ndarray] | None = None
    ) -> np.ndarray | None:
        """y on the host with ``x`` for argument k; None if forward raises there.

        ``replaced`` are values for other arguments. Warnings are not shown: such an x is not the reader's.
        """
        given = [_copied(a) for a in self.arguments]
        for place, value in {**(replaced or {}), k: x}.items():
            given[place] = to_backend(np.array(value), namespace(given[place]))
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                y = np.array(to_host(self.forward(*given)[0]))
        except Exception as error:  # noqa: BLE001  # the reader's function may raise anything
            if np.iscomplexobj(x):
                self.complex_error = f"{type(error).__name__}{_line(error)}"
            return None
        return y if y.dtype.kind in "fc" else None

    def label(self, k: int) -> str:
        """``argument 0 (x)``"""
        name = f"argument {k}"
        return name if self.names[k] == name else f"{name} ({self.names[k]})"

    def _in_float64(self, k: int, argument: Any) -> Any:
        if k in self.floats and argument.dtype != np.float64:
            self._remark(f"argument {k} is {argument.dtype}; forward was given it in float64")
            return argument.astype(np.float64)
        return _copied(argument)

    def _remark(self, text: str) -> None:
        if text not in self.remarks:
            self.remarks.append(text)


def _float_arguments(arguments: Any) -> list[int]:
    """The numbers of the arguments that have a gradient."""
    if not isinstance(arguments, Sequence) or isinstance(arguments, str):
        found = type(arguments).__name__
        raise ArgumentError(
            f"check_pair: arguments: expected a list of forward's arguments, such as [x], found {found}"
        )
    for k, a in enumerate(arguments):
        if isinstance(a, list) and _of_floats(a):
            raise ArgumentError(
                f"check_pair: argument {k}: expected an array, found a list; write numpy.array(…)"
            )
    floats = [k for k, a in enumerate(arguments) if is_array(a) and a.dtype.kind == "f"]
    if not floats:
        kinds = [f"{a.dtype} array" if is_array(a) else type(a).__name__ for a in arguments]
        raise ArgumentError(
            "check_pair: expected at least one array of floats among the arguments, found "
            + (", ".join(kinds) or "none")
            + ("; write x.astype(float)" if any(is_array(a) for a in arguments) else "")
        )
    return floats


def _of_floats(values: list) -> bool:
    return any(_of_floats(v) if isinstance(v, list) else isinstance(v, float) for v in values)


def _checked_pair(result: Any) -> tuple[Any, Any]:
    """Forward's result, which must be a pair whose first part is an array of floats or a number."""
    if isinstance(result, tuple) and len(result) == 2:
        y, cache = result
        if isinstance(y, (np.generic, float, int)):
            y = np.asarray(y, dtype=float if isinstance(y, int) else None)
        if is_array(y) and y.dtype.kind in "fc":
            return (y.real if y.dtype.kind == "c" else y), cache
        if is_array(y):
            raise ArgumentError(
                f"forward: y: expected floats, found {y.dtype}, which has no derivative"
            )
    found = type(result).__name__
    if isinstance(result, tuple):
        found = f"({', '.join(type(part).__name__ for part in result)})"
    raise ArgumentError(f"forward: expected a pair (y, cache), y an array, found {found}")


def _call(function: Callable[..., Any], given: list, name: str, expected: str) -> Any:
    try:
        return function(*given)
    except Exception as error:  # the reader's function may raise anything
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        raise ArgumentError(f"{name}: expected {expected}; found {what}{_line(error)}") from error


def _line(error: BaseException) -> str:
    """`` at line 3 of FILE: `y = x @ w` ``, the line of the reader's function; or nothing."""
    frame = error.__traceback__
    while frame and frame.tb_frame.f_code.co_filename == __file__:
        frame = frame.tb_next
    if frame is None:  # it was not entered, or is not written in Python
        return ""
    path, line = frame.tb_frame.f_code.co_filename, frame.tb_lineno
    source = linecache.getline(path, line).strip()
    return f", at line {line} of {PurePath(path).name}" + (f": `{source}`" if source else "")


def _parameter_names(forward: Callable[..., Any], count: int) -> list[str]:
    """The names in forward's signature; ``argument k`` where it has none."""
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    named = [p.name for p in parameters if p.kind != p.VAR_POSITIONAL]
    return [named[k] if k < len(named) else f"argument {k}" for k in range(count)]


def _copied(value: Any) -> Any:
    return value.copy() if is_array(value) else value


def _as_array(value: Any) -> Any:
    """A number as an array; anything else as it is."""
    return np.asarray(value) if isinstance(value, (np.generic, int, float, complex)) else value


def _same(a: Any, b: Any) -> bool:
    a, b = to_host(a), to_host(b)
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _arrays(value: Any, depth: int = 4) -> Iterator[Any]:
    """The arrays in a cache: an array, or a tuple, list, dictionary or object that holds some."""
    if is_array(value):
        yield value
    elif depth:
        if isinstance(value, Mapping):
            parts = list(value.values())
        elif isinstance(value, (tuple, list)):
            parts = list(value)
        else:
            parts = list(getattr(value, "__dict__", {}).values())
        for part in parts:
            yield from _arrays(part, depth - 1)
