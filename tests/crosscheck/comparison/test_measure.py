"""Two arrays compared: errors, units in the last place, blocks, NaN and infinity."""

import math
import tracemalloc
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.crosscheck.comparison import measure as module
from minizha.crosscheck.comparison.measure import blocks, measure, ulp_distance

FLOATS = ("float16", "float32", "float64")
SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)


def numbers(seed, shape, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def in_small_blocks(monkeypatch, size=5):
    monkeypatch.setattr(module, "blocks", partial(blocks, size=size))


# --- blocks ---------------------------------------------------------------------------------------


@given(shape=SHAPES, size=st.integers(1, 30))
def test_blocks_cover_an_array_once_and_in_order(shape, size):
    array = np.arange(math.prod(shape)).reshape(shape)
    parts = [array[block] for block in blocks(shape, size)]
    assert np.array_equal(np.concatenate([p.reshape(-1) for p in parts]), array.reshape(-1))
    assert all(part.size <= size or part.size == 1 for part in parts)
    assert all(part.ndim == array.ndim for part in parts)


# --- units in the last place ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@given(x=st.floats(-1e4, 1e4), steps=st.integers(-40, 40))
def test_ulp_counts_the_floats_between(dtype, x, steps):
    """The oracle steps through the floats one by one."""
    x = there = np.dtype(dtype).type(x)
    for _ in range(abs(steps)):
        there = np.nextafter(there, np.dtype(dtype).type(math.copysign(math.inf, steps)))
    assert ulp_distance(x, there, dtype) == ulp_distance(there, x, dtype) == abs(steps)


@pytest.mark.parametrize("dtype", FLOATS)
def test_ulp_across_zero(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    assert ulp_distance(-tiny, tiny, dtype) == 2
    assert ulp_distance(np.array(-0.0), np.array(0.0), dtype) == 0
    largest = np.finfo(dtype).max
    bits = 8 * np.dtype(dtype).itemsize
    exponent = {"float16": 5, "float32": 8, "float64": 11}[dtype]
    finite = ((1 << exponent) - 1) << (bits - 1 - exponent)  # the rank of infinity
    assert int(ulp_distance(-largest, largest, dtype)) == 2 * (finite - 1)


def test_ulp_is_of_the_coarser_dtype():
    a, b = np.float64(1.0), np.float64(1.0) + 2.0**-23
    assert ulp_distance(a, b, "float32") == 1
    assert ulp_distance(a, b, "float64") == 2**29
    found = measure(np.array([a]), np.array([b]).astype("float32"), "float32")
    assert found.ulp == 1


def test_subtracting_the_bits_alone_would_be_wrong_across_zero():
    """Negative control: a formula that is right only if both numbers have the same sign."""
    a, b = np.array([-1e-45], "f4"), np.array([1e-45], "f4")
    shortcut = abs(int(a.view("i4")[0]) - int(b.view("i4")[0]))
    assert shortcut != int(ulp_distance(a, b, "float32")[0]) == 2


# --- measure --------------------------------------------------------------------------------------


@given(shape=SHAPES, seed=st.integers(0, 2**32 - 1), swapped=st.booleans())
def test_measure_is_what_whole_arrays_say(shape, seed, swapped):
    ours, theirs = numbers(seed, shape), numbers(seed + 1, shape)
    if swapped:  # not C-contiguous
        ours, theirs = ours.T, theirs.T
    off = np.abs(ours - theirs)
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_small_blocks(monkeypatch)
        found = measure(ours, theirs, "float64")
    if ours.size == 0:
        assert found.max_abs == found.scale == found.ulp == 0
        return
    assert found.max_abs == off.max()
    assert found.scale == np.abs(ours).max()
    assert found.index == tuple(int(i) for i in np.unravel_index(off.argmax(), off.shape))
    assert (found.ours, found.theirs) == (ours[found.index], theirs[found.index])
    assert found.ulp == float(ulp_distance(ours, theirs, "float64").max())
    assert not found.broken


@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0, 1))
def test_only_visible_entries_count(seed, share):
    shape = (2, 3, 4, 5)
    visible = np.random.default_rng(seed).random((2, 1, 4, 5)) < share
    ours, theirs = numbers(seed, shape), numbers(seed + 1, shape)
    everywhere = np.broadcast_to(visible, shape)
    theirs[~everywhere] = np.nan
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_small_blocks(monkeypatch, 7)
        found = measure(ours, theirs, "float64", visible)
        with_tolerances = measure(ours, theirs, "float64", visible, rtol=0.0, atol=0.0)
    off = np.abs(ours - theirs)[everywhere]
    assert found.max_abs == (off.max() if off.size else 0)
    assert found.scale == (np.abs(ours[everywhere]).max() if off.size else 0)
    assert not found.broken
    assert with_tolerances.excess == (off.max() if off.size else -math.inf)
    if not visible.all():
        # the control: without ``visible`` all entries count
        assert measure(ours, theirs, "float64").broken


@given(seed=st.integers(0, 2**32 - 1), rtol=st.floats(0, 2), atol=st.floats(0, 2))
def test_excess_is_entry_by_entry(seed, rtol, atol):
    ours, theirs = numbers(seed, (4, 5)), numbers(seed + 1, (4, 5))
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_small_blocks(monkeypatch)
        found = measure(ours, theirs, "float64", rtol=rtol, atol=atol)
    excess = np.abs(ours - theirs) - (atol + rtol * np.abs(ours))
    assert found.excess == excess.max()
    assert found.index == tuple(int(i) for i in np.unravel_index(excess.argmax(), excess.shape))


def test_the_scale_hides_what_entrywise_shows():
    ours = np.array([1e-6, 1.0])
    theirs = ours + np.array([1e-6, 0.0])
    assert measure(ours, theirs, "float64").max_abs == pytest.approx(1e-6)
    assert measure(ours, theirs, "float64", rtol=1e-3).excess > 0
    assert measure(ours, theirs, "float64", rtol=1e-3, atol=1e-6).excess <= 0


@pytest.mark.parametrize(
    ("ours", "theirs", "broken"),
    [
        (1.0, np.nan, "NaN where ours is finite"),
        (np.nan, 1.0, "finite where ours is NaN"),
        (1.0, np.inf, "infinity where ours is finite"),
        (np.inf, -np.inf, "−infinity where ours is infinity"),
        (-np.inf, np.nan, "NaN where ours is −infinity"),
        (np.nan, np.nan, ""),
        (np.inf, np.inf, ""),
    ],
)
@pytest.mark.parametrize("size", [1, 12])
def test_numbers_that_are_none(ours, theirs, broken, size, monkeypatch):
    in_small_blocks(monkeypatch)
    a, b = np.zeros(size), np.zeros(size)
    b[0] += 0.5 * (size > 1)
    a[-1], b[-1] = ours, theirs
    found = measure(a, b, "float64")
    assert found.broken == broken
    assert found.max_abs == 0.5 * (size > 1)
    if broken:
        assert found.index == (size - 1,)


def test_differences_that_overflow_are_differences():
    half = measure(np.array([6e4], "f2"), np.array([-6e4], "f2"), "float16")
    assert half.max_abs == pytest.approx(1.2e5, rel=1e-3)
    single = measure(np.array([3e38], "f4"), np.array([-3e38], "f4"), "float32")
    assert not half.broken
    assert not single.broken
    assert single.max_abs == pytest.approx(6e38)


def test_a_large_array_takes_little_more_memory():
    ours = np.zeros((4, 2**19))
    theirs = ours + 1e-9
    visible = np.ones((4, 2**19), bool)
    tracemalloc.start()
    try:
        measure(ours, theirs, "float64")
        measure(ours.T, theirs.T, "float64", visible.T)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        np.abs(ours - theirs)  # the control: the direct formula makes an array
        plain = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < ours.nbytes
    assert plain >= ours.nbytes
