"""The comparison of two traces: which array is the first to differ, by how much, where, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import Any

from minizha.checks import number
from minizha.crosscheck.comparison.differences import Comparison, Difference
from minizha.crosscheck.comparison.errors import find_errors, float32_table
from minizha.crosscheck.comparison.judging import Judge
from minizha.crosscheck.comparison.matching import Matched, match, shape_of
from minizha.crosscheck.comparison.precision import is_half
from minizha.crosscheck.comparison.remarks import remarks
from minizha.crosscheck.comparison.verdict import Verdict, Why
from minizha.crosscheck.comparison.visible import visible_entries
from minizha.crosscheck.names import is_gradient
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
    """One comparison: the pairs, what a judge says of each, and the report."""

    def __init__(
        self,
        ours: Arrays,
        theirs: Arrays,
        mapping: Any,
        tolerances: tuple[float | None, float | None],
    ) -> None:
        self.ours, self.theirs = ours, theirs
        self.matches = match(ours, theirs, mapping, partial(visible_entries, ours))
        self.missing = [name for name in ours if name not in self.matches]
        self.judge = Judge(ours, Matched(theirs, self.matches), tolerances)
        self.differences: list[Difference] = []

    def run(self, progress: Callable[[int, int], None]) -> None:
        """Judge each pair."""
        for done, name in enumerate(self.matches):
            difference = self.judge.judge(name)
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
        judge = self.judge
        errors = find_errors(
            self.ours,
            judge.matched,
            judge.independent,
            judge.judged_in,
            judge.local_allowed,
            diagnose=diagnose,
        )
        self._settle()
        used = {match.their_name for match in self.matches.values()}
        left_over = tuple(name for name in self.theirs if name not in used)
        unclear = [name for name, v in self.judge.verdicts.items() if v is Verdict.UNDECIDED]
        undecided = (*unclear, *self._perhaps_left_over(left_over))
        differences, missing = tuple(self.differences), tuple(self.missing)
        plain = Comparison(differences, missing, left_over, undecided=undecided)
        first, location = plain.divergence, None
        if first is not None and not math.isnan(first.max_abs):
            location = judge.locate(first)
        all_remarks = (*self._remarks(plain), *errors.remarks)
        benign = (
            (float32_table(tuple(self.judge.float32_table)),) if self.judge.float32_table else ()
        )
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
            found = self.judge.verdicts[d.name]
            excused |= d.name in self.judge.float32_table or (
                self.judge.kinked and is_gradient(d.name)
            )
            seen_wrong |= found is Verdict.WRONG
            if found is Verdict.FOLLOWS and not seen_wrong:
                known = excused and d.name not in self.judge.why
                self.judge.verdicts[d.name] = Verdict.EQUAL if known else Verdict.UNDECIDED
                self.judge.why.setdefault(d.name, Why.HALF if is_half(d.dtype) else Why.GROWN)
            different = self.judge.verdicts[d.name] in (Verdict.WRONG, Verdict.FOLLOWS)
            self.differences[k] = replace(d, ok=not different)

    def _remarks(self, plain: Comparison) -> list[str]:
        parameters = getattr(self.ours, "parameters", {})
        sentences = remarks(plain, self.matches, self.judge.widened, self.judge.why, parameters)
        if self.judge.config is None and getattr(self.theirs, "config", None):
            sentences.insert(0, "theirs is a minizha trace and ours is not: are the two exchanged?")
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
            if not name.endswith("key.bias.grad")
            and self.judge.shape(name) in shapes
            and self.judge.size(name)
        ]
