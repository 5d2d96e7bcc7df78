"""Kinds of forward functions that public NumPy code has, each with its right backward.

Many of them drop imaginary parts, or refuse complex numbers. ``KINDS`` has them by name: a function
that draws the arguments, the pair, and a change that makes one of the gradients wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

EPS = 1e-5
LABELS = np.array([1, 0, 3, 3, 2])


class Kind(NamedTuple):
    """``shapes`` are those of the float arguments, ``rest`` the other arguments, behind them."""

    forward: Callable[..., tuple[Any, Any]]
    backward: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...] = ((4, 6),)
    rest: tuple[Any, ...] = ()

    def arguments(self, seed: int = 0) -> list[Any]:
        rng = np.random.default_rng([seed, 5])
        return [rng.standard_normal(shape) for shape in self.shapes] + list(self.rest)


def wrong_by(change: Callable[[np.ndarray], np.ndarray], backward: Callable[..., Any]) -> Any:
    """The backward function with its first gradient changed."""

    def changed(dy: Any, cache: Any) -> Any:
        gradients = backward(dy, cache)
        if isinstance(gradients, tuple):
            return (change(gradients[0]), *gradients[1:])
        return change(gradients)

    return changed


def normalise(x, w, b, axis, deviation):
    mean = x.mean(axis=axis, keepdims=True)
    if deviation:
        sigma = np.std(x, axis=axis, keepdims=True) + EPS
    else:
        sigma = np.sqrt(np.var(x, axis=axis, keepdims=True) + EPS)
    n = (x - mean) / sigma
    return n * w + b, (n, sigma, w, axis)


def normalise_backward(dy, cache):
    n, sigma, w, axis = cache
    dn = dy * w
    # of σ = std + ε the slope is (x − mean) / std / D; of √(var + ε) it is n / D
    shrink = sigma / (sigma - EPS) if cache[3] == "std" else 1.0
    axis = 1 if axis == "std" else axis
    dx = dn - dn.mean(axis=axis, keepdims=True)
    dx = (dx - shrink * n * (dn * n).mean(axis=axis, keepdims=True)) / sigma
    return dx, (dy * n).sum(axis=0), dy.sum(axis=0)


def layer_norm_var(x, w, b):
    return normalise(x, w, b, 1, deviation=False)


def layer_norm_std(x, w, b):
    y, (n, sigma, w, _) = normalise(x, w, b, 1, deviation=True)
    return y, (n, sigma, w, "std")


def batch_norm(x, w, b):
    return normalise(x, w, b, 0, deviation=False)


def gelu_erf(x):
    phi = 0.5 * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))
    return x * phi, (x, phi)


def gelu_erf_backward(dy, cache):
    x, phi = cache
    return dy * (phi + x * np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi))


def dropout(x, mask):
    return x * mask / 0.75, mask


def tanh_in_place(x):
    y = np.tanh(x)
    return y, y


def tanh_in_place_backward(dy, y):
    y *= -y
    y += 1.0
    dy *= y
    return dy


def maximum(x):
    best = np.argmax(x, axis=1)
    return x.max(axis=1), (best, x.shape)


def maximum_backward(dy, cache):
    best, shape = cache
    dx = np.zeros(shape)
    dx[np.arange(shape[0]), best] = dy
    return dx


def sort(x):
    return np.sort(x, axis=1), np.argsort(x, axis=1)


def sort_backward(dy, order):
    dx = np.zeros(dy.shape)
    np.put_along_axis(dx, order, dy, axis=1)
    return dx


def softmax(z):
    e = np.exp(z - np.max(z, axis=-1, keepdims=True))
    y = e / np.sum(e, axis=-1, keepdims=True)
    return y, y


def softmax_backward(dy, y):
    return y * (dy - np.sum(dy * y, axis=-1, keepdims=True))


def einsum_attention(q, k, v):
    scores = np.einsum("bid,bjd->bij", q, k) / math.sqrt(q.shape[-1])
    p, _ = softmax(scores)
    return np.einsum("bij,bjd->bid", p, v), {"q": q, "k": k, "v": v, "p": p}


def einsum_attention_backward(dy, cache):
    q, k, v, p = cache["q"], cache["k"], cache["v"], cache["p"]
    dv = np.einsum("bij,bid->bjd", p, dy)
    ds = softmax_backward(np.einsum("bid,bjd->bij", dy, v), p) / math.sqrt(q.shape[-1])
    return np.einsum("bij,bjd->bid", ds, k), np.einsum("bij,bid->bjd", ds, q), dv


def relu_where(x):
    return np.where(x > 0, x, 0.0), x


def clip(x):
    return np.clip(x, -0.8, 0.8), x


def absolute(x):
    return np.abs(x), x


def norm(x):
    n = np.linalg.norm(x, axis=1)
    return n, (x, n)


def logaddexp_reduce(x):
    y = np.logaddexp.reduce(x, axis=1)
    return y, (x, y)


def logsumexp(x):
    top = x.max(axis=1)
    y = top + np.log(np.exp(x - top[:, None]).sum(axis=1))
    return y, (x, y)


def logsumexp_backward(dy, cache):
    x, y = cache
    return dy[:, None] * np.exp(x - y[:, None])


def im2col(x, height, width):
    """Each row is a patch: (B, C, H, W) → (B, H', W', C·h·w)."""
    rows, columns = x.shape[2] - height + 1, x.shape[3] - width + 1
    patches = np.zeros((x.shape[0], rows, columns, x.shape[1] * height * width))
    for i in range(rows):
        for j in range(columns):
            patch = x[:, :, i : i + height, j : j + width]
            patches[:, i, j] = patch.reshape(x.shape[0], -1)
    return patches


def convolution(x, w):
    patches = im2col(x, *w.shape[2:])
    y = patches @ w.reshape(w.shape[0], -1).T
    return y.transpose(0, 3, 1, 2), (x.shape, w, patches)


def convolution_backward(dy, cache):
    shape, w, patches = cache
    dy = dy.transpose(0, 2, 3, 1)
    dw = np.tensordot(dy, patches, axes=([0, 1, 2], [0, 1, 2])).reshape(w.shape)
    dpatches = dy @ w.reshape(w.shape[0], -1)
    dx, (height, width) = np.zeros(shape), w.shape[2:]
    for i in range(dy.shape[1]):
        for j in range(dy.shape[2]):
            patch = dpatches[:, i, j].reshape(shape[0], shape[1], height, width)
            dx[:, :, i : i + height, j : j + width] += patch
    return dx, dw


def filled_in_loops(x, w):
    y = np.zeros((x.shape[0], w.shape[1]))
    for i in range(x.shape[0]):
        for j in range(w.shape[1]):
            y[i, j] = np.dot(x[i], w[:, j])
    return y, (x, w)


def linear_backward(dy, cache):
    x, w = cache
    return dy @ w.T, x.T @ dy


def dot_out(x, w):
    y = np.empty((x.shape[0], w.shape[1]))
    np.dot(x, w, out=y)
    return y, (x, w)


def cumsum(x):
    return np.cumsum(x, axis=1), None


def embedding(table, ids):
    return table[ids], (table.shape, ids)


def embedding_backward(dy, cache):
    shape, ids = cache
    dtable = np.zeros(shape)
    np.add.at(dtable, ids, dy)
    return dtable


def max_pool(x):
    windows = x.reshape(x.shape[0], -1, 2)
    y = np.maximum.reduce(windows, axis=2)
    return y, (windows == y[..., None], x.shape)


def max_pool_backward(dy, cache):
    mask, shape = cache
    return (mask * dy[..., None]).reshape(shape)


def cross_entropy(z, labels):
    p, _ = softmax(z)
    rows = np.arange(len(labels))
    return -np.log(p[rows, labels]).mean(), (p, labels)


def cross_entropy_backward(dloss, cache):
    p, labels = cache
    dz = p.copy()
    dz[np.arange(len(labels)), labels] -= 1.0
    return dloss * dz / len(labels)


def outer(a, b):
    return np.outer(a, b), (a, b)


def pad(x):
    return np.pad(x, ((1, 1), (2, 0))), None


def sigmoid_masks(x):
    positive = x >= 0
    y = np.zeros_like(x)
    y[positive] = 1.0 / (1.0 + np.exp(-x[positive]))
    e = np.exp(x[~positive])
    y[~positive] = e / (1.0 + e)
    return y, y


def rnn_step(x, h, w, r, b):
    y = np.tanh(x @ w + h @ r + b)
    return y, (x, h, w, r, y)


def rnn_step_backward(dy, cache):
    x, h, w, r, y = cache
    da = dy * (1.0 - y**2)
    return da @ w.T, da @ r.T, x.T @ da, h.T @ da, da.sum(axis=0)


def as_float(x):
    return np.exp(x.astype(float)), np.exp(x)


def real_part(x):
    e = np.real(np.exp(x))
    return e, e


def softplus(x):
    return np.logaddexp(0.0, x), x


def product(x):
    y = np.prod(x, axis=1)
    return y, (x, y)


def mean_squared_error(x, t):
    return float(np.mean((x - t) ** 2)), (x, t)


def mean_squared_error_backward(dloss, cache):
    x, t = cache
    dx = dloss * 2.0 * (x - t) / x.size
    return dx, -dx


NORM = ((4, 6), (6,), (6,))
MASK = np.random.default_rng(3).random((4, 6)) < 0.75
IDS = np.array([[2, 0, 2], [1, 4, 2]])

KINDS = {
    "LayerNorm with np.var": Kind(layer_norm_var, normalise_backward, NORM),
    "LayerNorm with np.std": Kind(layer_norm_std, normalise_backward, NORM),
    "GELU by math.erf": Kind(gelu_erf, gelu_erf_backward),
    "dropout with a fixed mask": Kind(dropout, lambda dy, m: dy * m / 0.75, rest=(MASK,)),
    "tanh in place": Kind(tanh_in_place, tanh_in_place_backward),
    "max": Kind(maximum, maximum_backward),
    "sort": Kind(sort, sort_backward),
    "softmax less its maximum": Kind(softmax, softmax_backward),
    "attention by einsum": Kind(einsum_attention, einsum_attention_backward, ((2, 3, 4),) * 3),
    "ReLU by np.where": Kind(relu_where, lambda dy, x: dy * (x > 0)),
    "np.clip": Kind(clip, lambda dy, x: dy * (np.abs(x) < 0.8)),
    "np.abs": Kind(absolute, lambda dy, x: dy * np.sign(x)),
    "np.linalg.norm": Kind(norm, lambda dy, c: (dy / c[1])[:, None] * c[0]),
    "np.logaddexp.reduce": Kind(logaddexp_reduce, logsumexp_backward),
    "logsumexp": Kind(logsumexp, logsumexp_backward),
    "convolution by im2col": Kind(convolution, convolution_backward, ((2, 2, 4, 5), (3, 2, 2, 3))),
    "np.zeros filled in loops": Kind(filled_in_loops, linear_backward, ((3, 4), (4, 5))),
    "np.dot with out=": Kind(dot_out, linear_backward, ((3, 4), (4, 5))),
    "cumsum": Kind(cumsum, lambda dy, _: np.cumsum(dy[:, ::-1], axis=1)[:, ::-1]),
    "embedding": Kind(embedding, embedding_backward, ((5, 3),), (IDS,)),
    "pooling by np.maximum.reduce": Kind(max_pool, max_pool_backward),
    "batch norm": Kind(batch_norm, normalise_backward, ((6, 4), (4,), (4,))),
    "cross-entropy": Kind(cross_entropy, cross_entropy_backward, ((5, 4),), (LABELS,)),
    "outer product": Kind(outer, lambda dy, c: (dy @ c[1], dy.T @ c[0]), ((4,), (5,))),
    "np.pad": Kind(pad, lambda dy, _: dy[1:-1, 2:]),
    "sigmoid by masks": Kind(sigmoid_masks, lambda dy, y: dy * y * (1.0 - y)),
    "a step of an RNN": Kind(rnn_step, rnn_step_backward, ((3, 4), (3, 5), (4, 5), (5, 5), (5,))),
    "astype(float)": Kind(as_float, lambda dy, e: dy * e),
    "np.real": Kind(real_part, lambda dy, e: dy * e),
    "softplus by np.logaddexp": Kind(softplus, lambda dy, x: dy / (1.0 + np.exp(-x))),
    "np.prod": Kind(product, lambda dy, c: (dy * c[1])[:, None] / c[0]),
    "a loss as a Python float": Kind(
        mean_squared_error, mean_squared_error_backward, ((3, 4), (3, 4))
    ),
}
