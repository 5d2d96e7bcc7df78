"""softmax against its formula, and for numbers that overflow in the plain formula."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend, to_host
from minizha.ops.softmax import softmax, softmax_backward
from tests.support.assertions import assert_close
from tests.support.op_cases import draw_case, rows_of, typical_case, upstream

RNG = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("plain_ops")


@settings(max_examples=50)
@given(data=st.data())
def test_softmax(backend, data):
    case = draw_case(data.draw, "softmax")
    scores = case.variables["scores"]
    expected = [[math.exp(s) / sum(map(math.exp, row)) for s in row] for row in rows_of(scores)]
    probs, _ = case.on(get_backend(backend)).run()
    assert_close(probs, np.reshape(expected, scores.shape))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_scores_do_not_overflow(dtype, xp):
    lowest = float(np.finfo(dtype).min)
    scores = [[1e30, 1e30, 0.0], [-1e30, 0.0, -1e30], [lowest, lowest, lowest], [lowest, 3.0, 3.0]]
    probs, cache = softmax(xp.asarray(scores, dtype=dtype))
    third = 1.0 / 3.0
    expected = [[0.5, 0.5, 0], [0, 1, 0], [third, third, third], [0, 0.5, 0.5]]
    assert_close(probs, expected, 1e-7)
    dscores = to_host(softmax_backward(upstream(probs), cache))
    assert np.isfinite(dscores).all()
    assert dscores[3, 0] == 0.0


def test_a_common_shift_changes_nothing_and_has_no_gradient(xp):
    case = typical_case("softmax").on(xp)
    scores = case.variables["scores"]
    assert_close(softmax(scores + 100.0)[0], to_host(softmax(scores)[0]))
    probs, cache = softmax(scores)
    dscores = softmax_backward(upstream(probs), cache)
    assert np.abs(to_host(dscores).sum(axis=-1)).max() <= 1e-15
    # so an upstream gradient of ones would test nothing
    assert np.abs(to_host(softmax_backward(xp.ones_like(probs), cache))).max() <= 1e-15


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_mask_is_added_to_the_scores(dtype, xp):
    scores, mask = (xp.asarray(RNG.standard_normal(s), dtype=dtype) for s in ((2, 3, 4), (2, 1, 4)))
    probs, cache = softmax(scores, mask)
    assert_close(probs, to_host(softmax(scores + mask)[0]), 0.0)
    assert cache.probs is probs
    assert np.abs(to_host(probs) - to_host(softmax(scores)[0])).max() > 0.01, "the control"
