"""Operations that a faster pair of functions may replace, and the table of these pairs, the kernels.

Every operation of this package is complete: a program that imports :mod:`minizha.ops` alone runs
the functions that are written here. Importing :mod:`minizha.kernels` fills the table; from then on
a call with float arrays runs the kernel, where there is one for their library. Complex arrays
always run the plain function, so that the complex step differentiates what is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import is_array


class Kernel(NamedTuple):
    """A pair that computes what the plain pair computes; a cache of its own type tells its
    backward function from the plain one."""

    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[..., Any]
    cache: type


KERNELS: dict[tuple[str, str], Kernel] = {}
"""``KERNELS["gelu", "numpy"]`` replaces ``gelu`` and ``gelu_backward`` for NumPy arrays."""


def replaceable(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Mark one half of a pair: ``op`` or ``op_backward``, as its name says.

    The plain function stays within reach as ``op.plain``.
    """
    name = plain.__name__.removesuffix("_backward")

    @wraps(plain)
    def forward(*arguments: Any, **options: Any) -> tuple[Any, Any]:
        kernel = _kernel_for(name, (*arguments, *options.values()))
        return (plain if kernel is None else kernel.forward)(*arguments, **options)

    @wraps(plain)
    def backward(dy: Any, cache: Any) -> Any:
        kernel = _kernel_that_made(cache, name)
        return (plain if kernel is None else kernel.backward)(dy, cache)

    marked = forward if plain.__name__ == name else backward
    marked.plain = plain
    return marked


def _kernel_for(name: str, values: Iterable[Any]) -> Kernel | None:
    """The kernel for these arguments; None where there is none, or an array is complex. The library
    is that of the floats."""
    floats = None
    for value in values:
        if is_array(value):
            kind = value.dtype.kind
            if kind == "c":
                return None
            if kind == "f":
                floats = value
    if floats is None:
        return None
    return KERNELS.get((name, "numpy" if isinstance(floats, np.ndarray) else "cupy"))


def _kernel_that_made(cache: Any, name: str) -> Kernel | None:
    for (operation, _), kernel in KERNELS.items():
        if operation == name and type(cache) is kernel.cache:
            return kernel
    return None
