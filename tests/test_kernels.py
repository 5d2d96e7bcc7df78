"""Each kernel against its plain twin: same arguments, same results."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.kernels import NUMPY_KERNELS, with_kernel
from minizha.kernels.gelu import BLOCK
from minizha.ops import gelu as plain

PLAIN = {"gelu": (plain.gelu, plain.gelu_backward)}
BOUND = {"float32": 4e-7, "float64": 1e-15}  # absolute, for numbers of size 1


def test_every_kernel_has_a_plain_twin():
    assert PLAIN.keys() == NUMPY_KERNELS.keys()


def difference(kernel, x, dy, name="gelu"):
    """Largest difference of value and of gradient, relative to the size of x."""
    forward, backward = PLAIN[name]
    y, cache = kernel.forward(x)
    expected, plain_cache = forward(x)
    dx, expected_dx = kernel.backward(dy, cache), backward(dy, plain_cache)
    assert y.dtype == dx.dtype == x.dtype
    assert y.shape == dx.shape == x.shape
    scale = max(1.0, float(np.abs(x).max(initial=0.0)))
    worst = np.abs(y - expected).max(initial=0.0), np.abs(dx - expected_dx).max(initial=0.0)
    return max(worst) / scale


@given(
    shape=st.sampled_from([(), (0,), (1,), (7,), (3, 5), (BLOCK,), (BLOCK + 1,), (2, BLOCK - 3)]),
    scale=st.sampled_from([1e-3, 1.0, 5.0, 60.0, 1e4]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_gelu(shape, scale, dtype, seed):
    rng = np.random.default_rng(seed)
    x = np.asarray(scale * rng.standard_normal(shape), dtype=dtype)
    dy = np.asarray(rng.standard_normal(shape), dtype=dtype)
    assert difference(NUMPY_KERNELS["gelu"], x, dy) <= BOUND[dtype] * 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu_at_the_ends(dtype):
    large = 1e30 if dtype == "float32" else 1e300
    x = np.array([0.0, -0.0, large, -large, 14.0, -14.0, 41.0, -41.0], dtype=dtype)
    y, cache = NUMPY_KERNELS["gelu"].forward(x)
    assert np.allclose(y, [0, 0, large, 0, 14, 0, 41, 0], rtol=1e-6, atol=1e-30)
    slope = NUMPY_KERNELS["gelu"].backward(np.ones_like(x), cache)
    assert np.allclose(slope, [0.5, 0.5, 1, 0, 1, 0, 1, 0], atol=1e-6)
    assert np.isnan(NUMPY_KERNELS["gelu"].forward(np.array([np.nan], dtype=dtype))[0]).all()


def test_inputs_may_lie_in_any_way():
    x = np.random.default_rng(0).standard_normal((6, 10))[::2, ::-1].T
    x.flags.writeable = False
    assert difference(NUMPY_KERNELS["gelu"], x, np.ones_like(x)) <= BOUND["float64"]


def test_the_tanh_form_is_told_apart():
    """Negative control: GELU's near relative is 5e-4 away."""
    x = np.linspace(-3, 3, 100)
    wrong = NUMPY_KERNELS["gelu"]._replace(forward=plain.gelu_new, backward=plain.gelu_new_backward)
    assert difference(wrong, x, np.ones_like(x)) > 1e-5


def test_complex_numbers_take_the_plain_way():
    forward, backward = with_kernel("gelu", plain.gelu, plain.gelu_backward)
    x = np.array([0.3 + 1e-30j, -2.0])
    y, cache = forward(x)
    assert isinstance(cache, plain.GeluCache)
    assert np.array_equal(y, plain.gelu(x)[0])
    assert np.array_equal(backward(x, cache), plain.gelu_backward(x, cache))
