"""One case of a diagnosis: their arrays, computed again from each other by the rules of a class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from minizha.crosscheck.comparison.precision import coarser, eps_of
from minizha.crosscheck.comparison.visible import visible_entries
from minizha.crosscheck.diagnosis.backward import all_steps
from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.catalogue import Mistake
from minizha.crosscheck.diagnosis.facts import Facts
from minizha.crosscheck.diagnosis.facts_in import FactsIn
from minizha.crosscheck.diagnosis.forward import Steps, evaluate
from minizha.crosscheck.diagnosis.rules import Array
from minizha.crosscheck.names import is_gradient


class Computed(NamedTuple):
    """An array, the names of the rules that were used, and the number of steps to it from arrays
    that they show."""

    array: Array
    called: set[str]
    steps: int


class Case:
    """Our facts and their arrays, which are computed again from each other."""

    def __init__(
        self, ours: Any, theirs: Mapping[str, Array], precision: str | None = None
    ) -> None:
        self.trace, self.theirs, self.precision = ours, theirs, precision
        self.facts, self.names = Facts(ours), list(ours)
        self.single = FactsIn(ours, "float32")
        self.known = _Known(self)

    def steps(self, rules: Rules, dtype: str = "float64") -> Steps:
        """The steps of both passes, in float64 or float32."""
        facts = self.facts if dtype == "float64" else self.single
        return all_steps(facts, rules)

    def compute(
        self,
        name: str,
        rules_class: type[Rules],
        dtype: str = "float64",
        as_recorded: bool = False,
    ) -> Computed:
        """The array by the rules of a class; ``as_recorded`` takes hidden scores from their file."""
        rules = _recording(rules_class)
        memory: dict[str, Array] = {}
        known = self.theirs if as_recorded else self.known
        array = evaluate(self.steps(rules, dtype), name, known, memory, dtype)
        steps = 1 + sum(1 for needed in memory if needed not in self.theirs)
        return Computed(self._without_hidden(name, array), rules.called, steps)

    def their(self, name: str) -> Array:
        """Their array, without the entries that a mask hides."""
        return self._without_hidden(name, np.asarray(self.theirs[name], np.float64))

    def eps(self, name: str) -> float:
        """The eps of the dtype that they computed in."""
        dtype = np.asarray(self.theirs[name]).dtype
        precision = dtype.name if dtype.kind == "f" else "float64"
        return eps_of(precision if self.precision is None else coarser(precision, self.precision))

    def _without_hidden(self, name: str, array: Array) -> Array:
        """The array with 0 in place of scores that a mask hides, which do not count."""
        visible = visible_entries(self.trace, name, array.shape)
        return array if visible is None else np.where(visible, array, 0.0)


class _Known(Mapping[str, Array]):
    """Their arrays. Scores that a mask hides are recomputed: a port may store anything there, and a
    mask that is too small lets them through."""

    def __init__(self, case: Case) -> None:
        self.case, self.theirs = case, case.theirs
        self.recomputed: dict[str, Array] = {}

    def __getitem__(self, name: str) -> Array:
        array = np.asarray(self.theirs[name])
        visible = visible_entries(self.case.trace, name, array.shape)
        if visible is None or is_gradient(name):
            return array
        if name not in self.recomputed:
            right = evaluate(self.case.steps(Rules()), name, self.theirs, {})
            fits = right.shape == array.shape
            self.recomputed[name] = np.where(visible, array, right) if fits else array
        return self.recomputed[name]

    def __contains__(self, name: object) -> bool:
        return name in self.theirs

    def __iter__(self) -> Iterator[str]:
        return iter(self.theirs)

    def __len__(self) -> int:
        return len(self.theirs)


def _recording(rules_class: type[Rules]) -> Any:
    """An instance of a class of rules that records in ``called`` which of them are used."""

    class Recording(rules_class):  # type: ignore[misc, valid-type]  # its base is known at run time only
        def __init__(self) -> None:
            self.called: set[str] = set()

        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_") and name != "called":
                self.called.add(name)
            return super().__getattribute__(name)

    return Recording()


def overrides(rules_class: type[Rules]) -> set[str]:
    """The rules that a mistake replaces."""
    return {
        name
        for cls in rules_class.__mro__
        if issubclass(cls, Rules) and cls is not Rules
        for name in vars(cls)
    }


class MistakeError(NamedTuple):
    """The distance of their array from the mistaken one, and what float32 alone does to the latter."""

    error: float
    rounding: float


def mistake_error(case: Case, name: str, mistake: Mistake, right: Array) -> MistakeError | None:
    """How near a mistake comes to their array; None if it changes nothing or can't be made here.

    If theirs is no float64 array, the rules are also evaluated in float32, where a mask of −1e9
    swallows the scores. Hidden scores are taken as recomputed and as recorded: those of a table made
    in float32 can't be recomputed to the digits of float64.
    """
    dtypes = ("float64", "float32") if case.eps(name) > eps_of("float64") else ("float64",)
    try:
        with np.errstate(all="ignore"):
            wrong = [case.compute(name, mistake.rules, dtype).array for dtype in dtypes]
            recorded = [
                case.compute(name, mistake.rules, dtype, as_recorded=True).array
                for dtype in dtypes
                if case.known.recomputed
            ]
    except (ValueError, IndexError, KeyError):  # the mistake leads to shapes that don't fit
        return None
    changed = wrong[0].shape == right.shape and any(
        distance(w, right) > 16 * eps_of(dtype) for w, dtype in zip(wrong, dtypes, strict=True)
    )
    if not changed:
        return None
    their = case.their(name)
    error = min(distance(w, their) for w in (*wrong, *recorded))
    return MistakeError(error, distance(wrong[0], wrong[-1]))


def distance(a: Array, b: Array) -> float:
    """``max |a − b| / max |a|``; NaN equals NaN, and nothing else equals NaN."""
    if a.shape != b.shape:
        return float("inf")
    if a.size == 0:
        return 0.0
    if (np.isfinite(a) != np.isfinite(b)).any():
        return float("inf")
    known = np.isfinite(a)
    scale = max(np.abs(a[known]).max(initial=0.0), np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        return float(np.abs(a[known] - b[known]).max(initial=0.0) / scale)
