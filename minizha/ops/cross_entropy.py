"""Cross-entropy: the mean negative log-likelihood of the labels, in nats."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minizha.backend import Array, namespace, to_backend, to_host
from minizha.ops.operation import operation

IGNORED = -100
"""The label of an ignored row, which adds nothing to the loss and has gradient 0."""


class CrossEntropyCache(NamedTuple):
    """The probabilities of the labelled rows, their labels and indices, the divisor of the sum,
    and the shape of all logits."""

    probs: Array
    labels: Array
    rows: Array
    count: int
    shape: tuple[int, int]


def labelled_rows(labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """The indices of the labelled rows, and their labels, both on the host.

    Shapes: labels (T) integers → rows (M), row_labels (M), with M the number of labels ≠ −100.

    Convention: ignored rows are removed before any label is used as an index, because −100 as an
    index raises no error: it counts from the end. Labels are read on the host; a CuPy array of
    labels is copied to the host, which waits for the device.
    """
    labels = to_host(labels)
    rows = np.flatnonzero(labels != IGNORED)  # (M)
    return rows, labels[rows]


@operation
def cross_entropy(
    logits: Array, labels: Array, count: int | None = None
) -> tuple[Array, CrossEntropyCache]:
    """``loss = mean over labelled rows of (log Σ_v exp(logits[t, v]) − logits[t, labels[t]])``

    Shapes: logits (T, V), labels (T) integers in [0, V) or −100 → loss ().

    Convention: rows labelled −100 are ignored, in the sum and in the count. If all are, the loss
    is 0 (PyTorch returns NaN). log Σ exp is computed with the largest logit subtracted, never as
    log(p + ε). The sum is accumulated in float64; the loss has logits' dtype. ``count`` is the
    divisor of the sum, by default the number of labelled rows. If these rows are a part of a
    larger batch, pass the number of its labelled rows: the losses of the parts then add up to its
    mean.

    Source: ``torch.nn.CrossEntropyLoss``, reduction "mean".
    """
    xp, shape = namespace(logits), logits.shape
    rows, labels = (to_backend(a, xp) for a in labelled_rows(labels))  # (M), (M)
    if rows.shape[0] < shape[0]:
        logits = logits[rows]  # (M, V)
    count = max(rows.shape[0], 1) if count is None else count
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    probs = xp.exp(shifted)
    total = probs.sum(axis=-1, keepdims=True)  # (M, 1)
    probs /= total
    nll = xp.log(total[:, 0]) - shifted[xp.arange(logits.shape[0]), labels]
    wide = xp.complex128 if nll.dtype.kind == "c" else xp.float64
    loss = nll.sum(dtype=wide) / count  # ()
    cache = CrossEntropyCache(probs, labels, rows, count, shape)
    return xp.asarray(loss, dtype=logits.dtype), cache


@operation
def cross_entropy_backward(dloss: Array | float, cache: CrossEntropyCache) -> Array:
    """``dlogits[t, v] = dloss · (probs[t, v] − [v = labels[t]]) / count``, and 0 in ignored rows

    In the forward pass this was ``loss = mean(log Σ exp(z) − z[label])``. The slope of
    log Σ exp is the softmax, that of ``−z[label]`` is −1 at the label, and the mean divides by
    the count of labelled rows. Every row of dlogits sums to 0, because adding one number to all
    logits changes nothing.

    Shapes: dloss () → dlogits (T, V).

    Derived in the book, equations ``soft-dz`` and ``soft-dlogits``.
    """
    probs, labels, rows, count, shape = cache  # (M, V), (M), (M)
    xp = namespace(probs)
    dlabelled = probs.copy()
    dlabelled[xp.arange(probs.shape[0]), labels] -= 1.0
    dlabelled *= dloss / count
    if rows.shape[0] == shape[0]:
        return dlabelled
    dlogits = xp.zeros(shape, dtype=probs.dtype)  # (T, V)
    dlogits[rows] = dlabelled
    return dlogits
