"""Fast twins of a few operations, for one array library each.

A kernel computes what the plain operation of :mod:`minizha.ops` computes, from the same
arguments, by other means; its cache may hold something else, so forward and backward are chosen
together. A property test holds each to its plain twin. To read the mathematics, stay in ops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minizha.kernels import gelu as numpy_gelu


class Kernel(NamedTuple):
    """A pair, and the type of the cache by which its backward pass is recognised."""

    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[..., Any]
    cache: type


NUMPY_KERNELS = {
    "gelu": Kernel(numpy_gelu.gelu, numpy_gelu.gelu_backward, numpy_gelu.SlopeCache),
}


def with_kernel(
    name: str, plain: Callable[..., tuple[Any, Any]], plain_backward: Callable[..., Any]
) -> tuple[Callable[..., tuple[Any, Any]], Callable[..., Any]]:
    """The pair that takes the kernel for real NumPy arrays and the plain operation for all else."""
    kernel = NUMPY_KERNELS[name]

    def forward(x: Any, *arguments: Any) -> tuple[Any, Any]:
        fast = isinstance(x, np.ndarray) and x.dtype.kind == "f"
        return (kernel.forward if fast else plain)(x, *arguments)

    def backward(dy: Any, cache: Any) -> Any:
        return (kernel.backward if isinstance(cache, kernel.cache) else plain_backward)(dy, cache)

    return forward, backward
