"""Where two arrays differ: counts along each axis, made in one pass over blocks of both."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minizha.crosscheck.comparison.measure import absolute_difference, blocks

MAX_CELLS = 48
"""The largest number of rows and of columns of a heat map."""


class Counts(NamedTuple):
    """Where entries differ, and where entries are counted.

    ``share`` is the fraction of the counted entries that differ. ``differ[k][n]`` says whether an entry
    with index n on axis k differs, ``counted[k][n]`` whether one is counted. ``pairs`` and
    ``counted_pairs`` say the same for the two axes of the picture, ``rows`` for two other axes; each
    may be None. ``heat`` holds the largest ``|ours − theirs|`` in each cell of the picture, NaN where
    nothing is counted.
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
    row_axes: tuple[int, int] | None = None,
) -> Counts:
    """Count the entries with ``|ours − theirs| > atol + rtol·|ours|``.

    Args:
        ours: one side; ``theirs`` is of the same shape.
        theirs: the other side.
        allowed: (rtol, atol).
        visible: booleans that broadcast to the shape: the entries that are counted. None: all.
        picture: the axes of the heat map: none, one, or two in ascending order.
        row_axes: the two axes of ``rows`` in the result.
    """
    shape = ours.shape
    differ, counted = ([np.zeros(n, bool) for n in shape] for _ in range(2))
    pairs, counted_pairs = (_flags(shape, picture) if len(picture) == 2 else None for _ in range(2))
    rows = None if row_axes is None else _flags(shape, row_axes)
    cells = [_cells(shape[k]) for k in picture]
    heat = np.full([min(MAX_CELLS, shape[k]) for k in picture], -1.0)
    n_differ = n_counted = 0
    every_visible = np.broadcast_to(True if visible is None else visible, shape)
    for block in blocks(shape):
        difference, shown = absolute_difference(ours[block], theirs[block]), every_visible[block]
        with np.errstate(invalid="ignore"):
            wrong = difference > allowed[1] + allowed[0] * np.abs(ours[block])
        wrong = (wrong | np.isinf(difference)) & shown
        n_differ, n_counted = n_differ + int(wrong.sum()), n_counted + int(shown.sum())
        for k in range(len(shape)):
            _mark(differ[k], wrong, block, (k,))
            _mark(counted[k], shown, block, (k,))
        _mark(pairs, wrong, block, picture)
        _mark(counted_pairs, shown, block, picture)
        _mark(rows, wrong, block, row_axes)
        other_axes = _other_axes(difference.ndim, picture)
        largest = np.where(shown, difference, -1.0).max(other_axes, initial=-1.0)
        block_cells = np.ix_(*(c[block[k]] for c, k in zip(cells, picture, strict=True)))
        np.maximum.at(heat, block_cells, largest)
    heat = np.where(heat < 0, np.nan, heat)
    return Counts(n_differ / max(n_counted, 1), differ, counted, pairs, counted_pairs, rows, heat)


def _cells(length: int) -> np.ndarray:
    """The cell of each index; cell c begins at ``c · length // cells``."""
    count = min(MAX_CELLS, length)
    starts = np.arange(count) * length // max(count, 1)
    return np.searchsorted(starts, np.arange(length), side="right") - 1


def _flags(shape: tuple[int, ...], axes: tuple[int, ...]) -> np.ndarray:
    return np.zeros([shape[k] for k in axes], bool)


def _other_axes(ndim: int, axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(k for k in range(ndim) if k not in axes)


def _mark(
    marks: np.ndarray | None,
    flags: np.ndarray,
    block: tuple[slice, ...],
    axes: tuple[int, ...] | None,
) -> None:
    """Mark the indices on ``axes`` (in ascending order) at which the block has a flag."""
    if marks is not None:
        marks[tuple(block[k] for k in axes)] |= flags.any(axis=_other_axes(flags.ndim, axes))
