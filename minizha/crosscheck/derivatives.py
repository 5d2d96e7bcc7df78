"""The derivative of a function along a direction: by the complex step, and by differences.

The complex step is right to the last digit, if forward computes with complex numbers. Functions
that drop imaginary parts make it blind: ``np.var``, ``np.abs``, buffers of ``np.zeros``. A
difference is right to fewer digits, but sees every function; so it is asked whether the complex
step may judge.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb
from typing import NamedTuple

import numpy as np

from minizha.crosscheck.gradient_checks import STEP

EPS = float(np.finfo(np.float64).eps)
FLOAT64_NOISE = 1e-10
"""More noise than this, relative to y, is not that of float64."""
COARSE_NOISE = 1e-6
"""The same for points that are farther apart, where the curvature of forward counts as noise, too."""


class Slope(NamedTuple):
    """``values`` is Jv, of y's shape; ``error`` what ⟨u, Jv⟩ may be off by.

    ``moved`` is False where y did not change at all: beside a mask of −1.8e308, for example, rounding
    swallows every step, and a difference knows nothing of the derivative.
    """

    values: np.ndarray
    error: float
    moved: np.ndarray


class Line:
    """A function y(x + t·v) of the number t, and an upstream gradient u.

    Args:
        outputs: gives y at an x, or None where it can't be computed.
        x: where the derivative is taken.
        v: the direction.
        u: of y's shape; errors are those of ⟨u, Jv⟩.
    """

    def __init__(
        self,
        outputs: Callable[[np.ndarray], np.ndarray | None],
        x: np.ndarray,
        v: np.ndarray,
        u: np.ndarray,
    ) -> None:
        self.outputs, self.x, self.v, self.u = outputs, x, v, u
        size = float(np.sqrt((np.abs(x) ** 2).mean())) if x.size else 1.0
        self.unit = size if 0.0 < size < np.inf else 1.0
        """The length of a step that is neither long nor short for x."""

    def at(self, t: float) -> np.ndarray:
        """y(x + t·v); NaN where it can't be computed."""
        y = self.outputs(self.x + t * self.v)
        if y is None or y.shape != self.u.shape:
            return np.full(self.u.shape, np.nan)
        return y.real

    def complex_step(self) -> np.ndarray | None:
        """``Jv = Im y(x + ih·v) / h``; None if forward raises on complex numbers."""
        y = self.outputs(self.x + 1j * STEP * self.v)
        return None if y is None or y.shape != self.u.shape else y.imag / STEP

    def difference(self, noise: float = 0.0, step: np.ndarray | None = None) -> Slope:
        """Jv by central differences of fourth order, ``(8·(y₊₁ − y₋₁) − (y₊₂ − y₋₂)) / 12h``.

        The step is halved until two differences agree; the one that agrees best with the one
        before it is taken, and their disagreement is the error.

        Args:
            noise: what rounding inside forward changes ⟨u, y⟩ by.
            step: Jv by the complex step. An output that has a derivative by it, but stops moving
                when h becomes short, is lost in rounding; without it, it is flat.
        """
        never = np.zeros(self.u.shape, dtype=bool)
        best, before = Slope(np.full(self.u.shape, np.nan), np.inf, never), None
        h, change, size = 0.1 * self.unit, np.zeros(self.u.shape), np.abs(self.u)
        far = self._pair(2 * h)
        for _ in range(21):
            near = self._pair(h)
            with np.errstate(all="ignore"):
                values = (8 * (near[0] - near[1]) - (far[0] - far[1])) / (12 * h)
                moves = near[0] != near[1]
                change = np.where(moves, np.abs(near[0] - near[1]), change)
                rounding = 4 * EPS * (size * np.abs(near[0]))[change > 0].sum() + 2 * noise
                if step is not None:
                    rounding += (size * change)[~moves & (step != 0)].sum()
                if before is not None:
                    error = float((size * np.abs(values - before)).sum() + rounding / h)
                    if error < best.error:
                        best = Slope(values, error, change > 0)
                    if best.error <= 1e-10 * abs(float((self.u * best.values).sum())):
                        break
            before, far, h = values, near, h / 2
        return best

    def kink(self, roughness: float = 0.0) -> float:
        """How large ⟨u, Jv⟩ may be if the derivatives from the left and the right differ, else 0.

        At a tie of several numbers, a right backward may take a derivative that neither side has, so
        that any output may have the steepest slope. ``roughness`` is forward's, as below: the
        rounding of a rough one looks like a kink when the steps are short.
        """
        y, jumps = self.at(0.0), []
        lengths = (1e-2, 1e-3) if roughness else (1e-4, 1e-6)
        for h in (length * self.unit for length in lengths):
            right = (-3 * y + 4 * self.at(h) - self.at(2 * h)) / (2 * h)
            left = (3 * y - 4 * self.at(-h) + self.at(-2 * h)) / (2 * h)
            jumps.append(float(np.abs(self.u * (right - left)).sum()))
        slopes = np.maximum(np.abs(right), np.abs(left))
        size = float((np.abs(self.u) * slopes).sum())
        rounding = 20 * roughness * float(np.abs(self.u * y).sum()) / h
        # of a smooth function the jump shrinks with h², of one with a kink it stays
        stays = 0.3 < jumps[1] / max(jumps[0], 1e-300) < 3.0
        if stays and jumps[1] > max(1e-4 * size, rounding):
            return 1.01 * float(np.abs(self.u).sum() * slopes.max()) + rounding
        return 0.0

    def noise(self) -> tuple[float, float]:
        """What rounding inside forward changes ⟨u, y⟩ by: at close points, and at farther ones.

        Differences of order n remove what is smooth: independent errors of size e give √C(2n, n)·e.
        A curved function is not smooth enough for the fourth, so that the eighth is asked, too. The
        median of many is not moved by a kink, which changes n of them.
        """
        found = []
        for length in (1e-6, 1e-3):
            y = np.stack([self.at(n * length * self.unit) for n in range(28)])
            each = [
                np.median(np.abs(np.diff(y, n=order, axis=0)), axis=0)
                / comb(2 * order, order) ** 0.5
                for order in (4, 8)
            ]
            found.append(float((np.abs(self.u) * np.minimum(*each)).sum()) / 0.6745)
        return found[0], found[1]

    def roughness(self) -> float:
        """The noise relative to ⟨|u|, |y|⟩ if it is more than float64's, else 0."""
        y = self.at(0.0123 * self.unit)  # away from x, whose numbers may be short themselves
        some = y[np.isfinite(y) & (y != np.round(y))]
        for dtype in (np.float16, np.float32):
            if some.size and (some.astype(dtype) == some).all():
                return float(np.finfo(dtype).eps)
        size = float(np.abs(self.u * y).sum())
        close, far = (n / size if size > 0 else 0.0 for n in self.noise())
        if close > FLOAT64_NOISE:
            return close
        return far if far > COARSE_NOISE else 0.0

    def _pair(self, h: float) -> tuple[np.ndarray, np.ndarray]:
        return self.at(h), self.at(-h)


def agree(step: np.ndarray, slope: Slope, u: np.ndarray) -> bool:
    """Whether the complex step's Jv may be the one that a difference is an estimate of.

    Where the difference has no value, nothing speaks against the complex step.
    """
    if not np.isfinite(step).all():
        return False
    one = float((u * step)[slope.moved].sum())
    difference = float((u * slope.values)[slope.moved].sum())
    if not (np.isfinite(difference) and np.isfinite(slope.error)):
        return True
    return abs(one - difference) <= 10 * slope.error + 1e-6 * max(abs(one), abs(difference))
