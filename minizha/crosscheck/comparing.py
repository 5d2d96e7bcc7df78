"""The comparison of two traces: which array is the first to differ, by how much, where, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from os import PathLike
from typing import Any

import numpy as np

from minizha.checks import number
from minizha.crosscheck.comparison.differences import Comparison, Difference, Location
from minizha.crosscheck.comparison.layouts import Shape
from minizha.crosscheck.comparison.location import locate
from minizha.crosscheck.comparison.matching import (
    Matched,
    match,
    read_array,
    shape_of,
)
from minizha.crosscheck.comparison.measure import Measured, coarser, measure, precision
from minizha.crosscheck.comparison.noise import NOISE_LIMIT, Noise
from minizha.crosscheck.comparison.remarks import remarks
from minizha.crosscheck.comparison.visible import beside_kinks, visible_entries
from minizha.crosscheck.diagnosis import Diagnosis
from minizha.crosscheck.diagnosis import diagnose as explain
from minizha.crosscheck.names import GRADIENT, is_gradient
from minizha.crosscheck.report.report import Report
from minizha.crosscheck.trace_file import open_trace
from minizha.errors import ArgumentError, listed

Arrays = Mapping[str, Any]


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

    ``error = max |ours − theirs| / scale`` with ``scale = max |ours|``. Two arrays are equal if the
    error is at most a few times the rounding error that is expected there in the coarser dtype of
    both (:mod:`~minizha.crosscheck.comparison.noise`). If rounding may explain an error above a tenth,
    an array with such an error is undecided, and ``report.ok`` is False.

    Args:
        trace: ours: a :class:`~minizha.crosscheck.trace_file.Trace`, the path of one, or any mapping
            from names to float arrays. The masks of its ``inputs`` say which scores are hidden and
            not compared; the diagnosis needs its ``config`` and ``parameters``.
        other: theirs: a mapping as well, or the path of any safetensors file. Unknown names are
            matched without their prefix (``nezha.``, ``bert.``, ``module.``, ``model.``), or by
            shape and value.
        rtol, atol: if one is given, an entry is equal if ``|ours − theirs| ≤ atol + rtol·|ours|``;
            the other one is 0 by default.
        mapping: ``{our name: their name}`` or ``{our name: {"name": …, "transpose": true}}``, or the
            path of a JSON file with one.
        diagnose: look for known mistakes that explain the first difference.
        progress: called with the number of arrays done and the number of all.

    Returns:
        A :class:`~minizha.crosscheck.report.report.Report`. Arrays that theirs lacks are listed; they do
        not make the two sides different.

    Convention: arrays may differ in layout (:mod:`~minizha.crosscheck.comparison.layouts`). At most
    one array of each side is in memory at a time.

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
        self.undecided: list[str] = []
        self.not_finite: list[str] = []
        self.widened: list[tuple[str, str]] = []
        self.lowered: list[tuple[str, str]] = []
        self.precision = "float64"
        self.allowed: dict[str, float] = {}
        self._sizes: dict[str, float] = {}
        self._shapes: dict[str, Shape] = {}
        config = getattr(ours, "config", None)
        self.relu = getattr(config, "hidden_act", None) == "relu"
        K = getattr(config, "max_relative_position", 64)
        self.noise = Noise(list(ours), self.size, self.shape, self.missing, K, self.relu)

    def run(self, progress: Callable[[int, int], None]) -> None:
        """Measure each pair."""
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
        used = {match.their_name for match in self.matches.values()}
        left_over = tuple(name for name in self.theirs if name not in used)
        undecided = (*self.undecided, *self._perhaps_left_over(left_over))
        differences, missing = tuple(self.differences), tuple(self.missing)
        plain = Comparison(differences, missing, left_over, undecided=undecided)
        first, location, diagnosis = plain.divergence, None, Diagnosis((), ())
        if first is not None and not math.isnan(first.max_abs):
            location = self._locate(first)
            if diagnose:
                diagnosis = explain(self.ours, self.matched, first.name, precision=self.precision)
        all_remarks = (*self._remarks(plain), *diagnosis.remarks)
        return Report(
            differences, missing, left_over, location, diagnosis.findings, all_remarks, undecided
        )

    def _remarks(self, plain: Comparison) -> list[str]:
        parameters = getattr(self.ours, "parameters", {})
        sentences = remarks(plain, self.matches, self.widened, self.lowered, parameters)
        if getattr(self.ours, "config", None) is None and getattr(self.theirs, "config", None):
            sentences.insert(0, "theirs is a minizha trace and ours is not: are the two exchanged?")
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
        """``max |ours|`` over the entries that count."""
        if name not in self._sizes:
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
            return _not_comparable(name, their_name, ours, reason)
        self._note_precision(name, ours, theirs)
        with np.errstate(over="ignore", invalid="ignore"):
            if not math.isfinite(float(ours.sum(dtype=np.float64))):
                self.not_finite.append(name)
        # close to ReLU's kink, the gradients of both slopes are right
        certain = self._beside_kinks(name)
        measured = self._measure(name, ours, theirs, certain)
        all_entries = measured if certain is None else self._measure(name, ours, theirs)
        del ours, theirs  # free both before _judge reads other arrays for their sizes
        self._sizes[name] = all_entries.scale
        return self._judge(name, measured, all_entries)

    def _measure(
        self, name: str, ours: np.ndarray, theirs: np.ndarray, counted: np.ndarray | None = None
    ) -> Measured:
        visible = self.visible(name, ours.shape) if counted is None else counted
        unit = "float32" if self.precision == "bfloat16" else self.precision
        return measure(ours, theirs, unit, visible, *self.tolerances)

    def _judge(self, name: str, measured: Measured, all_entries: Measured) -> Difference:
        scale, expected = self.noise.scale(name), self.noise.expected(name, self.precision)
        tolerance = self.noise.allowed(name, self.precision)
        error, reason = measured.max_abs / scale, measured.broken
        ok = error <= tolerance and not reason
        if self.entrywise is not None:
            rtol, atol = self.entrywise
            ok = measured.excess <= 0 and not reason
            worst = abs(measured.ours) if math.isfinite(measured.ours) else 0.0
            tolerance = (atol + rtol * worst) / scale
        elif ok and error > NOISE_LIMIT:
            self.undecided.append(name)
        if ok:
            self.noise.learn(name, all_entries.max_abs)
        self.allowed[name] = tolerance * scale
        return Difference(
            name=name,
            their_name=self.matches[name].their_name,
            shape=self.shape(name),
            dtype=self.precision,
            ok=ok,
            max_abs=measured.max_abs,
            error=math.inf if reason else error,
            expected=expected,
            tolerance=tolerance,
            ulp=measured.ulp,
            index=measured.index,
            ours=measured.ours,
            theirs=measured.theirs,
            reason=reason,
        )

    def _note_precision(self, name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
        """Keep the coarsest precision so far: arrays that follow from this one are no finer."""
        found = coarser(ours.dtype.name, theirs.dtype.name)
        # not for a gradient whose terms may cancel: the remainders are round numbers in any dtype
        if not is_gradient(name) or (self.only_gradients and "self.key" not in name):
            computed = precision(ours, theirs)
            if computed != found:
                self.widened.append((name, computed))
            found = computed
        coarsest = coarser(self.precision, found)
        if coarsest != self.precision and self.differences:
            self.lowered.append((name, coarsest))
        self.precision = coarsest

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
        scale = self.noise.scale(first.name)
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
