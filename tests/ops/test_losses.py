"""What squared_error and binary_cross_entropy share: dtypes, the sum in float64, no rows."""

import numpy as np
import pytest

from minizha.ops.binary_cross_entropy import binary_cross_entropy, binary_cross_entropy_backward
from minizha.ops.squared_error import squared_error, squared_error_backward

LOSSES = {
    "squared_error": (squared_error, squared_error_backward),
    "binary_cross_entropy": (binary_cross_entropy, binary_cross_entropy_backward),
}


@pytest.fixture(params=LOSSES)
def pair(request):
    return LOSSES[request.param]


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128"])
def test_dtype_in_is_dtype_out(dtype, pair, xp):
    forward, backward = pair
    loss, cache = forward(xp.ones((3, 2), dtype=dtype), xp.zeros((3, 2), dtype="float32"))
    assert loss.shape == ()
    assert isinstance(loss, xp.ndarray)
    assert loss.dtype == dtype
    for dloss in (1.0, loss):
        d = backward(dloss, cache)
        assert isinstance(d, xp.ndarray)
        assert d.dtype == dtype


@pytest.mark.parametrize("value", [3.0, -3.0])
def test_many_float32_terms_are_summed_in_float64(value, pair, xp):
    """A float32 sum of 2^18 equal terms is not their number times one of them."""
    forward, _ = pair
    rows = 1 << 18
    one = [xp.full((1, 1), value, dtype="float32"), xp.full((1, 1), 0.9, dtype="float32")]
    many = [xp.repeat(array, rows, axis=0) for array in one]
    assert float(forward(*many)[0]) == float(forward(*one)[0])


def test_a_sum_in_float32_is_not_exact():
    """Negative control: 0.1 is rounded, and in a long sum the rounding errors add up."""
    terms = np.full(1 << 18, 0.1, dtype="float32")
    total = np.float32(0.0)
    for part in terms.reshape(-1, 64):
        total += part.sum(dtype="float32")
    assert abs(float(total) / terms.size - float(terms[0])) > 1e-6


@pytest.mark.parametrize("shape", [(0, 3), (0, 1)])
def test_no_rows_are_loss_0_and_no_gradient(shape, pair, xp):
    forward, backward = pair
    nothing = xp.zeros(shape, dtype="float32")
    loss, cache = forward(nothing, nothing)
    assert loss.shape == ()
    assert loss.dtype == "float32"
    assert float(loss) == 0.0
    assert backward(1.0, cache).shape == shape
