"""The report of a check of results against the test vectors, as plain data and as text."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

from minizha.crosscheck.report.plain import plain
from minizha.errors import listed

EQUAL, DIFFERENT, MISSING = "equal", "different", "missing"


@dataclass(frozen=True)
class Divergence:
    """The first wrong array of a case: ``error`` is the largest difference divided by the largest
    number of the array, ``rounding`` what rounding alone explains of it (0 where that is not known);
    ``reason`` says what is wrong where no number does."""

    name: str
    error: float
    tolerance: float
    index: tuple[int, ...] = ()
    expected: float = float("nan")
    found: float = float("nan")
    reason: str = ""
    rounding: float = 0.0

    def __str__(self) -> str:
        if self.reason:
            return f"{self.name}: {self.reason}"
        position = f" at {list(self.index)}" if self.index else ""
        return (
            f"{self.name}: {self.found:.6g}{position} instead of {self.expected:.6g}, an error of "
            f"{self.error:.1e} where {self.tolerance:.0e} is allowed"
        )


@dataclass(frozen=True)
class CaseResult:
    """The result of one case. ``compared`` of its ``total`` arrays were in the results; ``wrong`` of
    these differ, and the first of them in execution order is ``divergence``; ``times_rounding`` is the
    largest ratio of an error to what rounding does to its array, NaN where that is not known;
    ``unknown`` are names that the case does not have."""

    name: str
    status: str
    dtype: str = ""
    compared: int = 0
    total: int = 0
    wrong: int = 0
    largest_error: float = 0.0
    times_rounding: float = float("nan")
    divergence: Divergence | None = None
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.status == MISSING:
            return f"{self.status:9} {self.name}"
        extra = f"; unknown names: {listed(self.unknown, most=5)}" if self.unknown else ""
        if self.divergence is not None:
            count = f"{self.wrong} of {self.compared} arrays differ"
            return f"{self.status:9} {self.name}: {count}, first {self.divergence}{extra}"
        count = f"{self.compared} of {self.total} arrays in {self.dtype}"
        times = "" if isnan(self.times_rounding) else f", {self.times_rounding:.2g} times rounding"
        error = f"largest error {self.largest_error:.1e}{times}"
        return f"{self.status:9} {self.name}: {count}, {error}{extra}"


@dataclass(frozen=True)
class VerifyReport:
    """The result of :func:`~minizha.crosscheck.vectors.verify`.

    ``cases`` has an entry for each case, in the order of the vectors; ``negative`` are the wrong
    answers to negative cases, {name: the right answer}; ``answers`` is the number of all answers to
    them; ``unknown`` are files that belong to no case.
    """

    cases: tuple[CaseResult, ...]
    negative: dict[str, str]
    answers: int
    unknown: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether all results are right; missing ones do not count."""
        return not self.negative and not self.counts[DIFFERENT]

    @property
    def counts(self) -> dict[str, int]:
        """The numbers of cases that are equal, different, missing."""
        counter = Counter(case.status for case in self.cases)
        return {status: counter[status] for status in (EQUAL, DIFFERENT, MISSING)}

    def __str__(self) -> str:
        lines = [str(case) for case in self.cases if case.status != MISSING]
        missing = [case.name for case in self.cases if case.status == MISSING]
        if missing:
            lines.append(f"{MISSING:9} {listed(missing)}")
        lines += [f"{DIFFERENT:9} {name}: must be {what}" for name, what in self.negative.items()]
        if self.unknown:
            lines.append(f"no such case: {listed(self.unknown)}")
        counts = ", ".join(f"{n} {status}" for status, n in self.counts.items())
        right = self.answers - len(self.negative)
        answers = f"; {right} of {self.answers} negative cases right" if self.answers else ""
        return "\n".join([*lines, f"{counts}{answers}"])

    def to_json(self) -> dict[str, Any]:
        """The report for JSON; a number that is not finite is a string such as "NaN"."""
        return plain(asdict(self)) | {"ok": self.ok, "counts": self.counts}
