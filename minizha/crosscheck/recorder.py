"""Listening to a model that does not know it: every operation's result and gradient.

The textbook's functions are pure. ``y, cache = op(…)`` and ``dx = op_backward(dy, cache)`` keep no
diary, and none is added here: for the time of a trace, Python itself tells of each call and each
return (:func:`sys.setprofile`). What an operation returned beside a cache is its y, what it was
called with beside the same cache is its dy. The cache is the link: it is a node of the record.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from minizha.backend import is_array

_HOMES = ("minizha.ops.", "minizha.kernels.")


class Recorder:
    """What was recorder of each operation, found by its cache."""

    def __init__(self) -> None:
        self._y: dict[int, Any] = {}
        self._dy: dict[int, Any] = {}
        self._result: dict[int, Any] = {}
        self._frames: dict[FrameType, Any] = {}
        self._kept: list[Any] = []  # a cache that is alive keeps its id

    def y(self, cache: Any) -> Any:
        """The result of the operation that made ``cache``; None if it was not recorder."""
        return self._y.get(id(cache))

    def dy(self, cache: Any) -> Any:
        """The gradient of that result; None if the way back did not pass here."""
        return self._dy.get(id(cache))

    def dx(self, cache: Any) -> Any:
        """The gradient of the operation's first input; None likewise."""
        result = self._result.get(id(cache))
        return result[0] if isinstance(result, tuple) else result

    def event(self, frame: FrameType, event: str, value: Any) -> None:
        """Called by Python at each call and return."""
        if event == "call":
            self._called(frame)
        elif event == "return":
            self._came_back(frame, value)

    def _called(self, frame: FrameType) -> None:
        arguments = _arguments(frame)
        cache = next((a for a in arguments[1:] if _of_an_operation(a)), None)
        # a gradient and a cache; a class and caches, say, is the making of a larger cache
        if cache is None or not (is_array(arguments[0]) or isinstance(arguments[0], float)):
            return
        self._frames[frame] = cache
        self._kept.append(cache)
        # the outermost of functions that wrap each other is the operation that the model calls
        self._dy.setdefault(id(cache), arguments[0])

    def _came_back(self, frame: FrameType, value: Any) -> None:
        cache = self._frames.pop(frame, None)
        if cache is not None:
            self._result[id(cache)] = value  # again the outermost: it returns last
        two = type(value) is tuple and len(value) == 2
        if two and is_array(value[0]) and _of_an_operation(value[1]):
            self._y[id(value[1])] = value[0]


@contextlib.contextmanager
def record_operations() -> Iterator[Recorder]:
    """Listen as long as the block runs, in this thread; a profiler that was at work pauses."""
    recorder, before = Recorder(), sys.getprofile()
    sys.setprofile(recorder.event)
    try:
        yield recorder
    finally:
        if before is None or callable(before):
            sys.setprofile(before)
        else:  # a profiler in C, as cProfile is up to Python 3.11: it puts itself back
            sys.setprofile(None)
            getattr(before, "enable", lambda: None)()


def _arguments(frame: FrameType) -> list[Any]:
    """The positional arguments of the call that ``frame`` is about to run."""
    code = frame.f_code
    if code.co_argcount + bool(code.co_flags & inspect.CO_VARARGS) < 1:
        return []
    found, names = frame.f_locals, code.co_varnames
    values = [found[n] for n in names[: code.co_argcount] if n in found]
    if code.co_flags & inspect.CO_VARARGS:
        rest = names[code.co_argcount + code.co_kwonlyargcount]
        values += found.get(rest, ())
    return values


def _of_an_operation(value: Any) -> bool:
    named = isinstance(value, tuple) and hasattr(value, "_fields")
    return named and type(value).__module__.startswith(_HOMES)
