"""Binary cross-entropy: an independent yes or no for each column, in nats."""

from __future__ import annotations

from typing import NamedTuple

from minizha.backend import Array, namespace
from minizha.ops.operation import operation


class BinaryCrossEntropyCache(NamedTuple):
    """``σ(logits)``, the probabilities of "yes"; the targets; and the divisor of the sum."""

    probs: Array
    targets: Array
    count: int


@operation
def binary_cross_entropy(
    logits: Array, targets: Array, count: int | None = None
) -> tuple[Array, BinaryCrossEntropyCache]:
    """``loss = mean over t and c of (log(1 + exp(z)) − targets[t, c] · z)``, ``z = logits[t, c]``

    This is ``−targets · log σ(z) − (1 − targets) · log(1 − σ(z))``, in a form that never takes the
    logarithm of 0.

    Shapes: logits (T, C), targets (T, C) → loss ().

    Convention: targets in [0, 1]; the mean is over all numbers, rows and columns alike.
    log(1 + exp(z)) is computed as max(z, 0) + log(1 + exp(−|z|)), which never overflows. The
    sum is accumulated in float64; the loss has logits' dtype. ``count`` is the divisor of the sum,
    by default the number of numbers, as in :func:`~minizha.ops.cross_entropy.cross_entropy`.

    Source: ``torch.nn.BCEWithLogitsLoss``, reduction "mean".
    """
    xp = namespace(logits)
    # |z| by the sign of the real part, so that the complex step works
    positive = logits.real > 0.0
    small = xp.exp(xp.where(positive, -logits, logits))
    # log, not log1p: CuPy's takes real numbers only, and its extra digits vanish in the sum with z
    softplus = logits * positive + xp.log(1.0 + small)
    wide = xp.complex128 if logits.dtype.kind == "c" else xp.float64
    count = max(logits.size, 1) if count is None else count
    loss = (softplus - targets * logits).sum(dtype=wide) / count  # ()
    probs = xp.where(positive, xp.ones_like(small), small) / (1.0 + small)
    return xp.asarray(loss, dtype=logits.dtype), BinaryCrossEntropyCache(probs, targets, count)


@operation
def binary_cross_entropy_backward(dloss: Array | float, cache: BinaryCrossEntropyCache) -> Array:
    """``dlogits[t, c] = dloss · (σ(z) − targets[t, c]) / count``, count = T · C by default

    In the forward pass this was a mean of ``log(1 + exp(z)) − targets · z``. The slope of
    log(1 + exp(z)) is exp(z) / (1 + exp(z)) = σ(z), that of targets · z is the target.

    Shapes: dloss () → dlogits (T, C).

    Derived in the book, equation ``soft-dbce``.
    """
    return (cache.probs - cache.targets) * (dloss / cache.count)
