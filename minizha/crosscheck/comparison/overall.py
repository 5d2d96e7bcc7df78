"""How far each array may be from ours: what rounding does to our own model, measured.

Where that can't be measured, since our side has no parameters, it is guessed from the errors of the
arrays before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minizha.crosscheck.comparison.precision import (
    coarser,
    is_half,
    smallest_of,
    unit_of,
)
from minizha.crosscheck.comparison.rounding import model_rounding
from minizha.crosscheck.comparison.terms import Terms
from minizha.crosscheck.comparison.verdict import Evidence
from minizha.crosscheck.names import is_gradient

STEP = 16.0
"""A guess of the rounding error of one step, in units of the rounding of one number."""
GROWTH = 3.0
"""A guess of the factor by which a step may increase the error of its inputs."""


def rounding_of(
    trace: Any, precision: str, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, float]:
    """What rounding does to each array of a trace; measured once, then kept in ``trace.rounding``.

    Errors of float64 are those of float32, scaled, so that they need not be measured, too.
    """
    kept: dict[str, dict[str, float]] = getattr(trace, "rounding", {})
    measured_in = "float32" if precision == "float64" else precision
    if measured_in not in kept:
        can_measure = getattr(trace, "config", None) is not None
        kept[measured_in] = model_rounding(trace, measured_in, progress) if can_measure else {}
    if precision == measured_in:
        return kept[measured_in]
    scale, least = unit_of(precision) / unit_of(measured_in), smallest_of(precision)
    return {name: max(scale * value, least) for name, value in kept[measured_in].items()}


class Overall:
    """The evidence for each array as compared with ours, in execution order."""

    def __init__(self, ours: Any, terms: Terms) -> None:
        self.ours, self.terms = ours, terms
        self.level = 0.0  # the largest error of an equal array so far, ÷ its scale
        self._rounding: dict[str, dict[str, float]] = {}

    def evidence(self, name: str, error: float, precision: str) -> Evidence:
        """``error`` is absolute, ``precision`` the coarsest of the arrays so far."""
        rounding = self._rounding_in(precision, name)
        single, storing = rounding, 0.0
        if is_half(precision):
            single = self._rounding_in("float32", name)
            # of the smallest numbers of float16 the rounding is absolute
            storing = max(unit_of(precision) * self.terms.scale(name), smallest_of(precision) / 2)
        return Evidence(error, rounding, single, storing, precision, is_gradient(name))

    def learn(self, name: str, error: float) -> None:
        """Take the error of an equal array into account for those after it."""
        self.level = max(self.level, error / self.terms.scale(name))

    def _rounding_in(self, precision: str, name: str) -> float:
        if precision not in self._rounding:
            self._rounding[precision] = rounding_of(self.ours, precision)
        measured = self._rounding[precision].get(name)
        return self._guess(name, precision) if measured is None else measured

    def _guess(self, name: str, precision: str) -> float:
        scale = self.terms.scale(name)
        larger = max(1.0, self.terms.of(name) / scale)
        level = min(self.level, unit_of(coarser(precision, "float32")) * 2**10)
        return scale * larger * (STEP * unit_of(precision) + GROWTH * level)
