"""The heat map of an array's errors, as SVG.

It needs no scripts and no other files. Its colours are CSS classes, which the page's style sheet
defines for a light and for a dark background.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from minizha.checkpoint.stored import shown
from minizha.crosscheck.comparison.differences import Location
from minizha.crosscheck.report.words import Decades, number, power, safe, svg_start

LEVELS = 10
MAX_DECADES = 6  # the colours cover so many powers of ten; smaller errors have the lowest colour
MAX_SIZE, MAX_CELL = 440, 36  # of the map and of a cell, in pixels


def heat_map(location: Location, name: str) -> str:
    """The largest error in each cell of an array, with a scale of colours."""
    rows, columns = len(location.heat), max(map(len, location.heat), default=0)
    if not rows or not columns:
        return ""
    width, height = (min(MAX_CELL, MAX_SIZE / n) for n in (columns, rows))
    scale = Decades.of((v for row in location.heat for v in row), MAX_DECADES)
    cells = [
        _cell(location, (r, c), (width, height), scale)
        for r, row in enumerate(location.heat)
        for c in range(len(row))
    ]
    right, bottom = columns * width, max(rows * height, 60)
    label = f"Errors in {shown(name)}: {location.heat_axes[0]} down, {location.heat_axes[1]} across"
    frame = f'<rect class="frame" width="{right:.5g}" height="{rows * height:.5g}"/>'
    return "\n".join(
        (
            svg_start((-58, -8, right + 160, bottom + 62), label),
            *cells,
            frame,
            *_heat_axis(location, 0, rows, height),
            *_heat_axis(location, 1, columns, width, rows * height),
            *_heat_legend(right + 24, scale, [v for row in location.heat for v in row]),
            "</svg>",
        )
    )


def _cell(
    location: Location, at: tuple[int, int], size: tuple[float, float], scale: Decades
) -> str:
    value = location.heat[at[0]][at[1]]
    counts = len(location.heat), len(location.heat[at[0]])
    place = ", ".join(
        f"{axis} {_span(*numbers)}"
        for axis, *numbers in zip(
            location.heat_axes, at, counts, location.heat_lengths, strict=True
        )
    )
    x, y = at[1] * size[0], at[0] * size[1]
    return (
        f'<rect class="{_level(value, scale)}" x="{x:.5g}" y="{y:.5g}" width="{size[0]:.5g}" '
        f'height="{size[1]:.5g}"><title>{safe(place)}: {number(value)}</title></rect>'
    )


def _span(cell: int, cells: int, length: int) -> str:
    """The indices of an axis that a cell covers."""
    first, last = cell * length // cells, (cell + 1) * length // cells - 1
    return f"{first}" if last <= first else f"{first} to {last}"


def _level(value: float, scale: Decades) -> str:
    if not math.isfinite(value):
        return "hx"
    if value <= 0:
        return "hn"
    return f"h{min(LEVELS - 1, int(LEVELS * scale.fraction(value)))}"


def _heat_axis(
    location: Location, axis: int, cells: int, size: float, bottom: float = 0
) -> Iterator[str]:
    """The numbers at some cells and the name of the axis; axis 0 runs down, axis 1 across."""
    length, title = max(location.heat_lengths[axis], 1), safe(location.heat_axes[axis])
    step = _round_step(length * 26 / (cells * size))
    for index in range(0, length, step):
        at = (index + 0.5) * cells * size / length
        if axis == 0:
            yield f'<text class="tick end" x="-7" y="{at + 4:.5g}">{index}</text>'
        else:
            yield f'<text class="tick mid" x="{at:.5g}" y="{bottom + 16:.5g}">{index}</text>'
    middle = cells * size / 2
    if axis == 0:
        turn = f'transform="translate(-44 {max(middle, 30):.5g}) rotate(-90)"'
        yield f'<text class="axis mid" {turn}>{title}</text>'
    else:
        yield f'<text class="axis mid" x="{middle:.5g}" y="{bottom + 38:.5g}">{title}</text>'


def _round_step(least: float) -> int:
    """The smallest of 1, 2, 5, 10, 20, … that is at least ``least``."""
    tens = 10 ** max(0, math.floor(math.log10(max(least, 1))))
    return next(n * tens for n in (1, 2, 5, 10) if n * tens >= least)


def _heat_legend(x: float, scale: Decades, values: Sequence[float]) -> Iterator[str]:
    """The colours from large to small, then those of equal entries and of NaN and infinity."""
    block = 13
    for level in range(LEVELS):
        y = (LEVELS - 1 - level) * block
        yield f'<rect class="h{level}" x="{x:.5g}" y="{y}" width="16" height="{block}"/>'
    for exponent in range(scale.low, scale.high + 1):
        y = (1 - scale.fraction(10.0**exponent)) * LEVELS * block
        below = "≤ " if exponent == scale.low and scale.cut else ""
        yield f'<text class="tick" x="{x + 22:.5g}" y="{y + 4:.5g}">{below}{power(exponent)}</text>'
    extra = [("hn", "equal", any(v == 0 for v in values))]
    extra += [("hx", "NaN or ∞", any(not math.isfinite(v) for v in values))]
    y = LEVELS * block + 14
    for css_class, text, is_used in extra:
        if is_used:
            yield f'<rect class="{css_class} frame" x="{x:.5g}" y="{y}" width="16" height="13"/>'
            yield f'<text class="tick" x="{x + 22:.5g}" y="{y + 11}">{text}</text>'
            y += 20
