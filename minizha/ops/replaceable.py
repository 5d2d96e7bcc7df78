"""Operations with optimised versions, the kernels, and the table of these.

A program that imports only :mod:`minizha.ops` runs the plain functions of this package. Importing
:mod:`minizha.kernels` fills the table; from then on, a call with float arrays runs the kernel for
their library, if there is one. Complex arrays always run the plain function, so that the complex
step differentiates the plain mathematics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import is_array
from minizha.ops.operation import operation


class Kernel(NamedTuple):
    """A pair that computes the same as the plain pair. Its cache has a type of its own, by which
    ``op_backward`` recognises it."""

    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[..., Any]
    cache: type


KERNELS: dict[tuple[str, str], Kernel] = {}
"""``KERNELS["gelu", "numpy"]`` replaces ``gelu`` and ``gelu_backward`` for NumPy arrays."""


def replaceable(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Mark one half of a pair, ``op`` or ``op_backward``, as an operation that a kernel may replace.

    The plain function remains available as ``op.plain``.
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

    marked = operation(forward if plain.__name__ == name else backward)
    marked.plain = plain  # type: ignore[attr-defined]  # functions may have it
    return marked


def _kernel_for(name: str, values: Iterable[Any]) -> Kernel | None:
    """The kernel for the library of the float arrays; None if there is none, or an array is
    complex."""
    floats = None
    for value in values:
        if is_array(value):
            if value.dtype.kind == "c":
                return None
            if value.dtype.kind == "f":
                floats = value
    if floats is None:
        return None
    return KERNELS.get((name, "numpy" if isinstance(floats, np.ndarray) else "cupy"))


def _kernel_that_made(cache: Any, name: str) -> Kernel | None:
    for (replaced, _), kernel in KERNELS.items():
        if replaced == name and type(cache) is kernel.cache:
            return kernel
    return None
