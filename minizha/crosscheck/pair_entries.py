"""The right gradient of one argument, entry by entry, and what a wrong one is beside it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minizha.backend import namespace, to_backend, to_host
from minizha.crosscheck.derivatives import Line
from minizha.crosscheck.pair_functions import Pair
from minizha.crosscheck.relations import Wrong, relation

MOST_ENTRIES = 2000
"""How many entries of a wrong gradient are checked."""
MOST_FOR_VARIANTS = 400
"""Up to how many entries a wrong gradient is compared with those of changed arguments."""


class Oracle(NamedTuple):
    """The pair, an upstream gradient u on the host, and whether derivatives are differences.

    ``roughness`` is forward's; ``kink`` says whether to look for entries at which it has one.
    """

    pair: Pair
    u: np.ndarray
    by_differences: bool
    kink: bool = False
    roughness: float = 0.0


class Entries(NamedTuple):
    """``expected`` is ∂⟨u, y⟩/∂x, NaN where it was not computed; ``error`` what it may be off by.

    ``diagonal`` is u·∂y/∂x of the same entry, None if y is not of x's shape. Where the
    derivatives from both sides differ, ``kinks`` is how large either may be; elsewhere it is 0.
    """

    expected: np.ndarray
    diagonal: np.ndarray | None
    error: float
    kinks: np.ndarray


def right_entries(oracle: Oracle, k: int, replaced: dict[int, np.ndarray] | None = None) -> Entries:
    """The derivatives by each entry of argument k, or by ``MOST_ENTRIES`` of them.

    ``replaced`` are other values of other arguments.
    """
    x, u = to_host(oracle.pair.arguments[k]), oracle.u
    expected, diagonal = np.full(x.shape, np.nan), np.full(x.shape, np.nan)
    kinks, error = np.zeros(x.shape), 0.0
    for flat in np.linspace(0, x.size - 1, min(x.size, MOST_ENTRIES), dtype=int):
        index = np.unravel_index(flat, x.shape)
        unit = np.zeros(x.shape)
        unit[index] = 1.0
        line = Line(lambda x: oracle.pair.outputs(k, x, replaced), x, unit, u)
        step = None if oracle.by_differences else line.complex_step()
        if step is None:
            slope = line.difference()
            step, error = slope.values, max(error, slope.error)
            kinks[index] = line.kink(oracle.roughness) if oracle.kink else 0.0
        expected[index] = (u * step).sum()
        if u.shape == x.shape:
            diagonal[index] = (u * step)[index]
    return Entries(expected, diagonal if u.shape == x.shape else None, error, kinks)


def other_gradients(oracle: Oracle, k: int, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """The right gradients of the arguments of a shape other than argument k, by their labels."""
    pair = oracle.pair
    return {
        pair.label(m): right_entries(oracle, m).expected
        for m in pair.floats
        if m != k and pair.arguments[m].shape == shape and np.prod(shape) <= MOST_ENTRIES
    }


def explain(oracle: Oracle, k: int, found: np.ndarray, entries: Entries, y: np.ndarray) -> str:
    """How a wrong gradient of argument k is related to the right one; "" if nothing is found."""
    wrong = Wrong(
        found,
        entries.expected,
        to_host(oracle.pair.arguments[k]),
        y,
        oracle.u,
        entries.diagonal,
        other_gradients(oracle, k, found.shape),
        entries.error,
    )
    return _ignored_upstream(oracle, k, wrong) or relation(wrong) or _variant(oracle, k, wrong)


def _ignored_upstream(oracle: Oracle, k: int, wrong: Wrong) -> str:
    """Whether another dy gives the same gradient."""
    if not (np.isfinite(wrong.found).all() and wrong.found.any() and wrong.expected.any()):
        return ""
    y, cache = oracle.pair.run()
    another = to_backend(1.0 + 0.5 * wrong.u, namespace(y))
    again = oracle.pair.gradients(another, cache)[oracle.pair.floats.index(k)]
    same = np.shape(again) == wrong.found.shape and wrong.near(again, wrong.found)
    return "it does not depend on dy" if same else ""


def _variant(oracle: Oracle, k: int, wrong: Wrong) -> str:
    """Whether it is the right gradient for another value of another argument."""
    pair = oracle.pair
    if not 2 <= wrong.x.size <= MOST_FOR_VARIANTS or not np.isfinite(wrong.found).all():
        return ""
    for m in pair.floats:
        value = to_host(pair.arguments[m])
        variants = {"were all 1 (is it left out?)": np.ones_like(value)}
        if value.ndim > 1 and value.shape[-1] == value.shape[-2]:
            variants["were transposed"] = value.swapaxes(-1, -2)
        for what, changed in variants.items() if m != k else ():
            expected = right_entries(oracle, k, {m: changed}).expected
            if wrong.near(wrong.found, expected):
                return f"it is what it would be if {pair.label(m)} {what}"
    return ""
