"""Functional relative positions: a fixed sinusoid of the distance between query and key.

NEZHA's embeddings do not depend on positions. Its attention depends on distances: it adds
``query[i] · R[i, j]`` to each score (the key term) and ``Σ_j weights[i, j] · R[i, j]`` to each
context (the value term), where ::

    R[i, j] = T[clip(j − (offset + i), −K, K) + K]

is a row of the table T, chosen by the distance from query i to key j. For K = 2 and four tokens
these are the rows::

            j = 0  1  2  3
    i = 0       2  3  4  4
    i = 1       1  2  3  4
    i = 2       0  1  2  3
    i = 3       0  0  1  2

R has Lq · Lk · d numbers but only 2K + 1 different vectors, so it is never built. The key term
multiplies each query by each of these vectors, and each key reads the product for its row. The value
term sums the weights of all keys with the same row, then takes one product. (Float models run
:mod:`minizha.kernels.relative_position`, where the sum is a shift in memory.)
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import NamedTuple

import numpy as np

from minizha.backend import Array, namespace
from minizha.ops.replaceable import replaceable


def relative_table(
    max_relative_position: int, head_size: int, xp: ModuleType = np, dtype: str = "float64"
) -> Array:
    """``T[p, 0::2] = sin(p · ω)``, ``T[p, 1::2] = cos(p · ω)``, ``ω[m] = 10000^(−2m / d)``

    Shapes: → table (2K+1, d).

    Convention: p runs from 0 to 2K and the distance δ = j − i is row δ + K, so the sinusoid is
    taken of the **shifted** distance: for K = 64, d = 64, distance 0 is row 64 = [0.9200, 0.3919,
    −0.7639, …], not [0, 1, 0, 1, …]. The paper's formula reads as the unshifted one; every
    released checkpoint was trained with this one. Sine and cosine alternate. Computed in float64
    and rounded once. Fixed, so it has no gradient. The same for keys and values, all heads and all
    layers.

    Source: Wei et al. 2019, equation 3; NezhaRelativePositionsEncoding.
    """
    frequencies = np.exp(np.arange(0, head_size, 2) * (-math.log(10000.0) / head_size))  # (d/2)
    angles = np.arange(2 * max_relative_position + 1)[:, None] * frequencies  # (2K+1, d/2)
    table = np.empty((2 * max_relative_position + 1, head_size))  # (2K+1, d)
    table[:, 0::2] = np.sin(angles)
    table[:, 1::2] = np.cos(angles)
    return xp.asarray(table, dtype=dtype)


def relative_rows(
    length_q: int, length_k: int, max_relative_position: int, offset: int = 0, xp: ModuleType = np
) -> Array:
    """``rows[i, j] = clip(j − (offset + i), −K, K) + K``

    Shapes: → rows (Lq, Lk) integers.

    Convention: query i has position offset + i, key j position j; offset ≥ 0. Distances above K
    share the last row, those below −K the first.

    Source: Shaw et al. 2018 (clipping); NezhaRelativePositionsEncoding.
    """
    distance = xp.arange(length_k) - (offset + xp.arange(length_q))[:, None]  # (Lq, Lk)
    return xp.clip(distance, -max_relative_position, max_relative_position) + max_relative_position


def _columns_to_keys(columns: Array, rows: Array) -> Array:
    """``out[…, i, j] = columns[…, i, rows[i, j]]``"""
    queries = namespace(rows).arange(rows.shape[0])
    return columns[..., queries[:, None], rows]


def _keys_to_columns(values: Array, rows: Array, count: int) -> Array:
    """``out[…, i, r] = Σ values[…, i, j]`` over the keys j with ``rows[i, j] = r``: the transpose
    of :func:`_columns_to_keys`."""
    xp = namespace(values)
    queries = xp.arange(rows.shape[0])
    columns = xp.zeros((*values.shape[:-1], count), dtype=values.dtype)
    for j in range(values.shape[-1]):  # not all keys at once: += adds only once to each column
        columns[..., queries, rows[:, j]] += values[..., j]
    return columns


class RelativeCache(NamedTuple):
    """The table, and its row for each query and key. The query and the weights are not needed,
    since the table has no gradient."""

    table: Array
    rows: Array


@replaceable
def relative_key(
    query: Array, table: Array, length_k: int, offset: int = 0
) -> tuple[Array, RelativeCache]:
    """``y[…, i, j] = query[…, i] · R[i, j]``, ``R[i, j] = T[rows[i, j]]``

    Computed as ``y[…, i, j] = (query[…, i] · Tᵀ)[rows[i, j]]``: one product with the table, a
    column for each of its rows, then each key reads its column.

    Shapes: query (…, Lq, d), table (2K+1, d) → y (…, Lq, Lk).

    Convention: unscaled; attention divides by √d. For the rows see :func:`relative_rows`.

    Source: Wei et al. 2019, equation 2 (the term ``x_i W^Q (a^K_ij)ᵀ``, after Shaw et al. 2018).
    """
    xp, length_q = namespace(query, table), query.shape[-2]
    rows = relative_rows(length_q, length_k, table.shape[0] // 2, offset, xp)  # (Lq, Lk)
    return _columns_to_keys(query @ table.T, rows), RelativeCache(table, rows)


@replaceable
def relative_key_backward(dy: Array, cache: RelativeCache) -> Array:
    """``dquery[…, i] = Σ_j dy[…, i, j] · R[i, j]``

    In the forward pass this was a product with Tᵀ, then each key read its column; so now the
    keys are summed into their columns, then a product with T.

    Shapes: dy (…, Lq, Lk) → dquery (…, Lq, d).
    """
    table, rows = cache  # (2K+1, d), (Lq, Lk)
    return _keys_to_columns(dy, rows, table.shape[0]) @ table


@replaceable
def relative_value(weights: Array, table: Array, offset: int = 0) -> tuple[Array, RelativeCache]:
    """``y[…, i] = Σ_j weights[…, i, j] · R[i, j]``, ``R[i, j] = T[rows[i, j]]``

    Computed as ``y[…, i] = Σ_r (sum of weights[…, i, j] over the keys j with rows[i, j] = r) · T[r]``:
    keys are summed into columns, one for each row of the table, then one product.

    Shapes: weights (…, Lq, Lk), table (2K+1, d) → y (…, Lq, d).

    Convention: weights are those after dropout and head mask, which also multiply the values.

    Source: Wei et al. 2019, equation 1 (the term ``α_ij a^V_ij``, after Shaw et al. 2018).
    """
    xp, (length_q, length_k) = namespace(weights, table), weights.shape[-2:]
    rows = relative_rows(length_q, length_k, table.shape[0] // 2, offset, xp)  # (Lq, Lk)
    return _keys_to_columns(weights, rows, table.shape[0]) @ table, RelativeCache(table, rows)


@replaceable
def relative_value_backward(dy: Array, cache: RelativeCache) -> Array:
    """``dweights[…, i, j] = dy[…, i] · R[i, j]``

    In the forward pass this was keys summed into columns, then a product with T; so now a
    product with Tᵀ, then each key reads its column.

    Shapes: dy (…, Lq, d) → dweights (…, Lq, Lk).
    """
    table, rows = cache  # (2K+1, d), (Lq, Lk)
    return _columns_to_keys(dy @ table.T, rows)
