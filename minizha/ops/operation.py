"""Operations can be watched: a recorder is shown what each of them takes and returns.

A trace needs results that no cache keeps, and the gradients of all of them. So that no formula contains
code to keep them, ``@operation`` marks both halves of each pair.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import Any, Protocol


class Watcher(Protocol):
    """What is shown the calls of operations. A pair's two calls have the same cache."""

    def forward(self, x: Any, y: Any, cache: Any) -> None:
        """``y, cache = op(x, …)`` was called."""

    def backward(self, dy: Any, cache: Any, dx: Any) -> None:
        """``dx = op_backward(dy, cache)`` was called; dx has a gradient for each input."""


WATCHER: ContextVar[Watcher | None] = ContextVar("watcher", default=None)
"""Whom the operations of this thread are shown to; nobody, but during a trace."""


def operation(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark one half of a pair, ``op`` or ``op_backward``."""

    @wraps(function)
    def forward(*arguments: Any, **options: Any) -> tuple[Any, Any]:
        result = function(*arguments, **options)
        watcher = WATCHER.get()
        if watcher is not None:
            watcher.forward((*arguments, *options.values())[0], *result)
        return result

    @wraps(function)
    def backward(dy: Any, cache: Any, *rest: Any) -> Any:
        dx = function(dy, cache, *rest)
        watcher = WATCHER.get()
        if watcher is not None:
            watcher.backward(dy, cache, dx)
        return dx

    return backward if function.__name__.endswith("_backward") else forward
