"""Two arrays that ought to be equal: how far apart they are, and at which entry.

An array is walked through in blocks, so that next to the two nothing of their size is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

BLOCK = 2**16
"""Entries that are looked at together: half a MiB of float64, which a processor's cache can hold."""

_SAMPLE = 4096
_FEW = 16  # numbers, from which half precision is not concluded


class Measured(NamedTuple):
    """What :func:`measure` found.

    ``scale`` is ``max |ours|``, ``max_abs`` is ``max |ours − theirs|``, both over the finite entries
    that are looked at; ``ulp`` the largest distance in units in the last place; ``index``, ``ours``
    and ``theirs`` the worst entry; ``excess`` how far the worst entry is beyond ``atol + rtol·|ours|``
    (NaN where neither was given). ``broken`` says what no number tells.
    """

    scale: float = 0.0
    max_abs: float = 0.0
    ulp: float = 0.0
    index: tuple[int, ...] = ()
    ours: float = math.nan
    theirs: float = math.nan
    excess: float = math.nan
    broken: str = ""


def blocks(shape: tuple[int, ...], size: int = BLOCK) -> Iterator[tuple[slice, ...]]:
    """Slices that cut an array of ``shape`` into parts of at most ``size`` entries, in C order.

    Each keeps all axes, so that ``array[block]`` is a view, whatever the array's strides.
    """
    if math.prod(shape) <= size:
        yield tuple(slice(0, n) for n in shape)
        return
    row = math.prod(shape[1:])
    if row <= size:
        step = size // row
        for start in range(0, shape[0], step):
            stop = min(start + step, shape[0])
            yield (slice(start, stop), *(slice(0, n) for n in shape[1:]))
        return
    for i in range(shape[0]):
        for inner in blocks(shape[1:], size=size):
            yield (slice(i, i + 1), *inner)


def measure(
    ours: np.ndarray,
    theirs: np.ndarray,
    dtype: str,
    visible: np.ndarray | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> Measured:
    """How far ``theirs`` is from ``ours``.

    Shapes: ours and theirs alike, of any shape and float dtype; visible, of booleans, broadcasts to
    it and says which entries count. ``dtype`` is that of the units in the last place.

    Convention: two NaN are equal, and so are two infinities of one sign; where only one side has
    one, that is the worst entry. With rtol or atol (the missing one is 0) the worst entry is the one
    that is farthest beyond ``|ours − theirs| ≤ atol + rtol·|ours|``, else the largest difference.
    """
    entrywise = None if rtol is None and atol is None else (rtol or 0.0, atol or 0.0)
    seen = None if visible is None else np.broadcast_to(visible, ours.shape)
    worst = Measured() if entrywise is None else Measured(excess=-math.inf)
    for block in blocks(ours.shape):
        part = None if seen is None else seen[block]
        found = _measure_block(ours[block], theirs[block], np.dtype(dtype), part, entrywise)
        if found is not None:
            place = tuple(s.start + i for s, i in zip(block, found.index, strict=True))
            worst = _worse(worst, found._replace(index=place))
    return worst


def _worse(a: Measured, b: Measured) -> Measured:
    """The two joined; the worst entry is the first one of the worse."""
    if math.isnan(b.excess):
        new = b.max_abs > a.max_abs or math.isnan(a.ours)
    else:
        new = b.excess > a.excess or math.isnan(a.ours)
    entry = (
        b if bool(b.broken) > bool(a.broken) or (bool(b.broken) == bool(a.broken) and new) else a
    )
    return entry._replace(
        scale=max(a.scale, b.scale), max_abs=max(a.max_abs, b.max_abs), ulp=max(a.ulp, b.ulp)
    )


def _measure_block(
    ours: np.ndarray,
    theirs: np.ndarray,
    dtype: np.dtype,
    visible: np.ndarray | None,
    entrywise: tuple[float, float] | None,
) -> Measured | None:
    """The same of one block; None where nothing in it counts."""
    if ours.size == 0 or (visible is not None and not visible.any()):
        return None
    o, t = _workable(ours), _workable(theirs)
    broken = ""
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(t - o)
    if visible is not None:
        off[~visible] = 0
    if not math.isfinite(off.max()):
        o, t, off, broken = _not_finite(o, t, visible)
    sizes = np.abs(o)
    if visible is not None:
        sizes[~visible] = 0
    excess = math.nan
    worst = off
    if entrywise is not None and not broken:
        rtol, atol = entrywise
        worst = off - (atol + rtol * np.where(np.isfinite(sizes), sizes, 0))
        if visible is not None:
            worst[~visible] = -math.inf
        excess = float(worst.max())
    index = tuple(int(i) for i in np.unravel_index(worst.argmax(), ours.shape))
    finite = off if not broken else np.where(np.isfinite(off), off, 0)
    return Measured(
        _finite_max(sizes), float(finite.max()), _largest_ulp(o, t, off, dtype), index,
        float(ours[index]), float(theirs[index]), excess, broken,
    )  # fmt: skip


def _workable(x: np.ndarray) -> np.ndarray:
    """Half precision overflows where its difference does not."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _finite_max(sizes: np.ndarray) -> float:
    largest = float(sizes.max())
    if math.isfinite(largest):
        return largest
    return float(np.where(np.isfinite(sizes), sizes, 0).max())


def absolute_difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """``|ours − theirs|`` in float64; 0 of two NaN and of two infinities of one sign, infinite where
    one of them alone is no finite number."""
    o, t = (x.astype(np.float64, copy=False) for x in (ours, theirs))
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.where((o == t) | (np.isnan(o) & np.isnan(t)), 0.0, np.abs(t - o))
    return np.where(np.isnan(off), math.inf, off)


def _not_finite(
    ours: np.ndarray, theirs: np.ndarray, visible: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Both in float64, how far they are apart, and the words where one alone is no finite number."""
    o, t = ours.astype(np.float64), theirs.astype(np.float64)
    off = absolute_difference(o, t)
    if visible is not None:
        off[~visible] = 0
    differ = np.isinf(off) & ~(np.isfinite(o) & np.isfinite(t))
    if not differ.any():
        return o, t, off, ""
    first = np.unravel_index(differ.argmax(), differ.shape)
    found, expected = (_called(float(x[first])) for x in (t, o))
    return o, t, off, f"{found} where ours is {expected}"


def _called(x: float) -> str:
    if math.isfinite(x):
        return "finite"
    return "NaN" if math.isnan(x) else "infinity" if x > 0 else "−infinity"


# --- units in the last place --------------------------------------------------------------------


def ulp_distance(a: np.ndarray, b: np.ndarray, dtype: Any) -> np.ndarray:
    """How many steps of ``dtype`` lie between a and b, as unsigned integers.

    ``|rank(a) − rank(b)|`` with the rank of a float among all floats of its dtype: the bits of a
    positive float, read as an integer, are its rank; those of a negative one count downwards.

    Shapes: a and b alike, finite, any float dtype; both are first rounded to ``dtype``.

    Convention: 0 and −0 are one number; the smallest positive and the smallest negative float are
    two steps apart.
    """
    p, q = (_rank(np.asarray(x), np.dtype(dtype)) for x in (a, b))
    return np.maximum(p, q) - np.minimum(p, q)


def _rank(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        x = np.array(x, dtype=dtype, order="C")
    integer = np.dtype(f"int{8 * dtype.itemsize}")
    bits = x.view(integer).astype(np.int64)
    # only where they are negative; elsewhere the difference may wrap around, and is not used
    bits = np.where(bits < 0, np.iinfo(integer).min - bits, bits)
    # as unsigned integers from 2⁶³ on, the distance of any two can be told
    return bits.view(np.uint64) ^ np.uint64(2**63)


def _largest_ulp(o: np.ndarray, t: np.ndarray, off: np.ndarray, dtype: np.dtype) -> float:
    differ = (off != 0) & np.isfinite(off)
    if not differ.any():
        return 0.0
    return float(ulp_distance(o[differ], t[differ], dtype).max())


# --- how precise the numbers are ----------------------------------------------------------------

PRECISIONS = ("bfloat16", "float16", "float32", "float64")
"""From the coarsest on."""

_EPS = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}


def eps_of(precision: str) -> float:
    """The distance of 1 to the next number."""
    return _EPS[precision]


def coarser(a: str, b: str) -> str:
    """The coarser of two precisions."""
    return min(a, b, key=PRECISIONS.index)


def precision(ours: np.ndarray, theirs: np.ndarray) -> str:
    """The coarser dtype of both, by what the numbers of theirs say.

    Convention: numbers are often widened on their way into a file. Where each of theirs is one of a
    coarser dtype, and not each of ours is, they were computed in the coarser one. (Ours too may be
    such numbers: word vectors in float64, say, of a checkpoint in float32.) Zeros, ones and other round
    numbers say nothing: most of theirs have to need more than half of the candidate's digits.
    """
    found = coarser(ours.dtype.name, theirs.dtype.name)
    o, t = sample(ours, _SAMPLE), sample(theirs, _SAMPLE)
    for candidate in PRECISIONS[: PRECISIONS.index(found)]:
        if _holds(t, candidate) and not _holds(o, candidate) and not _is_round(t, candidate):
            return candidate
    return found


def sample(x: np.ndarray, count: int, dtype: Any = np.float64) -> np.ndarray:
    """Every so many-th entry in C order: ``count`` to twice as many, or all if there are fewer."""
    return np.asarray(x.flat[:: max(1, x.size // count)], dtype=dtype)


def _is_round(x: np.ndarray, candidate: str) -> bool:
    """Whether half of the candidate's digits would do for most of the numbers, or they are few."""
    digits = -math.log2(eps_of(candidate)) // 2
    fractions = np.frexp(x[(x != 0) & np.isfinite(x)])[0] * 2.0**digits
    # one number of eight in float16 is one of bfloat16, too
    if fractions.size < (_FEW if eps_of(candidate) > eps_of("float32") else 1):
        return True
    return bool((fractions % 1 != 0).mean() < 0.5)


def _holds(x: np.ndarray, candidate: str) -> bool:
    """Whether each number is one of the candidate dtype."""
    with np.errstate(over="ignore"):
        if candidate != "bfloat16":
            return bool(np.array_equal(x.astype(candidate), x, equal_nan=True))
        single = x.astype(np.float32)
    short = not (single.view(np.uint32) & np.uint32(0xFFFF)).any()
    return short and bool(np.array_equal(single, x, equal_nan=True))
