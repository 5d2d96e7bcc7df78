"""What a comparison finds, as plain data: arrays that differ, where in them, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Difference:
    """One array of ours beside theirs.

    ``error`` is ``max |ours − theirs| / scale``, ``expected`` the same of rounding alone,
    ``tolerance`` what was allowed; ``ulp`` is the largest distance in units in the last place of
    ``dtype``, the coarser of both. ``index``, ``ours`` and ``theirs`` are the worst entry.
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
    """Where no number tells it: another shape, NaN, infinity, no numbers."""


@dataclass(frozen=True)
class Location:
    """Where in the first diverging array the difference sits.

    ``share`` is the part of the entries that differ; ``lines`` say in words along which axis it
    keeps to some places ("heads: 2 of 4 (0, 3)", "distances: |j − i| > 64 only"). ``heat`` is a
    picture of it, at most 48 × 48: the largest error in each cell, its two axes in
    ``heat_axes``, the lengths that they stand for in ``heat_lengths``.
    """

    share: float
    lines: tuple[str, ...]
    heat: tuple[tuple[float, ...], ...]
    heat_axes: tuple[str, str]
    heat_lengths: tuple[int, int]


@dataclass(frozen=True)
class Finding:
    """A known mistake that, made in our own computation from their own inputs, gives their array.

    ``error`` is what is left between the two, ``right_error`` what the right computation leaves.
    """

    mistake: str
    text: str
    array: str
    error: float
    right_error: float
    seen_in: str = ""


@dataclass(frozen=True)
class Comparison:
    """What is known when two traces have been compared.

    ``differences`` has every array that both sides have, in execution order. ``missing`` are
    names of ours that they don't have, ``left_over`` names of theirs that were not used.
    ``findings`` are the known mistakes that reproduce the first divergence, the likeliest first.
    ``remarks`` are sentences on what else was noticed. ``undecided`` are names of ours of which
    nothing can be said: rounding alone may change them by more than a tenth, or they may be among
    theirs under a name that means nothing to us.
    """

    differences: tuple[Difference, ...]
    missing: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
    location: Location | None = None
    findings: tuple[Finding, ...] = ()
    remarks: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every array that both sides have is equal but for rounding, and none undecided."""
        return all(d.ok for d in self.differences) and not self.undecided

    @property
    def divergence(self) -> Difference | None:
        """The first array, in execution order, that differs; None where all agree."""
        return next((d for d in self.differences if not d.ok), None)

    @property
    def first_divergence(self) -> str | None:
        """Its name."""
        return None if self.divergence is None else self.divergence.name

    def __iter__(self) -> Iterator[Difference]:
        return iter(self.differences)
