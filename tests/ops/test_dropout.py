"""dropout: factors of 0 or 1 / (1 − rate), drawn from the generator that is passed in."""

import math

import numpy as np
import pytest

from minizha.backend import to_host
from minizha.ops.dropout import dropout, dropout_backward
from tests.support.op_cases import upstream

pytestmark = pytest.mark.usefixtures("plain_ops")


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_by_scaling(rate, xp):
    n = 100_000
    y, cache = dropout(xp.ones(n), rate, np.random.default_rng(0))
    found = to_host(y)
    assert set(np.unique(found)) == {0.0, 1.0 / (1.0 - rate)}
    # five standard deviations of a mean of n
    assert abs(found.mean() - 1.0) <= 5.0 * math.sqrt(rate / (1.0 - rate) / n)
    assert (to_host(dropout_backward(xp.ones(n), cache)) == found).all()


def test_every_dtype_and_library_draws_the_same_factors(xp):
    shape = (40, 50)
    masks = [
        to_host(dropout(library.ones(shape, dtype=dtype), 0.3, np.random.default_rng(5))[0]) != 0
        for library in (np, xp)
        for dtype in ("float32", "float64", "complex128")
    ]
    assert all((mask == masks[0]).all() for mask in masks)
    assert 0.6 < masks[0].mean() < 0.8


def test_successive_calls_drop_differently(xp):
    rng, x = np.random.default_rng(0), xp.ones((9, 9))
    assert (to_host(dropout(x, 0.5, rng)[0]) != to_host(dropout(x, 0.5, rng)[0])).any()


@pytest.mark.parametrize(("rate", "drawing"), [(0.0, True), (0.5, False), (0.0, False)])
def test_dropout_is_the_identity_without_rate_or_generator(rate, drawing, xp):
    rng, x = np.random.default_rng(0) if drawing else None, xp.ones((3, 5))
    y, cache = dropout(x, rate, rng)
    assert y is x
    dy = upstream(y)
    assert (to_host(dropout_backward(dy, cache)) == to_host(dy)).all()
    if drawing:  # and a rate of 0 draws nothing
        assert rng.random() == np.random.default_rng(0).random()
