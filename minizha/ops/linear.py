"""Linear: every output feature is a weighted sum of the input features."""

from __future__ import annotations

from typing import NamedTuple

from minizha.backend import Array
from minizha.ops.replaceable import replaceable


class LinearCache(NamedTuple):
    """The two factors of the product: the gradient of each is computed from the other."""

    x: Array
    weight: Array


@replaceable
def linear(x: Array, weight: Array, bias: Array) -> tuple[Array, LinearCache]:
    """``y = x · weightᵀ + bias``

    Shapes: x (…, I), weight (O, I), bias (O) → y (…, O); float32, float64 or complex128.

    Convention: weight is stored (out, in), as in PyTorch's checkpoints.

    Source: ``torch.nn.Linear``; every ``query``, ``key``, ``value`` and ``dense`` of the model.
    """
    rows = x.reshape(-1, x.shape[-1])  # (T, I): one large product instead of B small ones
    y = rows @ weight.T + bias  # (T, O)
    return y.reshape(*x.shape[:-1], weight.shape[0]), LinearCache(x, weight)


@replaceable
def linear_backward(dy: Array, cache: LinearCache) -> tuple[Array, Array, Array]:
    """``dx = dy · weight``, ``dweight = dyᵀ · x``, ``dbias = Σ dy``

    In the forward pass this was ``y[t, o] = Σ_i x[t, i] · weight[o, i] + bias[o]``. x[t, i] occurs
    in y[t, o] for every o, with factor weight[o, i]; weight[o, i] for every row t, with factor
    x[t, i]; bias[o] for every row, with factor 1. The gradient of each is the sum over the axis
    that it does not have.

    Shapes: dy (…, O) → dx (…, I), dweight (O, I), dbias (O).

    Derived in the book, equations ``lin-dx``, ``lin-dw`` and ``lin-db``.
    """
    x, weight = cache  # (…, I), (O, I)
    dy_rows = dy.reshape(-1, dy.shape[-1])  # (T, O)
    x_rows = x.reshape(-1, x.shape[-1])  # (T, I)
    dx = (dy_rows @ weight).reshape(x.shape)
    dweight = dy_rows.T @ x_rows
    dbias = dy_rows.sum(axis=0)  # (O)
    return dx, dweight, dbias
