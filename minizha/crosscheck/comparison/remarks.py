"""Remarks on a comparison as a whole: how a difference spreads, and how arrays were matched."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np

from minizha.checkpoint.stored import shown
from minizha.crosscheck.comparison.differences import Comparison, Difference
from minizha.crosscheck.comparison.matching import Match
from minizha.crosscheck.comparison.verdict import MOST, Why
from minizha.crosscheck.names import is_gradient
from minizha.errors import listed

_READ_FIRST = ("embeddings.word_embeddings", "embeddings.token_type_embeddings")


def remarks(
    comparison: Comparison,
    matches: Mapping[str, Match],
    widened: Sequence[tuple[str, str]],
    why: Mapping[str, Why],
    parameters: Mapping[str, np.ndarray],
) -> list[str]:
    """All remarks on a comparison.

    ``widened`` lists arrays of theirs that hold numbers of a coarser dtype than their own, with that
    dtype; ``why`` says why arrays are undecided. ``parameters`` are ours.
    """
    return [
        *_other_inputs(comparison.divergence),
        *_spread(comparison.differences),
        *_precision(comparison, widened, why),
        *_matched(matches),
        *_unmatched(comparison, matches),
        *_blind_to_biases(parameters),
    ]


def _other_inputs(first: Difference | None) -> Iterator[str]:
    """Other inputs or weights are the most common reason for a difference."""
    if first is not None and first.name in _READ_FIRST:
        yield "the embeddings already differ: do both sides have the same inputs and weights?"


def _blind_to_biases(parameters: Mapping[str, np.ndarray]) -> Iterator[str]:
    biases = [name for name in parameters if name.endswith(".bias")]
    if biases and not any(parameters[name].any() for name in biases):
        yield (
            "all biases of our model are 0, as in an untrained one: mistakes in the biases can't show"
        )


def _spread(differences: Sequence[Difference]) -> Iterator[str]:
    first = next((k for k, d in enumerate(differences) if not d.ok), None)
    if first is None:
        return
    after = differences[first + 1 :]
    wrong = [d for d in after if not d.ok]
    if after and len(wrong) == len(after):
        yield "from there on every array differs"
    elif after and not wrong:
        yield "no array after it differs"
    elif after:
        right = [d.name for d in after if d.ok]
        yield (
            f"of the {len(after)} arrays after it, {len(wrong)} differ; equal are "
            f"{listed(right, most=4)}"
        )
    forward = [d for d in differences if not is_gradient(d.name)]
    if is_gradient(differences[first].name) and forward:
        yield "the activations agree, only gradients differ"
    yield from _growth(differences[first], wrong)


def _growth(first: Difference, wrong: Sequence[Difference]) -> Iterator[str]:
    """Whether the error grows in the pass, forward or backward, in which it begins."""
    same_pass = [d for d in wrong if is_gradient(d.name) == is_gradient(first.name)]
    worst = max(same_pass, key=lambda d: d.error if d.error < 10 else -1.0, default=None)
    if worst is not None and first.error < math.inf and worst.error >= 2 * first.error:
        yield f"the error grows from {first.error:.1e} to {worst.error:.1e} in {worst.name}"


def _precision(
    comparison: Comparison, widened: Sequence[tuple[str, str]], why: Mapping[str, Why]
) -> Iterator[str]:
    if widened:
        name, dtype = widened[0]
        yield f"their {name} holds {dtype} numbers, so errors of rounding to {dtype} are allowed"
    yield from _coarser_in_the_middle(comparison.differences)
    reasons = {name: why[name] for name in comparison.undecided if name in why}
    for d in comparison:  # those that are equal to the last bit are not undecided
        # without gradients: those of a nearly one-hot softmax are always noise
        if d.ok and d.tolerance > MOST and not is_gradient(d.name):
            reasons.setdefault(d.name, Why.LARGE)
    found = {d.name: d for d in comparison}
    for reason in Why:
        names = [d.name for d in comparison if reasons.get(d.name) is reason]
        if names:
            d = found[names[0]]
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            text = reason.value.format(
                dtype=d.dtype, error=f"{d.error:.1g}", allowed=f"{d.tolerance:.1g}"
            )
            yield f"{d.name}{more} {text}"


def _coarser_in_the_middle(differences: Sequence[Difference]) -> Iterator[str]:
    """Arrays from which on a file is coarser, where it does not begin so."""
    for before, after in pairwise(differences):
        if before.dtype != after.dtype:
            yield f"rounded to {after.dtype} in {after.name}"


def _matched(matches: Mapping[str, Match]) -> Iterator[str]:
    for by, text in (
        ("prefix", "names matched without their prefix"),
        ("value", "arrays matched by shape and value, so they agree by construction"),
    ):
        pairs = [f"{shown(m.their_name)} = {name}" for name, m in matches.items() if m.by == by]
        if pairs:
            yield f"{len(pairs)} {text}: {listed(pairs, most=3)}"
    layouts: dict[str, list[str]] = {}
    for name, match in matches.items():
        if match.layout is not None and match.layout.text:
            layouts.setdefault(match.layout.text, []).append(name)
    for text, names in layouts.items():
        yield f"read as {text}: {listed(names, most=3)}"


def _unmatched(comparison: Comparison, matches: Mapping[str, Match]) -> Iterator[str]:
    name = next((name for name in comparison.undecided if name not in matches), None)
    if name is not None:
        yield (
            f"{name} matches none of their arrays, but some left over have its shape: it may be the "
            "one that differs (a mapping would settle it)"
        )
