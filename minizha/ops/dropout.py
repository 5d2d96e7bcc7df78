"""Dropout: in training, numbers chosen at random are set to 0 and the others are scaled up."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np

from minizha.backend import Array, namespace, to_backend
from minizha.ops.operation import operation


class RandomNumbers(Protocol):
    """Where dropout's numbers come from: a ``numpy.random.Generator``, or another object with this
    method of it."""

    def random(self, size: tuple[int, ...], dtype: Any) -> Any:
        """Numbers in [0, 1) of this shape and dtype."""


Rng = RandomNumbers | None
"""The random numbers of dropout; None outside of training."""


class DropoutCache(NamedTuple):
    """The factor of each element, 0 or 1 / (1 − rate); None where nothing was dropped."""

    factor: Array | None


@operation
def dropout(x: Array, rate: float, rng: Rng) -> tuple[Array, DropoutCache]:
    """``y = x · factor``, ``factor = 0`` with probability ``rate``, else ``1 / (1 − rate)``

    Shapes: x (…) → y (…) of x's dtype.

    Convention: scaled while training ("inverted" dropout), so that E[y] = x and evaluation is
    the identity: with ``rng=None`` or ``rate=0``, y is x itself. Random numbers are drawn on the
    host, in float32, so that the factors are the same in NumPy and CuPy, float32 and float64.

    Source: Srivastava et al. 2014; ``torch.nn.Dropout``.
    """
    if rng is None or rate == 0.0:
        return x, DropoutCache(None)
    retained = rng.random(x.shape, np.float32) >= rate
    factor = to_backend(retained, namespace(x), dtype=x.real.dtype)
    factor *= 1.0 / (1.0 - rate)
    return x * factor, DropoutCache(factor)


@operation
def dropout_backward(dy: Array, cache: DropoutCache) -> Array:
    """``dx = dy · factor``

    In the forward pass this was ``y = x · factor`` with a factor that does not depend on x.

    Derived in the book, equation ``act-dropout-dx``.

    Shapes: dy (…) → dx (…).
    """
    return dy if cache.factor is None else dy * cache.factor
