"""Which numbers dropout retains, drawn on all cores: the plain operation's ``rng.random(…) >= rate``.

Drawing takes longer than all that dropout does with the numbers. Here every core draws a part of them:
a generator of PCG64, NumPy's default, can jump to any place of its stream, and of generators for each
row (:mod:`minizha.training.row_generators`) the rows are dealt out. The numbers are those of the plain
operation, and the generators end in the same state. One byte a number is kept instead of a factor.

Measured on two cores: 800,000 numbers in .8 ms instead of 1.5.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minizha.kernels.cores import share
from minizha.ops.dropout import Rng

BLOCK = 65536  # numbers that a call draws; even, since a step of PCG64 gives two


def retained(rng: Rng, shape: tuple[int, ...], rate: float) -> np.ndarray | None:
    """``rng.random(shape, np.float32) >= rate``; None where dropout retains all.

    ``rng`` may have a method ``generators(count)``: it then draws each row, of the first axis, from a
    generator of its own.
    """
    if rng is None or rate == 0.0:
        return None
    keep = np.empty(shape, bool)
    of_rows = getattr(rng, "generators", None)
    if of_rows is not None and shape:
        generators, rows = of_rows(shape[0]), keep.reshape(shape[0], math.prod(shape[1:]))
    else:
        generators, rows = [rng], keep.reshape(1, -1)
    if len(generators) > 1:

        def draw_rows(first: int, last: int) -> None:
            for i in range(first, last):
                _draw(generators[i], rate, rows[i])

        share(len(generators), draw_rows)
    elif len(generators) == 1 and not _draw_by_jumps(generators[0], rate, rows[0]):
        _draw(generators[0], rate, rows[0])
    return keep


def _draw(rng: Any, rate: float, keep: np.ndarray) -> None:
    """One number after the other, in blocks that stay in the cache."""
    for start in range(0, keep.size, BLOCK):
        part = keep[start : start + BLOCK]
        np.greater_equal(rng.random(part.shape, np.float32), rate, out=part)


def _draw_by_jumps(rng: Any, rate: float, keep: np.ndarray) -> bool:
    """Each core from its own place of the stream; False where that can't be done or isn't worth it."""
    source = getattr(rng, "bit_generator", None)
    if keep.size < 2 * BLOCK or type(source) is not np.random.PCG64:
        return False
    with source.lock:  # or another thread might draw the same numbers
        start, blocks = source.state, keep.size // BLOCK
        left = start["has_uint32"]  # 1 after an odd number of draws: half of a step comes first

        def draw_blocks(first: int, last: int) -> None:
            own = np.random.PCG64(0)
            own.state = start
            if first > 0:
                own.advance(first * (BLOCK // 2))
            begin = first * BLOCK + left if first > 0 else 0
            end = last * BLOCK + left if last < blocks else keep.size
            _draw(np.random.Generator(own), rate, keep[begin:end])
            if last == blocks:
                source.state = own.state

        share(blocks, draw_blocks)
    return True
