"""Where two arrays differ, counted axis by axis in one walk through them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minizha.crosscheck.comparison.measure import absolute_difference, blocks

CELLS = 48
"""The most rows and columns of a picture."""


class Counts(NamedTuple):
    """``differ[k][n]``: an entry with index n on axis k differs; ``counted[k][n]``: one is looked at.

    ``pairs`` and ``counted_pairs`` are the same for the two axes of the picture together, or None
    where it has none. ``heat`` holds the largest ``|ours − theirs|`` of each cell, NaN where nothing
    is looked at.
    """

    share: float
    differ: list[np.ndarray]
    counted: list[np.ndarray]
    pairs: np.ndarray | None
    counted_pairs: np.ndarray | None
    rows: np.ndarray | None
    heat: np.ndarray


def count_differences(
    ours: np.ndarray,
    theirs: np.ndarray,
    allowed: tuple[float, float],
    visible: np.ndarray | None,
    picture: tuple[int, ...],
    together: tuple[int, int] | None = None,
) -> Counts:
    """Count; an entry differs where ``|ours − theirs| > atol + rtol·|ours|``.

    ``allowed`` is (rtol, atol), ``picture`` the axes of the picture: none, one, or two in order;
    ``together`` two axes of which ``rows`` says which pairs of places differ.
    """
    shape = ours.shape
    differ, counted = ([np.zeros(n, bool) for n in shape] for _ in range(2))
    pairs, counted_pairs = (_flags(shape, picture) if len(picture) == 2 else None for _ in range(2))
    rows = None if together is None else _flags(shape, together)
    cells = [_cells(shape[k]) for k in picture]
    heat = np.full([min(CELLS, shape[k]) for k in picture], -1.0)
    differing = looked_at = 0
    seen = np.broadcast_to(True if visible is None else visible, shape)
    for block in blocks(shape):
        off, counts = absolute_difference(ours[block], theirs[block]), seen[block]
        with np.errstate(invalid="ignore"):
            wrong = off > allowed[1] + allowed[0] * np.abs(ours[block])
        wrong = (wrong | np.isinf(off)) & counts
        differing, looked_at = differing + int(wrong.sum()), looked_at + int(counts.sum())
        for k in range(len(shape)):
            _mark(differ[k], wrong, block, (k,))
            _mark(counted[k], counts, block, (k,))
        _mark(pairs, wrong, block, picture)
        _mark(counted_pairs, counts, block, picture)
        _mark(rows, wrong, block, together)
        largest = np.where(counts, off, -1.0).max(_others(off.ndim, picture), initial=-1.0)
        places = np.ix_(*(c[block[k]] for c, k in zip(cells, picture, strict=True)))
        np.maximum.at(heat, places, largest)
    heat = np.where(heat < 0, np.nan, heat)
    return Counts(differing / max(looked_at, 1), differ, counted, pairs, counted_pairs, rows, heat)


def _cells(length: int) -> np.ndarray:
    """The cell of each index; cell c begins at ``c · length // cells``."""
    count = min(CELLS, length)
    starts = np.arange(count) * length // max(count, 1)
    return np.searchsorted(starts, np.arange(length), side="right") - 1


def _flags(shape: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    return np.zeros([shape[k] for k in axes], bool)


def _others(ndim: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(k for k in range(ndim) if k not in axes)


def _mark(
    marks: np.ndarray | None,
    flags: np.ndarray,
    block: tuple[slice, ...],
    axes: tuple[int, ...] | None,
) -> None:
    """Mark the places on ``axes``, which are in order, where the block has a flag."""
    if marks is not None:
        marks[tuple(block[k] for k in axes)] |= flags.any(axis=_others(flags.ndim, axes))
