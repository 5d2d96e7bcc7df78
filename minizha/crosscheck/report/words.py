"""How the reports for people write the numbers, names and sentences of a comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable
from html import escape
from typing import NamedTuple

from minizha.checkpoint.stored import shown
from minizha.crosscheck.comparison.differences import Comparison, Difference, Error, Finding
from minizha.crosscheck.comparison.precision import PRECISIONS, eps_of
from minizha.crosscheck.names import axes, layer_of


def verdict(report: Comparison) -> str:
    """The result of the comparison in one sentence."""
    if report.first_divergence is not None:
        return f"different: the first array to differ is {shown(report.first_divergence)}"
    if report.undecided:
        unclear = f"{len(report.undecided)} can't be judged, {shown(report.undecided[0])} first"
        return f"undecided: {len(report.differences)} arrays compared, none is wrong, but {unclear}"
    # an error beyond what is allowed may be excused, as that of a table made in float32
    judged = [times(d) for d in report if not d.error > d.tolerance]
    most, count = max(judged, default=0.0), len(report.differences)
    size = f"{most:.2g} of" if most < 1 else f"{number(most)} times"
    largest = f" (largest error {size} what rounding explains)" if most < math.inf else ""
    agree = "1 array agrees" if count == 1 else f"{count} arrays agree"
    how = "to rounding" if most <= 1 else "within what is allowed"
    missing = f", {len(report.missing)} missing" if report.missing else ""
    return f"equal: {agree} {how}{largest}{missing}"


def times(difference: Difference) -> float:
    """The error in units of what rounding explains; infinite if it is not a finite number."""
    error, expected = difference.error, difference.expected
    if (difference.reason and not difference.ok) or not math.isfinite(error):
        return math.inf
    if error == 0:
        return 0.0
    return error / expected if expected > 0 else math.inf


def number(x: float) -> str:
    """A number with three digits, or with two and a power of ten."""
    if not math.isfinite(x):
        return "NaN" if math.isnan(x) else "∞" if x > 0 else "−∞"
    if x == 0 or 0.01 <= abs(x) < 999.5:
        return f"{x:.3g}"
    mantissa, _, exponent = f"{x:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def entry_text(difference: Difference) -> str:
    """The worst entry: its index, axis by axis, and both numbers with nine digits."""
    index, numbers = difference.index, f"ours {difference.ours:.9g}, theirs {difference.theirs:.9g}"
    letters = axes(difference.name, len(index))
    if len(letters) != len(index):  # more axes than letters
        letters = ("",) * len(index)
    position = ", ".join(f"{a} {i}".strip() for a, i in zip(letters, index, strict=True))
    return f"[{position}]: {numbers}" if index else numbers


def sizes(difference: Difference) -> list[tuple[str, str, str, str]]:
    """Rows (unit, found, rounding alone, allowed): the same error in three units, and the error against
    what follows from their own inputs.

    Convention: in ULP, the value for rounding is that of the largest entry; smaller entries have more.
    """
    d = difference
    scale = d.max_abs / d.error if d.error and math.isfinite(d.error) else math.nan
    in_ulp = f"≥ {number(d.expected / eps_of(d.dtype))}" if d.dtype in PRECISIONS else ""
    local = []
    if math.isfinite(d.local_error):  # relative, too
        local.append(("own inputs", number(d.local_error), "", number(d.local_tolerance)))
    return [
        ("absolute", number(d.max_abs), number(d.expected * scale), number(d.tolerance * scale)),
        ("relative", number(d.error), number(d.expected), number(d.tolerance)),
        ("in ULP", number(d.ulp), in_ulp, ""),
        *local,
    ]


def finding_text(finding: Finding) -> str:
    """A known mistake and where it was seen: "layer 0 scores match: 1/√d missing — seen in …"."""
    layer = layer_of(finding.array)
    name = finding.array
    if layer is not None:
        inner = name.removeprefix(f"encoder.layer.{layer}").removeprefix(".")
        name = f"layer {layer} {inner.removeprefix('attention.')}".rstrip()
    seen = f" — seen in {finding.seen_in}" if finding.seen_in else ""
    return clean(f"{shown(name)} match: {finding.text}{seen}")


def error_text(error: Error) -> tuple[str, str]:
    """The arrays of an error, and its cause."""
    first, count = shown(error.arrays[0]), len(error.arrays)
    arrays = first if count == 1 else f"{first} and {count - 1} more"
    causes = " or ".join(f.text for f in error.findings)
    return arrays, clean(causes or error.text or "no known mistake")


def clean(text: str) -> str:
    """A sentence that may quote names from files, without control characters."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def power(exponent: int) -> str:
    """A power of ten, such as 10⁻⁷."""
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def safe(name: str) -> str:
    """A name from a file for an HTML page: shortened and escaped."""
    return escape(shown(name))


def svg_start(box: tuple[float, float, float, float], label: str) -> str:
    """The start of a picture, with a text alternative."""
    sizes, text = " ".join(f"{v:.5g}" for v in box), escape(clean(label))
    return (
        f'<svg viewBox="{sizes}" width="{box[2]:.5g}" height="{box[3]:.5g}" role="img" '
        f'aria-label="{text}"><title>{text}</title>'
    )


class Decades(NamedTuple):
    """A logarithmic scale from 10^low to 10^high; ``cut`` says whether there are smaller values."""

    low: int
    high: int
    cut: bool

    @classmethod
    def of(cls, values: Iterable[float], most: int) -> Decades:
        """The scale that holds all finite positive ``values``, or the upper ``most`` decades."""
        exponents = [math.log10(v) for v in values if 0 < v < math.inf]
        high = min(math.ceil(max(exponents, default=0.0)), 308)  # 10³⁰⁹ is infinite
        low = min(math.floor(min(exponents, default=-1.0)), high - 1)
        return cls(max(low, high - most), high, low < high - most)

    def fraction(self, value: float) -> float:
        """The position of a value on the scale: 0 at the lower end (and below), 1 at the upper."""
        if value <= 0:
            return 0.0
        return min(max((math.log10(value) - self.low) / (self.high - self.low), 0.0), 1.0)
