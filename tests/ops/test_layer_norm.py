"""layer_norm against its formula, one row at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend, to_host
from minizha.ops.layer_norm import layer_norm
from tests.support.assertions import assert_close
from tests.support.op_cases import draw_case, rows_of

pytestmark = pytest.mark.usefixtures("plain_ops")


@settings(max_examples=50)
@given(data=st.data())
def test_layer_norm(backend, data):
    case = draw_case(data.draw, "layer_norm")
    x, weight, bias = case.values
    D, expected = x.shape[-1], []
    for row in rows_of(x):
        mean = sum(row) / D
        variance = sum((value - mean) ** 2 for value in row) / D
        root = math.sqrt(variance + case.constants["eps"])
        expected.append([w * (v - mean) / root + b for v, w, b in zip(row, weight, bias)])  # noqa: B905
    y, _ = case.on(get_backend(backend)).run()
    assert_close(y, np.reshape(expected, x.shape))


def test_eps_is_inside_the_root_and_the_variance_biased(xp):
    x, one, zero = xp.asarray([[-1.0, 1.0]]), xp.ones(2), xp.zeros(2)
    assert_close(layer_norm(x, one, zero, eps=3.0)[0], [[-0.5, 0.5]])
    constant, _ = layer_norm(xp.ones((1, 2)), one, zero, eps=1e-12)
    assert to_host(constant).tolist() == [[0.0, 0.0]]
