"""Whether each array of theirs follows from their own inputs, by the right rule.

An array is computed again from the nearest arrays before it that they give; what lies between is
recomputed. So a mistake is found in the step that makes it, wherever that stands, and a missing array
hides no more than its own step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from minizha.crosscheck.comparison.float32_table import has_table_form
from minizha.crosscheck.comparison.precision import coarser, is_half, smallest_of, unit_of
from minizha.crosscheck.comparison.rounding import (
    KINDS,
    WithFloat32Table,
    computed,
    largest_difference,
    measured_in,
    pass_in,
)
from minizha.crosscheck.comparison.terms import Terms
from minizha.crosscheck.comparison.verdict import Evidence, Fit
from minizha.crosscheck.comparison.visible import visible_entries
from minizha.crosscheck.diagnosis.backward import all_steps
from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.facts import LARGE, Facts
from minizha.crosscheck.diagnosis.facts_in import FactsIn, moved
from minizha.crosscheck.diagnosis.forward import Step
from minizha.crosscheck.diagnosis.rules import Array
from minizha.crosscheck.names import GRADIENT, is_gradient

MEMORY, MEMORY_OF_LARGE = 2**26, 2**21
"""Recomputed arrays are kept for the arrays after them up to so many bytes in each pass; in a large
model fewer, since the largest arrays themselves should decide what a comparison takes."""
TABLES = 6
"""So many tables made in float32 are tried: the effect of one on a single number may be 0 by chance."""
TABLE_TIMES = 4.0
"""A table made in float32 may change an array by so many times what the largest of these does."""
MOST_REPAIRED = 24
"""Up to so many wrong arrays may be replaced by what they should have been."""

_NOT_COMPUTABLE = (KeyError, ValueError, IndexError, TypeError, AttributeError)
"""A parameter or input is missing, or their arrays do not fit each other."""


class OwnInputs:
    """Computes arrays of theirs from their own inputs.

    Args:
        ours: a trace with ``config``, ``inputs`` and ``parameters``.
        theirs: their arrays under our names and in our layout.
        terms: the size of the terms of each array.
    """

    def __init__(self, ours: Any, theirs: Mapping[str, Array], terms: Terms) -> None:
        self.ours, self.theirs, self.terms = ours, theirs, terms
        self.steps = all_steps(Facts(ours), Rules())
        self.given = _Given(ours, theirs, frozenset())
        self.wrong = frozenset[str]()
        self._repaired: dict[frozenset[str], _Given] = {}  # by the names of the excluded arrays
        self.precisions: dict[str, str] = {}
        self.coarsest = (
            "float64"  # the coarsest precision of their arrays so far: that of a parameter
        )
        self._passes: dict[tuple[_Given, str, str], _Recomputed] = {}
        self._steps: dict[tuple[str, str], Mapping[str, Step]] = {}

    def judge(
        self, name: str, theirs: Array, precision: str, counted: Array | None = None
    ) -> Evidence | None:
        """How far their array ``name`` is from what follows from their inputs; None if that can't be
        computed. ``counted`` says which entries count, where a mask does not.

        If it does not follow from arrays that are wrong themselves, these are replaced by what they
        should have been: an array that was recorded wrongly, but not used, spoils no other. Wrong arrays
        before these may have been used or not: both are tried.
        """
        found = self._judge(name, theirs, precision, self.given, counted)
        if found is None or found.fit is not Fit.BAD:
            return found
        wrong = self.wrong.intersection(self._sources(name))
        if not wrong or len(self.wrong) > MOST_REPAIRED:
            return found
        for excluded in dict.fromkeys((wrong, self.wrong)):
            repaired = self._repaired.setdefault(excluded, _Given(self.ours, self.theirs, excluded))
            again = self._judge(name, theirs, precision, repaired, counted)
            if again is not None and again.fit is Fit.GOOD:
                return again
        return found

    def float32_table_explains(self, name: str, theirs: Array, local: Evidence) -> bool:
        """Whether a relative table that is made in float32 explains how far their array is off."""
        try:
            kinds = ("exact", *(f"table {seed}" for seed in range(TABLES)))
            right, *others = (self._pass(self.given, "float64", k).array(name) for k in kinds)
        except _NOT_COMPUTABLE:
            return False
        visible = visible_entries(self.ours, name, right.shape)
        if local.error > TABLE_TIMES * max(largest_difference(right, o, visible) for o in others):
            return False
        residual = theirs - right if visible is None else np.where(visible, theirs - right, 0.0)
        fits = has_table_form(Facts(self.ours), name, residual, self._given_to(name), local.allowed)
        return fits is not False

    def _given_to(self, target: str) -> Callable[[str], Array | None]:
        """Gives an array of theirs that the step of ``target`` may read, or None."""

        def given(name: str) -> Array | None:
            source = self.given.source(name, target)
            return None if source is None else self.theirs[source]

        return given

    def mark_wrong(self, name: str) -> None:
        """Note that an array does not follow from its inputs."""
        self.wrong |= {name}
        self._passes = {key: p for key, p in self._passes.items() if key[0] is self.given}
        self._repaired.clear()

    def _sources(self, name: str) -> list[str]:
        """The arrays of theirs that the step of ``name`` reads, itself or through recomputed ones."""
        found, waiting, seen = [], [name], {name}
        while waiting:
            for need in self.steps[waiting.pop()].needs:
                source = self.given.source(need, name)
                if source is not None:
                    found.append(source)
                elif need not in seen and need in self.steps:
                    seen.add(need)
                    waiting.append(need)
        return found

    def _judge(
        self, name: str, theirs: Array, precision: str, given: _Given, counted: Array | None
    ) -> Evidence | None:
        try:
            right = self._pass(given, "float64").array(name)
            hidden_by_mask = visible_entries(self.ours, name, right.shape)
            visible = counted if hidden_by_mask is None else hidden_by_mask
            size = largest_difference(right, np.zeros_like(right), visible)

            def measured(p: str) -> float:
                low = measured_in(p)
                found = [
                    largest_difference(right, self._pass(given, low, kind).array(name), visible)
                    for kind in KINDS
                ]
                floor = self.terms.floor(name, unit_of(p), size)
                return max(unit_of(p) / unit_of(low) * max(found), floor, smallest_of(p))

            rounding, storing = measured(precision), 0.0
            single = measured("float32") if is_half(precision) else rounding
            if self._is_coarser(name, precision):
                stored = self._pass(given, "float64", "stored").array(name)
                storing = 2 * largest_difference(right, stored, visible)
            if is_half(precision):
                storing += max(unit_of(precision) * size, smallest_of(precision) / 2)
        except _NOT_COMPUTABLE:
            return None
        error = largest_difference(right, theirs, visible)
        return Evidence(error, rounding, single, storing, precision, is_gradient(name))

    def _is_coarser(self, name: str, precision: str) -> bool:
        """Whether an array that the step reads is stored in a half, or it or a parameter may be in a
        coarser precision."""
        given = {self.precisions.get(source, precision) for source in self._sources(name)}
        return any(is_half(p) for p in given) or coarser(self.coarsest, precision) != precision

    def _pass(self, given: _Given, precision: str, kind: str = "exact") -> _Recomputed:
        coarsest = self.coarsest if kind == "stored" else ""
        key = (given, precision, kind + coarsest)
        if key not in self._passes:
            if key[1:] not in self._steps:
                self._steps[key[1:]] = self._steps_of(precision, kind)
            seeds = {"stored": 2, "as one reads": 1}
            rng = np.random.default_rng(seeds[kind]) if kind in seeds else None
            precisions = self.precisions if kind == "stored" else None
            steps = self._steps[key[1:]]
            self._passes[key] = _Recomputed(steps, precision, given, rng, precisions)
        return self._passes[key]

    def _steps_of(self, precision: str, kind: str) -> Mapping[str, Step]:
        if kind == "exact":
            return self.steps
        if kind.startswith("table"):
            return all_steps(Facts(self.ours), WithFloat32Table(int(kind.removeprefix("table "))))
        if kind == "stored":
            rng = np.random.default_rng(2)
            return all_steps(FactsIn(self.ours, self.coarsest, rng), Rules())
        return pass_in(self.ours, precision, kind)


class _Given:
    """Which arrays of theirs a step may read: those before it that are not excluded.

    An array that must equal another one takes its place: probs and weights without dropout and head
    mask, a sum's gradient and that of each of its terms.
    """

    def __init__(self, ours: Any, theirs: Mapping[str, Array], excluded: frozenset[str]) -> None:
        self.theirs, self.excluded = theirs, excluded
        self.position = {name: k for k, name in enumerate(ours)}
        self.dropped = {name for name in ours if name.endswith(".dropout")}
        inputs, c = getattr(ours, "inputs", {}), ours.config
        self.is_large = c.vocab_size * c.hidden_size > LARGE
        self.equal = {} if "head_mask" in inputs else {"attention.probs": "attention.weights"}
        self.shared: dict[str, Array] = {}

    def source(self, name: str, target: str) -> str | None:
        """The name of the array of theirs that gives ``name`` for the step ``target``, or None."""
        end = self.position.get(target, len(self.position))
        for candidate in (name, *self._equals(name)):
            given = candidate in self.theirs and candidate not in self.excluded
            if given and self.position.get(candidate, -1) < end:
                return candidate
        return None

    def _equals(self, name: str) -> tuple[str, ...]:
        for after, other in self.equal.items():
            if name.endswith(after):
                prefix = name.removesuffix(after)
                dropout = prefix + after.removesuffix(".probs") + ".dropout"
                return () if dropout in self.dropped else (prefix + other,)
        if name.endswith("output.sum" + GRADIENT):
            module = name.removesuffix(".sum" + GRADIENT)
            return () if module + ".dropout" in self.dropped else (f"{module}.dense{GRADIENT}",)
        if name == "embeddings.sum" + GRADIENT:
            return tuple(f"embeddings.{n}_embeddings{GRADIENT}" for n in ("word", "token_type"))
        return ()


class _Recomputed:
    """Arrays by the steps of one pass, from those that are given.

    With ``rng`` each given array is moved by at most a unit in the last place, of the precision of the
    pass or of its own, which ``precisions`` says.
    """

    def __init__(
        self,
        steps: Mapping[str, Step],
        precision: str,
        given: _Given,
        rng: np.random.Generator | None = None,
        precisions: Mapping[str, str] | None = None,
    ) -> None:
        self.steps, self.precision, self.given, self.rng = steps, precision, given, rng
        self.precisions = precisions
        self.memory: dict[str, Array] = {}
        self.most = MEMORY_OF_LARGE if given.is_large else MEMORY

    def array(self, name: str) -> Array:
        """The array ``name``, even where it is given.

        Raises:
            KeyError: it is no step, or needs what is neither given nor a step.
        """
        if sum(a.nbytes for a in self.memory.values()) > self.most:
            self.memory.clear()
        return self._by_step(name, name)

    def _by_step(self, name: str, target: str) -> Array:
        step = self.steps[name]
        return computed(step, [self._value(need, target) for need in step.needs], self.precision)

    def _value(self, name: str, target: str) -> Array:
        source = self.given.source(name, target)
        if source is not None:
            return self._moved(source)
        if name not in self.memory:
            self.memory[name] = self._by_step(name, target)
        return self.memory[name]

    def _moved(self, source: str) -> Array:
        array = np.asarray(self.given.theirs[source])
        if self.precisions is None or self.rng is None:
            return moved(array, self.precision, self.rng)
        unit = self.precisions.get(source, self.precision)
        return np.asarray(moved(array, unit, self.rng), np.float64)
