"""Where in an array two sides differ, in words and as a heat map."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from minizha.crosscheck.comparison.counts import Counts, count_differences
from minizha.crosscheck.comparison.differences import Location
from minizha.crosscheck.names import GRADIENT, WORDS, axes
from minizha.errors import listed

_WORDS = {
    "B": "rows of the batch",
    "N": "heads",
    "J": "keys",
    "V": "words of the vocabulary",
    "O": "rows",
    **dict.fromkeys("LS", "tokens"),
    **dict.fromkeys("DAF", "features"),
    **dict.fromkeys("CI", "columns"),
}
_PICTURE = {"L": "query i", "J": "key j"}
_FEATURES = "DAF"
_MOST_OF_PATTERN = 0.8
"""A pattern is named if this share of it differs and nothing else: some entries agree by chance."""
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
        name: the name of the array, which says what its axes are.
        ours: one side; ``theirs`` is of the same shape.
        theirs: the other side.
        allowed: (rtol, atol).
        scale: the errors of the heat map are divided by it.
        visible: booleans that broadcast to the shape: the entries that count. None: all.
        trace: ours, for its ``config`` and ``inputs``, if it has them.

    Convention: an axis is not mentioned if entries differ at all of its indices.
    """
    letters = axes(name, ours.ndim)
    picture = _picture(letters)
    rows = next(
        ((letters.index("B"), letters.index(a)) for a in "LS" if {"B", a} <= set(letters)), None
    )
    counts = count_differences(ours, theirs, allowed, visible, picture, rows)
    heat = np.atleast_2d(counts.heat / scale)
    labels = [_label(letters, k, picture=True) for k in picture]
    lengths = [ours.shape[k] for k in picture]
    while len(labels) < 2:  # a picture of one row, or one cell
        labels.insert(0, "all")
        lengths.insert(0, 1)
    return Location(
        share=counts.share,
        lines=tuple(_lines(name, letters, counts, trace)),
        heat=tuple(tuple(float(x) for x in row) for row in heat),
        heat_axes=tuple(labels),
        heat_lengths=tuple(lengths),
    )


def _picture(letters: Sequence[str]) -> tuple[int, ...]:
    """The axes of the heat map: queries and keys if there are any, else the last two."""
    if {"L", "J"} <= set(letters):
        return letters.index("L"), letters.index("J")
    return tuple(range(len(letters)))[-2:]


def _label(letters: Sequence[str], axis: int, picture: bool = False) -> str:
    letter = letters[axis]
    if "J" in letters and letter in _PICTURE:
        return _PICTURE[letter] if picture else {"L": "queries", "J": "keys"}[letter]
    words = _WORDS.get(letter, f"axis {axis}")
    return words.removesuffix("s") if picture and letter in "LSDAF" else words


def _lines(name: str, letters: Sequence[str], counts: Counts, trace: Any) -> Iterator[str]:
    config, inputs = getattr(trace, "config", None), getattr(trace, "inputs", None) or {}
    done: set[str] = set()  # axes that need no line of their own
    if {"L", "J"} <= set(letters):
        past = _past_length(inputs)
        line = say_distances(
            counts.pairs, counts.counted_pairs, past, _max_relative_position(config)
        )
        if line:
            done = {"L", "J"}
            yield f"distances: {line}"
    special = _special_rows(counts, inputs)
    if special:
        done |= {"B", "L", "S"}
        yield f"tokens: {special}"
    for k, letter in enumerate(letters):
        if letter in done:
            continue
        if letter == "A" or (letter == "O" and _of_heads(name)):
            yield from _by_head(counts.differ[k], counts.counted[k], config)
            continue
        note = _pad_note(name, config) if k == 0 else None
        line = say_places(counts.differ[k], counts.counted[k], letter in _FEATURES + "OI", note)
        if line:
            yield f"{_label(letters, k)}: {line}"


def _by_head(differ: np.ndarray, counted: np.ndarray, config: Any) -> Iterator[str]:
    """The features of all heads, side by side: which heads differ, and which features of a head."""
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
    """Which of the indices 0, 1, 2, … of an axis differ, in words; None if (nearly) all or none do.

    Args:
        differ: for each index, whether an entry differs.
        counted: for each index, whether an entry is counted.
        halves: whether even and odd indices and the halves of the axis are patterns to name.
        note: a remark on an index, used if it is the only one.
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
    differ: np.ndarray, counted: np.ndarray, past: int = 0, max_relative_position: int | None = None
) -> str | None:
    """Which distances ``j − i`` differ, in words; None if all do, or if they follow no simple rule.

    Shapes: differ and counted (L, J), booleans; query i is at position ``past + i``, and distances are
    clipped to ``max_relative_position``.
    """
    L, J = differ.shape
    distance = np.arange(J)[None, :] - np.arange(L)[:, None] - past
    if not differ.any() or (differ >= counted).all():
        return None
    for text, pattern in _distance_rules(distance, distance[differ], max_relative_position):
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
    """A note if the difference begins at the end of the table of relative positions."""
    return f" (clipped to {K})" if K and first in (K, K + 1) else ""


def _fits(differ: np.ndarray, pattern: np.ndarray) -> bool:
    """Whether most of the pattern differs, and nothing outside of it."""
    return not (differ & ~pattern).any() and differ.sum() >= _MOST_OF_PATTERN * pattern.sum() > 0


def _ranges(numbers: list[int]) -> list[str]:
    """``[0, 3, 4, 5]`` as ``["0", "3–5"]``."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return [str(r[0]) if len(r) == 1 else f"{r[0]}–{r[-1]}" for r in runs]


def _special_rows(counts: Counts, inputs: Any) -> str | None:
    """Words, if the tokens that differ are exactly the hidden ones or those of the second sentence."""
    if counts.rows is None:
        return None
    for argument, value, text in (
        ("attention_mask", 0, "only those that the attention mask hides"),
        ("token_type_ids", 1, "only those of the second sentence"),
    ):
        array = inputs.get(argument)
        if array is None or np.asarray(array).shape != counts.rows.shape:
            continue
        pattern = np.asarray(array) == value
        if not pattern.all() and _fits(counts.rows, pattern):
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


def _max_relative_position(config: Any) -> int | None:
    return getattr(config, "max_relative_position", None)
