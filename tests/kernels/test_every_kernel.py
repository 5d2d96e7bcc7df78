"""Each kernel against the plain pair that it replaces, and wrong kernels that must be seen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minizha.kernels
from minizha.backend import get_backend, to_host
from minizha.ops.attention import attention_backward
from minizha.ops.gelu import gelu_new, gelu_new_backward
from minizha.ops.replaceable import KERNELS, Kernel
from tests.support import standin
from tests.support.kernel_cases import BOUND, by_kernel, difference
from tests.support.layouts import LAYOUTS
from tests.support.op_cases import FORWARDS, draw_case, leaves, typical_case, upstream

assert minizha.kernels  # importing it fills KERNELS
OPS = ("linear", "gelu", "layer_norm", "embedding", "relative_key", "relative_value")
LIBRARIES = ("numpy", "cupy")


def test_what_is_replaced():
    assert set(OPS) <= FORWARDS.keys()
    numpy = {op for op, library in KERNELS if library == "numpy"}
    assert numpy == {op for op, _ in KERNELS} == {*OPS, "add_and_norm", "attention"}
    cupy = {op for op, library in KERNELS if library == "cupy"}
    assert cupy == {"embedding", "relative_key", "relative_value"}
    for op, library in KERNELS:
        assert library in LIBRARIES
        caches = {kernel.cache for (name, _), kernel in KERNELS.items() if name == op}
        backward = {kernel.backward for (name, _), kernel in KERNELS.items() if name == op}
        assert len(caches) == len(backward), "two backward functions for one type of cache"


@pytest.fixture(params=OPS)
def op(request, backend):
    if (request.param, backend) not in KERNELS:
        pytest.skip(f"no kernel for {backend}")
    return request.param


# --- equal to the plain pair ----------------------------------------------------------------------


@given(data=st.data(), dtype=st.sampled_from(list(BOUND)))
def test_a_kernel_computes_what_the_plain_pair_computes(op, backend, data, dtype):
    case = draw_case(data.draw, op).on(get_backend(backend), dtype)
    assert difference(KERNELS[op, backend], case) <= BOUND[dtype]


@pytest.mark.parametrize("dtype", BOUND)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs_may_lie_in_any_way(layout, dtype, op, backend):
    case = typical_case(op).on(get_backend(backend), dtype).map(layout)
    assert difference(KERNELS[op, backend], case) <= BOUND[dtype]


def test_nothing_is_mutated_and_backward_may_be_called_twice(op, backend):
    case, kernel = typical_case(op).on(get_backend(backend)), KERNELS[op, backend]
    y, cache = kernel.forward(**case.variables, **case.constants)
    dy = upstream(y)
    arrays = list(leaves((case.values, list(case.constants.values()), y, dy, cache)))
    before = [to_host(array).copy() for array in arrays]
    first = [to_host(d).copy() for d in leaves(kernel.backward(dy, cache))]
    for again, d in zip(leaves(kernel.backward(dy, cache)), first, strict=True):
        assert (to_host(again) == d).all()
    for copied, array in zip(before, arrays, strict=True):
        assert (copied == to_host(array)).all()


def test_a_kernel_does_not_wait_for_the_device(op, backend, request):
    if request.config.getoption("--backend") != "standin":
        pytest.skip("only the stand-in counts")
    case, kernel = typical_case(op).on(get_backend(backend), "float32"), KERNELS[op, backend]
    dy = upstream(case.run()[0])
    with standin.count_synchronisations() as synchronisations:
        by_kernel(kernel, case, dy)
    assert synchronisations == []


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


# --- a wrong kernel is seen -----------------------------------------------------------------------


def wrong_gelu(kernel):
    """The tanh form, which differs by 5e-4."""
    return Kernel(gelu_new, gelu_new_backward, type(gelu_new(np.ones(1))[1]))


def bias_forgotten(kernel):
    return kernel._replace(forward=lambda x, weight, bias: kernel.forward(x, weight, 0 * bias))


def wrong_variance(kernel):
    """Divided by D − 1."""

    def forward(x, weight, bias, eps):
        D = x.shape[-1]
        y, cache = kernel.forward(x, weight, bias, eps)
        factor = np.sqrt((D - 1) / D)
        normalised = cache.normalised * factor
        return (y - bias) * factor + bias, cache._replace(normalised=normalised)

    return kernel._replace(forward=forward)


def wrong_shift(kernel):
    """Every query is taken for the one after it."""

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
        ("linear", bias_forgotten),
        ("gelu", wrong_gelu),
        ("layer_norm", wrong_variance),
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
