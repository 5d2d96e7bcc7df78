"""The comparison of two traces: which array is the first to differ, by how much, where, and why."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np

from minizha.checks import number
from minizha.crosscheck.comparison.differences import Comparison, Difference, Location
from minizha.crosscheck.comparison.errors import find_errors, float32_table
from minizha.crosscheck.comparison.layouts import Shape
from minizha.crosscheck.comparison.local import OwnInputs
from minizha.crosscheck.comparison.location import locate
from minizha.crosscheck.comparison.matching import Matched, match, read_array, shape_of
from minizha.crosscheck.comparison.measure import Measured, measure
from minizha.crosscheck.comparison.overall import Overall
from minizha.crosscheck.comparison.precision import PRECISIONS, coarser, precision
from minizha.crosscheck.comparison.remarks import remarks
from minizha.crosscheck.comparison.terms import Terms
from minizha.crosscheck.comparison.verdict import MOST, Evidence, Fit, Verdict, verdict
from minizha.crosscheck.comparison.visible import beside_kinks, visible_entries
from minizha.crosscheck.names import GRADIENT, is_gradient
from minizha.crosscheck.report.report import Report
from minizha.crosscheck.trace_file import open_trace
from minizha.errors import ArgumentError, listed

Arrays = Mapping[str, Any]

GRADIENT_SECONDS = 10.0
"""The time in which gradients are computed again from their own inputs."""


def compare(
    trace: Arrays | str | PathLike[str],
    other: Arrays | str | PathLike[str],
    rtol: float | None = None,
    atol: float | None = None,
    *,
    mapping: Mapping[str, Any] | str | PathLike[str] | None = None,
    diagnose: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Compare their arrays with ours, one pair at a time, in the execution order of ours.

    ``error = max |ours − theirs| / scale`` with ``scale = max |ours|``. Each array is judged twice:
    against ours, and against what follows from their own inputs by the right rule. The second test
    decides (:mod:`~minizha.crosscheck.comparison.verdict`); what rounding explains is measured
    (:mod:`~minizha.crosscheck.comparison.rounding`) and kept in ``trace.rounding``. Where rounding may
    change an activation by more than a tenth it is undecided, and ``report.ok`` is False.

    Args:
        trace: ours: a :class:`~minizha.crosscheck.trace_file.Trace`, the path of one, or any mapping
            from names to float arrays. The masks of its ``inputs`` say which scores are hidden and
            not compared. The second test, the measurement of rounding and the diagnosis need its
            ``config`` and ``parameters``; without them each array is compared with ours only, and
            rounding is guessed.
        other: theirs: a mapping as well, or the path of any safetensors file. Unknown names are
            matched without their prefix (``nezha.``, ``bert.``, ``module.``, ``model.``), or by
            shape and value.
        rtol, atol: if one is given, an entry is equal if ``|ours − theirs| ≤ atol + rtol·|ours|``;
            the other one is 0 by default.
        mapping: ``{our name: their name}`` or ``{our name: {"name": …, "transpose": true}}``, or the
            path of a JSON file with one.
        diagnose: look for known mistakes that explain the errors.
        progress: called with the number of arrays done and the number of all.

    Returns:
        A :class:`~minizha.crosscheck.report.report.Report`. Arrays that theirs lacks are listed; they do
        not make the two sides different.

    Convention: arrays may differ in layout (:mod:`~minizha.crosscheck.comparison.layouts`). An array is
    read when its turn comes, recomputed ones are kept up to a limit. Where rounding is not in the
    trace, its measurement needs the activations of three passes in memory.

    Raises:
        ArgumentError: one side is not a mapping, or the two have no float array in common; or rtol,
            atol or the mapping is not as described.
        FileError: a file can't be read, or the mapping in a file is wrong.
    """
    ours, theirs = _opened("trace", trace), _opened("other", other)
    for name, value in (("rtol", rtol), ("atol", atol)):
        number(f"compare: {name}", value, "[0, inf)", optional=True)
    comparing = _Comparing(ours, theirs, mapping, (rtol, atol))
    comparing.run(progress or (lambda done, total: None))
    return comparing.report(diagnose)


def _opened(argument: str, value: Any) -> Arrays:
    if isinstance(value, (str, PathLike)):
        value = open_trace(value)
    if not isinstance(value, Mapping):
        found = type(value).__name__
        raise ArgumentError(
            f"compare: {argument}: expected {{name: array}} or the path of a safetensors file, "
            f"found {found}"
        )
    if not value:
        raise ArgumentError(f"compare: {argument}: expected arrays, found none")
    not_name = next((name for name in value if not isinstance(name, str)), None)
    if not_name is not None:
        raise ArgumentError(f"compare: {argument}: expected strings as names, found {not_name!r}")
    return value


class _Comparing:
    """The state of one comparison, which goes through the arrays in execution order."""

    def __init__(
        self,
        ours: Arrays,
        theirs: Arrays,
        mapping: Any,
        tolerances: tuple[float | None, float | None],
    ) -> None:
        self.ours, self.theirs, self.tolerances = ours, theirs, tolerances
        self.entrywise = (
            None if tolerances == (None, None) else (tolerances[0] or 0.0, tolerances[1] or 0.0)
        )
        self.matches = match(ours, theirs, mapping, self.visible)
        self.matched = Matched(theirs, self.matches)
        self.only_gradients = all(is_gradient(name) for name in self.matches)
        self.missing = [name for name in ours if name not in self.matches]
        self.differences: list[Difference] = []
        self.verdicts: dict[str, Verdict] = {}
        self.independent: list[str] = []
        self.float32_table: list[str] = []
        self.precisions: dict[str, str] = {}
        self.judged_in: dict[str, str] = {}
        self.not_finite: list[str] = []
        self.widened: list[tuple[str, str]] = []
        self.precision, self.kinked = "float64", False
        self.gradient_seconds, self.not_computed = GRADIENT_SECONDS, 0
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
        self.own = OwnInputs(ours, self.matched, self.terms) if has_facts else None

    def run(self, progress: Callable[[int, int], None]) -> None:
        """Judge each pair."""
        for done, name in enumerate(self.matches):
            difference = self._difference(name)
            if difference is not None:
                self.differences.append(difference)
            progress(done + 1, len(self.matches))
        if not self.differences:
            raise ArgumentError(
                "compare: expected float arrays under equal names on both sides, found none; ours has "
                f"{listed(list(self.ours), most=3)}; theirs has {listed(list(self.theirs), most=3)}"
            )

    def report(self, diagnose: bool) -> Report:
        """The report, with location and findings for the first array that differs."""
        errors = find_errors(
            self.ours,
            self.matched,
            self.independent,
            self.judged_in,
            self.local_allowed,
            diagnose=diagnose,
        )
        self._settle()
        used = {match.their_name for match in self.matches.values()}
        left_over = tuple(name for name in self.theirs if name not in used)
        unclear = [name for name, v in self.verdicts.items() if v is Verdict.UNDECIDED]
        undecided = (*unclear, *self._perhaps_left_over(left_over))
        differences, missing = tuple(self.differences), tuple(self.missing)
        plain = Comparison(differences, missing, left_over, undecided=undecided)
        first, location = plain.divergence, None
        if first is not None and not math.isnan(first.max_abs):
            location = self._locate(first)
        all_remarks = (*self._remarks(plain), *errors.remarks)
        benign = (float32_table(tuple(self.float32_table)),) if self.float32_table else ()
        return Report(
            differences,
            missing,
            left_over,
            location,
            errors.found[0].findings if errors.found else (),
            all_remarks,
            undecided,
            (*errors.found, *benign),
        )

    def _settle(self) -> None:
        """The last word on arrays that follow from their inputs, but are far from ours: they differ if
        an array before them is wrong; else they are undecided, or equal if a ReLU's kink or a table
        made in float32 explains it."""
        seen_wrong = excused = False
        for k, d in enumerate(self.differences):
            found = self.verdicts[d.name]
            excused |= d.name in self.float32_table or (self.kinked and is_gradient(d.name))
            seen_wrong |= found is Verdict.WRONG
            if found is Verdict.FOLLOWS and not seen_wrong:
                self.verdicts[d.name] = Verdict.EQUAL if excused else Verdict.UNDECIDED
            different = self.verdicts[d.name] in (Verdict.WRONG, Verdict.FOLLOWS)
            self.differences[k] = replace(d, ok=not different)

    def _remarks(self, plain: Comparison) -> list[str]:
        parameters = getattr(self.ours, "parameters", {})
        sentences = remarks(plain, self.matches, self.widened, parameters)
        if self.config is None and getattr(self.theirs, "config", None):
            sentences.insert(0, "theirs is a minizha trace and ours is not: are the two exchanged?")
        if self.not_computed:
            sentences.append(
                f"{self.not_computed} gradients were not computed again from their own inputs in "
                f"{GRADIENT_SECONDS:.0f} s"
            )
        if self.not_finite:
            what = f"ours has NaN or infinity in {listed(self.not_finite, most=3)}"
            sentences.append(f"{what}: equal entries there prove nothing")
        return sentences

    def _perhaps_left_over(self, left_over: tuple[str, ...]) -> list[str]:
        """If arrays were matched by value, a wrong one matches none: the names of ours without a
        match whose shape one of the left-over arrays has."""
        if all(m.by != "value" for m in self.matches.values()):
            return []
        shapes = {shape_of(self.theirs, name, "theirs") for name in left_over}
        return [
            name
            for name in self.missing
            # not arrays that are 0, in theory or in fact: rounding errors never match
            if not name.endswith("key.bias.grad") and self.shape(name) in shapes and self.size(name)
        ]

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

    def visible(self, name: str, shape: Shape) -> np.ndarray | None:
        """Which entries count."""
        return visible_entries(self.ours, name, shape)

    # --- one pair ---------------------------------------------------------------------------------

    def _difference(self, name: str) -> Difference | None:
        """Compare one pair; None if ours does not hold floats."""
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
        with np.errstate(over="ignore", invalid="ignore"):
            if not math.isfinite(float(ours.sum(dtype=np.float64))):
                self.not_finite.append(name)
        # close to ReLU's kink, the gradients of both slopes are right
        certain = self._beside_kinks(name)
        measured = self._measure(name, ours, theirs, certain)
        all_entries = measured if certain is None else self._measure(name, ours, theirs)
        del ours  # free it before others are read
        self._sizes[name] = all_entries.scale
        if self.entrywise is not None:
            return self._entrywise(name, measured)
        self.kinked |= all_entries.max_abs > measured.max_abs
        return self._judge(name, theirs, measured, certain)

    def _measure(
        self, name: str, ours: np.ndarray, theirs: np.ndarray, counted: np.ndarray | None = None
    ) -> Measured:
        visible = self.visible(name, ours.shape) if counted is None else counted
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
        scale = self.terms.scale(name)
        if is_gradient(name):
            if found is not Verdict.EQUAL and getattr(self.config, "hidden_size", 0) == 2:
                found = Verdict.UNDECIDED  # a LayerNorm of two numbers has no slope
        elif found is Verdict.EQUAL and overall.allowed > MOST * scale and error:
            found = Verdict.UNDECIDED
        if found is Verdict.EQUAL:
            self.overall.learn(name, measured.max_abs)
        if found is Verdict.WRONG and self._is_float32_table(name, local):
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
        if overall.fit is Fit.GOOD:
            return False
        self.not_computed += self.gradient_seconds <= 0
        return self.gradient_seconds > 0

    def _is_float32_table(self, name: str, local: Evidence | None) -> bool:
        if local is None or self.own is None or local.precision != "float64":
            return False
        return self.own.float32_table_explains(name, local.error)

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
        if found != stored:
            self.widened.append((name, found))
        self.precisions[name] = found
        self.precision = self.judged_in[name] = coarser(self.precision, found)

    def _beside_kinks(self, name: str) -> np.ndarray | None:
        activation = name.removesuffix(GRADIENT)
        if not (self.relu and is_gradient(name) and activation in self.allowed):
            return None
        return beside_kinks(self.ours, activation, self.allowed)

    # --- the first that differs -------------------------------------------------------------------

    def _locate(self, first: Difference) -> Location:
        theirs = self.matched[first.name]
        ours = read_array(self.ours, first.name, "ours")
        allowed = self.entrywise or (0.0, self.allowed[first.name])
        scale = self.terms.scale(first.name)
        visible = self.visible(first.name, ours.shape)
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
