"""The kernel of gelu on NumPy: sizes around its block, its precision, and the ends of the number range."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.kernels import gelu as module
from minizha.ops.gelu import gelu
from minizha.ops.replaceable import KERNELS, Needed, caches_needed_for
from tests.support.kernel_cases import BOUND, difference, shared
from tests.support.op_cases import Case

KERNEL = KERNELS["gelu", "numpy"]


@given(
    shape=st.sampled_from(
        [(), (0,), (1,), (7,), (3, 5), (64,), (65,), (127,), (2, 64), (3, 7, 99)]
    ),
    threads=st.sampled_from([1, 2, 3]),
    scale=st.sampled_from([1e-3, 1.0, 5.0, 60.0, 1e4]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_gelu(shape, threads, scale, dtype, seed):
    x = np.asarray(scale * np.random.default_rng(seed).standard_normal(shape), dtype=dtype)
    with shared(threads, block=64):
        assert difference(KERNEL, Case("gelu", {"x": x}, {})) <= BOUND[dtype]


def float32_errors(x):
    """The differences from the plain pair in float64, of the result and of the slope."""
    y, cache = KERNEL.forward(x)
    exact, plain = gelu.plain(x.astype("float64"))
    slope = plain.cdf + x * np.exp(-0.5 * x.astype("float64") ** 2) / math.sqrt(2 * math.pi)
    return y - exact, cache.slope - slope, exact


def test_the_precision_in_float32_is_as_its_docstring_says(monkeypatch):
    x = np.linspace(-20, 20, 400_001, dtype="float32")
    y, slope, exact = map(np.abs, float32_errors(x))
    bound = 1.1e-7 + 2e-7 * exact
    assert (y <= bound).all()
    assert slope.max() <= 2.5e-7
    left = (x < 0) & (x > -4)
    assert (y[left] / exact[left]).max() <= 4e-4
    assert (y[x < -4] <= exact[x < -4]).all()  # farther out, the result is 0 too early
    *higher, lowest = module.LOGISTIC
    monkeypatch.setattr(module, "LOGISTIC", (*higher, lowest * 1.000003))
    assert (np.abs(float32_errors(x)[0]) > bound).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gelu_at_the_ends(dtype):
    large = 1e30 if dtype == "float32" else 1e300
    x = np.array([0.0, -0.0, large, -large, 14.0, -14.0, 41.0, -41.0], dtype=dtype)
    y, cache = KERNEL.forward(x)
    assert np.allclose(y, [0, 0, large, 0, 14, 0, 41, 0], rtol=1e-6, atol=1e-30)
    slope = KERNEL.backward(np.ones_like(x), cache)
    assert np.allclose(slope, [0.5, 0.5, 1, 0, 1, 0, 1, 0], atol=1e-6)
    assert np.isnan(KERNEL.forward(np.array([np.nan], dtype=dtype))[0]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_slope_is_made_where_no_backward_pass_follows(dtype):
    x = np.linspace(-9, 9, 16389).astype(dtype)
    expected, cache = KERNEL.forward(x)
    assert cache.slope.shape == x.shape
    for needed, made in ((Needed.BACKWARD, True), (Needed.NOTHING, False)):
        with caches_needed_for(needed):
            y, cache = KERNEL.forward(x)
        assert (y == expected).all()
        assert (cache.slope is not None) == made
