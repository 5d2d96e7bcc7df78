"""A comparison's report for a terminal, and as plain data for JSON."""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from minizha.checkpoint.stored import shown
from minizha.crosscheck.comparison.differences import Comparison, Difference, Finding
from minizha.crosscheck.names import is_gradient
from minizha.crosscheck.report.words import (
    clean,
    entry_text,
    finding_text,
    is_equal,
    number,
    power,
    sizes,
    stage,
    times,
    verdict,
)
from minizha.errors import listed

JSON_VERSION = 1
NARROWEST = 48
NAMES_SHOWN = 8
BAR = 24  # cells of a full bar, where there is room
RED, GREEN, YELLOW, BOLD = "31", "32", "33", "1"
EIGHTHS = " ▏▎▍▌▋▊▉█"


def as_text(report: Comparison, color: bool = False, width: int = 100, every: bool = False) -> str:
    """The report for a person at a terminal; the first line says how it ended.

    Args:
        report: what :func:`~minizha.crosscheck.compare` found.
        color: with ANSI colours: green equal, yellow more than rounding explains but within what
            is allowed, red different. :func:`wants_color` says whether a stream is for them.
        width: no line is longer, in cells of the terminal (at least 48).
        every: list every array instead of one row for each layer.
    """
    page = _Page(max(width, NARROWEST), color)
    page.say(verdict(report), GREEN if is_equal(report) else RED)
    if (first := report.divergence) is not None:
        _divergence(page, report, first)
        _where(page, report)
        _why(page, report.findings)
    if report.differences and every:
        _all_arrays(page, report)
    elif first is not None:
        _spread(page, report)
    _leftovers(page, report)
    return "\n".join(page.lines)


def as_json(report: Comparison) -> dict[str, Any]:
    """The report as dicts, lists, strings, finite numbers and None.

    Convention: a number that strict JSON can't hold is the string ``"NaN"``, ``"Infinity"`` or
    ``"-Infinity"``. ``verdict`` is "equal", "different" or "nothing compared", ``summary`` the
    same as a sentence; ``tolerances`` gives the least and the largest of the arrays' ones.
    """
    allowed = [d.tolerance for d in report if not math.isnan(d.tolerance)]
    content = {
        "version": JSON_VERSION,
        "verdict": verdict(report).partition(":")[0],
        "summary": verdict(report),
        "first_divergence": report.first_divergence,
        "tolerances": {
            "unit": "max |ours - theirs| / max |ours|",
            "least": min(allowed, default=None),
            "largest": max(allowed, default=None),
        },
        "differences": [asdict(d) for d in report],
        "missing": report.missing,
        "left_over": report.left_over,
        "whereabouts": asdict(report.whereabouts) if report.whereabouts else None,
        "findings": [asdict(finding) for finding in report.findings],
        "remarks": report.remarks,
    }
    return _plain(content)


def wants_color(stream: Any) -> bool:
    """Whether ``stream`` is a terminal whose owner has not asked for no colour (NO_COLOR)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # not a file, or closed
        return False


def _divergence(page: _Page, report: Comparison, first: Difference) -> None:
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


def _where(page: _Page, report: Comparison) -> None:
    where = report.whereabouts
    if where is None:
        return
    page.heading("where")
    if math.isfinite(where.share):
        page.say(f"{number(100 * where.share)} % of its entries differ", indent=2)
    for line in where.lines:
        page.say(clean(line), indent=2)


def _why(page: _Page, findings: Sequence[Finding]) -> None:
    if findings:
        page.heading("why")
    for finding in findings:
        page.say(finding_text(finding), BOLD, indent=2)
        left, right = number(finding.error), number(finding.right_error)
        page.say(f"with this mistake {left} is left between both, without it {right}", indent=4)


def _spread(page: _Page, report: Comparison) -> None:
    """A row for each stage, its worst error forward and backward with a bar of its logarithm."""
    stages: dict[str, tuple[list[Difference], list[Difference]]] = {}
    for d in report:
        stages.setdefault(stage(d.name), ([], []))[is_gradient(d.name)].append(d)
    sides = [side for side in (0, 1) if any(groups[side] for groups in stages.values())]
    bar = min((page.width - 21) // len(sides) - 11, BAR)
    top = _decades(report)
    page.heading(f"how it spreads: worst error ÷ rounding's, a full bar is {power(top)}")
    titles = [(f"  {('forward', 'backward')[side]:<{9 + bar}}", "") for side in sides]
    page.row((f"  {'':<11}{'differ':>8}", ""), *titles)
    first = stage(report.first_divergence) if report.first_divergence else None
    for name, groups in stages.items():
        arrays = [*groups[0], *groups[1]]
        differ = f"{sum(not d.ok for d in arrays)}/{len(arrays)}"
        cells = [_cell(groups[side], top, bar) for side in sides]
        mark = "  " if all(d.ok for d in arrays) else "✗ "
        label = f"{name[:11]:<11}{differ:>8}", BOLD if name == first else ""
        page.row((mark, RED), label, *cells)


def _cell(group: Iterable[Difference], top: int, bar: int) -> tuple[str, str]:
    worst = max(group, key=lambda d: (not d.ok, times(d)), default=None)
    if worst is None:
        return " " * (11 + bar), ""
    return f"  {number(times(worst)):>8} {_bar(times(worst), top, bar):<{bar}}", _color_of(worst)


def _all_arrays(page: _Page, report: Comparison) -> None:
    """A row for each array: its error, the same in units of rounding's, and a bar of that."""
    top, bar = _decades(report), min(page.width // 6, BAR)
    room = page.width - 24 - bar
    page.heading(f"every array: error, the same ÷ rounding's, a full bar is {power(top)}")
    for d in report:
        name = fit(shown(d.name), room)
        padded = name + " " * (room - cells(name))
        bars = _bar(times(d), top, bar)
        rest = f"{number(d.error):>9} {number(times(d)):>8} {bars}"
        page.row(("  " if d.ok else "✗ ", RED), (padded, ""), (rest, _color_of(d)))
        if d.reason and not d.ok:
            page.say(clean(d.reason), RED, indent=6)


def _leftovers(page: _Page, report: Comparison) -> None:
    for names, text in (
        (report.missing, "they don't give {} of our arrays: "),
        (report.left_over, "{} of their arrays were not used: "),
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


def _bar(ratio: float, top: int, room: int) -> str:
    """``log10(ratio)`` in eighths of a cell: nothing up to what rounding explains."""
    if ratio <= 1 or room <= 0:
        return ""
    eighths = 8 * room if math.isinf(ratio) else math.ceil(8 * room * math.log10(ratio) / top)
    full, rest = divmod(min(eighths, 8 * room), 8)
    return "█" * full + (EIGHTHS[rest] if rest else "")


def cells(text: str) -> int:
    """How wide a terminal shows it: Chinese characters take two cells."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, room: int) -> str:
    """``text`` in ``room`` cells, its middle left out if need be."""
    if cells(text) <= room:
        return text
    head = _start(text, room // 3)
    return f"{head}…{_start(text[::-1], room - 1 - cells(head))[::-1]}"


def _start(text: str, room: int) -> str:
    """As many characters as fit in ``room`` cells."""
    width = 0
    for i, c in enumerate(text):
        width += cells(c)
        if width > room:
            return text[:i]
    return text


def _wrap(text: str, room: int) -> list[str]:
    """Lines of at most ``room`` cells, broken at spaces; a longer word is cut."""
    lines, line = [], ""
    for word in text.split():
        if line and cells(line) + 1 + cells(word) <= room:
            line = f"{line} {word}"
            continue
        lines += [line] if line else []
        while (head := _start(word, room)) != word:
            lines.append(head)
            word = word[len(head) :]
        line = word
    return [*lines, line]


class _Page:
    """Lines that grow; widths are counted before the colours go in."""

    def __init__(self, width: int, color: bool) -> None:
        self.width, self.color = width, color
        self.lines: list[str] = []

    def say(self, text: str, color: str = "", indent: int = 0) -> None:
        for line in _wrap(text, self.width - indent):
            self.row((" " * indent, ""), (line, color))

    def heading(self, text: str) -> None:
        self.say("")
        self.say(text, BOLD)

    def row(self, *pieces: tuple[str, str]) -> None:
        """Pieces of text with their colours; spaces at the end are dropped."""
        kept = list(pieces)
        while kept and not kept[-1][0].strip():
            kept.pop()
        if kept:
            kept[-1] = kept[-1][0].rstrip(), kept[-1][1]
        self.lines.append("".join(self._painted(*piece) for piece in kept))

    def _painted(self, text: str, color: str) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self.color and color else text


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, tuples as lists, what is not finite as a string."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
