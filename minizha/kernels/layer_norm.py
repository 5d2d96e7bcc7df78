"""LayerNorm on the CPU, in blocks of rows on all cores.

The plain operation (:mod:`minizha.ops.layer_norm`) makes a dozen passes over whole arrays, in one
thread. Here a block of rows stays in the cache for all of them, and sums of products (einsum) need no
arrays of products. (A matrix product would round a row by its place.) What comes before LayerNorm in a
layer is computed in the same blocks, by :mod:`minizha.kernels.add_and_norm`. Normalised vectors are kept
where a backward pass follows.

Measured on one core, (8, 128) tokens of width 768 in float32: 1.0 ms instead of 1.6, and backward 1.4
instead of 2.0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minizha.kernels.cores import block_length, share
from minizha.ops.replaceable import NEEDED, Needed


class NormCache(NamedTuple):
    """The fields of the plain cache; ``normalised`` is None where no backward pass follows."""

    normalised: np.ndarray | None
    inverse_std: np.ndarray
    weight: np.ndarray


def layer_norm(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    eps: float,
    before: Callable[[slice, np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray, NormCache]:
    """``y = weight · (x − μ) / √(σ² + eps) + bias``, as in the plain operation.

    ``before(rows, out)`` returns the x of a block of rows; it may compute it in ``out``.
    """
    D, lead = x.shape[-1], x.shape[:-1]
    y, inverse_std = np.empty(x.shape, x.dtype), np.empty((*lead, 1), x.dtype)
    normalised = None if NEEDED.get() is Needed.NOTHING else np.empty(x.shape, x.dtype)
    arrays = [rows_of(a) for a in (x, y, y if normalised is None else normalised, inverse_std)]
    blocks = _blocks(arrays[0])

    def work(first: int, last: int) -> None:
        for rows in blocks[first:last]:
            z, out, n, s = (array[rows] for array in arrays)
            z = z if before is None else before(rows, n)
            np.subtract(z, np.einsum("td->t", z)[:, None] / D, out=n)
            variance = np.einsum("td,td->t", n, n)[:, None] / D
            np.divide(1.0, np.sqrt(variance + eps), out=s)
            n *= s
            np.multiply(n, weight, out=out)
            out += bias

    share(len(blocks), work)
    return y, NormCache(normalised, inverse_std, weight)


def layer_norm_backward(
    dy: np.ndarray, cache: NormCache, after: Callable[[slice, np.ndarray], object] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``dx = (dn − mean(dn) − n · mean(dn · n)) · s``, dweight and dbias.

    ``after(rows, dx)`` is called with the dx of each block of rows.
    """
    assert cache.normalised is not None
    D, dtype = dy.shape[-1], np.result_type(dy, cache.normalised)
    dx_whole = np.empty(dy.shape, dtype)
    arrays = [rows_of(a) for a in (dy, cache.normalised, cache.inverse_std, dx_whole)]
    blocks = _blocks(arrays[0])
    sums = np.empty((len(blocks), 2, D), dtype)

    def work(first: int, last: int) -> None:
        for block in range(first, last):
            rows = blocks[block]
            d, n, s, dx = (array[rows] for array in arrays)
            np.einsum("td,td->d", d, n, out=sums[block, 0])
            d.sum(axis=0, out=sums[block, 1])
            np.multiply(d, cache.weight, out=dx)
            along_n = np.einsum("td,td->t", dx, n)[:, None] / D
            dx -= np.einsum("td->t", dx)[:, None] / D
            dx -= n * along_n
            dx *= s
            if after is not None:
                after(rows, dx)

    share(len(blocks), work)
    dweight, dbias = sums.sum(axis=0)  # in one order, whichever thread computed a block
    return dx_whole, dweight, dbias


def rows_of(array: np.ndarray) -> np.ndarray:
    """``(…, D) → (T, D)``"""
    return array.reshape(-1, array.shape[-1])


def _blocks(rows: np.ndarray) -> list[slice]:
    length = block_length(*rows.shape)
    return [slice(start, start + length) for start in range(0, len(rows), length)]
