"""Each kernel against the plain pair that it replaces."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend, to_host
from minizha.kernels.gelu import BLOCK
from minizha.ops.attention import attention_backward
from minizha.ops.gelu import gelu_new, gelu_new_backward
from minizha.ops.replaceable import KERNELS, Kernel
from tests.ops.test_every_operation import backwards, columns_first, every_other, read_only
from tests.ops.test_relative_position import FULL, peak_of, relative_terms, whole_attention
from tests.support import standin
from tests.support.op_cases import (
    BACKWARDS,
    FORWARDS,
    Case,
    draw_case,
    leaves,
    typical_case,
    upstream,
)

OPS = ("gelu", "embedding", "relative_key", "relative_value")
BOUND = {"float32": 2e-6, "float64": 4e-15}  # relative to the largest number of the result
LIBRARIES = ("numpy", "cupy")


def test_what_is_replaced():
    assert {op for op, _ in KERNELS} == set(OPS) <= FORWARDS.keys()
    assert {op for op, library in KERNELS if library == "numpy"} == set(OPS)
    assert {op for op, library in KERNELS if library == "cupy"} == {*OPS} - {"gelu"}
    for op, library in KERNELS:
        assert library in LIBRARIES
        caches = {kernel.cache for (name, _), kernel in KERNELS.items() if name == op}
        backward = {kernel.backward for (name, _), kernel in KERNELS.items() if name == op}
        assert len(caches) == len(backward), "two backward passes that nothing tells apart"


@pytest.fixture(params=OPS)
def op(request, backend):
    if (request.param, backend) not in KERNELS:
        pytest.skip(f"no kernel for {backend}")
    return request.param


def by_kernel(kernel, case, dy):
    """Result and gradient, without the operation in between."""
    y, cache = kernel.forward(**case.variables, **case.constants)
    assert type(cache) is kernel.cache
    return y, kernel.backward(dy, cache)


def by_op(case, dy):
    y, cache = FORWARDS[case.op](**case.variables, **case.constants)
    return y, BACKWARDS[case.op](dy, cache)


def difference(kernel, case):
    """The larger one of result and gradient, each relative to its largest number."""
    dy = upstream(FORWARDS[case.op](**case.variables, **case.constants)[0])
    worst = 0.0
    for found, right in zip(by_kernel(kernel, case, dy), by_op(case, dy), strict=True):
        assert found.dtype == right.dtype
        assert found.shape == right.shape
        found, right = to_host(found), to_host(right)
        assert np.isfinite(found).all()
        scale = max(1.0, np.abs(right).max(initial=0.0))
        worst = max(worst, np.abs(found - right).max(initial=0.0) / scale)
    return worst


# --- equal to the plain pair ----------------------------------------------------------------------


@given(data=st.data(), dtype=st.sampled_from(list(BOUND)))
def test_a_kernel_computes_what_the_plain_pair_computes(op, backend, data, dtype):
    case = draw_case(data.draw, op).on(get_backend(backend), dtype)
    assert difference(KERNELS[op, backend], case) <= BOUND[dtype]


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("layout", [every_other, backwards, columns_first, read_only])
def test_inputs_may_lie_in_any_way(layout, dtype, op, backend):
    case = typical_case(op).on(get_backend(backend), dtype).map(layout)
    assert difference(KERNELS[op, backend], case) <= BOUND[dtype]


def test_nothing_is_mutated_and_backward_may_be_called_twice(op, backend):
    case, kernel = typical_case(op).on(get_backend(backend)), KERNELS[op, backend]
    y, cache = kernel.forward(**case.variables, **case.constants)
    dy = upstream(y)
    things = (case.values, list(case.constants.values()), y, dy, cache)
    before = [to_host(array).copy() for array in leaves(things)]
    first = to_host(kernel.backward(dy, cache)).copy()
    assert (to_host(kernel.backward(dy, cache)) == first).all()
    for kept, array in zip(before, leaves(things), strict=True):
        assert (kept == to_host(array)).all()


def test_a_kernel_does_not_wait_for_the_device(op, backend, request):
    if request.config.getoption("--backend") != "standin":
        pytest.skip("only the stand-in counts")
    case, kernel = typical_case(op).on(get_backend(backend), "float32"), KERNELS[op, backend]
    dy = upstream(case.run()[0])
    with standin.count_synchronisations() as found:
        by_kernel(kernel, case, dy)
    assert found == []


@settings(max_examples=60)
@given(data=st.data())
def test_attention_is_the_same_with_kernels_and_without(backend, data):
    case = draw_case(data.draw, "attention").on(get_backend(backend))
    y, cache = case.run()
    gradients = attention_backward(upstream(y), cache)
    with pytest.MonkeyPatch.context() as patch:
        for key in list(KERNELS):
            patch.delitem(KERNELS, key)
        expected, cache = case.run()
        expected = (expected, *attention_backward(upstream(y), cache))
    for found, right in zip((y, *gradients), expected, strict=True):
        np.testing.assert_allclose(to_host(found), to_host(right), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("compute", [relative_terms, whole_attention])
def test_no_array_of_size_l_l_d_is_made_by_a_kernel(compute):
    assert peak_of(lambda: compute(np)) < FULL / 4


# --- gelu -----------------------------------------------------------------------------------------


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


# --- a wrong kernel is seen -----------------------------------------------------------------------


def wrong_gelu(kernel):
    """GELU's near relative is 5e-4 away."""
    return Kernel(gelu_new, gelu_new_backward, type(gelu_new(np.ones(1))[1]))


def wrong_shift(kernel):
    """As if every query were one place further on."""

    def forward(*arguments, offset, **options):
        return kernel.forward(*arguments, offset=offset + 1, **options)

    return kernel._replace(forward=forward)


def wrong_shift_back(kernel):
    def backward(dy, cache):
        span = cache.span._replace(left=cache.span.left - 1)
        wrong = cache._replace(span=span, offset=cache.offset + 1)
        return kernel.backward(dy, wrong)

    return kernel._replace(backward=backward)


def repeated_ids_lost(kernel):
    def backward(dy, cache):
        dweight = kernel.backward(dy, cache)
        dweight[cache.ids] = dy
        return dweight

    return kernel._replace(backward=backward)


@pytest.mark.parametrize(
    ("name", "mistake"),
    [
        ("gelu", wrong_gelu),
        ("relative_key", wrong_shift),
        ("relative_value", wrong_shift),
        ("relative_key", wrong_shift_back),
        ("relative_value", wrong_shift_back),
        ("embedding", repeated_ids_lost),
    ],
)
def test_a_wrong_kernel_is_seen(name, mistake, backend):
    if (name, backend) not in KERNELS:
        pytest.skip(f"no kernel for {backend}")
    case = typical_case(name).on(get_backend(backend))
    assert difference(mistake(KERNELS[name, backend]), case) > 1e-5
