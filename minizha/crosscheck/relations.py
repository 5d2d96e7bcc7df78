"""How a wrong gradient is related to the right one, in words.

A relation is told only if it explains the wrong gradient down to rounding, and if it could have
failed to: a term that has a number of its own in each row explains any row with one entry, so it is
looked for only where a row has more entries than the term has numbers. The first relation that
holds is told, the simplest ones first.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations, permutations
from math import prod, sqrt
from typing import NamedTuple

import numpy as np

MOST_LISTED = 4
"""How many wrong entries are listed."""


class Wrong(NamedTuple):
    """A wrong gradient and what it may be related to; all arrays are on the host.

    ``found`` and ``expected`` have the shape of ``x``. ``diagonal`` is u·∂y/∂x entry by entry, None
    if y has another shape. ``others`` are the right gradients of the other arguments by their
    labels. ``error`` is what ``expected`` may be off by.
    """

    found: np.ndarray
    expected: np.ndarray
    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    diagonal: np.ndarray | None
    others: dict[str, np.ndarray]
    error: float

    @property
    def scale(self) -> float:
        """The largest absolute value of both gradients."""
        return float(max(np.abs(self.expected).max(initial=0), np.abs(self.found).max(initial=0)))

    @property
    def rounding(self) -> float:
        """What is left unexplained by a relation that holds."""
        return max(1e-9 * self.scale, 30 * self.error)

    def near(self, a: np.ndarray, b: np.ndarray) -> bool:
        """Whether two arrays are equal but for rounding."""
        return a.shape == b.shape and bool(np.abs(a - b).max(initial=0) <= self.rounding)


def relation(wrong: Wrong) -> str:
    """The relation between ``wrong.found`` and ``wrong.expected``; "" if none is found."""
    found, expected = wrong.found, wrong.expected
    if expected.size < 2 or not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return ""
    if np.abs(found - expected).max() < 1e3 * wrong.rounding:
        return ""
    for look in (
        _zeros,
        _factor,
        _copies,
        _axes,
        _diagonal,
        _terms,
        _upstream,
        _own_factors,
        _places,
    ):
        text = next(look(wrong), "")
        if text:
            return text
    return ""


def shape_relation(found: np.ndarray, expected: np.ndarray, others: dict[str, np.ndarray]) -> str:
    """The same for a gradient of a wrong shape."""

    def near(a: np.ndarray, b: np.ndarray) -> bool:
        bound = 1e-7 * max(np.abs(expected).max(initial=0), np.abs(b).max(initial=0))
        return a.shape == b.shape and bool(np.abs(a - b).max(initial=0) <= bound)

    for label, other in others.items():
        if near(found, other):
            return f"it is the gradient of {label}"
    if found.ndim == expected.ndim and found.ndim > 1:
        for axes in permutations(range(found.ndim)):
            if near(found.transpose(axes), expected):
                return "it is transposed"
    for axes, axis in _sets_of_axes(found.ndim):
        summed = found.sum(axis=axes, keepdims=True)
        if near(summed, expected) or near(summed.squeeze(axes), expected):
            return f"it is not summed over {axis}"
    for axes, axis in _sets_of_axes(expected.ndim):
        kept = expected.sum(axis=axes, keepdims=True)
        if near(found, kept) or near(found, kept.squeeze(axes)):
            return f"it is summed over {axis}, which it should keep"
    if found.size == expected.size and near(found.reshape(expected.shape), expected):
        return "its numbers are right, its shape is not"
    return ""


def _sets_of_axes(ndim: int) -> Iterator[tuple[tuple[int, ...], str]]:
    """Every set of axes, the small ones first, and what to call it."""
    sets = [tuple(a for a in range(ndim) if bits >> a & 1) for bits in range(1, 2**ndim)]
    for axes in sorted(sets, key=lambda axes: (len(axes), axes)):
        yield axes, ("axis " if len(axes) == 1 else "axes ") + ", ".join(map(str, axes))


def _zeros(wrong: Wrong) -> Iterator[str]:
    if not wrong.found.any():
        yield "all are 0"
    if not wrong.expected.any():
        yield "all should be 0"


def _factor(wrong: Wrong) -> Iterator[str]:
    """found = c · expected with one number c."""
    found, expected = wrong.found, wrong.expected
    c = float((expected * found).sum() / (expected * expected).sum())
    if np.count_nonzero(np.abs(expected) > wrong.rounding) < 2:
        return
    if not wrong.near(found, c * expected):
        return
    text = f"it is {c:.6g} times{_as_fraction(c)} what it should be"
    if abs(c + 1) < 1e-9:
        text += ": its sign is wrong"
    yield text + _source_of_factor(c, wrong.x.shape, wrong.y.shape)


def _as_fraction(c: float) -> str:
    """The factor c in brackets as a fraction, if it is one of small numbers, or 1/n."""
    near = Fraction(c).limit_denominator(10**6)
    small = abs(near.numerator) == 1 or max(abs(near.numerator), near.denominator) <= 12
    if near.denominator > 1 and small and abs(c / near - 1) < 1e-9:
        return f" ({near})"
    return ""


def _source_of_factor(c: float, *shapes: tuple[int, ...]) -> str:
    """Which lengths of axes make the factor c: a mean for a sum, or √length."""
    sizes = {n: f"the length of axis {a}" for s in shapes for a, n in enumerate(s) if n > 1}
    for shape in shapes:
        if len(shape) > 1:
            sizes.setdefault(prod(shape), "the number of entries")
    for n, what in sizes.items():
        if abs(c * n - 1) < 1e-9:
            return f": a mean in place of a sum? {n} is {what}"
        if abs(c / n - 1) < 1e-9:
            return f": a sum in place of a mean? {n} is {what}"
    for n, what in sizes.items():
        for power in (c, 1 / c):
            if n > 1 and abs(power / sqrt(n) - 1) < 1e-9:
                return f", {'' if power == c else '1/'}√{n}: a scale is missing or double? {n} is {what}"
    return ""


def _copies(wrong: Wrong) -> Iterator[str]:
    for label, other in wrong.others.items():
        if wrong.near(wrong.found, other):
            yield f"it is the gradient of {label}"


def _upstream(wrong: Wrong) -> Iterator[str]:
    if wrong.near(wrong.found, wrong.u):
        yield "it is dy itself: the derivative of forward, or a part of it, is missing"


def _axes(wrong: Wrong) -> Iterator[str]:
    """found has the right numbers, with its axes exchanged."""
    found, expected = wrong.found, wrong.expected
    identity = tuple(range(found.ndim))
    for axes in permutations(identity) if found.ndim <= 4 else ():
        moved = expected.transpose(axes)
        if axes != identity and moved.shape == expected.shape and wrong.near(found, moved):
            yield "it is transposed"
        elif axes != identity and wrong.near(found, moved.reshape(expected.shape)):
            yield "its numbers are right but in the order of other axes: transpose, don't reshape"


def _diagonal(wrong: Wrong) -> Iterator[str]:
    diagonal = wrong.diagonal
    if diagonal is not None and diagonal.any() and wrong.near(wrong.found, diagonal):
        yield "only the diagonal of the Jacobian is there: how does each x act on the other y?"


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    """The axes along which something can be said, the last one first."""
    return [axis for axis in reversed(range(len(shape))) if shape[axis] > 1]


def _terms(wrong: Wrong) -> Iterator[str]:
    """In each row along an axis, expected − found is a combination of one or two known rows."""
    off = wrong.expected - wrong.found
    for axis in _long_axes(off.shape):
        mean = wrong.found.mean(axis=axis, keepdims=True)
        for name, term in _known_terms(wrong, axis):
            if _combination(wrong, off, [term], axis):
                if wrong.near(wrong.found - mean, wrong.expected):
                    yield f"subtracting its mean over axis {axis} would make it right"
                yield (
                    f"each row along axis {axis} is off by {name}: "
                    "such a term is missing, is too much, or has a wrong factor"
                )
    for axis in _long_axes(off.shape):
        for (name, term), (other_name, other) in combinations(_known_terms(wrong, axis), 2):
            if _combination(wrong, off, [term, other], axis):
                yield (
                    f"each row along axis {axis} is off by {name} and {other_name}: "
                    "such terms are missing, are too much, or have wrong factors"
                )


def _known_terms(wrong: Wrong, axis: int) -> list[tuple[str, np.ndarray]]:
    """What a row may be off by, the simplest first."""
    x, y = wrong.x, wrong.y
    return [
        ("a constant", np.ones_like(x)),
        ("a multiple of x − mean(x)", x - x.mean(axis=axis, keepdims=True)),
        *([("a multiple of y", y)] if y.shape == x.shape else []),
        ("a multiple of x", x),
    ]


def _combination(wrong: Wrong, rest: np.ndarray, terms: list[np.ndarray], axis: int) -> bool:
    """Whether each row of ``rest`` along an axis is a combination of the terms' rows.

    A row in which the terms have no more entries than there are terms would always be one, so that
    every row that is not 0 must have more, and all rows together at least two more. A row that is
    orthogonal to 1, x or y, as those of softmax and LayerNorm are, has one entry less that is free.
    """
    length, surplus = rest.shape[axis], 0
    rows = np.moveaxis(rest, axis, -1).reshape(-1, length)
    bases = [np.moveaxis(t, axis, -1).reshape(-1, length) for t in terms]
    known = [np.ones_like(wrong.x), wrong.x]
    known += [wrong.y] if wrong.y.shape == wrong.x.shape else []
    fixed = sum(_orthogonal(np.moveaxis(k, axis, -1).reshape(-1, length), rows) for k in known)
    for n, row in enumerate(rows):
        if np.abs(row).max() <= wrong.rounding:
            continue
        basis = np.stack([b[n] for b in bases], axis=-1)
        size = np.abs(basis).max(axis=0)
        if not size.all():
            return False
        basis = basis / size
        more = np.count_nonzero(np.abs(basis).max(axis=-1) > 1e-9) - basis.shape[-1] - fixed[n]
        weights, *_ = np.linalg.lstsq(basis, row, rcond=None)
        # huge weights that cancel explain everything and nothing
        small = np.abs(weights).max() <= 1e4 * np.abs(row).max()
        if more < 1 or not small or np.abs(basis @ weights - row).max() > wrong.rounding:
            return False
        surplus += more
    return surplus >= 2


def _orthogonal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Which rows of a and b are orthogonal to each other."""
    return np.abs((a * b).sum(axis=-1)) <= 1e-8 * np.abs(a * b).max(axis=-1)


def _own_factors(wrong: Wrong) -> Iterator[str]:
    off = np.abs(wrong.found - wrong.expected) > wrong.rounding
    for axis in _long_axes(wrong.found.shape):
        most = off.any(axis=axis).mean() > 0.5
        if most and _combination(wrong, wrong.found, [wrong.expected], axis):
            yield f"each row along axis {axis} is off by a factor of its own"


def _places(wrong: Wrong) -> Iterator[str]:
    """Only a few entries are wrong, or only some rows."""
    bad = np.abs(wrong.found - wrong.expected) > wrong.rounding
    whole, some = [], []
    for axis in _long_axes(bad.shape) if bad.ndim > 1 else ():
        across = tuple(a for a in range(bad.ndim) if a != axis)
        rows = np.flatnonzero(bad.any(axis=across))
        if len(rows) <= bad.shape[axis] / 2:
            text = f"only at {', '.join(map(str, rows[:MOST_LISTED]))} of axis {axis}"
            (whole if bad.all(axis=across)[rows].all() else some).append(text)
    yield from whole if bad.sum() > 1 else ()
    places = [[int(i) for i in index] for index in np.argwhere(bad)]
    if len(places) <= bad.size / 4:
        listed = ", ".join(map(str, places[:MOST_LISTED]))
        more = f" and {len(places) - MOST_LISTED} more" if len(places) > MOST_LISTED else ""
        yield f"only these: {listed}{more}"
    yield from some
