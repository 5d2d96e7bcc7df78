"""The results of a comparison, as plain data: which arrays differ, where in them, and why."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """The difference of one array of ours from theirs.

    ``error`` is ``max |ours − theirs| / scale``, ``expected`` the error that rounding alone explains,
    ``tolerance`` the error that is allowed. ``ulp`` is the largest difference in units in the last
    place of ``dtype``, the coarser one of both sides. ``index``, ``ours`` and ``theirs`` describe the
    worst entry.
    """

    name: str
    their_name: str
    shape: tuple[int, ...]
    dtype: str
    ok: bool
    max_abs: float
    error: float
    expected: float
    tolerance: float
    ulp: float
    index: tuple[int, ...]
    ours: float
    theirs: float
    reason: str = ""
    """Why the arrays differ, where no number says it: another shape, NaN, infinity, no floats."""
    local_error: float = math.nan
    """How far theirs is from what follows from their own inputs, ÷ scale; NaN where that is not
    tested."""
    local_tolerance: float = math.nan
    """The same error that is allowed."""


@dataclass(frozen=True)
class Location:
    """Where in an array the entries differ.

    ``share`` is the fraction of the entries that differ. ``lines`` say in words which indices of an
    axis are concerned ("heads: 2 of 4 (0, 3)", "distances: |j − i| > 64 only"). ``heat`` is a heat
    map of at most 48 × 48 cells, each with the largest error in it; ``heat_axes`` names its two
    axes, and ``heat_lengths`` gives their lengths in the array.
    """

    share: float
    lines: tuple[str, ...]
    heat: tuple[tuple[float, ...], ...]
    heat_axes: tuple[str, str]
    heat_lengths: tuple[int, int]


@dataclass(frozen=True)
class Finding:
    """A known mistake that reproduces their array from their own inputs.

    ``error`` is the difference that remains with the mistake, ``right_error`` the one without it.
    """

    mistake: str
    text: str
    array: str
    error: float
    right_error: float
    seen_in: str = ""


@dataclass(frozen=True)
class Error:
    """One cause of differences: arrays that do not follow from their own inputs.

    ``arrays`` are their names in execution order, ``findings`` the known mistakes that give all of
    them. A ``benign`` error, which ``text`` describes, is no mistake but a matter of precision, such as
    a relative table that is made in float32; it does not make the two sides different.
    """

    arrays: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    text: str = ""
    benign: bool = False


@dataclass(frozen=True)
class Comparison:
    """The result of the comparison of two traces.

    ``differences`` has an entry for every array that both sides have, in execution order. ``missing``
    are names of ours that theirs lacks, ``left_over`` names of theirs that match none of ours.
    ``location`` says where the first diverging array differs, ``findings`` are the known mistakes that
    reproduce it, the likeliest first. ``remarks`` are further sentences. ``undecided`` are names of
    ours that can't be judged: rounding explains them only just, or only if they were computed in half
    precision, or may change them by more than a tenth, or they may be among the left-over arrays.
    ``errors`` are all independent causes of differences, in execution order; ``findings`` are those of
    the first.
    """

    differences: tuple[Difference, ...]
    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    location: Location | None = None
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()
    errors: tuple[Error, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every array that both sides have is equal up to rounding, and none is undecided."""
        return all(d.ok for d in self.differences) and not self.undecided

    @property
    def divergence(self) -> Difference | None:
        """The first array, in execution order, that differs; None if all agree."""
        return next((d for d in self.differences if not d.ok), None)

    @property
    def first_divergence(self) -> str | None:
        """The name of the first array that differs; None if all agree."""
        return None if self.divergence is None else self.divergence.name

    def __iter__(self) -> Iterator[Difference]:
        return iter(self.differences)
