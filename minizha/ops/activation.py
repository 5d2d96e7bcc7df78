"""The other activations, and the table of all values of ``hidden_act``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from minizha.backend import Array, namespace
from minizha.ops.gelu import gelu, gelu_backward, gelu_new, gelu_new_backward
from minizha.ops.operation import operation


class ReluCache(NamedTuple):
    """Where the input was positive."""

    positive: Array


@operation
def relu(x: Array) -> tuple[Array, ReluCache]:
    """``y = max(x, 0)``

    Shapes: x (…) → y (…).

    Convention: the slope at exactly 0 is 0.

    Source: ``hidden_act="relu"``.
    """
    positive = x.real > 0
    return x * positive, ReluCache(positive)


@operation
def relu_backward(dy: Array, cache: ReluCache) -> Array:
    """``dx = dy · [x > 0]``

    In the forward pass this was ``y = x · [x > 0]``.

    Derived in the book, equation ``act-relu``.

    Shapes: dy (…) → dx (…).
    """
    return dy * cache.positive


class SiluCache(NamedTuple):
    """The input and σ(x)."""

    x: Array
    sigmoid: Array


@operation
def silu(x: Array) -> tuple[Array, SiluCache]:
    """``y = x · σ(x)``, ``σ(x) = 1 / (1 + exp(−x))``

    Shapes: x (…) → y (…).

    Convention: σ is computed as ``(1 + tanh(x/2)) / 2``, which never overflows.

    Source: Elfwing et al. 2017; ``hidden_act="silu"`` or ``"swish"``.
    """
    sigmoid = 0.5 * (1.0 + namespace(x).tanh(0.5 * x))
    return x * sigmoid, SiluCache(x, sigmoid)


@operation
def silu_backward(dy: Array, cache: SiluCache) -> Array:
    """``dx = dy · (σ + x · σ · (1 − σ))``

    In the forward pass this was ``y = x · σ(x)``: the product rule, with ``σ′ = σ (1 − σ)``.

    Derived in the book, equation ``act-silu``.

    Shapes: dy (…) → dx (…).
    """
    x, sigmoid = cache
    return dy * (sigmoid + x * sigmoid * (1.0 - sigmoid))


class TanhCache(NamedTuple):
    """The result: the derivative of tanh is a function of its value."""

    y: Array


@operation
def tanh(x: Array) -> tuple[Array, TanhCache]:
    """``y = tanh(x)``

    Shapes: x (…) → y (…).

    Source: the pooler; ``hidden_act="tanh"``.
    """
    y = namespace(x).tanh(x)
    return y, TanhCache(y)


@operation
def tanh_backward(dy: Array, cache: TanhCache) -> Array:
    """``dx = dy · (1 − y²)``

    In the forward pass this was ``y = tanh(x)``, and ``tanh′ = 1 − tanh²``.

    Derived in the book, equation ``act-tanh``.

    Shapes: dy (…) → dx (…).
    """
    return dy * (1.0 - cache.y * cache.y)


class Activation(NamedTuple):
    """A pair: the function and its backward pass."""

    forward: Callable[[Array], tuple[Array, Any]]
    backward: Callable[[Array, Any], Array]


ACTIVATIONS = {
    "gelu": Activation(gelu, gelu_backward),
    "gelu_new": Activation(gelu_new, gelu_new_backward),
    "relu": Activation(relu, relu_backward),
    "silu": Activation(silu, silu_backward),
    "swish": Activation(silu, silu_backward),
    "tanh": Activation(tanh, tanh_backward),
}
"""The values that ``hidden_act`` may take."""
