"""The kernel of add_and_norm on NumPy, next to the plain pair."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.kernels import add_and_norm as module
from minizha.nezha.attention import add_and_norm, add_and_norm_backward
from minizha.nezha.parameters import Tree, unflatten
from minizha.ops.replaceable import KERNELS, Kernel, Needed, caches_needed_for
from minizha.training.row_generators import RowGenerators
from tests.support.kernel_cases import BOUND, shared

PLAIN = Kernel(add_and_norm.plain, add_and_norm_backward.plain, tuple)
KERNEL = KERNELS["add_and_norm", "numpy"]
GENERATORS = {"none": lambda seed: None, "one": np.random.default_rng, "rows": RowGenerators}


class Arguments:
    """Those of one call and of its backward pass, from a seed."""

    def __init__(self, shape, dtype, seed, *, rate=0.0, generator="none", offset=0.0):
        numbers = np.random.default_rng(seed)

        def normal(*shape):
            return numbers.standard_normal(shape).astype(dtype)

        self.y, self.residual, self.dz = (
            normal(*shape) + dtype(offset),
            normal(*shape),
            normal(*shape),
        )
        D = shape[-1]
        self.p = unflatten({"LayerNorm.weight": 1 + normal(D), "LayerNorm.bias": normal(D)})
        self.before = unflatten({"LayerNorm.weight": None, "LayerNorm.bias": normal(D)})
        self.config = SimpleNamespace(hidden_dropout_prob=rate, layer_norm_eps=1e-5)
        self.rng = lambda: GENERATORS[generator](seed)

    def results(self, kernel):
        """z, dy, dresidual, and the gradients of weight and bias, of which one was not 0 before."""
        g = Tree(LayerNorm=Tree(self.before.LayerNorm))
        z, cache = kernel.forward(self.p, self.config, self.y, self.residual, self.rng())
        dy, dresidual = kernel.backward(self.dz, cache, g)
        return [z, dy, dresidual, g.LayerNorm.weight, g.LayerNorm.bias]

    def difference(self, kernel):
        """The largest difference from the plain pair, relative to the largest number of its array."""
        worst = 0.0
        for found, right in zip(self.results(kernel), self.results(PLAIN), strict=True):
            assert (found.dtype, found.shape) == (right.dtype, right.shape)
            assert np.isfinite(found).all()
            scale = max(1.0, np.abs(right).max(initial=0.0))
            worst = max(worst, np.abs(found - right).max(initial=0.0) / scale)
        return worst


@given(
    shape=st.tuples(st.integers(0, 4), st.integers(0, 9), st.integers(1, 20)),
    dtype=st.sampled_from([np.float32, np.float64]),
    generator=st.sampled_from([*GENERATORS]),
    rate=st.sampled_from([0.0, 0.1, 0.7]),
    threads=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_kernel_computes_what_the_plain_pair_computes(
    shape, dtype, generator, rate, threads, seed
):
    arguments = Arguments(shape, dtype, seed, rate=rate, generator=generator)
    with shared(threads, block=32):
        assert arguments.difference(KERNEL) <= 8 * BOUND[np.dtype(dtype).name]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2, 70, 768), (1, 1500, 768), (33, 64, 128)])
def test_sizes_of_models(shape, dtype):
    arguments = Arguments(shape, dtype, 5, rate=0.1, generator="rows")
    with shared(2):
        assert arguments.difference(KERNEL) <= 2 * BOUND[np.dtype(dtype).name]


def test_a_mean_far_from_0():
    arguments = Arguments((3, 40, 96), np.float32, 5, offset=1000.0)
    assert arguments.difference(KERNEL) <= 1e-3  # the sum is rounded to 6e-5


def test_two_runs_and_any_number_of_threads_give_the_same_bits():
    arguments = Arguments((4, 60, 64), np.float32, 5, rate=0.1, generator="rows")
    found = []
    for threads in (1, 2, 2, 3):
        with shared(threads, block=512):
            found.append(arguments.results(KERNEL))
    for others in found[1:]:
        for a, b in zip(found[0], others, strict=True):
            assert (a == b).all()


def test_where_no_backward_pass_follows_nothing_is_kept():
    arguments = Arguments((3, 7, 12), np.float32, 5)
    inputs = arguments.p, arguments.config, arguments.y, arguments.residual, None
    with caches_needed_for(Needed.BACKWARD):
        expected, cache = add_and_norm(*inputs)
    assert cache.LayerNorm.normalised.shape == (3, 7, 12)
    with caches_needed_for(Needed.NOTHING):
        z, cache = add_and_norm(*inputs)
    assert type(cache) is KERNEL.cache
    assert cache.LayerNorm.normalised is None
    assert (z == expected).all()


def test_where_the_cache_is_read_the_plain_function_runs():
    arguments = Arguments((3, 7, 12), np.float32, 5, rate=0.2, generator="one")
    inputs = arguments.p, arguments.config, arguments.y, arguments.residual, arguments.rng()
    _, cache = add_and_norm(*inputs)
    assert cache.dropout.factor.shape == (3, 7, 12)


# --- a wrong kernel is seen -----------------------------------------------------------------------


def dropout_forgotten_backward(dz, cache, g):
    return module.add_and_norm_backward(dz, cache._replace(retained=None), g)


def dropout_of_the_residual(dz, cache, g):
    dy, _ = module.add_and_norm_backward(dz, cache, g)
    return dy, dy


def gradients_replaced(dz, cache, g):
    own = Tree(LayerNorm=Tree(weight=None, bias=None))
    result = module.add_and_norm_backward(dz, cache, own)
    g.update(own)
    return result


@pytest.mark.parametrize(
    "backward", [dropout_forgotten_backward, dropout_of_the_residual, gradients_replaced]
)
def test_a_wrong_kernel_is_seen(backward):
    arguments = Arguments((2, 5, 12), np.float64, 5, rate=0.3, generator="rows")
    assert arguments.difference(KERNEL) < 1e-13
    assert arguments.difference(KERNEL._replace(backward=backward)) > 1e-2
