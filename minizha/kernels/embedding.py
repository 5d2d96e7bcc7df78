"""The backward pass of embedding: rows are sorted by id, then neighbours with the same id are summed.

The plain operation adds row by row into the table. That is slow where an id is frequent (there are
two token types and thousands of tokens), and on a GPU the order of the sum varies from run to run.
After sorting, the rows of one id are neighbours, and their sum is the same on every run.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np

from minizha.backend import Array, namespace


class SortedRowsCache(NamedTuple):
    """The same fields as in the plain cache."""

    ids: Array
    num_rows: int
    padding_idx: int | None


def embedding(
    ids: Array, weight: Array, padding_idx: int | None = None
) -> tuple[Array, SortedRowsCache]:
    """``y[…] = weight[ids[…]]``, as in the plain operation."""
    return weight[ids], SortedRowsCache(ids, weight.shape[0], padding_idx)


def embedding_backward(dy: Array, cache: SortedRowsCache, dweight: Array | None = None) -> Array:
    """``dweight[r] = Σ_{t : ids[t] = r} dy[t]``, except ``dweight[padding_idx] = 0``; a ``dweight`` that is
    given is added to, on NumPy in place."""
    ids, rows = cache.ids.reshape(-1), dy.reshape(-1, dy.shape[-1])
    if cache.padding_idx is not None:
        rows = namespace(rows).where((ids == cache.padding_idx)[:, None], 0, rows)
    if dweight is None:
        return add_rows(ids, rows, cache.num_rows)
    return add_rows(ids, rows, cache.num_rows, dweight)


def add_rows(ids: Array, rows: Array, count: int, out: Array | None = None) -> Array:
    """Sum the rows that share an id: ``out[r] += Σ_{t : ids[t] = r} rows[t]``, from 0 without ``out``.

    Shapes: ids (T,) integers in [0, count), rows (T, D); returns (count, D) of rows' dtype.

    Convention: the same result on every run. On NumPy ``out`` is changed in place.
    """
    xp = namespace(ids, rows)
    if out is None:
        out = xp.zeros((count, rows.shape[1]), dtype=rows.dtype)
    if ids.shape[0] == 0:
        return out
    order = xp.argsort(ids, kind="stable")
    ids, rows = ids[order], rows[order]
    if xp is np:
        starts = np.flatnonzero(np.concatenate([[True], ids[1:] != ids[:-1]]))
        out[ids[starts]] += np.add.reduceat(rows, starts, axis=0)  # each id once
        return out
    return _add_sorted_rows(xp, ids, rows, out)


def _add_sorted_rows(xp: ModuleType, ids: Array, rows: Array, out: Array) -> Array:
    """Segment sums in log₂ T doubling steps. The host does not wait: the number of segments, which
    only the device knows, is never needed."""
    total, step = ids.shape[0], 1
    while step < total:
        same_id = (ids[step:] == ids[:-step])[:, None]
        # where, not same_id * rows: 0 · inf would make the next segment NaN
        rows = xp.concatenate([rows[:step], rows[step:] + xp.where(same_id, rows[:-step], 0)])
        step *= 2
    # the last row of each segment now holds the segment's sum; the others are added to a spare row
    last = xp.concatenate([ids[1:] != ids[:-1], xp.ones((1,), dtype=bool)])
    spare = xp.concatenate([out, out[:1]])
    spare[xp.where(last, ids, out.shape[0])] += rows
    return spare[:-1]
