"""The largest difference of two arrays that should be equal, and the entry where it is.

Arrays are processed in blocks, so that no temporary array of their size is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

BLOCK = 2**16
"""Entries in a block: half a MiB of float64, which fits into a processor's cache."""


class Measured(NamedTuple):
    """The result of :func:`measure`.

    ``scale`` is ``max |ours|`` and ``max_abs`` is ``max |ours − theirs|``, both over the finite entries
    that count. ``ulp`` is the largest difference in units in the last place. ``index``, ``ours`` and
    ``theirs`` describe the worst entry, and ``excess`` is how far it is beyond ``atol + rtol·|ours|``
    (NaN without rtol and atol). ``broken`` says in words what is wrong with entries that are not finite.
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
    """Slices that cut an array of ``shape`` into blocks of at most ``size`` entries, in C order.

    A block has all axes, so ``array[block]`` is a view, whatever the array's strides.
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

    Shapes: ours and theirs of one shape and any float dtype; visible, booleans that broadcast to it,
    says which entries count. ``dtype`` is that of the units in the last place.

    Convention: two NaN are equal, and so are two infinities of one sign; an entry that is NaN or
    infinite on one side alone is the worst. Otherwise the worst entry is the one with the largest
    difference, or with rtol or atol (the other one is 0 by default) the one that is farthest beyond
    ``|ours − theirs| ≤ atol + rtol·|ours|``.
    """
    entrywise = None if rtol is None and atol is None else (rtol or 0.0, atol or 0.0)
    every_visible = None if visible is None else np.broadcast_to(visible, ours.shape)
    worst = Measured() if entrywise is None else Measured(excess=-math.inf)
    for block in blocks(ours.shape):
        shown = None if every_visible is None else every_visible[block]
        measured = _measure_block(ours[block], theirs[block], np.dtype(dtype), shown, entrywise)
        if measured is not None:
            index = tuple(s.start + i for s, i in zip(block, measured.index, strict=True))
            worst = _joined(worst, measured._replace(index=index))
    return worst


def _joined(a: Measured, b: Measured) -> Measured:
    """The result for two blocks; of equally bad entries, that of ``a`` is the worst."""
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
    """:func:`measure` for one block; None if none of its entries counts."""
    if ours.size == 0 or (visible is not None and not visible.any()):
        return None
    o, t = _without_overflow(ours), _without_overflow(theirs)
    broken = ""
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.abs(t - o)
    if visible is not None:
        difference[~visible] = 0
    if not math.isfinite(difference.max()):
        o, t, difference, broken = _not_finite(o, t, visible)
    sizes = np.abs(o)
    if visible is not None:
        sizes[~visible] = 0
    excess = math.nan
    worst = difference
    if entrywise is not None and not broken:
        rtol, atol = entrywise
        worst = difference - (atol + rtol * np.where(np.isfinite(sizes), sizes, 0))
        if visible is not None:
            worst[~visible] = -math.inf
        excess = float(worst.max())
    index = tuple(int(i) for i in np.unravel_index(worst.argmax(), ours.shape))
    finite = difference if not broken else np.where(np.isfinite(difference), difference, 0)
    return Measured(
        scale=_finite_max(sizes),
        max_abs=float(finite.max()),
        ulp=_largest_ulp(o, t, difference, dtype),
        index=index,
        ours=float(ours[index]),
        theirs=float(theirs[index]),
        excess=excess,
        broken=broken,
    )


def _without_overflow(x: np.ndarray) -> np.ndarray:
    """float16 as float32: the difference of two float16 numbers may overflow float16."""
    return x.astype(np.float32) if x.dtype == np.float16 else x


def _finite_max(sizes: np.ndarray) -> float:
    largest = float(sizes.max())
    if math.isfinite(largest):
        return largest
    return float(np.where(np.isfinite(sizes), sizes, 0).max())


def absolute_difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """``|ours − theirs|`` in float64; 0 for two NaN and for two infinities of one sign, infinite for
    any other pair that is not finite."""
    o, t = (x.astype(np.float64, copy=False) for x in (ours, theirs))
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.where((o == t) | (np.isnan(o) & np.isnan(t)), 0.0, np.abs(t - o))
    return np.where(np.isnan(difference), math.inf, difference)


def _not_finite(
    ours: np.ndarray, theirs: np.ndarray, visible: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Both in float64, their difference, and what is wrong in words ("" if only finite ones differ)."""
    o, t = ours.astype(np.float64), theirs.astype(np.float64)
    difference = absolute_difference(o, t)
    if visible is not None:
        difference[~visible] = 0
    differ = np.isinf(difference) & ~(np.isfinite(o) & np.isfinite(t))
    if not differ.any():
        return o, t, difference, ""
    first = np.unravel_index(differ.argmax(), differ.shape)
    found, expected = (_in_words(float(x[first])) for x in (t, o))
    return o, t, difference, f"{found} where ours is {expected}"


def _in_words(x: float) -> str:
    if math.isfinite(x):
        return "finite"
    return "NaN" if math.isnan(x) else "infinity" if x > 0 else "−infinity"


# --- units in the last place --------------------------------------------------------------------


def ulp_distance(a: np.ndarray, b: np.ndarray, dtype: Any) -> np.ndarray:
    """The number of steps of ``dtype`` between a and b, as unsigned integers.

    It is ``|rank(a) − rank(b)|``, where rank is the position of a float among all floats of its dtype.
    The bits of a positive float, read as an integer, are its rank; those of a negative one count
    downwards.

    Shapes: a and b of one shape, finite, of any float dtype; both are first rounded to ``dtype``.

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
    # the difference is used only for negative bits; for others it may wrap around
    bits = np.where(bits < 0, np.iinfo(integer).min - bits, bits)
    # shifted by 2⁶³ to unsigned integers, so that no difference of two ranks overflows
    return bits.view(np.uint64) ^ np.uint64(2**63)


def _largest_ulp(o: np.ndarray, t: np.ndarray, difference: np.ndarray, dtype: np.dtype) -> float:
    differ = (difference != 0) & np.isfinite(difference)
    if not differ.any():
        return 0.0
    return float(ulp_distance(o[differ], t[differ], dtype).max())
