"""AdamW's update of all parameters in one pass, block by block, on all cores.

Fuses the scaling of the gradients and the lines of :func:`~minizha.training.optimizer.adamw_update`, each
of which is a pass over all parameters and waits for memory. Here each line takes a block that stays in
the processor's cache: memory is read for g, m, v and p, and written for m, v and p. The numbers are those
of the plain lines, bit by bit. The moments are written in place; the parameters are new arrays, since
outputs of earlier calls have the old ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minizha.kernels.cores import share

BLOCK = 65536  # six blocks of float32, 768 KiB, fit in a second-level cache


class Rates(NamedTuple):
    """The numbers of an update: step t, from 1; learning rate; scale of the gradients; β₁, β₂ and eps."""

    step: int
    rate: float
    scale: Any
    betas: tuple[float, float]
    eps: float


def update_parameters(
    parameters: Sequence[np.ndarray],
    gradients: Sequence[np.ndarray],
    m: Sequence[np.ndarray],
    v: Sequence[np.ndarray],
    decays: Sequence[float],
    rates: Rates,
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """New parameters, and m and v, which are overwritten.

    All arrays with the same index have the same shape and dtype. ``decays`` are their weight decays.
    """
    m, v = ([np.require(a, requirements="CW") for a in of] for of in (m, v))
    new = [np.empty(p.shape, p.dtype) for p in parameters]
    flat = [
        [a.reshape(-1) for a in arrays]
        for arrays in zip(new, parameters, gradients, m, v, strict=True)
    ]
    blocks = _blocks(parameters)

    def work(first: int, last: int) -> None:
        scratch = {p.dtype: np.empty((2, BLOCK), p.dtype) for p in parameters}
        for i, start in blocks[first:last]:
            arrays = [a[start : start + BLOCK] for a in flat[i]]
            rows = scratch[arrays[0].dtype][:, : arrays[0].size]
            _update((*arrays, *rows), decays[i], rates)

    share(len(blocks), work)
    return new, m, v


def _update(
    arrays: tuple[np.ndarray, ...],
    decay: float,
    rates: Rates,
) -> None:
    """The lines of ``_updated`` in :mod:`minizha.training.optimizer`, for one block."""
    new, p, g, m, v, scaled, t = arrays
    (beta1, beta2), step = rates.betas, rates.step
    if rates.scale != 1.0:
        g = np.multiply(g, rates.scale, out=scaled)
    m *= beta1
    m += np.multiply(g, 1.0 - beta1, out=t)
    v *= beta2
    np.multiply(g, g, out=t)
    t *= 1.0 - beta2
    v += t
    np.sqrt(v, out=t)
    t *= (1.0 - beta2**step) ** -0.5
    t += rates.eps
    np.divide(m, t, out=t)
    t *= rates.rate / (1.0 - beta1**step)
    np.multiply(p, 1.0 - rates.rate * decay, out=new)
    new -= t


def sums_of_squares(arrays: Sequence[np.ndarray]) -> list[float]:
    """``Σ g²`` of each array, squared in its dtype and added in float64; infinite where a square is."""
    flat, blocks = [a.reshape(-1) for a in arrays], _blocks(arrays)
    sums = np.zeros(len(blocks))

    def work(first: int, last: int) -> None:
        scratch = {a.dtype: np.empty(BLOCK, a.dtype) for a in arrays}
        with np.errstate(over="ignore"):
            for k in range(first, last):
                i, start = blocks[k]
                block = flat[i][start : start + BLOCK]
                squares = np.multiply(block, block, out=scratch[block.dtype][: block.size])
                sums[k] = squares.sum(dtype=np.float64)

    share(len(blocks), work)
    totals = [0.0] * len(arrays)
    for (i, _), s in zip(blocks, sums.tolist(), strict=True):
        totals[i] += s
    return totals


def _blocks(arrays: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """``(i, start)`` of each block of each array."""
    return [(i, start) for i, a in enumerate(arrays) for start in range(0, a.size, BLOCK)]
