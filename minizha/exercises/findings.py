"""What a check found, in lines for a reader: the hint first, then the numbers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minizha.crosscheck.pair_report import PairReport
from minizha.crosscheck.pair_report import Verdict as ArgumentVerdict
from minizha.crosscheck.relations import Wrong, relation

TOLERANCE = 1e-9
"""How far a value may be from the one that is expected, relative to the larger of it and 1."""


class Finding(NamedTuple):
    """``ok`` is True, False, or None if undecided; ``lines`` say why."""

    ok: bool | None
    lines: list[str]


def of_pair(name: str, report: PairReport) -> Finding:
    """Those of :func:`~minizha.crosscheck.check_pair`, those of wrong gradients first."""
    order = {False: 0, None: 1, True: 2}
    verdicts = sorted(report.verdicts, key=lambda v: (order[v.ok], -_finite(v.error)))
    lines = [line for v in verdicts for line in _of_argument(v)]
    if report.ok:
        lines = [
            f"{name}_backward is right: {report.checked} derivatives agree with the {report.oracle}"
        ]
    return Finding(report.ok, [*lines, *(f"remark: {remark}" for remark in report.remarks)])


def _of_argument(verdict: ArgumentVerdict) -> list[str]:
    name, hint = verdict.parameter, verdict.hint
    if verdict.ok:
        return [f"the gradient of {name} is right"]
    if verdict.ok is None:
        return [f"the gradient of {name} can't be decided: {hint}"]
    lines = [hint if f"{name}'s gradient" in hint else f"the gradient of {name} is wrong: {hint}"]
    if not hint:
        lines = [f"the gradient of {name} is wrong"]
    if verdict.index or verdict.error == verdict.error:  # not NaN
        lines.append(f"    {_numbers(verdict.index, verdict.expected, verdict.found)}")
    return lines


def _numbers(index: tuple[int, ...], expected: Any, found: Any) -> str:
    place = f"at {list(index)}" if index else "along a random direction"
    return f"{place}: expected {expected:.8g}, found {found:.8g}"


def _finite(error: float) -> float:
    return error if np.isfinite(error) else np.inf


def of_values(
    what: str,
    found: Any,
    expected: np.ndarray,
    tolerance: float = TOLERANCE,
    y: np.ndarray | None = None,
) -> Finding:
    """Whether an array, which the reader knows as ``what``, is the one that is expected.

    ``y`` is given for a derivative of y, and may occur in a relation between right and wrong.
    """
    try:
        array = np.asarray(found)
        fitting = array.dtype.kind in "fiubc" and array.shape == expected.shape
    except ValueError:  # nested lists of several lengths
        array, fitting = np.asarray(None), False
    if not fitting:
        shown = f"shape {array.shape}" if array.dtype.kind in "fiubc" else type(found).__name__
        return Finding(
            False, [f"{what}: expected an array of shape {expected.shape}, found {shown}"]
        )
    if expected.dtype.kind != "c" and array.dtype.kind == "c":
        return Finding(False, [f"{what}: expected real numbers, found {array.dtype}"])
    with np.errstate(all="ignore"):
        error = np.abs(array - expected) / np.maximum(1, np.abs(expected))
        wrong = ~(error <= tolerance)  # NaN is wrong
    if not wrong.any():
        return Finding(True, [f"{what} is right"])
    worst = np.unravel_index(
        np.argmax(np.where(wrong, np.nan_to_num(error, nan=np.inf), -1)), wrong.shape
    )
    hint = _relation(array, expected, tolerance, y)
    first = f"{what}: {wrong.sum()} of {wrong.size} entries are wrong{': ' if hint else ''}{hint}"
    index = tuple(int(i) for i in worst)
    return Finding(False, [first, f"    {_numbers(index, expected[worst], array[worst])}"])


def _relation(
    found: np.ndarray, expected: np.ndarray, tolerance: float, y: np.ndarray | None
) -> str:
    """How wrong values are related to the right ones, as it is told of wrong gradients."""
    if found.dtype.kind == "c" or expected.dtype.kind == "c" or not expected.size:
        return ""
    found, expected = found.astype(float), expected.astype(float)
    none = np.zeros(expected.shape)
    rounding = (tolerance - TOLERANCE) / 30  # of the expected ones
    y = none if y is None else y
    return relation(Wrong(found, expected, none, y, none, None, {}, rounding))
