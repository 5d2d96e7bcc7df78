"""How precise numbers are, and numbers rounded to a precision."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.crosscheck.comparison.precision import (
    PRECISIONS,
    coarser,
    eps_of,
    is_half,
    precision,
    rounded,
    smallest_of,
    unit_of,
)

FLOATS = ("float16", "float32", "float64")
DIGITS = {"bfloat16": 8, "float16": 11}
"""The bits of a number, with the leading one."""
LOWEST = {"bfloat16": -133, "float16": -24}
"""The exponent of the smallest number above 0."""


def numbers(seed, shape, dtype="float64"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


# --- rounding -------------------------------------------------------------------------------------


def nearest(x, half):
    """The oracle: the multiple of the unit in the last place that is nearest, of two the even one, in
    exact fractions (Python's ``round`` takes the even one)."""
    if x == 0:
        return 0.0
    exponent = np.frexp(x)[1] - DIGITS[half]  # 2**exponent is the unit in the last place
    unit = Fraction(2) ** max(int(exponent), LOWEST[half])
    return float(round(Fraction(float(x)) / unit) * unit)


@pytest.mark.parametrize("half", DIGITS)
@given(x=st.floats(-6e4, 6e4, width=32))
def test_a_half_is_the_nearest_number(half, x):
    found = rounded(np.array([x]), half)
    assert found.dtype == np.float32
    assert found[0] == nearest(x, half)
    assert abs(found[0] - x) <= max(unit_of(half) * abs(x), smallest_of(half))


@pytest.mark.parametrize("half", DIGITS)
@given(bits=st.integers(1, 2**7 - 1), exponent=st.integers(-8, 3), sign=st.sampled_from([-1, 1]))
def test_of_two_nearest_numbers_the_even_one_is_taken(half, bits, exponent, sign):
    """Numbers exactly between two neighbours."""
    middle = sign * (2 * (2 ** (DIGITS[half] - 1) + bits) + 1) * 2.0**exponent
    below, above = middle * (1 - 2.0**-13), middle * (1 + 2.0**-13)
    found = rounded(np.array([below, middle, above]), half)
    assert found[0] != found[2]
    assert found[1] in (found[0], found[2])
    assert found[1] / 2.0 ** (exponent + 2) % 1 == 0  # even


def test_cutting_bits_off_would_be_wrong():
    """Negative control: bfloat16 by dropping the low half of float32."""
    x = np.array([1 + 2.0**-7 - 2.0**-10], np.float32)
    cut = (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    assert cut[0] == 1
    assert rounded(x, "bfloat16")[0] == nearest(x[0], "bfloat16") == 1 + 2.0**-7


@pytest.mark.parametrize("name", PRECISIONS)
def test_what_is_no_number_stays_what_it_is(name):
    low_bits = np.array([0x7F800001, 0x7FFFFFFF], np.uint32).view(np.float32)  # NaN, too
    strange = np.array([np.nan, -np.nan, np.inf, -np.inf, *low_bits.tolist()])
    for dtype in ("float32", "float64"):
        found = rounded(strange.astype(dtype), name)
        assert np.array_equal(found, strange, equal_nan=True)
    assert np.isnan(rounded(low_bits, name)).all()  # signalling ones: no warning, and no number


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (3, 2, 4)])
def test_shapes_and_layouts_are_kept(name, shape):
    x = numbers(1, shape)
    for array in (np.asarray(x), np.asarray(x).T):
        found = rounded(array, name)
        assert found.shape == array.shape
        assert found.dtype == (np.float64 if name == "float64" else np.float32)
        assert np.array_equal(rounded(found, name), found)  # once is enough
    if name == "float64":
        assert np.array_equal(rounded(x, name), x)


def test_too_large_is_infinite():
    assert rounded(np.array([7e4, -7e4]), "float16").tolist() == [np.inf, -np.inf]
    assert np.isfinite(rounded(np.array([7e4]), "bfloat16")).all()
    assert rounded(np.array([1e39, -3.4e38]), "bfloat16").tolist() == [np.inf, -np.inf]


# --- the units ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRECISIONS)
def test_eps_is_the_step_after_one(name):
    eps = eps_of(name)
    assert rounded(np.array([1 + eps]), name)[0] == 1 + eps
    assert rounded(np.array([1 + eps / 2]), name)[0] == 1  # halfway, and 1 is even
    assert unit_of(name) == eps / 2
    assert is_half(name) == (name in DIGITS)


def test_eps_is_numpys():
    assert [np.finfo(d).eps for d in FLOATS] == [eps_of(d) for d in FLOATS]
    assert [np.finfo(d).smallest_normal for d in FLOATS[1:]] == [smallest_of(d) for d in FLOATS[1:]]


def test_precisions_are_in_order():
    assert sorted(PRECISIONS, key=eps_of, reverse=True) == list(PRECISIONS)
    assert coarser("bfloat16", "float16") == coarser("float16", "bfloat16") == "bfloat16"
    assert coarser("float64", "float32") == "float32"


# --- how precise the numbers are ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_widened_numbers_are_known(dtype):
    ours = numbers(0, (40, 30))
    short = rounded(ours, dtype)
    assert precision(ours, short.astype("f8")) == dtype
    assert precision(ours, np.asfortranarray(short.astype("f8"))) == dtype
    assert precision(ours.astype("f4"), short.astype("f4")) == dtype
    # our word vectors come from a float32 checkpoint and hold no more digits
    assert precision(short.astype("f8"), short.astype("f8")) == "float64"
    # the control
    assert precision(ours, ours + 1e-9) == "float64"


def test_round_numbers_say_nothing_of_precision():
    factor = np.array([0.0, 1 / 0.7] * 50)
    assert precision(factor, (factor != 0).astype("f8")) == "float64"
    assert precision(np.array(3.3), np.array(0.5)) == "float64"
    assert precision(numbers(0, 99), np.zeros(99)) == "float64"


def test_precision_is_the_coarser_dtype():
    assert precision(numbers(0, 9), numbers(0, 9, "f4")) == "float32"
    assert precision(numbers(0, 9, "f4"), numbers(0, 9)) == "float32"
    assert precision(numbers(0, 9, "f2"), numbers(0, 9)) == "float16"
    assert precision(np.array(3.3), np.array(float(np.float32(3.3)))) == "float32"


def test_a_number_that_is_none_says_nothing_of_precision():
    ours, theirs = numbers(0, 99), numbers(0, 99)
    ours[3] = theirs[3] = np.nan
    theirs[5] = np.inf
    assert precision(ours, theirs) == "float64"
    assert precision(ours, rounded(theirs, "float16").astype("f8")) == "float16"
