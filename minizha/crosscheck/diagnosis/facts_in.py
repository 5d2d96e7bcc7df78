"""Facts in a precision: what a program that computes in it reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from minizha.crosscheck.comparison.measure import blocks
from minizha.crosscheck.comparison.precision import rounded, unit_of
from minizha.crosscheck.diagnosis.facts import LARGE, AttentionFacts, Facts
from minizha.crosscheck.diagnosis.rules import Array


class FactsIn(Facts):
    """Facts in a precision. With ``rng``, each parameter is moved by −1, 0 or 1 unit in the last
    place."""

    def __init__(self, trace: Any, precision: str, rng: np.random.Generator | None = None) -> None:
        super().__init__(trace)
        self.precision, self.rng = precision, rng

    def parameter(self, name: str) -> Array:
        """A parameter, rounded. A large one is not moved, which would take its memory again."""
        value = self.stored_parameter(name)
        return moved(value, self.precision, self.rng if value.size <= LARGE else None)

    def input(self, name: str) -> Array | None:
        """An argument of the call; floats are rounded."""
        value = super().input(name)
        return rounded(value, self.precision) if _is_float(value) else value

    def factor(self, name: str) -> Array | None:
        """A dropout factor, rounded."""
        value = super().factor(name)
        return value if value is None else rounded(value, self.precision)

    def attention(self, layer: int, is_cross: bool) -> AttentionFacts:
        """The attention of a layer; its masks are rounded, too."""
        a = super().attention(layer, is_cross)
        masks = ("visible", "causal", "head_mask", "all_head_masks")
        values = {name: getattr(a, name) for name in masks}
        return a._replace(
            **{name: rounded(v, self.precision) for name, v in values.items() if v is not None}
        )


def _is_float(value: Array | None) -> bool:
    return value is not None and value.dtype.kind == "f"


def moved(x: Array, precision: str, rng: np.random.Generator | None) -> Array:
    """The numbers in the precision; with ``rng``, each moved by −1, 0 or 1 unit in the last place."""
    if rng is None:
        return rounded(x, precision)
    result = np.empty(x.shape, np.float64 if precision == "float64" else np.float32)
    for block in blocks(x.shape):
        steps = rng.integers(-1, 2, result[block].shape, dtype=np.int8)
        result[block] = rounded(x[block] * (1.0 + 2 * unit_of(precision) * steps), precision)
    return result
