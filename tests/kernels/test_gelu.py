"""The kernel of gelu on NumPy: sizes around its block, and the ends of the number range."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.kernels.gelu import BLOCK
from minizha.ops.replaceable import KERNELS, Needed, caches_needed_for
from tests.support.kernel_cases import BOUND, difference
from tests.support.op_cases import Case


def gelu_case(x):
    return Case("gelu", {"x": x}, {})


@given(
    shape=st.sampled_from([(), (0,), (1,), (7,), (3, 5), (BLOCK,), (BLOCK + 1,), (2, BLOCK - 3)]),
    scale=st.sampled_from([1e-3, 1.0, 5.0, 60.0, 1e4]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_gelu(shape, scale, dtype, seed):
    x = np.asarray(scale * np.random.default_rng(seed).standard_normal(shape), dtype=dtype)
    assert difference(KERNELS["gelu", "numpy"], gelu_case(x)) <= BOUND[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu_at_the_ends(dtype):
    kernel, large = KERNELS["gelu", "numpy"], 1e30 if dtype == "float32" else 1e300
    x = np.array([0.0, -0.0, large, -large, 14.0, -14.0, 41.0, -41.0], dtype=dtype)
    y, cache = kernel.forward(x)
    assert np.allclose(y, [0, 0, large, 0, 14, 0, 41, 0], rtol=1e-6, atol=1e-30)
    slope = kernel.backward(np.ones_like(x), cache)
    assert np.allclose(slope, [0.5, 0.5, 1, 0, 1, 0, 1, 0], atol=1e-6)
    assert np.isnan(kernel.forward(np.array([np.nan], dtype=dtype))[0]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_slope_is_made_where_no_backward_pass_follows(dtype):
    kernel, x = KERNELS["gelu", "numpy"], np.linspace(-9, 9, BLOCK + 5).astype(dtype)
    expected, cache = kernel.forward(x)
    assert cache.slope.shape == x.shape
    for needed, made in ((Needed.BACKWARD, True), (Needed.NOTHING, False)):
        with caches_needed_for(needed):
            y, cache = kernel.forward(x)
        assert (y == expected).all()
        assert (cache.slope is not None) == made
