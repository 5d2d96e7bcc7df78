"""The kernel of layer_norm on NumPy: rows that are one, constant, or moved."""

import numpy as np
import pytest

from minizha.kernels.layer_norm import layer_norm, layer_norm_backward
from minizha.ops.layer_norm import layer_norm as marked
from tests.support.kernel_cases import shared


def test_one_vector():
    x, weight, bias = np.random.default_rng(0).standard_normal((3, 8))
    y, cache = layer_norm(x, weight, bias, 1e-12)
    assert cache.inverse_std.shape == (1,)
    np.testing.assert_allclose(y, marked.plain(x, weight, bias, 1e-12)[0], rtol=1e-13)


def test_constant_rows_have_no_direction():
    """A mean that is wrong in the last bit would be divided by √eps."""
    ones = np.ones(96, np.float32)
    y, _ = layer_norm(np.full((2, 5, 96), np.float32(1.1)), ones, 0 * ones, 1e-5)
    assert np.abs(y).max() < 1e-4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [8, 12, 768])
def test_a_row_is_the_same_wherever_it_stands(dtype, width):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 23, width)).astype(dtype)
    weight, bias = rng.standard_normal((2, width)).astype(dtype)
    moved = rng.permutation(23)
    with shared(2, block=3 * width):
        y, cache = layer_norm(x, weight, bias, 1e-12)
        dx, *_ = layer_norm_backward(dy, cache)
    other_y, cache = layer_norm(x[moved], weight, bias, 1e-12)
    other_dx, *_ = layer_norm_backward(dy[moved], cache)
    assert (other_y == y[moved]).all()
    assert (other_dx == dx[moved]).all()
