"""GELU, the activation of every released NEZHA: x times the normal distribution function Φ(x).

Φ(x) is the probability that a standard normal number is below x. NumPy has neither Φ nor erf
(``Φ(x) = (1 + erf(x / √2)) / 2``), so Φ is computed here. (On the CPU, float models run
:mod:`minizha.kernels.gelu`, which computes the same in cache-sized blocks.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

from minizha.backend import Array, namespace
from minizha.ops.operation import operation
from minizha.ops.replaceable import replaceable

# Φ(−z) = exp(−z²/2) · P(z) / Q(z) for z ≥ 0, highest powers first: Hart et al., Computer
# Approximations (1968), no. 5666. P and Q are positive. Φ(−z) tends to φ(z)/z for large z, so the
# quotient of the leading coefficients should be 1/√(2π); it is close to that, 1.8e-5 too large. The
# relative error grows towards this number, and is 3.5e-6 at z = 37, shortly before Φ(−z) is 0.
HART = (
    (0.0352624965998911, 0.700383064443688, 6.37396220353165, 33.912866078383,
     112.079291497871, 221.213596169931, 220.206867912376),
    (0.0883883476483184, 1.75566716318264, 16.064177579207, 86.7807322029461,
     296.564248779674, 637.333633378831, 793.826512519948, 440.413735824752),
)  # fmt: skip
FAR = 40.0  # exp(−40²/2) is 0 even in float64


def normal_cdf(x: Array) -> Array:
    """``Φ(x) = ∫_{−∞}^x exp(−t²/2) / √(2π) dt``

    Shapes: x (…) → phi (…); float32, float64 or complex128.

    Convention: absolute error below 3e-16 in float64. For complex x = a + ib, b is taken as
    infinitesimal: ``Φ(a) + ib · φ(a)``. Complex-step differentiation needs no more.

    Source: Hart et al. 1968, number 5666, the form in West, "Better approximations to
    cumulative normal functions" (2005).
    """
    xp = namespace(x)
    if x.dtype.kind == "c":
        return normal_cdf(x.real) + 1j * (x.imag * normal_pdf(x.real))
    z = xp.minimum(xp.abs(x), FAR)
    P, Q = HART
    numerator, denominator = z * P[0] + P[1], z * Q[0] + Q[1]
    for p, q in zip(P[2:], Q[2:-1], strict=True):
        numerator, denominator = numerator * z + p, denominator * z + q
    denominator = denominator * z + Q[-1]
    tail = xp.exp(z * z * -0.5) * numerator / denominator
    return xp.where(x > 0, 1.0 - tail, tail)


def normal_pdf(x: Array) -> Array:
    """``φ(x) = exp(−x²/2) / √(2π)``, the slope of Φ

    Shapes: x (…) → density (…).
    """
    return namespace(x).exp(x * x * -0.5) * (1.0 / math.sqrt(2.0 * math.pi))


class GeluCache(NamedTuple):
    """The input and Φ(x); the backward pass computes φ(x) anew, which costs one exp."""

    x: Array
    cdf: Array


@replaceable
def gelu(x: Array) -> tuple[Array, GeluCache]:
    """``y = x · Φ(x)``

    Shapes: x (…) → y (…).

    Convention: the exact ("erf") form. ``gelu_new`` differs from it by up to 4.7e-4.

    Source: Hendrycks and Gimpel 2016; ``hidden_act="gelu"``, as every released config.json says.
    """
    cdf = normal_cdf(x)
    return x * cdf, GeluCache(x, cdf)


@replaceable
def gelu_backward(dy: Array, cache: GeluCache) -> Array:
    """``dx = dy · (Φ(x) + x · φ(x))``

    In the forward pass this was ``y = x · Φ(x)``: the product rule, with Φ′ = φ.

    Derived in the book, equation ``act-gelu-dx``.

    Shapes: dy (…) → dx (…).
    """
    x, cdf = cache
    return dy * (cdf + x * normal_pdf(x))


class GeluNewCache(NamedTuple):
    """The input and the value of tanh."""

    x: Array
    t: Array


@operation
def gelu_new(x: Array) -> tuple[Array, GeluNewCache]:
    """``y = x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))``

    Shapes: x (…) → y (…).

    Convention: the tanh form, an approximation to GELU from a time when erf was expensive.

    Source: Hendrycks and Gimpel 2016, section 2; ``hidden_act="gelu_new"``; Huawei's TensorFlow code.
    """
    # x * x * x: a power costs a hundred times as much
    t = namespace(x).tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * (x * x * x)))
    return 0.5 * x * (1.0 + t), GeluNewCache(x, t)


@operation
def gelu_new_backward(dy: Array, cache: GeluNewCache) -> Array:
    """``dx = dy · ((1 + t)/2 + x/2 · (1 − t²) · √(2/π) · (1 + 3 · 0.044715 x²))``

    In the forward pass this was ``y = x/2 · (1 + t)``, ``t = tanh(u(x))``: the product rule,
    with ``tanh′ = 1 − t²`` and the slope of the polynomial u.

    Derived in the book, equation ``act-tanh-slope``.

    Shapes: dy (…) → dx (…).
    """
    x, t = cache
    slope_of_u = math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * 0.044715 * (x * x))
    return dy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope_of_u)
