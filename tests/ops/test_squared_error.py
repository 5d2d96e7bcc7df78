"""squared_error against its formula, and for large differences."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend, to_host
from minizha.ops.squared_error import squared_error, squared_error_backward
from tests.support.assertions import assert_close
from tests.support.op_cases import draw_case


@settings(max_examples=50)
@given(data=st.data())
def test_squared_error(backend, data):
    case = draw_case(data.draw, "squared_error")
    y, targets = case.variables["y"], case.constants["targets"]
    squares = [(a - b) ** 2 for a, b in zip(y.flat, targets.flat, strict=True)]
    loss, cache = case.on(get_backend(backend)).run()
    count = case.constants["count"] or max(1, len(squares))
    assert_close(loss, sum(squares) / count)
    dy = 2.0 * (y - targets) / count
    assert_close(squared_error_backward(1.0, cache), dy)
    assert_close(squared_error_backward(-2.5, cache), -2.5 * dy)


def test_one_number_is_its_square(xp):
    loss, cache = squared_error(xp.asarray([[5.0]]), xp.asarray([[2.0]]))
    assert float(loss) == 9.0
    assert to_host(squared_error_backward(1.0, cache)).tolist() == [[6.0]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_differences_are_squared_without_overflow(dtype, xp):
    large = 0.9 * math.sqrt(float(np.finfo(dtype).max))
    loss, cache = squared_error(xp.asarray([[large]], dtype=dtype), xp.zeros((1, 1), dtype=dtype))
    assert_close(float(loss) / large / large, 1.0, 1e-6)
    assert np.isfinite(to_host(squared_error_backward(1.0, cache))).all()


def test_what_is_asked_for_has_loss_0_and_no_gradient(xp):
    x = xp.asarray([[1.5, -2.0]])
    loss, cache = squared_error(x, x)
    assert float(loss) == 0.0
    assert (to_host(squared_error_backward(1.0, cache)) == 0).all()
