"""Φ and the activations against math.erfc, math.erf and math.tanh, one number at a time."""

import math

import numpy as np
import pytest

from minizha.backend import get_backend, to_host
from minizha.ops.activation import ACTIVATIONS, relu, relu_backward, silu
from minizha.ops.gelu import gelu, gelu_new, normal_cdf, normal_pdf

pytestmark = pytest.mark.usefixtures("plain_ops")

GRID = np.arange(-40.0, 40.0, 0.001)


@pytest.fixture
def xp(backend):
    return get_backend(backend)


def agree(found, expected, tolerance=1e-13):
    np.testing.assert_allclose(to_host(found), expected, rtol=tolerance, atol=tolerance)


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
    """Not 1 − Φ(−x), which would be 0 from −8.3 on."""
    x = np.arange(-37.0, -1.0, 0.25)
    expected = np.array([0.5 * math.erfc(-value / math.sqrt(2.0)) for value in x])
    found = to_host(normal_cdf(xp.asarray(x)))
    assert np.abs(found / expected - 1.0).max() <= 1e-5


def test_normal_cdf_of_a_complex_number_is_its_value_and_slope(xp):
    x = np.linspace(-5.0, 5.0, 101)
    found = to_host(normal_cdf(xp.asarray(x + 1e-30j)))
    assert (found.real == to_host(normal_cdf(xp.asarray(x)))).all()
    slope = [math.exp(-value * value / 2.0) / math.sqrt(2.0 * math.pi) for value in x]
    agree(found.imag / 1e-30, slope, 1e-15)
    agree(normal_pdf(xp.asarray(x)), slope, 1e-15)


FORMULAS = {
    "gelu": lambda x: 0.5 * x * (1.0 + math.erf(x / math.sqrt(2.0))),
    "gelu_new": lambda x: (
        0.5 * x * (1.0 + math.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1.0 + math.exp(-x)),
    "swish": lambda x: x / (1.0 + math.exp(-x)),
    "tanh": math.tanh,
}


def test_there_is_a_formula_for_every_activation():
    assert FORMULAS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", FORMULAS)
def test_activation(name, xp):
    x = np.linspace(-9.0, 9.0, 361)
    y, _ = ACTIVATIONS[name].forward(xp.asarray(x))
    agree(y, [FORMULAS[name](value) for value in x], 1e-15)


def test_the_two_gelus_differ_by_5e_4_and_no_more(xp):
    x = xp.asarray(np.linspace(-6.0, 6.0, 2401))
    difference = np.abs(to_host(gelu(x)[0]) - to_host(gelu_new(x)[0])).max()
    assert 4.6e-4 < difference < 4.8e-4


def test_relu_has_slope_0_at_0(xp):
    y, cache = relu(xp.asarray([-2.0, 0.0, 3.0]))
    assert to_host(y).tolist() == [0, 0, 3]
    assert to_host(relu_backward(xp.ones(3), cache)).tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_numbers_overflow_in_no_activation(name, dtype, xp):
    x = xp.asarray([-1e4, -300.0, 300.0, 1e4], dtype=dtype)
    forward, backward = ACTIVATIONS[name]
    y, cache = forward(x)
    slope = backward(xp.ones(4, dtype=dtype), cache)
    agree(y, [-1, -1, 1, 1] if name == "tanh" else [0, 0, 300, 1e4], 1e-30)
    agree(slope, [0, 0, 0, 0] if name == "tanh" else [0, 0, 1, 1], 1e-30)


def test_silu_of_a_very_negative_number_is_0(xp):
    assert to_host(silu(xp.asarray([-1e30]))[0]).tolist() == [0.0]
