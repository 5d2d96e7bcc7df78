"""Where in an array two sides differ, in words and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minizha.crosscheck.comparison.counts import Counts, count_differences
from minizha.crosscheck.comparison.differences import Location
from minizha.crosscheck.names import GRADIENT, WORDS, axes
from minizha.errors import listed

_WORDS = {
    "B": "rows of the batch", "N": "heads", "J": "keys", "L": "tokens", "S": "tokens",
    "D": "features", "A": "features", "F": "features", "V": "words of the vocabulary",
    "C": "columns", "O": "rows", "I": "columns",
}  # fmt: skip
_PICTURE = {"L": "query i", "J": "key j"}
_FEATURES = "DAF"
_ENOUGH = 0.8
"""A pattern is named where so much of it differs and nothing else does: some entries agree by chance."""
_NEARLY_ALL = 0.9


def locate(
    name: str,
    ours: np.ndarray,
    theirs: np.ndarray,
    allowed: tuple[float, float],
    *,
    scale: float,
    visible: np.ndarray | None = None,
    trace: Any = None,
) -> Location:
    """Where ``|ours − theirs| > atol + rtol·|ours|``.

    Args:
        name: of the array, which tells its axes.
        ours: one side; ``theirs`` is of the same shape.
        theirs: the other one.
        allowed: (rtol, atol).
        scale: what errors in the picture are divided by.
        visible: booleans that broadcast to the shape: entries that count. None: all.
        trace: read for its ``config`` and ``inputs``, where it has them.

    Convention: nothing is said of an axis along which the difference is everywhere.
    """
    letters = axes(name, ours.ndim)
    picture = _picture(letters)
    rows = next(
        ((letters.index("B"), letters.index(a)) for a in "LS" if {"B", a} <= set(letters)), None
    )
    found = count_differences(ours, theirs, allowed, visible, picture, rows)
    heat = np.atleast_2d(found.heat / scale)
    labels = [_label(letters, k, picture=True) for k in picture]
    lengths = [ours.shape[k] for k in picture]
    while len(labels) < 2:  # a picture of one row, or one cell
        labels.insert(0, "all")
        lengths.insert(0, 1)
    return Location(
        found.share, tuple(_lines(name, letters, found, trace)),
        tuple(tuple(float(x) for x in row) for row in heat), tuple(labels), tuple(lengths),
    )  # fmt: skip


def _picture(letters: Sequence[str]) -> tuple[int, ...]:
    """Two axes: queries and keys where there are any, else the two last ones."""
    if {"L", "J"} <= set(letters):
        return letters.index("L"), letters.index("J")
    return tuple(range(len(letters)))[-2:]


def _label(letters: Sequence[str], axis: int, picture: bool = False) -> str:
    letter = letters[axis]
    if "J" in letters and letter in _PICTURE:
        return _PICTURE[letter] if picture else {"L": "queries", "J": "keys"}[letter]
    words = _WORDS.get(letter, f"axis {axis}")
    return words.removesuffix("s") if picture and letter in "LSDAF" else words


def _lines(name: str, letters: Sequence[str], found: Counts, trace: Any) -> Iterator[str]:
    config, inputs = getattr(trace, "config", None), getattr(trace, "inputs", None) or {}
    told: set[str] = set()
    if {"L", "J"} <= set(letters):
        past = _past_length(inputs)
        line = say_distances(found.pairs, found.counted_pairs, past, _furthest(config))
        if line:
            told = {"L", "J"}
            yield f"distances: {line}"
    special = _special_rows(found, inputs)
    if special:
        told |= {"B", "L", "S"}
        yield f"tokens: {special}"
    for k, letter in enumerate(letters):
        if letter in told:
            continue
        if letter == "A" or (letter == "O" and _of_heads(name)):
            yield from _by_head(found.differ[k], found.counted[k], config)
            continue
        note = _pad_note(name, config) if k == 0 else None
        line = say_places(found.differ[k], found.counted[k], letter in _FEATURES + "OI", note)
        if line:
            yield f"{_label(letters, k)}: {line}"


def _by_head(differ: np.ndarray, counted: np.ndarray, config: Any) -> Iterator[str]:
    """Features side by side: which heads, and which features within a head."""
    d = getattr(config, "head_size", None)
    if not d or differ.size % d:
        line = say_places(differ, counted, True)
        if line:
            yield f"features: {line}"
        return
    differ, counted = differ.reshape(-1, d), counted.reshape(-1, d)
    for label, axis, halves in (("heads", 1, False), ("features of a head", 0, True)):
        line = say_places(differ.any(axis), counted.any(axis), halves)
        if line:
            yield f"{label}: {line}"


def say_places(
    differ: np.ndarray,
    counted: np.ndarray,
    halves: bool = False,
    note: Callable[[int], str] | None = None,
) -> str | None:
    """Which of the places 0, 1, 2, … differ, of those that are counted; None where (nearly) all do.

    ``halves``: name every other place, and the halves, too. ``note`` is a word on a single place.
    """
    n, k = int(counted.sum()), int(differ.sum())
    if not k or k == n:
        return None
    index = np.arange(differ.size)
    half = differ.size // 2
    patterns = {"the even ones": index % 2 == 0, "the odd ones": index % 2 == 1}
    patterns |= {"the first half": index < half, "the second half": index >= half}
    for text, pattern in patterns.items() if halves and differ.size >= 4 else ():
        if _fits(differ, pattern & counted):
            return f"{text} only"
    if n > 10 and k >= _NEARLY_ALL * n:
        return None
    where = np.flatnonzero(differ).tolist()
    text = listed(_ranges(where), most=6)
    if k == 1 and note is not None:
        text += note(where[0])
    return f"{k} of {n} ({text})"


def say_distances(
    differ: np.ndarray, counted: np.ndarray, past: int = 0, furthest: int | None = None
) -> str | None:
    """Which distances ``j − i`` differ; query i stands at ``past + i``. None where all do, or where
    no rule is seen.

    Shapes: differ and counted (L, J), booleans; ``furthest`` is K, where distances are clipped.
    """
    L, J = differ.shape
    distance = np.arange(J)[None, :] - np.arange(L)[:, None] - past
    if not differ.any() or (differ >= counted).all():
        return None
    for text, pattern in _distance_rules(distance, distance[differ], furthest):
        if _fits(differ, pattern & counted):
            return text
    return None


def _distance_rules(
    distance: np.ndarray, wrong: np.ndarray, K: int | None
) -> Iterator[tuple[str, np.ndarray]]:
    low, high = int(wrong.min()), int(wrong.max())
    near, far = int(np.abs(wrong).min()), int(np.abs(wrong).max())
    yield "j − i = 0 only (a token and itself)", distance == 0
    yield "j − i ≠ 0 only (all but a token and itself)", distance != 0
    yield f"j − i > {low - 1} only{_clipped(low, K)}", distance >= low
    yield f"j − i < {high + 1} only{_clipped(-high, K)}", distance <= high
    yield f"|j − i| ≥ {near} only{_clipped(near, K)}", np.abs(distance) >= near
    yield f"|j − i| ≤ {far} only", np.abs(distance) <= far
    yield "even j − i only", distance % 2 == 0
    yield "odd j − i only", distance % 2 == 1
    if low == high:
        yield f"j − i = {low} only", distance == low


def _clipped(first: int, K: int | None) -> str:
    """A word where the difference begins at the end of the table."""
    return f" (clipped to {K})" if K and first in (K, K + 1) else ""


def _fits(differ: np.ndarray, pattern: np.ndarray) -> bool:
    """Nothing differs outside the pattern, and most of it does."""
    return not (differ & ~pattern).any() and differ.sum() >= _ENOUGH * pattern.sum() > 0


def _ranges(numbers: list[int]) -> list[str]:
    """``[0, 3, 4, 5]`` as ``["0", "3–5"]``."""
    found: list[list[int]] = []
    for n in numbers:
        if found and n == found[-1][-1] + 1:
            found[-1].append(n)
        else:
            found.append([n])
    return [str(r[0]) if len(r) == 1 else f"{r[0]}–{r[-1]}" for r in found]


def _special_rows(found: Counts, inputs: Any) -> str | None:
    """Whether the tokens that differ are all padded, or all of the second sentence."""
    if found.rows is None:
        return None
    for argument, value, text in (
        ("attention_mask", 0, "only those that the attention mask hides"),
        ("token_type_ids", 1, "only those of the second sentence"),
    ):
        given = inputs.get(argument)
        if given is None or np.asarray(given).shape != found.rows.shape:
            continue
        pattern = np.asarray(given) == value
        if not pattern.all() and _fits(found.rows, pattern):
            return text
    return None


def _of_heads(name: str) -> bool:
    return any(f"self.{part}." in name for part in ("query", "key", "value"))


def _pad_note(name: str, config: Any) -> Callable[[int], str] | None:
    if name != WORDS + GRADIENT:
        return None
    pad = getattr(config, "pad_token_id", None)
    return lambda row: ", the pad token's" if row == pad else ""


def _past_length(inputs: Any) -> int:
    past = inputs.get("past_key_values.0.0")
    return 0 if past is None else np.asarray(past).shape[2]


def _furthest(config: Any) -> int | None:
    return getattr(config, "max_relative_position", None)
