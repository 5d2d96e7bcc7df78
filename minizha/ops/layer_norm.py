"""Layer normalisation: every vector is brought to mean 0 and variance 1, then scaled and shifted."""

from __future__ import annotations

from typing import NamedTuple

from minizha.backend import Array, namespace
from minizha.ops.replaceable import replaceable


class LayerNormCache(NamedTuple):
    """The normalised vectors and 1/√(σ² + eps); x itself is not needed again."""

    normalised: Array
    inverse_std: Array
    weight: Array


@replaceable
def layer_norm(x: Array, weight: Array, bias: Array, eps: float) -> tuple[Array, LayerNormCache]:
    """``y = weight · (x − μ) / √(σ² + eps) + bias``, with μ and σ² over the last axis

    Shapes: x (…, D), weight (D), bias (D) → y (…, D); float32, float64 or complex128.

    Convention: biased variance (the mean of squares, divided by D and not D − 1), and eps
    inside the root.

    Source: Ba, Kiros and Hinton 2016, equation 4; ``torch.nn.LayerNorm``.
    """
    xp = namespace(x)
    centred = x - x.mean(axis=-1, keepdims=True)
    # a product, not var(), which takes |·|²: that has no complex derivative
    variance = (centred * centred).mean(axis=-1, keepdims=True)  # (…, 1)
    inverse_std = 1.0 / xp.sqrt(variance + eps)
    normalised = centred * inverse_std
    return normalised * weight + bias, LayerNormCache(normalised, inverse_std, weight)


@replaceable
def layer_norm_backward(dy: Array, cache: LayerNormCache) -> tuple[Array, Array, Array]:
    """``dx = (dn − mean(dn) − n · mean(dn · n)) · s``, n the normalised x, s = 1/√(σ² + eps)

    In the forward pass this was, line by line, and now in mirror order:

    * ``y = n · weight + bias``, so ``dbias = Σ dy``, ``dweight = Σ dy · n``, ``dn = dy · weight``;
    * ``n = c · s`` with ``c = x − μ`` and ``s = (mean(c²) + eps)^(−1/2)``. c acts directly, by
      ``dn · s``, and through s: ``∂s/∂c = −s³ · c / D``, which adds
      ``−s³ · c · mean(dn · c) = −s · n · mean(dn · n)``;
    * ``c = x − mean(x)``: the same subtraction applied to the gradient, ``dx = dc − mean(dc)``.
      The mean of the second term vanishes because mean(n) = 0, and the line above remains.

    So dx has no component along (1, …, 1), nor (but for eps) along n: shifting or stretching x
    changes nothing. A dy of ones therefore gives dx = 0 where weight is constant, and tests nothing.

    Derived in the book, equations ``ln-affine`` and ``ln-dx``.

    Shapes: dy (…, D) → dx (…, D), dweight (D), dbias (D).
    """
    n, inverse_std, weight = cache  # (…, D), (…, 1), (D)
    lead = tuple(range(dy.ndim - 1))
    dbias = dy.sum(axis=lead)
    dweight = (dy * n).sum(axis=lead)
    dn = dy * weight
    along_n = (dn * n).mean(axis=-1, keepdims=True)
    dx = (dn - dn.mean(axis=-1, keepdims=True) - n * along_n) * inverse_std
    return dx, dweight, dbias
