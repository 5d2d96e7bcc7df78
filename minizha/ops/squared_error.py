"""Mean squared error: how far the numbers of a regression are from their targets."""

from __future__ import annotations

from typing import NamedTuple

from minizha.backend import Array, namespace
from minizha.ops.operation import operation


class SquaredErrorCache(NamedTuple):
    """``y − targets``, and the divisor of the sum."""

    difference: Array
    count: int


@operation
def squared_error(
    y: Array, targets: Array, count: int | None = None
) -> tuple[Array, SquaredErrorCache]:
    """``loss = mean over t and c of (y[t, c] − targets[t, c])²``

    Shapes: y (T, C), targets (T, C) → loss ().

    Convention: the mean is over all numbers, rows and columns alike; no factor ½. The sum is
    accumulated in float64; the loss has y's dtype. ``count`` is the divisor of the sum, by default
    the number of numbers, as in :func:`~minizha.ops.cross_entropy.cross_entropy`.

    Source: ``torch.nn.MSELoss``, reduction "mean".
    """
    xp, difference = namespace(y), y - targets
    wide = xp.complex128 if difference.dtype.kind == "c" else xp.float64
    count = max(difference.size, 1) if count is None else count
    loss = (difference * difference).sum(dtype=wide) / count  # ()
    return xp.asarray(loss, dtype=y.dtype), SquaredErrorCache(difference, count)


@operation
def squared_error_backward(dloss: Array | float, cache: SquaredErrorCache) -> Array:
    """``dy[t, c] = dloss · 2 · (y[t, c] − targets[t, c]) / count``, count = T · C by default

    In the forward pass this was a mean of squares; the slope of x² is 2x. The targets are
    constants.

    Shapes: dloss () → dy (T, C).

    Derived in the book, equation ``soft-mse``.
    """
    return cache.difference * (dloss * (2.0 / cache.count))
