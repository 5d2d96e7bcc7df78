"""When an array counts as equal: one rule for both of its tests.

Each array is tested twice: against ours (``overall``), and against what follows from their own inputs
(``local``). The local test decides. An array that follows from its inputs but is far from ours is a
consequence of an earlier error; if there is none, rounding has grown to so much, and the array is
undecided.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from minizha.crosscheck.comparison.precision import is_half

TIMES = 12.0
"""An array is off by at most this many times what rounding does, else it is wrong."""
UNSURE_TIMES = 7.0
"""From this many times on it is undecided."""
HALF_TIMES = 4.0
"""The same for activations that were computed in half precision: their rounding errors are emulated
with the same rounded parameters, and 12 times would hide mistakes."""
MOST = 0.1
"""An activation that rounding may change by more than this, relative to its scale, is undecided."""


class Evidence(NamedTuple):
    """How far an array is from the right one, and what rounding explains, as absolute numbers.

    ``rounding`` is what the array's precision does to it. For half precision, ``single`` is what
    float32 does, and ``storing`` what is added if the numbers were only stored in the coarser
    precision, they or those that they were computed from; else ``single`` is ``rounding``.
    """

    error: float
    rounding: float
    single: float
    storing: float
    precision: str
    is_gradient: bool

    @property
    def allowed(self) -> float:
        """The largest error of a right array, computed in float32 or float64."""
        return TIMES * self.single + self.storing

    @property
    def fit(self) -> Fit:
        """How well rounding explains the error."""
        if self.error <= UNSURE_TIMES * self.single + self.storing:
            return Fit.GOOD
        if self.error <= self.allowed:
            return Fit.UNSURE
        half_times = TIMES if self.is_gradient else HALF_TIMES
        if is_half(self.precision) and self.error <= half_times * self.rounding:
            return Fit.ONLY_IN_HALF
        return Fit.BAD


class Fit(Enum):
    """How well rounding explains an error."""

    GOOD = "good"
    UNSURE = "unsure"
    ONLY_IN_HALF = "only if it was computed in half precision"
    BAD = "bad"


class Verdict(Enum):
    """The verdict on one array."""

    EQUAL = "equal"
    UNDECIDED = "undecided"
    FOLLOWS = "follows"
    """Far from ours, but it follows from its inputs."""
    WRONG = "wrong"
    """It does not follow from its inputs."""


def verdict(overall: Evidence, local: Evidence | None) -> Verdict:
    """The verdict on an array from its two tests; ``local`` is None where it can't be made."""
    if local is None:
        if overall.fit is Fit.BAD:
            return Verdict.WRONG
        return Verdict.EQUAL if overall.error <= overall.allowed else Verdict.UNDECIDED
    stored = is_half(overall.precision) and overall.fit is Fit.GOOD
    if stored:  # ours, rounded to the half: what else it may follow from says less
        return Verdict.EQUAL
    if local.fit is Fit.BAD:
        return Verdict.WRONG
    if local.fit in (Fit.UNSURE, Fit.ONLY_IN_HALF):
        return Verdict.UNDECIDED
    return Verdict.EQUAL if overall.error <= overall.allowed else Verdict.FOLLOWS


class Why(Enum):
    """Why an array is undecided, in words; {dtype}, {error} and {allowed} are filled in."""

    UNSURE = "is off by 7 to 12 times what rounding to {dtype} explains: a finer dtype would tell"
    HALF = "is right only if it was computed in {dtype}, not just stored: float32 would tell"
    LARGE = "may be off by {allowed} by rounding to {dtype} alone: a finer dtype would show more"
    NO_SLOPE = "is the gradient of LayerNorms of two numbers, which have no slope: a wider model would tell"
    GROWN = (
        "is off by {error}, and follows from its inputs, as every array before it: rounding has grown "
        "to so much, or the inputs or weights differ"
    )
    NO_NUMBER = "has NaN or infinity on our side: equal entries there prove nothing"
    EMPTY = "has no entries: that it agrees proves nothing"
    TIME = "is off by {error} and was not computed again from its own inputs in the time allowed"


def why_undecided(overall: Evidence, local: Evidence | None) -> Why:
    """Why :func:`verdict` is undecided."""
    deciding = overall if local is None else local
    return Why.HALF if deciding.fit is Fit.ONLY_IN_HALF else Why.UNSURE
