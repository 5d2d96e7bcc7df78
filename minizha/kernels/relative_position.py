"""The two relative terms; the sum over keys is a shift in memory.

Both terms use *columns*, one for each distance. The plain operation adds the keys to their
columns one by one. Shifting the rows against each other does so for all keys at once::

    values, one per key j           columns, one per distance j − i
    j−i:  0  1  2                   i=0   −2 −1 [0  1  2]
         −1  0  1          ──►      i=1   −2 [−1  0  1] 2
         −2 −1  0                   i=2   [−2 −1  0] 1  2

Outside the brackets the columns are 0. Each bracket starts one column to the left of the one
above. In memory that is a plain reshape: see :func:`by_key`. From columns to keys, the kernel reads
by index like the plain operation, because a shift is slower there. Only the table rows in use are
multiplied, at most min(2K+1, Lq+Lk−1) of them.
"""

from __future__ import annotations

from typing import NamedTuple

from minizha.backend import Array, namespace
from minizha.ops.relative_position import relative_rows


class Span(NamedTuple):
    """The distances ``j − (offset + i)`` between Lq queries and Lk keys, in rising order: the first
    ``left`` are clipped to the lowest table row in use, the next ``width`` read the rows from
    ``start`` on, the others are clipped to the highest. ``total`` = Lq + Lk − 1.

    With K = 2 and four queries and keys the distances are −3 … 3: one is clipped on the left, five
    read rows 0 to 4, one is clipped on the right."""

    left: int
    start: int
    width: int
    total: int


class ShiftCache(NamedTuple):
    """The table, the range of its rows in use, the number of keys, and the position of query 0."""

    table: Array
    span: Span
    length_k: int
    offset: int

    @property
    def used(self) -> Array:
        """The table rows in use."""
        return self.table[self.span.start : self.span.start + self.span.width]


def relative_key(
    query: Array, table: Array, length_k: int, offset: int = 0
) -> tuple[Array, ShiftCache]:
    """``y[…, i, j] = query[…, i] · R[i, j]``: one product, then each key reads its column."""
    cache = _cache(table, query.shape[-2], length_k, offset)
    return _columns_to_keys(query @ cache.used.T, cache), cache


def relative_key_backward(dy: Array, cache: ShiftCache) -> Array:
    """``dquery[…, i] = Σ_j dy[…, i, j] · R[i, j]``"""
    return _keys_to_columns(dy, cache.span) @ cache.used


def relative_value(weights: Array, table: Array, offset: int = 0) -> tuple[Array, ShiftCache]:
    """``y[…, i] = Σ_j weights[…, i, j] · R[i, j]``: one shift, then one product."""
    cache = _cache(table, *weights.shape[-2:], offset)
    return _keys_to_columns(weights, cache.span) @ cache.used, cache


def relative_value_backward(dy: Array, cache: ShiftCache) -> Array:
    """``dweights[…, i, j] = dy[…, i] · R[i, j]``"""
    return _columns_to_keys(dy @ cache.used.T, cache)


def span_of(table: Array, length_q: int, length_k: int, offset: int) -> Span:
    """The distances between queries from ``offset`` on, which may be negative, and keys from 0 on."""
    k = table.shape[0] // 2
    first, last = -(length_q - 1) - offset, length_k - 1 - offset
    lowest, highest = max(-k, min(k, first)), max(-k, min(k, last))
    total = last - first + 1
    # if all distances are below −K, the last of them represents the only row in use; above K, the first
    left = max(0, min(lowest - first, total - 1))
    return Span(left, lowest + k, highest - lowest + 1, total)


def _cache(table: Array, length_q: int, length_k: int, offset: int) -> ShiftCache:
    return ShiftCache(table, span_of(table, length_q, length_k, offset), length_k, offset)


def _columns_to_keys(columns: Array, cache: ShiftCache) -> Array:
    """``out[…, i, j] = columns[…, i, rows[i, j] − start]``; a joint index of query and column is
    faster than two indices."""
    xp, (*lead, length_q, width) = namespace(columns), columns.shape
    k = cache.table.shape[0] // 2
    rows = relative_rows(length_q, cache.length_k, k, cache.offset, xp) - cache.span.start
    indices = width * xp.arange(length_q)[:, None] + rows
    return columns.reshape(*lead, length_q * width).take(indices, axis=-1)


def _keys_to_columns(values: Array, span: Span) -> Array:
    """``out[…, i, c] = Σ values[…, i, j]`` over the keys j whose distance is clipped to c: the
    transpose of :func:`_columns_to_keys`."""
    lead, length_k = values.shape[:-1], values.shape[-1]
    by_distance = namespace(values).zeros((*lead, span.total + 1), dtype=values.dtype)
    by_key(by_distance, length_k)[...] = values
    columns = by_distance[..., span.left : span.left + span.width]
    columns[..., :1] += by_distance[..., : span.left].sum(axis=-1, keepdims=True)
    columns[..., -1:] += by_distance[..., span.left + span.width :].sum(axis=-1, keepdims=True)
    return columns


def by_key(columns: Array, length_k: int) -> Array:
    """The view ``view[…, i, j] = columns[…, i, j − i + Lq − 1]`` of a contiguous array with one
    spare column: ``(…, Lq, Lq + Lk)`` in, ``(…, Lq, Lk)`` out, memory shared.

    The same memory is read in rows that are one element shorter, so that each row starts one
    element earlier than the row above: that is the shift.
    """
    *lead, length_q, stride = columns.shape
    flat = columns.reshape(*lead, length_q * stride)
    first = length_q - 1
    shifted = flat[..., first : first + length_q * (stride - 1)]
    return shifted.reshape(*lead, length_q, stride - 1)[..., :length_k]
