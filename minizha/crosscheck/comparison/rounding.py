"""What rounding does to each array: measured, by computing it again in the precision at hand.

Two right programs differ by their rounding errors. How much depends on the weights: with a standard
deviation of 0.3 at width 768, scores are several hundred, and their softmax turns a relative error e
into several hundred e. So the errors are measured. Each array is computed in float64 and twice in the
precision of the other side:

* by the rules as they are;
* as one reads them: sums one term after another, the relative table made in float32, parameters (and
  the arrays that a step reads) moved by a unit in the last place, as those of another program are.

The larger difference from float64 counts, and at least one rounding of the array and of its largest
term (:mod:`~minizha.crosscheck.comparison.terms`). Errors of float64 are those of float32, scaled.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from minizha.crosscheck.comparison.measure import absolute_difference, blocks
from minizha.crosscheck.comparison.precision import rounded, smallest_of, unit_of
from minizha.crosscheck.comparison.terms import LOGITS, Terms
from minizha.crosscheck.comparison.visible import visible_entries
from minizha.crosscheck.diagnosis.backward import all_steps
from minizha.crosscheck.diagnosis.backward_rules import Rules, rows
from minizha.crosscheck.diagnosis.facts import AttentionFacts
from minizha.crosscheck.diagnosis.facts_in import FactsIn, moved
from minizha.crosscheck.diagnosis.forward import Step
from minizha.crosscheck.diagnosis.rules import Array, Relative, distances
from minizha.crosscheck.names import GRADIENT, made_with
from minizha.ops.gelu import GeluNewCache, gelu_new, gelu_new_backward
from minizha.ops.relative_position import relative_table


def measured_in(precision: str) -> str:
    """The precision in which rounding errors are measured: errors of float64 are scaled from float32."""
    return "float32" if precision == "float64" else precision


# --- rules in a precision -----------------------------------------------------------------------


class RulesIn(Rules):
    """The right rules with a relative table, and sums, in a precision."""

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def table(self, a: AttentionFacts) -> Array:
        """The relative table, rounded."""
        return rounded(relative_table(a.K, a.d), self.precision)

    def relative(self, a: AttentionFacts, Lq: int, Lk: int) -> Relative:
        """The right rows of :meth:`table`."""
        rows = np.clip(distances(Lq, Lk, a.offset), -a.K, a.K) + a.K
        return Relative(self.table(a), rows)

    def lookup_backward(self, dwords: Array, ids: Array, count: int, pad: int | None) -> Array:
        """The gradient of the table of a lookup, added up in the dtype of ``dwords``."""
        dtable = np.zeros((count, dwords.shape[-1]), dwords.dtype)
        np.add.at(dtable, ids.reshape(-1), rows(dwords))
        if pad is not None:
            dtable[pad] = 0
        return dtable

    def pooled_backward(self, dfirst: Array, L: int) -> Array:
        """The gradient of the hidden states, in the dtype of ``dfirst``."""
        return super().pooled_backward(dfirst, L).astype(dfirst.dtype)


def table_made_in_float32(a: AttentionFacts, seed: int | None = None) -> Array:
    """The relative table as most programs make it: its angles in float32, off by up to 2K·2⁻²⁴.

    With a seed its frequencies are moved by a unit in the last place, as those of another library.
    """
    exponents = np.arange(0, a.d, 2).astype(np.float32) * np.float32(-math.log(10000.0) / a.d)
    rng = None if seed is None else np.random.default_rng(seed)
    frequencies = moved(np.exp(exponents), "float32", rng)
    angles = np.arange(2 * a.K + 1, dtype=np.float32)[:, None] * frequencies
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(angles), -1)


class WithFloat32Table(RulesIn):
    """The right rules in float64, but for the table."""

    def __init__(self, seed: int) -> None:
        super().__init__("float64")
        self.seed = seed

    def table(self, a: AttentionFacts) -> Array:
        """The relative table, made in float32."""
        return table_made_in_float32(a, self.seed).astype(np.float64)


class AsOneReads(RulesIn):
    """The right rules as one reads them: one term after another, the table made in float32."""

    def table(self, a: AttentionFacts) -> Array:
        """The relative table, made in float32."""
        return rounded(table_made_in_float32(a), self.precision)

    def activation_backward(self, dy: Array, x: Array, name: str) -> Array:
        """The slope of tanh GELU takes ``1 − t²`` of a t that another library rounds differently."""
        if name != "gelu_new":
            return super().activation_backward(dy, x, name)
        _, (x, t) = gelu_new(x)
        t = np.clip(moved(t, self.precision, np.random.default_rng(3)), -1, 1)
        return gelu_new_backward(dy, GeluNewCache(x, t))

    def bias_backward(self, dy: Array) -> Array:
        """``Σ dy``, one row after another."""
        return np.cumsum(rows(dy), axis=0)[-1] if dy.size else super().bias_backward(dy)

    def context(
        self, weights: Array, probs: Array, scores: Array, v: Array, a: AttentionFacts
    ) -> Array:
        """``Σ_j weights[j] · (v[j] + R[j])``, one key after another."""
        table, which = self.relative_of_values(a, *weights.shape[2:])
        total = np.zeros((*weights.shape[:3], v.shape[-1]), weights.dtype)
        for j in range(weights.shape[-1]):
            total += weights[..., j, None] * (v[:, :, None, j] + table[which[:, j]])
        return total

    def query_backward(self, dscores: Array, k: Array, a: AttentionFacts) -> Array:
        """``Σ_j dscores[j] · (k[j] + R[j]) / √d``, one key after another."""
        table, which = self.relative(a, *dscores.shape[2:])
        total = np.zeros((*dscores.shape[:3], k.shape[-1]), dscores.dtype)
        for j in range(dscores.shape[-1]):
            total += dscores[..., j, None] * (k[:, :, None, j] + table[which[:, j]])
        return total / math.sqrt(a.d)


KINDS = ("plain", "as one reads")
"""The two passes that measure rounding errors."""


def pass_in(trace: Any, precision: str, kind: str, seed: int = 0) -> dict[str, Step]:
    """The steps of a pass of one of the :data:`KINDS`."""
    if kind == "plain":
        return all_steps(FactsIn(trace, precision), RulesIn(precision))
    facts = FactsIn(trace, precision, np.random.default_rng(seed))
    return all_steps(facts, AsOneReads(precision))


def computed(step: Step, values: list[Array], precision: str) -> Array:
    """The array of a step, rounded to the precision."""
    with np.errstate(all="ignore"):
        return rounded(step.compute(*values), precision)


def largest_difference(a: Array, b: Array, visible: Array | None = None) -> float:
    """``max |a − b|`` over the entries that count; NaN equals NaN, and is infinitely far from others."""
    if a.shape != b.shape:
        return math.inf
    every_visible = None if visible is None else np.broadcast_to(visible, a.shape)
    largest = 0.0
    for block in blocks(a.shape):
        shown = True if every_visible is None else every_visible[block]
        with np.errstate(invalid="ignore", over="ignore"):
            gap = np.abs(np.subtract(a[block], b[block], dtype=np.float64))
            most = gap.max(initial=0, where=shown)
        if not math.isfinite(most):
            most = absolute_difference(a[block], b[block]).max(initial=0, where=shown)
        largest = max(largest, float(most))
    return largest


# --- the model as a whole -----------------------------------------------------------------------


def model_rounding(
    trace: Any, precision: str, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, float]:
    """What rounding does to each array of a whole model: ``{name: largest absolute error}``.

    Both passes start from the inputs and parameters of the trace, so errors grow as they do in a
    model. Arrays whose parameters the trace lacks are left out. ``progress`` is called with the
    number of arrays done and the number of all.
    """
    low = measured_in(precision)
    passes = [
        _Pass(all_steps(FactsIn(trace, "float64"), Rules()), "float64", trace),
        *(_Pass(pass_in(trace, low, kind), low, trace) for kind in KINDS),
    ]
    sizes: dict[str, float] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    found: dict[str, float] = {}
    for done, name in enumerate(trace):
        progress(done, len(trace))
        try:
            exact, *others = [p.take(name) for p in passes]
        except KeyError:  # no step makes it, or the trace lacks a parameter
            continue
        visible = visible_entries(trace, name, exact.shape)
        sizes[name] = largest_difference(exact, np.zeros_like(exact), visible)
        shapes[name] = exact.shape
        found[name] = max(largest_difference(exact, other, visible) for other in others)
    terms = Terms(lambda n: sizes.get(n, 0.0), lambda n: shapes.get(n, ()))
    scale, unit = unit_of(precision) / unit_of(low), unit_of(precision)
    own = {
        name: max(scale * value, terms.floor(name, unit), smallest_of(precision))
        for name, value in found.items()
    }
    return {
        n: max(v, *(own.get(m, 0.0) for m in (n, *_no_more_exact_than(n)))) for n, v in own.items()
    }


def _no_more_exact_than(name: str) -> tuple[str, ...]:
    """A few numbers may come out exact by chance: they are taken to be as exact as what they are made
    from, a loss as its logits, a bias's gradient as the gradient that it sums."""
    if name.endswith(".bias" + GRADIENT):
        return (made_with(name.removesuffix(GRADIENT)) + GRADIENT,)
    return LOGITS.get(name, ())


class _Pass:
    """One pass over a whole model. An array is kept until all steps that read it are done."""

    def __init__(self, steps: Mapping[str, Step], precision: str, names: Collection[str]) -> None:
        self.steps, self.precision = steps, precision
        self.memory: dict[str, Array] = {}
        self.readers: dict[str, int] = {}
        reached, waiting = set(), [n for n in names if n in steps]
        for name in waiting:  # each name of the trace is read once, by :meth:`take`
            self.readers[name] = self.readers.get(name, 0) + 1
        while waiting:
            name = waiting.pop()
            if name in reached:
                continue
            reached.add(name)
            for need in steps[name].needs if name in steps else ():
                self.readers[need] = self.readers.get(need, 0) + 1
                waiting.append(need)

    def take(self, name: str) -> Array:
        """The array ``name``, computed if it is not yet."""
        if name not in self.memory:
            step = self.steps[name]
            self.memory[name] = computed(step, [self.take(n) for n in step.needs], self.precision)
        array = self.memory[name]
        self.readers[name] -= 1
        if not self.readers[name]:
            del self.memory[name]
        return array
