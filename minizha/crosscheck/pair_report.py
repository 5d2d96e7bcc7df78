"""What :func:`~minizha.crosscheck.check_pair` found out: a verdict for every argument."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WORDS = {True: "right", False: "WRONG", None: "undecided"}


@dataclass(frozen=True)
class Verdict:
    """Whether the gradient of one argument is right: ``ok`` is True, False, or None if undecided.

    ``name`` is ``argument k``, ``parameter`` what forward calls it. ``expected`` and ``found`` are
    those of the worst entry of a wrong gradient, whose ``index`` is given; else those of the worst
    direction, and ``index`` is empty. ``error`` is ``|expected − found| / max(1, |expected|)``.
    ``hint`` says how a wrong gradient is related to the right one, or why nothing can be decided.
    """

    ok: bool | None
    name: str
    parameter: str
    error: float
    index: tuple[int, ...]
    expected: float
    found: float
    hint: str = ""

    @property
    def place(self) -> str:
        """``argument 0[1, 2]``"""
        return f"{self.name}[{', '.join(map(str, self.index))}]" if self.index else self.name

    @property
    def numbers(self) -> str:
        """``expected …, found … (error …)``"""
        return f"expected {self.expected:.17g}, found {self.found:.17g} (error {self.error:.1e})"

    def __str__(self) -> str:
        name = self.name if self.parameter == self.name else f"{self.name} ({self.parameter})"
        text = f"{name}: {WORDS[self.ok]}"
        if self.ok is False:
            place = f"at {list(self.index)} " if self.index else ""
            text += f", {place}{self.numbers}"
        return text + (f"; {self.hint}" if self.hint else "")


@dataclass(frozen=True)
class PairReport:
    """The verdicts on all arguments, and on the pair.

    ``ok`` is True if every gradient is right, False if one is wrong, None if one is undecided and
    none is wrong. ``checked`` counts the derivatives, ``oracle`` says by what they were checked,
    ``remarks`` what else was noticed. ``error``, ``name``, ``index``, ``expected``, ``found`` and
    ``hint`` are those of ``worst``.
    """

    verdicts: tuple[Verdict, ...]
    checked: int
    oracle: str = "complex step"
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool | None:
        """Whether the pair is right."""
        found = {verdict.ok for verdict in self.verdicts}
        return False if False in found else None if None in found else True

    @property
    def worst(self) -> Verdict:
        """The verdict with the largest error, among the wrong ones if there are any."""
        alike = [v for v in self.verdicts if v.ok is self.ok]
        return max(alike, key=lambda v: np.inf if np.isnan(v.error) else v.error)

    @property
    def error(self) -> float:
        """``|expected − found| / max(1, |expected|)``; NaN if one of them is."""
        return self.worst.error

    @property
    def name(self) -> str:
        """``argument k``"""
        return self.worst.name

    @property
    def index(self) -> tuple[int, ...]:
        """The worst entry of a wrong gradient; else empty."""
        return self.worst.index

    @property
    def expected(self) -> float:
        """The oracle's derivative."""
        return self.worst.expected

    @property
    def found(self) -> float:
        """What backward returned for it."""
        return self.worst.found

    @property
    def hint(self) -> str:
        """How the wrong gradient is related to the right one, or why nothing can be decided."""
        return self.worst.hint

    def __str__(self) -> str:
        worst = self.worst
        verdict = {True: "agree", False: "DIFFER", None: "can't be compared"}[self.ok]
        first = (
            f"{self.checked} derivatives: backward and {self.oracle} {verdict}; "
            f"the worst is {worst.place}: {worst.numbers}"
        )
        if len(self.verdicts) == 1:
            lines = [f"{first}; {worst.hint}" if worst.hint else first]
        else:
            lines = [first, *(f"  {v}" for v in self.verdicts)]
        return "\n".join([*lines, *(f"  remark: {remark}" for remark in self.remarks)])
