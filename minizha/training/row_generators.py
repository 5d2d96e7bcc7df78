"""Dropout that does not depend on how a batch is divided: each row draws its own random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from minizha.model.base import ParameterisedModel


class RowGenerators:
    """One generator for each row of a batch: row b draws from ``default_rng([seed, b])``.

    Processes and micro-batches compute parts of a batch. With one generator for each part, the factors
    of a row would depend on the rows beside it. So would they in one array for the whole batch, unless
    every part drew all of it. Here a part begins at a row, and the row gets the same factors as in the
    whole batch.

    Args:
        seed: that of the batch.
        first: the first row's number in the whole batch.
    """

    def __init__(self, seed: int, first: int = 0) -> None:
        self.seed, self.first = seed, first
        self._generators: list[np.random.Generator] = []  # made when the first number is drawn

    def part(self, row: int) -> RowGenerators:
        """New generators, for the rows from ``row`` of these on."""
        return RowGenerators(self.seed, self.first + row)

    def random(self, size: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Numbers in [0, 1) of the shape ``size``, whose first axis is that of the rows."""
        numbers = np.empty(size, dtype)
        for i, generator in enumerate(self.generators(size[0])):
            generator.random(out=numbers[i : i + 1], dtype=dtype)
        return numbers

    def generators(self, count: int) -> list[np.random.Generator]:
        """Those of the first ``count`` rows. Each row may be drawn without the others, by any thread."""
        missing = range(self.first + len(self._generators), self.first + count)
        self._generators += [np.random.default_rng([self.seed, row]) for row in missing]
        return self._generators[:count]


def row_generators(model: ParameterisedModel) -> RowGenerators | None:
    """The generators for the next batch: their seed is drawn from that of ``model.train(seed)``.

    None outside of train mode.
    """
    rng = model._rng
    return None if rng is None else RowGenerators(int(rng.integers(2**63)))
