"""A tile: the scores of a few texts and heads, a block of queries and a block of keys, which stay in cache.

The relative terms are shifts in memory, as in :mod:`minizha.kernels.relative_position`: the key term is
read by key from a buffer by distance; weights are written by key into another one, read by distance.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from minizha.kernels.relative_position import by_key, span_of

QUERIES, KEYS = 128, 512
KEPT = 2  # the exponentials of up to 2·d keys are kept: no more numbers than query and key have
NUMBERS = 65536  # in a tile: so many heads side by side, then texts. Two threads need long calls


class TileCache(NamedTuple):
    """The arguments; the result; and of each row of scores, the largest and 1 / Σ exp(scores − largest):
    apart, since in a fully masked row the largest swallows log Σ. Then what is of size Lq × Lk: which
    weights dropout retained, and exp(scores − largest), if they are kept."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    table: np.ndarray
    mask: np.ndarray | None
    offset: int
    factor: float  # dropout's 1 / (1 − rate)
    context: np.ndarray
    largest: np.ndarray
    inverse_sum: np.ndarray
    keep: np.ndarray | None
    exponentials: np.ndarray | None
    head_mask: None = None


def exponentials_are_kept(length_k: int, head_size: int) -> bool:
    """Whether the backward pass finds them; in one block of keys, so that none shrinks later."""
    return length_k <= min(KEPT * head_size, KEYS)


def blocks(length: int, at_most: int) -> list[slice]:
    """``range(length)`` in blocks of one size, the last of which may be smaller."""
    size = -(-length // max(1, -(-length // max(1, at_most))))
    return [slice(i, min(i + size, length)) for i in range(0, length, max(1, size))]


class Tile:
    """How a call is divided, and one thread's memory for the tile at a place."""

    def __init__(self, c: TileCache) -> None:
        (B, N, Lq, d), Lk = c.query.shape, c.key.shape[2]
        self.c, self.scale, self.shape = c, 1.0 / math.sqrt(d), ()
        self.queries, self.keys = blocks(Lq, QUERIES), blocks(Lk, KEYS)
        size = self.queries[0].stop * self.keys[0].stop
        self.heads, self.texts = blocks(N, NUMBERS // size), blocks(B, NUMBERS // (size * N))

    def move(self, b: slice, n: slice, i: slice, j: slice) -> None:
        """Go to the texts b, heads n, queries i and keys j."""
        t, g, q, k = shape = tuple(part.stop - part.start for part in (b, n, i, j))
        self.place, self.span = (
            (b, n, i, j),
            span_of(self.c.table, q, k, self.c.offset + i.start - j.start),
        )
        self.used = self.c.table[self.span.start : self.span.start + self.span.width]
        if shape != self.shape:
            self.shape, by_distance = shape, (t, g, q, q + k)
            self.columns, self.scores, self.scratch = (
                np.empty(s, self.c.query.dtype) for s in (by_distance, shape, shape)
            )
            self.weights_by_distance = np.zeros(by_distance, self.c.query.dtype)
            self.weights = by_key(self.weights_by_distance, k)
        if self.c.exponentials is not None:
            self.scores = self.c.exponentials[b, n, i, j]

    def compute_scores(self, query: np.ndarray) -> None:
        """``scores[i, j] = query[i] · (key[j] + R[i, j]) + mask[i, j]``, of scaled queries."""
        b, n, i, j = self.place
        np.matmul(query, self.c.key[b, n, j].swapaxes(2, 3), out=self.scores)
        self.add_relative(query, self.scores)
        if self.c.mask is not None:
            np.add(self.scores, self.c.mask[b, n, i, j], out=self.scores)

    def add_relative(self, x: np.ndarray, out: np.ndarray) -> None:
        """``out[i, j] += x[i] · R[i, j]``"""
        left, right, columns = self.span.left, self.span.left + self.span.width, self.columns
        if self.span.width == 1:  # all keys lie at K or beyond, on one side
            out += x @ self.used.T
            return
        np.matmul(x, self.used.T, out=columns[..., left:right])
        columns[..., :left] = columns[..., left : left + 1]
        columns[..., right:] = columns[..., right - 1 : right]
        out += by_key(columns, out.shape[-1])

    def sum_relative(self) -> np.ndarray:
        """``Σ_j weights[i, j] · R[i, j]``"""
        weights, left, right = (
            self.weights_by_distance,
            self.span.left,
            self.span.left + self.span.width,
        )
        out = weights[..., left:right] @ self.used
        if left:
            out += weights[..., :left].sum(axis=-1, keepdims=True) * self.used[0]
        if right < self.span.total:
            out += weights[..., right:].sum(axis=-1, keepdims=True) * self.used[-1]
        return out
