"""Operations with optimised versions, the kernels, and the table of these.

A program that imports only :mod:`minizha.ops` runs the plain functions of this package. Importing
:mod:`minizha.kernels` fills the table; from then on, a call with float arrays runs the kernel for
their library, if there is one. Complex arrays always run the plain function, so that the complex
step differentiates the plain mathematics. A kernel may keep less than the plain function does, if
nobody reads the caches but its backward function: a model's call says so by :data:`NEEDED`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import Enum
from functools import wraps
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import is_array
from minizha.ops.operation import operation


class Needed(Enum):
    """What the caches of operations are needed for."""

    NOTHING = "no backward pass follows"
    BACKWARD = "the backward functions read them, and nobody else"
    EVERYTHING = "the caller reads them: they have the fields of the plain pairs"


NEEDED: ContextVar[Needed] = ContextVar("needed", default=Needed.EVERYTHING)
"""What this thread's caches are needed for. Outside of a model's call, the caller has them."""


@contextmanager
def caches_needed_for(needed: Needed) -> Iterator[None]:
    """Set :data:`NEEDED` while the block runs."""
    token = NEEDED.set(needed)
    try:
        yield
    finally:
        NEEDED.reset(token)


def unread(*arguments: Any, **options: Any) -> bool:
    """What a kernel takes that keeps less than the plain pair: any arguments, if nobody reads caches."""
    return NEEDED.get() is not Needed.EVERYTHING


class Kernel(NamedTuple):
    """A pair that computes the same as the plain pair. Its cache has a type of its own, by which
    ``op_backward`` recognises it. ``takes`` says, of the arguments of the operation, whether the
    kernel can replace it; None stands for always."""

    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[..., Any]
    cache: type
    takes: Callable[..., bool] | None = None


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
        if kernel is not None and kernel.takes is not None:
            kernel = kernel if kernel.takes(*arguments, **options) else None
        return (plain if kernel is None else kernel.forward)(*arguments, **options)

    @wraps(plain)
    def backward(dy: Any, cache: Any, *rest: Any) -> Any:
        kernel = _kernel_that_made(cache, name)
        return (plain if kernel is None else kernel.backward)(dy, cache, *rest)

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
