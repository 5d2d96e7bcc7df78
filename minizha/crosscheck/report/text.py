"""A comparison's report for a terminal, and as plain data for JSON."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from minizha.checkpoint.stored import shown
from minizha.crosscheck.comparison.differences import Comparison, Difference, Finding
from minizha.crosscheck.names import is_gradient, part_of
from minizha.crosscheck.report.page import BOLD, GREEN, RED, YELLOW, Page, cells, fit
from minizha.crosscheck.report.plain import plain
from minizha.crosscheck.report.words import (
    clean,
    entry_text,
    error_text,
    finding_text,
    number,
    power,
    sizes,
    times,
    verdict,
)
from minizha.errors import listed

JSON_VERSION = 2
"""Raised when a key of the JSON report changes; docs/reference/crosscheck.md lists the versions."""
NARROWEST = 48
NAMES_SHOWN = 8
ERRORS_SHOWN = 12
BAR = 24  # cells of a full bar, where there is room
EIGHTHS = " ▏▎▍▌▋▊▉█"


def as_text(report: Comparison, color: bool = False, width: int = 100, every: bool = False) -> str:
    """The report for a terminal; the first line is the verdict.

    Args:
        report: the result of :func:`~minizha.crosscheck.compare`.
        color: whether to use ANSI colours: green for equal, yellow for more than rounding explains
            but within what is allowed, red for different. See :func:`wants_color`.
        width: the largest width of a line, in cells of the terminal (at least 48).
        every: whether to list every array instead of one row for each layer.
    """
    page = Page(max(width, NARROWEST), color)
    page.say(verdict(report), GREEN if report.ok else RED)
    if (first := report.divergence) is not None:
        _divergence(page, report, first)
        _where(page, report)
        _why(page, report.findings)
    _errors(page, report)
    if every:
        _all_arrays(page, report)
    elif first is not None:
        _spread(page, report)
    _leftovers(page, report)
    return "\n".join(page.lines)


def as_json(report: Comparison) -> dict[str, Any]:
    """The report as dicts, lists, strings, finite numbers and None.

    Convention: a number that is not finite is the string ``"NaN"``, ``"Infinity"`` or
    ``"-Infinity"``. ``verdict`` is "equal", "different" or "undecided", ``summary`` the same as a
    sentence; ``tolerances`` gives the smallest and the largest tolerance of the arrays.
    """
    allowed = [d.tolerance for d in report if not math.isnan(d.tolerance)]
    content = {
        "version": JSON_VERSION,
        "verdict": verdict(report).partition(":")[0],
        "summary": verdict(report),
        "first_divergence": report.first_divergence,
        "tolerances": {
            "unit": "in units of `error`: largest difference ÷ the array's scale",
            "least": min(allowed, default=None),
            "largest": max(allowed, default=None),
        },
        "differences": [asdict(d) for d in report],
        "missing": report.missing,
        "left_over": report.left_over,
        "location": asdict(report.location) if report.location else None,
        "findings": [asdict(finding) for finding in report.findings],
        "errors": [asdict(error) for error in report.errors],
        "remarks": report.remarks,
        "undecided": report.undecided,
    }
    return plain(content)


def wants_color(stream: Any) -> bool:
    """Whether ``stream`` is a terminal and the variable NO_COLOR is not set."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # not a file, or closed
        return False


def _divergence(page: Page, report: Comparison, first: Difference) -> None:
    count, differing = len(report.differences), sum(not d.ok for d in report)
    position = report.differences.index(first) + 1
    shape = " × ".join(map(str, first.shape)) or "a single number"
    page.say(f"array {position} of {count}, {shape}, {first.dtype}; {differing} in all differ")
    if first.their_name != first.name:
        page.say(f"their name for it: {shown(first.their_name)}")
    if first.reason:
        page.say(clean(first.reason), RED)
    measured = math.isfinite(first.error)
    if measured or not math.isnan(first.ours + first.theirs):
        page.heading("how much")
    rows = [("", "found", "rounding", "allowed"), *sizes(first)]
    for row in rows if measured else ():
        page.row((f"  {row[0]:<17}", ""), (f"{row[1]:>9}", RED), (f"{row[2]:>10}{row[3]:>9}", ""))
    if not (math.isnan(first.ours) and math.isnan(first.theirs)):
        page.say(f"worst entry {entry_text(first)}", indent=2)


def _where(page: Page, report: Comparison) -> None:
    where = report.location
    if where is None:
        return
    page.heading("where")
    if math.isfinite(where.share):
        page.say(f"{number(100 * where.share)} % of its entries differ", indent=2)
    for line in where.lines:
        page.say(clean(line), indent=2)


def _why(page: Page, findings: Sequence[Finding]) -> None:
    if not findings:
        return
    these = "this mistake gives" if len(findings) == 1 else "each of these mistakes gives"
    page.heading(f"why: {these} their array")
    for finding in findings:
        page.say(finding_text(finding), BOLD, indent=2)
        left, right = number(finding.error), number(finding.right_error)
        page.say(f"remaining error: {left} with this mistake, {right} without it", indent=4)


def _errors(page: Page, report: Comparison) -> None:
    """All errors, where the first is not the only one or does not make a difference."""
    if len(report.errors) < 2 and report.first_divergence is not None:
        return
    if report.errors:
        page.heading("arrays that do not follow from their own inputs")
    for error in report.errors[:ERRORS_SHOWN]:
        arrays, cause = error_text(error)
        page.say(f"{arrays}: {cause}", YELLOW if error.benign else RED, indent=2)
    if len(report.errors) > ERRORS_SHOWN:
        page.say(f"and {len(report.errors) - ERRORS_SHOWN} more", RED, indent=2)


def _spread(page: Page, report: Comparison) -> None:
    """A row for each part of the model: the worst error of each pass, and a bar of its logarithm."""
    parts: dict[str, tuple[list[Difference], list[Difference]]] = {}
    for d in report:
        parts.setdefault(part_of(d.name), ([], []))[is_gradient(d.name)].append(d)
    passes = [i for i in (0, 1) if any(groups[i] for groups in parts.values())]
    bar = min((page.width - 21) // len(passes) - 11, BAR)
    top = _decades(report)
    page.heading(f"how it spreads: worst error ÷ rounding's, a full bar is {power(top)}")
    titles = [(f"  {('forward', 'backward')[i]:<{9 + bar}}", "") for i in passes]
    page.row((f"  {'':<11}{'differ':>8}", ""), *titles)
    first = part_of(report.first_divergence) if report.first_divergence else None
    for name, groups in parts.items():
        arrays = [*groups[0], *groups[1]]
        differ = f"{sum(not d.ok for d in arrays)}/{len(arrays)}"
        bars = [_cell(groups[i], top, bar) for i in passes]
        mark = "  " if all(d.ok for d in arrays) else "✗ "
        label = f"{name[:11]:<11}{differ:>8}", BOLD if name == first else ""
        page.row((mark, RED), label, *bars)


def _cell(group: Iterable[Difference], top: int, bar: int) -> tuple[str, str]:
    worst = max(group, key=lambda d: (not d.ok, times(d)), default=None)
    if worst is None:
        return " " * (11 + bar), ""
    return f"  {number(times(worst)):>8} {_bar(times(worst), top, bar):<{bar}}", _color_of(worst)


def _all_arrays(page: Page, report: Comparison) -> None:
    """A row for each array: its error, the error in units of rounding's, and a bar of that."""
    top, bar = _decades(report), min(page.width // 6, BAR)
    name_width = page.width - 24 - bar
    page.heading(f"every array: error, the same ÷ rounding's, a full bar is {power(top)}")
    for d in report:
        name = fit(shown(d.name), name_width)
        padded = name + " " * (name_width - cells(name))
        bars = _bar(times(d), top, bar)
        rest = f"{number(d.error):>9} {number(times(d)):>8} {bars}"
        page.row(("  " if d.ok else "✗ ", RED), (padded, ""), (rest, _color_of(d)))
        if d.reason and not d.ok:
            page.say(clean(d.reason), RED, indent=6)


def _leftovers(page: Page, report: Comparison) -> None:
    for names, text in (
        (report.missing, "missing in theirs ({}): "),
        (report.left_over, "left over in theirs ({}): "),
    ):
        if names:
            page.say("")
            some = listed([shown(name) for name in names], most=NAMES_SHOWN)
            page.say(text.format(len(names)) + some, YELLOW)
    for remark in report.remarks:
        page.say("")
        page.say(clean(remark), YELLOW)


def _color_of(d: Difference) -> str:
    return RED if not d.ok else YELLOW if times(d) > 1 else GREEN


def _decades(report: Comparison) -> int:
    """The power of ten at which a bar is full."""
    finite = [t for t in map(times, report) if 1 < t < math.inf]
    return max(1, math.ceil(math.log10(max(finite, default=10.0))))


def _bar(ratio: float, top: int, width: int) -> str:
    """``log10(ratio)`` in eighths of a cell; empty up to what rounding explains."""
    if ratio <= 1 or width <= 0:
        return ""
    eighths = 8 * width if math.isinf(ratio) else math.ceil(8 * width * math.log10(ratio) / top)
    full, rest = divmod(min(eighths, 8 * width), 8)
    return "█" * full + (EIGHTHS[rest] if rest else "")
