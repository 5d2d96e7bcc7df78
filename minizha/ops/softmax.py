"""Softmax: scores become a probability distribution over the last axis."""

from __future__ import annotations

from typing import NamedTuple

from minizha.backend import Array, namespace
from minizha.ops.operation import operation


class SoftmaxCache(NamedTuple):
    """Only the result: the derivative of softmax is a function of its value."""

    probs: Array


@operation
def softmax(scores: Array, mask: Array | None = None) -> tuple[Array, SoftmaxCache]:
    """``probs[j] = exp(scores[j] + mask[j]) / Σ_k exp(scores[k] + mask[k])``

    Shapes: scores (…, L) → probs (…, L); float32, float64 or complex128.

    mask broadcasts to (…, L); None stands for 0.

    Convention: the largest score is subtracted first, which cancels in the quotient and keeps
    exp from overflowing. A row of equal scores, however low, gives the uniform distribution, and
    so does a fully masked row.

    Source: Vaswani et al. 2017, equation 1.
    """
    xp = namespace(scores)
    scores = scores if mask is None else scores + mask
    # .real: complex numbers have no maximum, and the shift may be any constant
    exponentials = xp.exp(scores - scores.real.max(axis=-1, keepdims=True))
    probs = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probs, SoftmaxCache(probs)


@operation
def softmax_backward(dprobs: Array, cache: SoftmaxCache) -> Array:
    """``dscores = probs · (dprobs − Σ_k dprobs[k] · probs[k])``

    In the forward pass this was ``p = e / Σ e`` with ``e = exp(s + mask)``; the mask is a constant.
    From the quotient, ``∂p[k]/∂s[j] = p[k] · (δ_{jk} − p[j])``; summed against dprobs[k], the δ
    leaves ``p[j] · dp[j]`` and the rest is p[j] times one number a row, the mean of dp under p.
    A dprobs of ones equals that mean everywhere and gives 0: the probabilities always sum to 1.

    Shapes: dprobs (…, L) → dscores (…, L).

    Derived in the book, equations ``soft-jacobian`` and ``soft-ds``.
    """
    probs = cache.probs
    mean = (dprobs * probs).sum(axis=-1, keepdims=True)  # (…, 1)
    return probs * (dprobs - mean)
