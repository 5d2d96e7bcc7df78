"""Every activation against its formula, one number at a time."""

import math

import numpy as np
import pytest

from minizha.backend import to_host
from minizha.ops.activation import ACTIVATIONS, relu, relu_backward, silu
from tests.support.assertions import assert_close

pytestmark = pytest.mark.usefixtures("plain_ops")


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
    assert_close(y, [FORMULAS[name](value) for value in x], 1e-15)


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
    assert_close(y, [-1, -1, 1, 1] if name == "tanh" else [0, 0, 300, 1e4], 1e-30)
    assert_close(slope, [0, 0, 0, 0] if name == "tanh" else [0, 0, 1, 1], 1e-30)


def test_silu_of_a_very_negative_number_is_0(xp):
    assert to_host(silu(xp.asarray([-1e30]))[0]).tolist() == [0.0]
