"""The results and gradients of the operations of a model, as they are computed.

The operations are pure functions: ``y, cache = op(x, …)`` and ``dx = op_backward(dy, cache)``. While a
trace is made, each call is written down. The cache, which is a node of the model's record, links both.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from minizha.ops.operation import WATCHER


class Recorder:
    """The calls of operations, in order. Of functions that wrap each other and pass the same cache on,
    the outermost counts: its values are those that the model reads."""

    def __init__(self) -> None:
        self._forward: list[tuple[Any, Any, Any]] = []
        self._backward: list[tuple[Any, Any, Any]] = []

    def forward(self, x: Any, y: Any, cache: Any) -> None:
        """Note ``y, cache = op(x, …)``."""
        self._forward.append((cache, x, y))

    def backward(self, dy: Any, cache: Any, dx: Any) -> None:
        """Note ``dx = op_backward(dy, cache)``."""
        self._backward.append((cache, dy, dx[0] if isinstance(dx, tuple) else dx))

    def x(self, cache: Any) -> Any:
        """The first argument of the operation that made ``cache``; None if it was not recorded."""
        return _last(self._forward, cache, 1)

    def y(self, cache: Any) -> Any:
        """The result of the operation, or None."""
        return _last(self._forward, cache, 2)

    def dy(self, cache: Any) -> Any:
        """The gradient of that result; None if the backward pass did not reach the operation."""
        return _last(self._backward, cache, 1)

    def dx(self, cache: Any) -> Any:
        """The gradient of the operation's first argument, or None."""
        return _last(self._backward, cache, 2)


def _last(calls: list[tuple[Any, Any, Any]], cache: Any, which: int) -> Any:
    return next((call[which] for call in reversed(calls) if call[0] is cache), None)


@contextlib.contextmanager
def record_operations() -> Iterator[Recorder]:
    """Record the operations of this thread while the block runs."""
    recorder = Recorder()
    token = WATCHER.set(recorder)
    try:
        yield recorder
    finally:
        WATCHER.reset(token)
