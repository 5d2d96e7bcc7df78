"""Two traces side by side: which array is the first to differ, by how much, where, and why."""

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
from minizha.crosscheck.comparison.noise import MOST, Noise
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

    ``error = max |ours − theirs| / scale`` with ``scale = max |ours|``; an array is equal where that is
    a few times what rounding is expected to do at its place and in the coarser dtype of both:
    :mod:`~minizha.crosscheck.comparison.noise` tells, and measures. Where rounding alone may do more
    than a tenth, an array that is off by as much is undecided, and ``report.ok`` is False.

    Args:
        trace: ours: a :class:`~minizha.crosscheck.trace_file.Trace`, the path of one, or any mapping
            from names to float arrays. The masks of its ``inputs`` say which scores are hidden and
            not compared, its ``config`` and ``parameters`` serve the diagnosis.
        other: theirs, likewise; of a path any safetensors file. Names that we don't know are
            without their prefix (``nezha.``, ``bert.``, ``module.``, ``model.``), or are matched by
            shape and value.
        rtol, atol: where one is given, equal is ``|ours − theirs| ≤ atol + rtol·|ours|``, entry by
            entry; the other one is 0.
        mapping: ``{our name: their name}`` or ``{our name: {"name": …, "transpose": true}}``, or the
            path of a JSON file with one.
        diagnose: look for known mistakes that explain the first difference.
        progress: called with the number of arrays done and of all.

    Returns:
        A :class:`~minizha.crosscheck.report.report.Report`. What they don't have is listed and no fault.

    Convention: arrays may differ in layout (:mod:`~minizha.crosscheck.comparison.layouts`). At most
    one array of each side is held at a time, and blocks of them.

    Raises:
        ArgumentError: one side is no mapping, or the two have no float array in common; or rtol,
            atol or the mapping is not what was expected.
        FileError: a file can't be read, or the mapping in a file is wrong.
    """
    ours, theirs = _opened("trace", trace), _opened("other", other)
    for name, value in (("rtol", rtol), ("atol", atol)):
        number(f"compare: {name}", value, "[0, inf)", optional=True)
    walk = _Walk(ours, theirs, mapping, (rtol, atol))
    walk.run(progress or (lambda done, total: None))
    return walk.report(diagnose)


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
    odd = next((name for name in value if not isinstance(name, str)), None)
    if odd is not None:
        raise ArgumentError(f"compare: {argument}: expected names, found {odd!r}")
    return value


class _Walk:
    """The state of one walk through the names."""

    def __init__(
        self, ours: Arrays, theirs: Arrays, mapping: Any, asked: tuple[float | None, float | None]
    ) -> None:
        self.ours, self.theirs, self.asked = ours, theirs, asked
        self.entrywise = None if asked == (None, None) else (asked[0] or 0.0, asked[1] or 0.0)
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
        furthest = getattr(config, "max_relative_position", 64)
        self.noise = Noise(list(ours), self.size, self.shape, self.missing, furthest, self.relu)

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
                f"{listed(list(self.ours), most=3)}; theirs {listed(list(self.theirs), most=3)}"
            )

    def report(self, diagnose: bool) -> Report:
        """What was found; the first array that differs is read once more."""
        used = {match.their_name for match in self.matches.values()}
        left_over = tuple(name for name in self.theirs if name not in used)
        plain = Comparison(
            tuple(self.differences), tuple(self.missing), left_over,
            undecided=(*self.undecided, *self._perhaps_there(left_over)),
        )  # fmt: skip
        first, where, found = plain.divergence, None, Diagnosis((), ())
        if first is not None and not math.isnan(first.max_abs):
            where = self._locate(first)
            if diagnose:
                found = explain(self.ours, self.matched, first.name, precision=self.precision)
        parameters = getattr(self.ours, "parameters", {})
        said = remarks(plain, self.matches, self.widened, self.lowered, parameters)
        if getattr(self.ours, "config", None) is None and getattr(self.theirs, "config", None):
            said.insert(
                0, "theirs is a trace of minizha's and ours is none: are the two exchanged?"
            )
        if self.not_finite:
            what = f"ours has NaN or infinity in {listed(self.not_finite, most=3)}"
            said.append(f"{what}: that theirs has it too proves nothing")
        return Report(
            plain.differences, plain.missing, plain.left_over, where, found.findings,
            (*said, *found.remarks), plain.undecided,
        )  # fmt: skip

    def _perhaps_there(self, left_over: tuple[str, ...]) -> list[str]:
        """Where arrays were matched by value, one that is wrong finds no partner: those that have
        none, though something that is left over has their shape."""
        if all(m.by != "value" for m in self.matches.values()):
            return []
        shapes = {shape_of(self.theirs, name, "theirs") for name in left_over}
        return [
            name
            for name in self.missing
            # 0 in theory, or in fact: rounding has no likeness
            if not name.endswith("key.bias.grad") and self.shape(name) in shapes and self.size(name)
        ]

    # --- ours -------------------------------------------------------------------------------------

    def size(self, name: str) -> float:
        """``max |ours|`` over the entries that count."""
        if name not in self._sizes:
            array = read_array(self.ours, name, "ours")
            kind = array.dtype.kind
            found = self._measure(name, array, array) if kind == "f" else Measured()
            self._sizes[name] = found.scale
        return self._sizes[name]

    def shape(self, name: str) -> Shape:
        """Of one of ours."""
        if name not in self._shapes:
            self._shapes[name] = shape_of(self.ours, name, "ours")
        return self._shapes[name]

    def visible(self, name: str, shape: Shape) -> np.ndarray | None:
        """Which entries count."""
        return visible_entries(self.ours, name, shape)

    # --- one pair ---------------------------------------------------------------------------------

    def _difference(self, name: str) -> Difference | None:
        """None where ours holds no floats: that is nothing to compare."""
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
            nan = math.nan
            return Difference(
                name, their_name, ours.shape, ours.dtype.name, False, nan, nan, nan, nan, nan, (),
                nan, nan, reason,
            )  # fmt: skip
        self._note_precision(name, ours, theirs)
        with np.errstate(over="ignore", invalid="ignore"):
            if not math.isfinite(float(ours.sum(dtype=np.float64))):
                self.not_finite.append(name)
        # a gradient beside ReLU's kink may be either slope's
        kinks = self._beside_kinks(name)
        found = self._measure(name, ours, theirs, kinks)
        everything = found if kinks is None else self._measure(name, ours, theirs)
        del ours, theirs  # before sizes of others are asked for
        self._sizes[name] = everything.scale
        return self._judged(name, found, everything)

    def _measure(
        self, name: str, ours: np.ndarray, theirs: np.ndarray, keep: np.ndarray | None = None
    ) -> Measured:
        visible = self.visible(name, ours.shape) if keep is None else keep
        unit = "float32" if self.precision == "bfloat16" else self.precision
        return measure(ours, theirs, unit, visible, *self.asked)

    def _judged(self, name: str, found: Measured, everything: Measured) -> Difference:
        scale, expected = self.noise.scale(name), self.noise.expected(name, self.precision)
        tolerance = self.noise.allowed(name, self.precision)
        error, reason = found.max_abs / scale, found.broken
        ok = error <= tolerance and not reason
        if self.entrywise is not None:
            rtol, atol = self.entrywise
            ok = found.excess <= 0 and not reason
            worst = abs(found.ours) if math.isfinite(found.ours) else 0.0
            tolerance = (atol + rtol * worst) / scale
        elif ok and error > MOST:
            self.undecided.append(name)
        if ok:
            self.noise.learn(name, everything.max_abs)
        self.allowed[name] = tolerance * scale
        return Difference(
            name, self.matches[name].their_name, self.shape(name), self.precision, ok,
            found.max_abs, math.inf if reason else error, expected, tolerance, found.ulp,
            found.index, found.ours, found.theirs, reason,
        )  # fmt: skip

    def _note_precision(self, name: str, ours: np.ndarray, theirs: np.ndarray) -> None:
        """The coarsest so far: what is made from it is no finer."""
        found = coarser(ours.dtype.name, theirs.dtype.name)
        # what is left where a gradient's terms cancel are round numbers in any dtype
        if not is_gradient(name) or (self.only_gradients and "self.key" not in name):
            told = precision(ours, theirs)
            if told != found:
                self.widened.append((name, told))
            found = told
        lower = coarser(self.precision, found)
        if lower != self.precision and self.differences:
            self.lowered.append((name, lower))
        self.precision = lower

    def _beside_kinks(self, name: str) -> np.ndarray | None:
        before = name.removesuffix(GRADIENT)
        if not (self.relu and is_gradient(name) and before in self.allowed):
            return None
        return beside_kinks(self.ours, before, self.allowed)

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
