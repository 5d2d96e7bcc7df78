"""AdamW's update in blocks: the bits of the plain update, and sums of squares, for arrays of any size."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.kernels import adamw
from minizha.kernels.adamw import Rates, sums_of_squares, update_parameters
from minizha.training.optimizer import _updated

SHAPES = st.lists(
    st.sampled_from([(), (0,), (1,), (7,), (3, 5), (8, 8), (33,)]), min_size=1, max_size=5
)
DTYPES = st.sampled_from(["float32", "float64"])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(adamw, "BLOCK", 8)


def draw(shapes, dtype, seed):
    rng = np.random.default_rng(seed)
    new = lambda: [np.array(rng.standard_normal(shape), dtype) for shape in shapes]  # noqa: E731
    return new(), new(), new(), [np.array(a * a) for a in new()]


def bits(arrays):
    return [a.tobytes() for a in arrays]


@given(SHAPES, DTYPES, st.integers(0, 99), st.sampled_from([1.0, 0.3]), st.integers(1, 9))
def test_the_bits_of_the_plain_update(shapes, dtype, seed, scale, step):
    p, g, m, v = draw(shapes, dtype, seed)
    decays = [0.01 * (i % 2) for i in range(len(p))]
    rates = Rates(step, 1e-2, scale, (0.9, 0.99), 1e-8)
    rows = zip(p, g, m, v, decays, strict=True)
    expected = [
        bits(column) for column in zip(*(_updated(*row, rates) for row in rows), strict=True)
    ]
    before = bits(p), bits(g)
    new, new_m, new_v = update_parameters(p, g, m, v, decays, rates)
    assert [bits(new), bits(new_m), bits(new_v)] == expected
    assert (bits(p), bits(g)) == before
    assert all(a is b for a, b in zip((*new_m, *new_v), (*m, *v), strict=True))  # in place


def test_another_rate_has_other_bits():
    p, g, m, v = draw([(33,)], "float32", 0)
    one, two = (Rates(1, rate, 1.0, (0.9, 0.99), 1e-8) for rate in (0.01, 0.02))
    (expected, _, _) = _updated(p[0], g[0], m[0], v[0], 0.0, one)
    assert bits(update_parameters(p, g, m, v, [0.0], two)[0]) != bits([expected])


def test_moments_in_other_layouts_are_copied():
    p, g, m, v = draw([(3, 5)], "float64", 0)
    rates = Rates(1, 0.1, 1.0, (0.9, 0.99), 1e-8)
    expected = _updated(p[0], g[0], m[0], v[0], 0.0, rates)
    v[0].flags.writeable = False
    found = update_parameters(
        [np.asfortranarray(p[0])], g, [np.asfortranarray(m[0])], v, [0.0], rates
    )
    for (array,), right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(array, right)


@given(SHAPES, DTYPES, st.integers(0, 99))
def test_sums_of_squares(shapes, dtype, seed):
    arrays = draw(shapes, dtype, seed)[0]
    expected = [math.fsum(float(x * x) for x in a.flat) for a in arrays]
    np.testing.assert_allclose(sums_of_squares(arrays), expected, rtol=1e-14)
    assert sums_of_squares(arrays) == sums_of_squares(arrays)


@pytest.mark.parametrize(
    ("bad", "total"), [(1e30, math.inf), (math.inf, math.inf), (math.nan, math.nan)]
)
def test_a_square_out_of_range_shows_in_its_sum_only(bad, total):
    arrays = [np.ones(20, np.float32) for _ in range(2)]
    arrays[0][17] = bad
    np.testing.assert_array_equal(sums_of_squares(arrays), [total, 20.0])
