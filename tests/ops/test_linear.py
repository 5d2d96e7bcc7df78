"""linear against its formula, one row and one output at a time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend, to_host
from minizha.ops.linear import linear
from tests.support.assertions import assert_close
from tests.support.op_cases import draw_case, rows_of

pytestmark = pytest.mark.usefixtures("plain_ops")


@settings(max_examples=50)
@given(data=st.data())
def test_linear(backend, data):
    case = draw_case(data.draw, "linear")
    x, weight, bias = case.values
    expected = [
        [bias[o] + sum(row[i] * weight[o, i] for i in range(len(row))) for o in range(len(bias))]
        for row in rows_of(x)
    ]
    y, _ = case.on(get_backend(backend)).run()
    assert_close(y, np.reshape(expected, (*x.shape[:-1], len(bias))))


def test_linear_takes_a_single_vector(xp):
    y, _ = linear(xp.ones(3), xp.ones((2, 3)), xp.zeros(2))
    assert to_host(y).tolist() == [3.0, 3.0]
