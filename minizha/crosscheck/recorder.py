"""Records the result and the gradient of every operation of a model, without changing the model.

The operations are pure functions: ``y, cache = op(…)`` and ``dx = op_backward(dy, cache)``. While a
trace is made, Python calls the recorder at each call and each return (:func:`sys.setprofile`). If a
function returns an array and a cache, the array is y; if one is called with an array and that cache,
the array is dy. The cache, which is a node of the model's record, links the two.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from minizha.backend import is_array

_PACKAGES = ("minizha.ops.", "minizha.kernels.")


class Recorder:
    """The values that were recorded for each operation; its cache is the key."""

    def __init__(self) -> None:
        self._y: dict[int, Any] = {}
        self._dy: dict[int, Any] = {}
        self._result: dict[int, Any] = {}
        self._frames: dict[FrameType, Any] = {}
        self._caches: list[Any] = []  # as long as a cache is referenced, no other has its id

    def y(self, cache: Any) -> Any:
        """The result of the operation that made ``cache``; None if it was not recorded."""
        return self._y.get(id(cache))

    def dy(self, cache: Any) -> Any:
        """The gradient of that result; None if the backward pass did not reach the operation."""
        return self._dy.get(id(cache))

    def dx(self, cache: Any) -> Any:
        """The gradient of the operation's first input, or None."""
        result = self._result.get(id(cache))
        return result[0] if isinstance(result, tuple) else result

    def event(self, frame: FrameType, event: str, value: Any) -> None:
        """Python calls this at each call and return."""
        if event == "call":
            self._on_call(frame)
        elif event == "return":
            self._on_return(frame, value)

    def _on_call(self, frame: FrameType) -> None:
        arguments = _arguments(frame)
        cache = next((a for a in arguments[1:] if _is_cache(a)), None)
        # a gradient and a cache; a class and caches, for example, are the call that makes a cache
        if cache is None or not (is_array(arguments[0]) or isinstance(arguments[0], float)):
            return
        self._frames[frame] = cache
        self._caches.append(cache)
        # setdefault: of functions that wrap each other, the model calls the outermost
        self._dy.setdefault(id(cache), arguments[0])

    def _on_return(self, frame: FrameType, value: Any) -> None:
        cache = self._frames.pop(frame, None)
        if cache is not None:
            self._result[id(cache)] = value  # the outermost again, since it returns last
        is_pair = type(value) is tuple and len(value) == 2
        if is_pair and is_array(value[0]) and _is_cache(value[1]):
            self._y[id(value[1])] = value[0]


@contextlib.contextmanager
def record_operations() -> Iterator[Recorder]:
    """Record while the block runs, in this thread; a profiler that is active is paused meanwhile."""
    recorder, before = Recorder(), sys.getprofile()
    sys.setprofile(recorder.event)
    try:
        yield recorder
    finally:
        if before is None or callable(before):
            sys.setprofile(before)
        else:  # a profiler in C, such as cProfile up to Python 3.11, is enabled by a method of its own
            sys.setprofile(None)
            getattr(before, "enable", lambda: None)()


def _arguments(frame: FrameType) -> list[Any]:
    """The positional arguments of the call that ``frame`` starts."""
    code = frame.f_code
    if code.co_argcount + bool(code.co_flags & inspect.CO_VARARGS) < 1:
        return []
    local_values, names = frame.f_locals, code.co_varnames
    values = [local_values[n] for n in names[: code.co_argcount] if n in local_values]
    if code.co_flags & inspect.CO_VARARGS:
        rest = names[code.co_argcount + code.co_kwonlyargcount]
        values += local_values.get(rest, ())
    return values


def _is_cache(value: Any) -> bool:
    is_named_tuple = isinstance(value, tuple) and hasattr(value, "_fields")
    return is_named_tuple and type(value).__module__.startswith(_PACKAGES)
