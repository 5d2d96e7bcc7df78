"""Φ and φ against math.erfc and math.exp, one number at a time; the two forms of GELU."""

import math

import numpy as np
import pytest

from minizha.backend import to_host
from minizha.ops.gelu import gelu, gelu_new, normal_cdf, normal_pdf
from tests.support.assertions import assert_close

pytestmark = pytest.mark.usefixtures("plain_ops")

GRID = np.arange(-40.0, 40.0, 0.001)


def test_normal_cdf_is_right_to_3e_16(xp):
    expected = np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in GRID])
    found = to_host(normal_cdf(xp.asarray(GRID)))
    assert np.abs(found - expected).max() <= 3e-16
    small = to_host(normal_cdf(xp.asarray(GRID.astype("float32"))))
    assert np.abs(small - expected).max() <= 3e-7


def test_normal_cdf_far_out(xp):
    x = xp.asarray([-np.inf, -1e300, -41.0, 0.0, 41.0, 1e300, np.inf])
    assert to_host(normal_cdf(x)).tolist() == [0, 0, 0, 0.5, 1, 1, 1]
    assert np.isnan(to_host(normal_cdf(xp.asarray([np.nan])))[0])


def test_normal_cdf_keeps_its_leading_digits_in_the_lower_tail(xp):
    """Not 1 − Φ(−x), which rounds to 0 below −8.3."""
    x = np.arange(-37.0, -1.0, 0.25)
    expected = np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in x])
    found = to_host(normal_cdf(xp.asarray(x)))
    assert np.abs(found / expected - 1.0).max() <= 1e-5


def test_normal_cdf_of_a_complex_number_is_its_value_and_slope(xp):
    x = np.linspace(-5.0, 5.0, 101)
    found = to_host(normal_cdf(xp.asarray(x + 1e-30j)))
    assert (found.real == to_host(normal_cdf(xp.asarray(x)))).all()
    slope = [math.exp(-value * value / 2.0) / math.sqrt(2.0 * math.pi) for value in x]
    assert_close(found.imag / 1e-30, slope, 1e-15)
    assert_close(normal_pdf(xp.asarray(x)), slope, 1e-15)


def test_the_two_gelus_differ_by_5e_4_and_no_more(xp):
    x = xp.asarray(np.linspace(-6.0, 6.0, 2401))
    difference = np.abs(to_host(gelu(x)[0]) - to_host(gelu_new(x)[0])).max()
    assert 4.6e-4 < difference < 4.8e-4
