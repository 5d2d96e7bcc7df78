"""GELU on the CPU, block by block.

The plain operation (:mod:`minizha.ops.gelu`) makes some thirty passes over the model's widest
arrays, and each pass waits for memory. Here every pass covers a block that stays in the processor's
cache, and writes its results into the same few scratch rows. The derivative needs exp(−x²/2), which
the forward pass computes anyway; so it is computed there too, and the backward pass is one product.
Where no backward pass follows, there is no derivative.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minizha.ops.gelu import FAR, HART
from minizha.ops.replaceable import NEEDED, Needed

BLOCK = 16384  # in float32, a block and its results, half a MiB, fit in a second-level cache

# Φ(−z) = exp(−z²/2) · P(z) / Q(z), highest power first. For float32 a shorter quotient suffices,
# fitted by weighted least squares: the absolute error of Φ is below 3e-10.
_SHORT = (
    (0.00993635398919, 0.0864656672099, 0.297783956093, 0.49999999974),
    (0.0249880657769, 0.2152388265, 0.784746470454, 1.39345241661, 1.0),
)
_FAR_FLOAT32 = 15.0  # exp(−15²/2) is 0 in float32


class SlopeCache(NamedTuple):
    """The slope ``Φ(x) + x · φ(x)``; None where caches are needed for nothing."""

    slope: np.ndarray | None


def gelu(x: np.ndarray) -> tuple[np.ndarray, SlopeCache]:
    """``y = x · Φ(x)``; float32 or float64 of any shape."""
    flat = np.ascontiguousarray(x).reshape(-1)
    y = np.empty_like(flat)
    slope = None if NEEDED.get() is Needed.NOTHING else np.empty_like(flat)
    scratch = np.empty((5, min(BLOCK, flat.size)), dtype=x.dtype)
    for start in range(0, flat.size, BLOCK):
        block = slice(start, start + BLOCK)
        _block(flat[block], y[block], None if slope is None else slope[block], scratch)
    return y.reshape(x.shape), SlopeCache(None if slope is None else slope.reshape(x.shape))


def gelu_backward(dy: np.ndarray, cache: SlopeCache) -> np.ndarray:
    """``dx = dy · slope``."""
    return dy * cache.slope


def _block(x: np.ndarray, y: np.ndarray, slope: np.ndarray | None, scratch: np.ndarray) -> None:
    z, density, numerator, denominator, cdf = (row[: x.size] for row in scratch)
    p, q, far = (*_SHORT, _FAR_FLOAT32) if x.dtype == np.float32 else (*HART, FAR)
    np.abs(x, out=z)
    np.minimum(z, far, out=z)  # beyond it the density is 0; and P and Q can't overflow
    np.multiply(z, z, out=density)
    density *= -0.5
    np.exp(density, out=density)
    _polynomial(p, z, numerator)
    _polynomial(q, z, denominator)
    numerator /= denominator
    numerator *= density  # Φ(−|x|)
    # Φ(x) = [x ≥ 0] − sign(x) · Φ(−|x|), which keeps the digits of a small Φ. Adding 0 turns −0
    # into 0, since copysign counts −0 as negative and greater_equal does not
    np.add(x, 0.0, out=y)
    np.copysign(numerator, y, out=numerator)
    np.greater_equal(y, 0.0, out=cdf)
    cdf -= numerator
    np.multiply(x, cdf, out=y)
    if slope is not None:
        density *= 1.0 / math.sqrt(2.0 * math.pi)
        density *= x
        np.add(cdf, density, out=slope)


def _polynomial(coefficients: tuple[float, ...], z: np.ndarray, out: np.ndarray) -> None:
    np.multiply(z, coefficients[0], out=out)
    out += coefficients[1]
    for c in coefficients[2:]:
        out *= z
        out += c
