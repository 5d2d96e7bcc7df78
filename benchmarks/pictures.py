"""The pictures of the page, as SVG with few elements: bars of ratios, and lines over a size.

Text and lines are black, which becomes the colour of the page; the rule in ``STYLE`` serves who opens the
file itself. Names are those of cases and programs, and the same in every language.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from benchmarks.peers import TITLES

INK = "#000000"
COLOURS = {
    "minizha": "#d9480f", "transformers": "#3b82c4", "torch.compile": "#2f9e44",
    "onnxruntime": "#9c5fd0",
}  # fmt: skip
PAIR = ("minizha", "transformers")
STYLE = (
    "<style>@media (prefers-color-scheme:dark){svg{filter:invert(1) hue-rotate(180deg)}}</style>"
)
WIDTH = 440


def _svg(height: float, elements: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{WIDTH}" height="{height:.0f}" font-family="sans-serif" font-size="12" fill="{INK}">'
    )
    return "\n".join([head, STYLE, *elements, "</svg>", ""])


def _text(x: float, y: float, text: str, anchor: str = "start", fill: str = INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{text}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, dashes: str = "", faint: bool = False) -> str:
    more = f' stroke-dasharray="{dashes}"' if dashes else ""
    more += ' stroke-opacity="0.2"' if faint else ""
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="{INK}"{more}/>'


def _legend(sides: Sequence[str], y: float) -> list[str]:
    found, x = [], 8.0
    for side in sides:
        found.append(
            f'<rect x="{x:.1f}" y="{y - 10:.1f}" width="11" height="11" fill="{COLOURS[side]}"/>'
        )
        found.append(_text(x + 15, y, TITLES[side]))
        x += 30 + 7.2 * len(TITLES[side])
    return found


def bars(rows: Sequence[tuple[str, Sequence[tuple[str, float]]]]) -> str:
    """A group of bars for each case; a dashed line at 1, where both are equally fast."""
    left, thick, right = 170, 11, WIDTH - 40
    largest = max((ratio for _, group in rows for _, ratio in group), default=1.0)
    scale = (right - left) / max(1.0, largest)
    found = _legend([s for s in COLOURS if any(s == n for _, g in rows for n, _ in g)], 16)
    y = 34.0
    for name, group in rows:
        middle = y + thick * len(group) / 2
        found.append(_text(left - 8, middle + 4, name, "end"))
        for side, ratio in group:
            found.append(
                f'<rect x="{left}" y="{y:.1f}" width="{ratio * scale:.1f}" height="{thick - 1}" '
                f'fill="{COLOURS[side]}"/>'
            )
            found.append(_text(left + ratio * scale + 4, y + thick - 1, f"{ratio:.2f}"))
            y += thick + 1
        y += 10
    found += [_line(left, 28, left, y - 6), _line(left + scale, 28, left + scale, y - 6, "4 3")]
    return _svg(y + 10, [*found, _text(left + scale, y + 8, "1", "middle")])


def ticks(low: float, high: float) -> list[float]:
    """Numbers for a logarithmic axis: 1, 2 and 5 times powers of ten; of many, the powers alone."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        found = [f * 10.0**p for p in powers for f in factors if low <= f * 10.0**p <= high]
        if len(found) <= 6:
            break
    return found or [low]


def _label(number: float) -> str:
    return f"{number:,.0f}" if number >= 1 else f"{number:g}"


def lines(
    x_name: str, panels: Mapping[str, Mapping[str, Sequence[tuple[float, float | None]]]]
) -> str:
    """Panels above each other, both axes logarithmic; a point without a value is left out."""
    left, right, tall = 62.0, WIDTH - 16.0, 150.0
    found, top = _legend(PAIR, 16), 34.0
    for unit, series in panels.items():
        known = {s: [(x, y) for x, y in points if y] for s, points in series.items()}
        xs = sorted({x for points in series.values() for x, _ in points})
        ys = [y for points in known.values() for _, y in points] or [1.0]
        low, high = min(ys) / 1.2, max(ys) * 1.2
        base = top + tall

        def across(x: float, xs: Sequence[float] = xs) -> float:
            return left + 12 + (right - left - 24) * math.log(x / xs[0]) / math.log(xs[-1] / xs[0])

        def up(y: float, low: float = low, high: float = high, base: float = base) -> float:
            return base - tall * math.log(y / low) / math.log(high / low)

        for y in ticks(low, high):
            found += [_line(left, up(y), right, up(y), faint=True)]
            found += [_text(left - 6, up(y) + 4, _label(y), "end")]
        found += [
            _text(8, top + 4, unit),
            _line(left, top, left, base),
            _line(left, base, right, base),
        ]
        found += [_text(across(x), base + 17, _label(x), "middle") for x in xs]
        for side, points in known.items():
            path = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in points)
            colour = COLOURS[side]
            found.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            found += [
                f'<circle cx="{across(x):.1f}" cy="{up(y):.1f}" r="3" fill="{colour}"/>'
                for x, y in points
            ]
        top = base + 50
    return _svg(top - 14, [*found, _text(right, top - 16, x_name, "end")])
