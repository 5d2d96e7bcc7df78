"""Cross-entropy: how surprised the model is by the right answer, in nats."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minizha.backend import Array, namespace, to_backend, to_host

IGNORED = -100
"""The label that asks for nothing: its row adds nothing to the loss and gets no gradient."""


class CrossEntropyCache(NamedTuple):
    """The probabilities of the labelled rows, their labels and places, what the sum was divided
    by, and the full shape."""

    probs: Array
    labels: Array
    rows: Array
    count: int
    shape: tuple[int, int]


def labelled_rows(labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """The places in ``labels`` that hold a label, and the labels there, both on the host.

    Shapes: labels (T) integers → rows (M), kept (M), with M the number of labels ≠ −100.

    Convention: rows are selected before anything is gathered with a label, because −100 as an
    index is no error: it counts from the end, in silence. Labels come from the host and are
    looked at there; a CuPy array of labels is copied back, which waits for the device.
    """
    labels = to_host(labels)
    rows = np.flatnonzero(labels != IGNORED)  # (M)
    return rows, labels[rows]


def cross_entropy(
    logits: Array, labels: Array, count: int | None = None
) -> tuple[Array, CrossEntropyCache]:
    """``loss = mean over labelled rows of (log Σ_v exp(logits[t, v]) − logits[t, labels[t]])``

    Shapes: logits (T, V), labels (T) integers in [0, V) or −100 → loss ().

    Convention: rows labelled −100 are left out of the sum and of the count. Where none is
    left, the loss is 0 (PyTorch says NaN). log Σ exp is taken with the largest logit
    subtracted, never as log(p + ε). The sum runs in float64, the loss has logits' dtype.
    ``count`` is what the sum is divided by where these rows are a part of a larger batch, so
    that the parts' losses add up to the mean over all; by default the number of labelled rows.

    Source: ``torch.nn.CrossEntropyLoss``, reduction "mean".
    """
    xp, shape = namespace(logits), logits.shape
    rows, labels = (to_backend(a, xp) for a in labelled_rows(labels))  # (M), (M)
    if rows.shape[0] < shape[0]:
        logits = logits[rows]  # (M, V)
    count = max(rows.shape[0], 1) if count is None else count
    shifted = logits - logits.real.max(axis=-1, keepdims=True)
    exponentials = xp.exp(shifted)
    total = exponentials.sum(axis=-1, keepdims=True)  # (M, 1)
    right = shifted[xp.arange(logits.shape[0]), labels]
    surprise = xp.log(total[:, 0]) - right
    wide = xp.complex128 if surprise.dtype.kind == "c" else xp.float64
    loss = surprise.sum(dtype=wide) / count  # ()
    cache = CrossEntropyCache(exponentials / total, labels, rows, count, shape)
    return xp.asarray(loss, dtype=logits.dtype), cache


def cross_entropy_backward(dloss: Array | float, cache: CrossEntropyCache) -> Array:
    """``dlogits[t, v] = dloss · (probs[t, v] − [v = labels[t]]) / count``, and 0 in ignored rows

    In the forward pass this was ``loss = mean(log Σ exp(z) − z[label])``. The slope of
    log Σ exp is the softmax, that of ``−z[label]`` is −1 at the label, and the mean divides by
    the count of labelled rows. Every row sums to 0: raising all logits changes nothing.

    Shapes: dloss () → dlogits (T, V).
    """
    probs, labels, rows, count, shape = cache  # (M, V), (M), (M)
    xp = namespace(probs)
    dkept = probs.copy()
    dkept[xp.arange(probs.shape[0]), labels] -= 1.0
    dkept *= dloss / count
    if rows.shape[0] == shape[0]:
        return dkept
    dlogits = xp.zeros(shape, dtype=probs.dtype)  # (T, V)
    dlogits[rows] = dkept
    return dlogits
