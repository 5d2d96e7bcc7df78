"""Functional relative positions: a fixed sinusoid of the distance between query and key.

NEZHA's embeddings know nothing of places. Attention does: with ``R[i, j]`` a vector that
depends on ``j − i`` alone, it adds ``query[i] · R[i, j]`` to each score (the key term) and
``Σ_j weights[i, j] · R[i, j]`` to each context (the value term).

R takes only 2K+1 different values, the rows of a table, so no array of size L × L × d is made.
Both terms go through *columns*, one for each distance, and a shift of the rows against each
other turns columns into keys (or back)::

    columns, one per distance j − i        scores, one per key j
    i=0   −2 −1 [0  1  2]                  j−i:  0  1  2
    i=1   −2 [−1  0  1] 2        ──►            −1  0  1
    i=2   [−2 −1  0] 1  2                       −2 −1  0

The bracket of each row starts one column to the left of the one above. In memory that is a
plain reshape: see :func:`_by_key`.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import NamedTuple

import numpy as np

from minizha.backend import Array, namespace


def relative_table(
    max_relative_position: int, head_size: int, xp: ModuleType = np, dtype: str = "float64"
) -> Array:
    """``T[p, 0::2] = sin(p · ω)``, ``T[p, 1::2] = cos(p · ω)``, ``ω[m] = 10000^(−2m / d)``

    Shapes: → table (2K+1, d).

    Convention: p runs from 0 to 2K and the distance δ = j − i is row δ + K, so the sinusoid is
    taken of the **shifted** distance: for K = 64, d = 64, distance 0 is row 64 = [0.9200, 0.3919,
    −0.7639, …], not [0, 1, 0, 1, …]. The paper's formula reads as the unshifted one, every
    released checkpoint was trained on this one. Sine and cosine alternate. Made in float64 and
    rounded once; fixed, hence no gradient; the same for keys and values, all heads, all layers.

    Source: Wei et al. 2019, equation 3; NezhaRelativePositionsEncoding.
    """
    frequencies = np.exp(np.arange(0, head_size, 2) * (-math.log(10000.0) / head_size))
    angles = np.arange(2 * max_relative_position + 1)[:, None] * frequencies
    table = np.empty((2 * max_relative_position + 1, head_size))
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles)
    return xp.asarray(table, dtype=dtype)


class _Span(NamedTuple):
    """The distances ``j − (offset + i)`` that Lq queries and Lk keys meet, in rising order: the
    first ``left`` are clipped to the lowest table row in use, the next ``width`` read the
    rows ``start`` onwards, the rest is clipped to the highest. ``total`` = Lq + Lk − 1."""

    left: int
    start: int
    width: int
    total: int


def _span(length_q: int, length_k: int, offset: int, table_rows: int) -> _Span:
    k = table_rows // 2
    first, last = -(length_q - 1) - offset, length_k - 1 - offset
    lowest, highest = max(-k, min(k, first)), max(-k, min(k, last))
    total = last - first + 1
    # where all distances lie beyond −K, the last of them stands for the one row in use
    left = min(lowest - first, total - 1)
    return _Span(left, lowest + k, highest - lowest + 1, total)


def _by_key(columns: Array, length_k: int) -> Array:
    """The view ``view[…, i, j] = columns[…, i, j − i + Lq − 1]`` of a contiguous array with one
    spare column: ``(…, Lq, Lq + Lk)`` in, ``(…, Lq, Lk)`` out, memory shared.

    Reading the same memory in rows that are one element shorter starts each row one element
    earlier than the row above: that is the shift.
    """
    *lead, length_q, stride = columns.shape
    flat = columns.reshape(*lead, length_q * stride)
    first = length_q - 1
    shifted = flat[..., first : first + length_q * (stride - 1)]
    return shifted.reshape(*lead, length_q, stride - 1)[..., :length_k]


def _columns_to_keys(columns: Array, span: _Span, length_k: int) -> Array:
    """``out[…, i, j] = columns[…, i, clip(j − i − offset)]``: each key reads its distance."""
    lead, width = columns.shape[:-1], span.width
    every = namespace(columns).empty((*lead, span.total + 1), dtype=columns.dtype)
    every[..., : span.left] = columns[..., :1]
    every[..., span.left : span.left + width] = columns
    every[..., span.left + width :] = columns[..., -1:]
    return _by_key(every, length_k)


def _keys_to_columns(values: Array, span: _Span) -> Array:
    """``out[…, i, c] = Σ values[…, i, j]`` over the keys j whose distance is clipped to c: the
    transpose of :func:`_columns_to_keys`, line by line."""
    lead, length_k = values.shape[:-1], values.shape[-1]
    every = namespace(values).zeros((*lead, span.total + 1), dtype=values.dtype)
    _by_key(every, length_k)[...] = values
    columns = every[..., span.left : span.left + span.width]
    columns[..., :1] += every[..., : span.left].sum(axis=-1, keepdims=True)
    columns[..., -1:] += every[..., span.left + span.width :].sum(axis=-1, keepdims=True)
    return columns


class RelativeKeyCache(NamedTuple):
    """The table rows in use; the query is not needed, since the table gets no gradient."""

    rows: Array
    span: _Span


def relative_key(
    query: Array, table: Array, length_k: int, offset: int = 0
) -> tuple[Array, RelativeKeyCache]:
    """``y[…, i, j] = query[…, i] · R[i, j]``, ``R[i, j] = T[clip(j − (offset + i), −K, K) + K]``

    Computed as ``y[…, i, j] = (query[…, i] · Tᵀ)[clip(j − (offset + i)) + K]``: one product
    with the table rows in use, at most min(2K+1, Lq+Lk−1) of them, then one shift.

    Shapes: query (…, Lq, d), table (2K+1, d) → y (…, Lq, Lk).

    Convention: unscaled; attention divides by √d. Query i stands at position offset + i, key j
    at position j; offset ≥ 0.

    Source: Wei et al. 2019, equation 2 (the term ``x_i W^Q (a^K_ij)ᵀ``, after Shaw et al. 2018).
    """
    span = _span(query.shape[-2], length_k, offset, table.shape[0])
    rows = table[span.start : span.start + span.width]
    return _columns_to_keys(query @ rows.T, span, length_k), RelativeKeyCache(rows, span)


def relative_key_backward(dy: Array, cache: RelativeKeyCache) -> Array:
    """``dquery[…, i] = Σ_j dy[…, i, j] · R[i, j]``

    In the forward pass this was a product with Tᵀ, then each key read its column; so now the
    keys are summed into their columns, then a product with T.

    Shapes: dy (…, Lq, Lk) → dquery (…, Lq, d).
    """
    return _keys_to_columns(dy, cache.span) @ cache.rows


class RelativeValueCache(NamedTuple):
    """The table rows in use; the weights are not needed, since the table gets no gradient."""

    rows: Array
    span: _Span
    length_k: int


def relative_value(
    weights: Array, table: Array, offset: int = 0
) -> tuple[Array, RelativeValueCache]:
    """``y[…, i] = Σ_j weights[…, i, j] · R[i, j]``, ``R[i, j] = T[clip(j − (offset + i), −K, K) + K]``

    Computed as ``y[…, i] = Σ_c (sum of weights[…, i, j] over the j at distance c) · T[c + K]``: one
    shift, then one product. It is the way back of the key term, walked forward.

    Shapes: weights (…, Lq, Lk), table (2K+1, d) → y (…, Lq, d).

    Convention: weights are those after dropout and head mask, the ones that weigh the values too.

    Source: Wei et al. 2019, equation 1 (the term ``α_ij a^V_ij``, after Shaw et al. 2018).
    """
    length_q, length_k = weights.shape[-2:]
    span = _span(length_q, length_k, offset, table.shape[0])
    rows = table[span.start : span.start + span.width]
    return _keys_to_columns(weights, span) @ rows, RelativeValueCache(rows, span, length_k)


def relative_value_backward(dy: Array, cache: RelativeValueCache) -> Array:
    """``dweights[…, i, j] = dy[…, i] · R[i, j]``

    In the forward pass this was keys summed into columns, then a product with T; so now a
    product with Tᵀ, then each key reads its column.

    Shapes: dy (…, Lq, d) → dweights (…, Lq, Lk).
    """
    return _columns_to_keys(dy @ cache.rows.T, cache.span, cache.length_k)
