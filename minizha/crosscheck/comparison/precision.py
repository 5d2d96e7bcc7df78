"""How precise the numbers of an array are, and numbers rounded to a precision.

float16 and bfloat16 numbers are held in float32 arrays: NumPy has no bfloat16, and computes slowly in
float16.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

PRECISIONS = ("bfloat16", "float16", "float32", "float64")
"""From the coarsest to the finest."""

_EPS = {"bfloat16": 2.0**-7, "float16": 2.0**-10, "float32": 2.0**-23, "float64": 2.0**-52}
_SMALLEST = {
    "bfloat16": 2.0**-126,
    "float16": 2.0**-24,
    "float32": 2.0**-126,
    "float64": 2.0**-1022,
}
_SAMPLE = 4096
_TOO_FEW = 16  # with fewer numbers than this, half precision is not concluded


def eps_of(precision: str) -> float:
    """The distance from 1 to the next larger number."""
    return _EPS[precision]


def unit_of(precision: str) -> float:
    """The largest relative error of rounding a number to the precision: half of :func:`eps_of`."""
    return _EPS[precision] / 2


def smallest_of(precision: str) -> float:
    """A number so small that smaller ones are no longer rounded to a relative error."""
    return _SMALLEST[precision]


def is_half(precision: str) -> bool:
    """Whether the precision is float16 or bfloat16."""
    return _EPS[precision] > _EPS["float32"]


def rounded(x: np.ndarray, precision: str) -> np.ndarray:
    """Each number rounded to the nearest one of the precision, of two the even one."""
    with np.errstate(over="ignore", invalid="ignore"):  # too large, or a signalling NaN
        array = np.asarray(x, np.float32 if precision == "bfloat16" else precision)
    if precision == "bfloat16":
        bits = np.array(array, order="C", ndmin=1).view(np.uint32)
        even = (bits >> np.uint32(16)) & np.uint32(1)
        bits = (bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)
        single = bits.view(np.float32).reshape(array.shape)
        return np.where(np.isnan(array), np.float32(np.nan), single)  # NaN's bits may carry over
    return array.astype(np.float32) if precision == "float16" else array


def coarser(a: str, b: str) -> str:
    """The coarser of two precisions."""
    return min(a, b, key=PRECISIONS.index)


def precision(ours: np.ndarray, theirs: np.ndarray) -> str:
    """The coarser dtype of both sides, judged by the numbers of theirs.

    Convention: numbers are often widened when they are saved. If all numbers of theirs fit a coarser
    dtype, and not all of ours do, they were computed in the coarser one. (Ours may fit, too: word
    vectors in float64, for example, of a checkpoint in float32.) Zeros, ones and other round numbers
    prove nothing: most numbers of theirs must need more than half of the candidate's digits.
    """
    stored = coarser(ours.dtype.name, theirs.dtype.name)
    o, t = sample(ours, _SAMPLE), sample(theirs, _SAMPLE)
    for candidate in PRECISIONS[: PRECISIONS.index(stored)]:
        if _fits(t, candidate) and not _fits(o, candidate) and not _is_round(t, candidate):
            return candidate
    return stored


def may_be(x: np.ndarray, candidate: str) -> bool:
    """Whether too few numbers to conclude a half precision, a loss for example, may be of it."""
    few = sample(x, _SAMPLE)
    return np.count_nonzero(few) < _TOO_FEW and _fits(few, candidate)


def sample(x: np.ndarray, count: int, dtype: Any = np.float64) -> np.ndarray:
    """Evenly spaced entries in C order: ``count`` to twice as many, or all if there are fewer."""
    return np.asarray(x.flat[:: max(1, x.size // count)], dtype=dtype)


def _is_round(x: np.ndarray, candidate: str) -> bool:
    """Whether most of the numbers need at most half of the candidate's digits, or they are too few."""
    digits = -math.log2(eps_of(candidate)) // 2
    fractions = np.frexp(x[(x != 0) & np.isfinite(x)])[0] * 2.0**digits
    # one float16 number in eight is a bfloat16 number, too
    if fractions.size < (_TOO_FEW if eps_of(candidate) > eps_of("float32") else 1):
        return True
    return bool((fractions % 1 != 0).mean() < 0.5)


def _fits(x: np.ndarray, candidate: str) -> bool:
    """Whether the candidate dtype represents every number exactly."""
    with np.errstate(over="ignore"):
        if candidate != "bfloat16":
            return bool(np.array_equal(x.astype(candidate), x, equal_nan=True))
        single = x.astype(np.float32)
    short = not (single.view(np.uint32) & np.uint32(0xFFFF)).any()
    return short and bool(np.array_equal(single, x, equal_nan=True))
