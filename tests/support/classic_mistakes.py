"""Twenty classic mistakes in backward functions, and what a hint must say of each.

LayerNorm, softmax, linear, cross-entropy and attention, four of
each. ``words`` is None where no hint is known to name the mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

EPS = 1e-5


class Mistake(NamedTuple):
    """A pair whose backward has the mistake; ``words`` are what the hint must contain."""

    layer: str
    mistake: str
    backward: Callable[..., Any]
    words: str | None


# --- the right forward functions, of complex numbers, too -------------------------------------------


def layer_norm(x, w, b):
    c = x - x.mean(axis=1, keepdims=True)
    s = 1.0 / np.sqrt((c * c).mean(axis=1, keepdims=True) + EPS)
    n = c * s
    return n * w + b, (n, s, w)


def softmax(z):
    e = np.exp(z - z.real.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y


def linear(x, w, b):
    return x @ w + b, (x, w)


def cross_entropy(z, labels):
    p, _ = softmax(z)
    rows = np.arange(len(labels))
    return -np.log(p[rows, labels]).mean(), (p, np.eye(z.shape[1])[labels])


def attention(q, k, v):
    p, _ = softmax(q @ k.T / np.sqrt(q.shape[-1]))
    return p @ v, (q, k, v, p)


FORWARDS = {
    "LayerNorm": (layer_norm, ((4, 6), (6,), (6,))),
    "softmax": (softmax, ((4, 5),)),
    "linear": (linear, ((5, 4), (4, 4), (4,))),
    "cross-entropy": (cross_entropy, ((4, 5),)),
    "attention": (attention, ((5, 4),) * 3),
}


def arguments(layer: str) -> list[np.ndarray]:
    rng = np.random.default_rng(11)
    rest = [np.array([0, 3, 1, 1])] if layer == "cross-entropy" else []
    return [rng.standard_normal(shape) for shape in FORWARDS[layer][1]] + rest


# --- the right backward functions, with one part replaced --------------------------------------------


def mean(a):
    return a.mean(axis=1, keepdims=True)


def layer_norm_backward(dy, cache, dx=None):
    n, s, w = cache
    dn = dy * w
    right = lambda dn, n, s: (dn - mean(dn) - n * mean(dn * n)) * s  # noqa: E731
    return (dx or right)(dn, n, s), (dy * n).sum(axis=0), dy.sum(axis=0)


def linear_backward(dy, cache, dx=None, dw=None, db=None):
    x, w = cache
    return (
        dy @ w.T if dx is None else dx(dy, x, w),
        x.T @ dy if dw is None else dw(dy, x, w),
        dy.sum(axis=0) if db is None else db(dy),
    )


def softmax_backward(dy, y):
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


def cross_entropy_backward(dloss, cache):
    p, one_hot = cache
    return dloss * (p - one_hot) / len(p)


def attention_backward(dy, cache, scale=True, dv=None):
    q, k, v, p = cache
    ds = softmax_backward(dy @ v.T, p) / (np.sqrt(q.shape[-1]) if scale else 1.0)
    return ds @ k, ds.T @ q, p.T @ dy if dv is None else dv(dy, p)


def swapped(dy, cache):
    dq, dk, dv = attention_backward(dy, cache)
    return dk, dq, dv


RIGHT = {
    "LayerNorm": layer_norm_backward,
    "softmax": softmax_backward,
    "linear": linear_backward,
    "cross-entropy": cross_entropy_backward,
    "attention": attention_backward,
}

MISTAKES = [
    Mistake(
        "LayerNorm",
        "the path through the mean is missing",
        lambda dy, c: layer_norm_backward(dy, c, lambda dn, n, s: (dn - n * mean(dn * n)) * s),
        "subtracting its mean over axis 1 would make it right",
    ),
    Mistake(
        "LayerNorm",
        "the path through the variance is missing",
        lambda dy, c: layer_norm_backward(dy, c, lambda dn, n, s: (dn - mean(dn)) * s),
        "each row along axis 1 is off by a multiple of x − mean(x)",
    ),
    Mistake(
        "LayerNorm",
        "both paths are missing",
        lambda dy, c: layer_norm_backward(dy, c, lambda dn, n, s: dn * s),
        "is off by a constant and a multiple of x − mean(x)",
    ),
    Mistake(
        "LayerNorm",
        "1/σ is missing",
        lambda dy, c: layer_norm_backward(dy, c, lambda dn, n, s: dn - mean(dn) - n * mean(dn * n)),
        "each row along axis 1 is off by a factor of its own",
    ),
    Mistake(
        "softmax",
        "the sum is missing",
        lambda dy, y: dy * y,
        "each row along axis 1 is off by a multiple of y",
    ),
    Mistake(
        "softmax",
        "as if each y had one x",
        lambda dy, y: dy * y * (1.0 - y),
        "only the diagonal of the Jacobian is there",
    ),
    Mistake(
        "softmax",
        "the sum is not multiplied by y",
        lambda dy, y: y * dy - (dy * y).sum(axis=-1, keepdims=True),
        "is off by a constant and a multiple of y",
    ),
    Mistake("softmax", "the sign", lambda dy, y: -softmax_backward(dy, y), "its sign is wrong"),
    Mistake(
        "linear",
        "dw is transposed",
        lambda dy, c: linear_backward(dy, c, dw=lambda dy, x, w: dy.T @ x),
        "it is transposed",
    ),
    Mistake(
        "linear",
        "w is not transposed",
        lambda dy, c: linear_backward(dy, c, dx=lambda dy, x, w: dy @ w),
        "it is what it would be if argument 1 (w) were transposed",
    ),
    Mistake(
        "linear",
        "db is not summed over the rows",
        lambda dy, c: linear_backward(dy, c, db=lambda dy: dy),
        "it is not summed over axis 0",
    ),
    Mistake(
        "linear",
        "db is a mean",
        lambda dy, c: linear_backward(dy, c, db=lambda dy: dy.mean(axis=0)),
        "(1/5) what it should be: a mean in place of a sum",
    ),
    Mistake(
        "cross-entropy",
        "not divided by the number of rows",
        lambda dloss, c: cross_entropy_backward(dloss, c) * len(c[0]),
        "a sum in place of a mean",
    ),
    Mistake(
        "cross-entropy",
        "the labels are not subtracted",
        lambda dloss, c: dloss * c[0] / len(c[0]),
        "only these: [0, 0], [1, 3], [2, 1], [3, 1]",
    ),
    Mistake(
        "cross-entropy",
        "the sign",
        lambda dloss, c: -cross_entropy_backward(dloss, c),
        "its sign is wrong",
    ),
    Mistake(
        "cross-entropy",
        "dloss is forgotten",
        lambda dloss, c: cross_entropy_backward(1.0, c),
        "it does not depend on dy",
    ),
    Mistake(
        "attention",
        "the scale is missing",
        lambda dy, c: attention_backward(dy, c, scale=False),
        "√4: a scale is missing",
    ),
    Mistake(
        "attention", "dq and dk are exchanged", swapped, "it is the gradient of argument 1 (k)"
    ),
    Mistake(
        "attention",
        "the probabilities are missing in dv",
        lambda dy, c: attention_backward(dy, c, dv=lambda dy, p: dy),
        "it is dy itself",
    ),
    Mistake(
        "attention",
        "the probabilities are not transposed",
        lambda dy, c: attention_backward(dy, c, dv=lambda dy, p: p @ dy),
        None,
    ),
]
