"""A chart of the error over depth, forward and backward, as SVG.

It needs no scripts and no other files. Its colours are CSS classes, which the page's style sheet
defines for a light and for a dark background.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from minizha.crosscheck.comparison.differences import Comparison, Difference
from minizha.crosscheck.names import is_gradient, part_of
from minizha.crosscheck.report.words import (
    Decades,
    number,
    power,
    safe,
    svg_start,
    times,
)

MAX_DECADES = 20


def depth_chart(report: Comparison) -> str:
    """The error of each array in execution order and what is allowed, on a logarithmic scale."""
    arrays = report.differences
    sizes = (v for d in arrays for v in (d.error, d.expected, d.tolerance))
    plot = _Plot(len(arrays), Decades.of(sizes, MAX_DECADES))
    label = f"Error of {len(arrays)} arrays in execution order, on a logarithmic scale"
    return "\n".join(
        (
            svg_start((0, 0, plot.right + 20, plot.bottom + 70), label),
            *_passes(arrays, plot),
            *_grid(plot, any(not math.isfinite(d.error) for d in arrays)),
            _band(arrays, plot),
            *_ticks(arrays, plot),
            _curve(arrays, plot, "expected", lambda d: d.expected),
            _curve(arrays, plot, "error", lambda d: d.error),
            *_points(arrays, plot),
            *_first(report, plot),
            "</svg>",
        )
    )


class _Plot(NamedTuple):
    """The layout of the chart: the position of an array and of an error."""

    count: int
    scale: Decades
    left: float = 62
    right: float = 940
    top: float = 46
    bottom: float = 330

    def x(self, index: float) -> float:
        return self.left + (index + 0.5) / self.count * (self.right - self.left)

    def y(self, value: float) -> float:
        if not math.isfinite(value):
            return self.top - 12  # above the scale
        return self.bottom - self.scale.fraction(value) * (self.bottom - self.top)


def _passes(arrays: Sequence[Difference], plot: _Plot) -> Iterator[str]:
    """The areas of the forward and of the backward pass, each with its name below it."""
    for backward, start, stop in _runs(arrays, lambda d: is_gradient(d.name)):
        left, right = plot.x(start - 0.5), plot.x(stop - 0.5)
        css_class, text = ("backward", "backward pass") if backward else ("forward", "forward pass")
        yield (
            f'<rect class="{css_class}" x="{left:.5g}" y="{plot.top - 24}" width="{right - left:.5g}" '
            f'height="{plot.bottom - plot.top + 24}"/>'
        )
        if right - left > 80:
            middle = (left + right) / 2
            yield f'<text class="axis mid" x="{middle:.5g}" y="{plot.bottom + 58}">{text} →</text>'


def _runs(
    arrays: Sequence[Difference], key: Callable[[Difference], object]
) -> Iterator[tuple[object, int, int]]:
    """Runs of arrays with the same key: the key, the first index, the index after the last."""
    start = 0
    for value, run in groupby(arrays, key):
        stop = start + sum(1 for _ in run)
        yield value, start, stop
        start = stop


def _grid(plot: _Plot, with_infinite: bool) -> Iterator[str]:
    low, high, cut = plot.scale
    for exponent in range(low, high + 1, -(-(high - low) // 8)):
        y = plot.y(10.0**exponent)
        below = "≤ " if cut and exponent == low else ""
        yield f'<path class="grid" d="M{plot.left} {y:.5g}H{plot.right}"/>'
        text = f"{below}{power(exponent)}"
        yield f'<text class="tick end" x="{plot.left - 6}" y="{y + 4:.5g}">{text}</text>'
    if with_infinite:
        y = plot.y(math.nan) + 4
        yield f'<text class="tick end" x="{plot.left - 6}" y="{y}">NaN, ∞</text>'
    turn = f'transform="translate(14 {(plot.top + plot.bottom) / 2}) rotate(-90)"'
    yield f'<text class="axis mid" {turn}>error</text>'


def _ticks(arrays: Sequence[Difference], plot: _Plot) -> Iterator[str]:
    """A line where a layer begins, with its number; the names of other parts are a row below."""
    ends = [plot.left, plot.left]
    for key, start, stop in _runs(arrays, lambda d: (is_gradient(d.name), part_of(d.name))):
        name = str(key[1])
        x = plot.x(start - 0.5)
        yield f'<path class="tickline" d="M{x:.5g} {plot.top}V{plot.bottom + 4}"/>'
        row, text = (0, name[6:]) if name.startswith("layer ") else (1, name)
        middle, half = plot.x((start + stop - 1) / 2), 3.4 * len(text)
        if row:
            middle = min(max(middle, plot.left + half), plot.right - half)
        if middle - half >= ends[row]:
            y = plot.bottom + 18 + 16 * row
            yield f'<text class="tick mid" x="{middle:.5g}" y="{y}">{text}</text>'
            ends[row] = middle + half + 4
    yield f'<text class="tick end" x="{plot.left - 6}" y="{plot.bottom + 18}">layer</text>'


def _band(arrays: Sequence[Difference], plot: _Plot) -> str:
    """The area of allowed errors."""
    heights = [d.tolerance if d.tolerance > 0 else 0.0 for d in arrays]
    steps = [f"{plot.x(i):.5g} {plot.y(h):.5g}" for i, h in enumerate(heights)]
    left, right = plot.x(-0.5), plot.x(plot.count - 0.5)
    ends = f"{left:.5g} {plot.y(heights[0]):.5g}", f"{right:.5g} {plot.y(heights[-1]):.5g}"
    line = "L".join((ends[0], *steps, ends[1]))
    return f'<path class="allowed" d="M{left:.5g} {plot.bottom}L{line}V{plot.bottom}Z"/>'


def _curve(
    arrays: Sequence[Difference], plot: _Plot, css_class: str, value: Callable[[Difference], float]
) -> str:
    """A line with gaps between the passes and where the value is not finite."""
    path = []
    pen = "M"
    for i, d in enumerate(arrays):
        if i and is_gradient(d.name) != is_gradient(arrays[i - 1].name):
            pen = "M"
        if not math.isfinite(value(d)):
            pen = "M"
            continue
        path.append(f"{pen}{plot.x(i):.5g} {plot.y(value(d)):.5g}")
        pen = "L"
    return f'<path class="{css_class}" d="{"".join(path)}"/>'


def _points(arrays: Sequence[Difference], plot: _Plot) -> Iterator[str]:
    for i, d in enumerate(arrays):
        size = f"{number(d.error)}, {number(times(d))} × rounding's"
        yield (
            f'<circle class="{"same" if d.ok else "other"}" cx="{plot.x(i):.5g}" '
            f'cy="{plot.y(d.error):.5g}" r="{1.8 if d.ok else 2.6}">'
            f"<title>{safe(d.name)}: {size}</title></circle>"
        )


def _first(report: Comparison, plot: _Plot) -> Iterator[str]:
    """A line and a ring at the first array that differs, with its name above."""
    if report.divergence is None:
        return
    index = next(i for i, d in enumerate(report) if not d.ok)
    x, y = plot.x(index), plot.y(report.divergence.error)
    anchor = "" if x < plot.right / 2 else " end"
    yield f'<path class="first" d="M{x:.5g} 18V{plot.bottom}"/>'
    yield f'<circle class="first" cx="{x:.5g}" cy="{y:.5g}" r="6"/>'
    name = safe(report.divergence.name)
    yield f'<text class="first{anchor}" x="{x:.5g}" y="12">first to differ: {name}</text>'
