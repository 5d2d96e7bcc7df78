"""Judges pairs of arrays: the two tests of each, and what they are judged by."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from minizha.crosscheck.comparison.differences import Difference, Location
from minizha.crosscheck.comparison.layouts import Shape
from minizha.crosscheck.comparison.local import OwnInputs
from minizha.crosscheck.comparison.location import locate
from minizha.crosscheck.comparison.matching import Matched, read_array, shape_of
from minizha.crosscheck.comparison.measure import Measured, measure
from minizha.crosscheck.comparison.overall import Overall
from minizha.crosscheck.comparison.precision import PRECISIONS, coarser, is_half, may_be, precision
from minizha.crosscheck.comparison.terms import Terms
from minizha.crosscheck.comparison.verdict import (
    MOST,
    Evidence,
    Fit,
    Verdict,
    Why,
    verdict,
    why_undecided,
)
from minizha.crosscheck.comparison.visible import beside_kinks, visible_entries
from minizha.crosscheck.names import GRADIENT, is_gradient

GRADIENT_SECONDS = 10.0
"""The time in which gradients are computed again from their own inputs."""


class Judge:
    """Judges one pair of arrays after the other, in execution order.

    ``verdicts`` holds the verdict on each array so far, ``why`` the reason where it is undecided,
    ``independent`` the wrong ones that do not
    follow from others, ``float32_table`` those that a relative table made in float32 explains.
    ``judged_in`` is the coarsest precision up to each array, ``local_allowed`` the largest error of each
    against what follows from their own inputs that rounding explains.
    """

    def __init__(
        self,
        ours: Mapping[str, Any],
        matched: Matched,
        tolerances: tuple[float | None, float | None],
    ) -> None:
        self.ours, self.matched, self.tolerances = ours, matched, tolerances
        self.matches = matched.matches
        self.entrywise = (
            None if tolerances == (None, None) else (tolerances[0] or 0.0, tolerances[1] or 0.0)
        )
        self.only_gradients = all(is_gradient(name) for name in self.matches)
        self.verdicts: dict[str, Verdict] = {}
        self.why: dict[str, Why] = {}
        self.independent: list[str] = []
        self.float32_table: list[str] = []
        self.precisions: dict[str, str] = {}
        self.judged_in: dict[str, str] = {}
        self.widened: list[tuple[str, str]] = []
        self.precision, self.kinked = "float64", False
        self.gradient_seconds = GRADIENT_SECONDS
        self.allowed: dict[str, float] = {}
        self.local_allowed: dict[str, float] = {}
        self._names = frozenset(ours)
        self._sizes: dict[str, float] = {}
        self._shapes: dict[str, Shape] = {}
        self.config = getattr(ours, "config", None)
        self.relu = getattr(self.config, "hidden_act", None) == "relu"
        self.terms = Terms(self.size, self.shape)
        self.overall = Overall(ours, self.terms)
        has_facts = self.config is not None and self.entrywise is None
        self.own = OwnInputs(ours, matched, self.terms) if has_facts else None

    # --- ours -------------------------------------------------------------------------------------

    def size(self, name: str) -> float:
        """``max |ours|`` over the entries that count; 0 for an array that ours lacks."""
        if name not in self._sizes:
            if name not in self._names:
                return 0.0
            array = read_array(self.ours, name, "ours")
            floats = array.dtype.kind == "f"
            self._sizes[name] = self._measure(name, array, array).scale if floats else 0.0
        return self._sizes[name]

    def shape(self, name: str) -> Shape:
        """The shape of an array of ours."""
        if name not in self._shapes:
            self._shapes[name] = shape_of(self.ours, name, "ours")
        return self._shapes[name]

    # --- one pair ---------------------------------------------------------------------------------

    def judge(self, name: str) -> Difference | None:
        """Judge one pair; None if ours does not hold floats."""
        their_name, _, layout = self.matches[name]
        theirs = self.matched[name]
        ours = read_array(self.ours, name, "ours")
        if ours.dtype.kind != "f":
            return None
        reason = ""
        if layout is None:
            reason = f"shape {theirs.shape} where {ours.shape} is expected"
        elif theirs.dtype.kind != "f":
            reason = f"{theirs.dtype} numbers where floats are expected"
        if reason:
            self.verdicts[name] = Verdict.WRONG
            self._note_wrong(name, is_independent=False)
            return _not_comparable(name, their_name, ours, reason)
        self._note_precision(name, ours, theirs)
        proves_nothing = self._proves_nothing(name, ours)
        # close to ReLU's kink, the gradients of both slopes are right
        certain = self._beside_kinks(name)
        measured = self._measure(name, ours, theirs, certain)
        all_entries = measured if certain is None else self._measure(name, ours, theirs)
        del ours  # free it before others are read
        self._sizes[name] = all_entries.scale
        self.kinked |= all_entries.max_abs > measured.max_abs and self.entrywise is None
        if self.entrywise is not None:
            difference = self._entrywise(name, measured)
        else:
            difference = self._judge(name, theirs, measured, certain)
        if proves_nothing is not None and self.verdicts[name] is Verdict.EQUAL:
            self.verdicts[name], self.why[name] = Verdict.UNDECIDED, proves_nothing
        return difference

    def _proves_nothing(self, name: str, ours: np.ndarray) -> Why | None:
        """Why agreement with an array of ours would prove nothing, if it would not."""
        visible = visible_entries(self.ours, name, ours.shape)
        shown = ours if visible is None else ours[np.broadcast_to(visible, ours.shape)]
        if not ours.size:
            return Why.EMPTY
        return None if np.isfinite(shown).all() else Why.NO_NUMBER

    def _measure(
        self, name: str, ours: np.ndarray, theirs: np.ndarray, counted: np.ndarray | None = None
    ) -> Measured:
        visible = visible_entries(self.ours, name, ours.shape) if counted is None else counted
        unit = "float32" if self.precision == "bfloat16" else self.precision
        return measure(ours, theirs, unit, visible, *self.tolerances)

    def _entrywise(self, name: str, measured: Measured) -> Difference:
        """By the caller's rtol and atol."""
        rtol, atol = self.entrywise or (0.0, 0.0)
        ok = measured.excess <= 0 and not measured.broken
        self.verdicts[name] = Verdict.EQUAL if ok else Verdict.WRONG
        if not ok:
            self._note_wrong(name, is_independent=False)
        worst = abs(measured.ours) if math.isfinite(measured.ours) else 0.0
        evidence = self.overall.evidence(name, measured.max_abs, self.precision)
        return self._row(name, measured, evidence, atol + rtol * worst, None)

    def _judge(
        self, name: str, theirs: np.ndarray, measured: Measured, certain: np.ndarray | None
    ) -> Difference:
        """By what rounding explains."""
        error = math.inf if measured.broken else measured.max_abs
        overall = self.overall.evidence(name, error, self.precision)
        local = None
        if self.own is not None:
            self.own.precisions[name], self.own.coarsest = self.precisions[name], self.precision
            if not is_gradient(name) or self._judges_gradient(overall):
                started = time.monotonic()
                local = self.own.judge(name, theirs, self.precisions[name], certain)
                self.gradient_seconds -= is_gradient(name) * (time.monotonic() - started)
        if local is not None:
            self.local_allowed[name] = local.allowed
        found = verdict(overall, local)
        if found is Verdict.WRONG and is_gradient(name) and self._ran_out_of_time(local):
            found = Verdict.FOLLOWS
            self.why[name] = Why.TIME
        why = why_undecided(overall, local)
        if is_gradient(name):
            if found is not Verdict.EQUAL and getattr(self.config, "hidden_size", 0) == 2:
                found, why = Verdict.UNDECIDED, Why.NO_SLOPE
        elif found is Verdict.EQUAL and overall.allowed > MOST * self.terms.scale(name) and error:
            found, why = Verdict.UNDECIDED, Why.LARGE
        if found is Verdict.UNDECIDED:
            self.why[name] = why
        if found is Verdict.EQUAL:
            self.overall.learn(name, measured.max_abs)
        if found is Verdict.WRONG and self._is_float32_table(name, theirs, local):
            found = Verdict.EQUAL
            self.float32_table.append(name)
        if found is Verdict.WRONG:
            self._note_wrong(name, is_independent=local is not None)
        self.verdicts[name] = found
        self.allowed[name] = overall.allowed
        return self._row(name, measured, overall, overall.allowed, local)

    def _judges_gradient(self, overall: Evidence) -> bool:
        """Gradients are computed again only where they differ, and for some time: for a large model it
        takes longer than all the rest."""
        return overall.fit is not Fit.GOOD and self.gradient_seconds > 0

    def _ran_out_of_time(self, local: Evidence | None) -> bool:
        return local is None and self.own is not None and self.gradient_seconds <= 0

    def _is_float32_table(self, name: str, theirs: np.ndarray, local: Evidence | None) -> bool:
        if local is None or self.own is None or local.precision != "float64":
            return False
        return self.own.float32_table_explains(name, theirs, local)

    def _note_wrong(self, name: str, is_independent: bool) -> None:
        """Note a wrong array; of those that may be consequences, the first alone is an error."""
        if is_independent or not self.independent:
            self.independent.append(name)
        if self.own is not None:
            self.own.mark_wrong(name)

    def _row(
        self,
        name: str,
        measured: Measured,
        overall: Evidence,
        allowed: float,
        local: Evidence | None,
    ) -> Difference:
        scale = self.terms.scale(name)
        return Difference(
            name=name,
            their_name=self.matches[name].their_name,
            shape=self.shape(name),
            dtype=self.precision,
            ok=self.verdicts[name] in (Verdict.EQUAL, Verdict.UNDECIDED),
            max_abs=measured.max_abs,
            error=math.inf if measured.broken else measured.max_abs / scale,
            expected=overall.rounding / scale,
            tolerance=allowed / scale,
            ulp=measured.ulp,
            index=measured.index,
            ours=measured.ours,
            theirs=measured.theirs,
            reason=measured.broken,
            local_error=math.nan if local is None else local.error / scale,
            local_tolerance=math.nan if local is None else local.allowed / scale,
        )

    def _note_precision(self, name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
        """The precision of the array, and the coarsest so far: an array that follows from a coarser
        one is no closer to ours."""
        stored = coarser(ours.dtype.name, theirs.dtype.name)
        found = precision(ours, theirs)
        if is_gradient(name) and not (self.only_gradients and "self.key" not in name):
            # terms may cancel, and the remainders are round numbers in any dtype
            found = max(found, coarser(self.precision, stored), key=PRECISIONS.index)
        if is_half(self.precision) and may_be(theirs, self.precision):
            found = self.precision  # as the arrays before it
        if found != stored:
            self.widened.append((name, found))
        self.precisions[name] = found
        self.precision = self.judged_in[name] = coarser(self.precision, found)

    def _beside_kinks(self, name: str) -> np.ndarray | None:
        activation = name.removesuffix(GRADIENT)
        if not (self.relu and is_gradient(name) and activation in self.allowed):
            return None
        return beside_kinks(self.ours, activation, self.allowed)

    def locate(self, first: Difference) -> Location:
        """Where in the array the two differ."""
        theirs = self.matched[first.name]
        ours = read_array(self.ours, first.name, "ours")
        allowed = self.entrywise or (0.0, self.allowed[first.name])
        scale = self.terms.scale(first.name)
        visible = visible_entries(self.ours, first.name, ours.shape)
        return locate(
            first.name, ours, theirs, allowed, scale=scale, visible=visible, trace=self.ours
        )


def _not_comparable(name: str, their_name: str, ours: np.ndarray, reason: str) -> Difference:
    """The difference of two arrays of other shapes, or of an array without floats."""
    return Difference(
        name=name,
        their_name=their_name,
        shape=ours.shape,
        dtype=ours.dtype.name,
        ok=False,
        max_abs=math.nan,
        error=math.nan,
        expected=math.nan,
        tolerance=math.nan,
        ulp=math.nan,
        index=(),
        ours=math.nan,
        theirs=math.nan,
        reason=reason,
    )
