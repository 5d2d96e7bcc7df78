"""Sentences on a comparison as a whole: how a difference spreads, and what was taken for what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from minizha.checkpoint.stored import shown
from minizha.crosscheck.comparison.differences import Comparison, Difference
from minizha.crosscheck.comparison.matching import Match
from minizha.crosscheck.names import is_gradient
from minizha.errors import listed

HOPELESS = 0.1
"""From this tolerance on nothing much can be told."""


def remarks(
    report: Comparison,
    matches: Mapping[str, Match],
    widened: Sequence[tuple[str, str]],
    same_shape: Callable[[str, str], bool],
) -> list[str]:
    """``widened`` are arrays of theirs that hold numbers of a coarser dtype, and which;
    ``same_shape(our name, their name)`` compares two shapes."""
    return [
        *_spread(report.differences),
        *_precision(report.differences, widened),
        *_matched(matches),
        *_unmatched(report, matches, same_shape),
    ]


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
            f"of the {len(after)} arrays after it {len(wrong)} differ; not {listed(right, most=4)}"
        )
    forward = [d for d in differences if not is_gradient(d.name)]
    if is_gradient(differences[first].name) and forward:
        yield "the activations agree, only gradients differ"
    yield from _growth(differences[first], wrong)


def _growth(first: Difference, wrong: Sequence[Difference]) -> Iterator[str]:
    """Along the way that the first of them is on, forward or back."""
    same_way = [d for d in wrong if is_gradient(d.name) == is_gradient(first.name)]
    worst = max(same_way, key=lambda d: d.error if d.error < 10 else -1.0, default=None)
    if worst is not None and worst.error >= 2 * first.error:
        yield f"the error grows from {first.error:.1e} to {worst.error:.1e} in {worst.name}"


def _precision(
    differences: Sequence[Difference], widened: Sequence[tuple[str, str]]
) -> Iterator[str]:
    if widened:
        name, found = widened[0]
        yield f"their {name} holds {found} numbers: allowed is what rounding to {found} explains"
    forward = (d for d in differences if not is_gradient(d.name))
    lax = next((d for d in forward if d.ok and d.tolerance > HOPELESS), None)
    if lax is not None:
        yield (
            f"from {lax.name} on, rounding to {lax.dtype} alone explains errors of "
            f"{lax.tolerance:.1g}: a finer dtype would tell more"
        )


def _matched(matches: Mapping[str, Match]) -> Iterator[str]:
    for by, text in (
        ("prefix", "names matched without their prefix"),
        ("value", "arrays matched by shape and value, so that they agree by construction"),
    ):
        found = [f"{shown(m.their_name)} = {name}" for name, m in matches.items() if m.by == by]
        if found:
            yield f"{len(found)} {text}: {listed(found, most=3)}"
    layouts: dict[str, list[str]] = {}
    for name, match in matches.items():
        if match.layout is not None and match.layout.text:
            layouts.setdefault(match.layout.text, []).append(name)
    for text, names in layouts.items():
        yield f"read as {text}: {listed(names, most=3)}"


def _unmatched(
    report: Comparison, matches: Mapping[str, Match], same_shape: Callable[[str, str], bool]
) -> Iterator[str]:
    """Where arrays were matched by value, one that is wrong finds no partner."""
    if all(m.by != "value" for m in matches.values()):
        return
    for name in report.missing:
        if name.endswith("key.bias.grad"):  # 0 in theory: rounding has no likeness
            continue
        like = [theirs for theirs in report.left_over if same_shape(name, theirs)]
        if like:
            yield (
                f"{name} is like none of theirs, though {listed([shown(n) for n in like], most=3)} "
                "would fit in shape: it may be where they differ (a mapping makes sure)"
            )
            return
