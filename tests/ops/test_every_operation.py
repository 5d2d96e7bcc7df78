"""What holds for every pair of ops/: dtype in is dtype out, nothing is mutated, memory layout is free."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend, to_host
from tests.support.assertions import assert_close
from tests.support.layouts import LAYOUTS, in_host_memory, read_only
from tests.support.op_cases import (
    BACKWARDS,
    CASES,
    as_tuple,
    draw_case,
    leaves,
    typical_case,
    upstream,
)

pytestmark = pytest.mark.usefixtures("plain_ops")

DTYPES = ("float32", "float64", "complex128")


@pytest.fixture(params=CASES)
def case(request, backend):
    return typical_case(request.param).on(get_backend(backend))


def both_ways(case, dy=None):
    """y, the cache and the gradients."""
    y, cache = case.run()
    gradients = as_tuple(BACKWARDS[case.op](upstream(y) if dy is None else dy, cache))
    return y, cache, gradients


def assert_leaves_close(found, expected, tolerance=0.0):
    """Each array of two nested tuples; a tolerance of 0 means equal."""
    found, expected = (dict(enumerate(leaves(tree))) for tree in (found, expected))
    assert_close(found, expected, tolerance)


# --- shapes and dtypes ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", CASES)
def test_dtype_in_is_dtype_out(op, dtype, backend):
    if (op, dtype, backend) == ("embedding", "complex128", "cupy"):
        pytest.skip("CuPy's add.at takes no complex numbers; embedding's forward pass does")
    y, cache, gradients = both_ways(typical_case(op).on(get_backend(backend), dtype))
    assert y.dtype == dtype
    assert {str(d.dtype) for d in gradients} == {dtype}
    floats = {str(array.dtype) for array in leaves(cache) if array.dtype.kind in "fc"}
    # with complex numbers, constants (table, mask, dropout) stay real
    assert floats <= ({dtype, "float64"} if dtype == "complex128" else {dtype})


@pytest.mark.parametrize("op", CASES)
def test_one_complex_argument_is_enough(op):
    """The complex step moves one argument, the others stay real: in-place sums would not take that."""
    case = typical_case(op)
    for i, value in enumerate(case.values):
        values = case.values
        values[i] = value + 1e-30j
        y, _ = case.forward(*values)
        assert y.dtype == "complex128", list(case.variables)[i]


@pytest.mark.parametrize("op", CASES)
@settings(max_examples=25)
@given(data=st.data())
def test_a_gradient_has_the_shape_of_what_it_is_the_gradient_of(op, backend, data):
    """Any sizes: empty batches, one query, K = 0, offsets beyond the keys."""
    case = draw_case(data.draw, op).on(get_backend(backend), "float32")
    y, cache, gradients = both_ways(case)
    assert [d.shape for d in gradients] == [value.shape for value in case.values]
    assert all(str(d.dtype) == "float32" for d in gradients)
    assert all(np.isfinite(to_host(array)).all() for array in leaves((y, cache, gradients)))


@pytest.mark.parametrize("op", CASES)
def test_empty_batches(op, backend):
    case = typical_case(op, lead=(0, 3), B=0, T=0).on(get_backend(backend))
    y, _, gradients = both_ways(case)
    if y.shape == ():  # a loss
        assert float(y) == 0.0
    else:
        assert y.size == 0
    for d in gradients:
        assert (to_host(d) == 0).all()


# --- nothing is mutated, there is no state  -------------------------------------------------------


def test_inputs_upstream_gradient_and_cache_are_not_mutated(case):
    y, cache = case.run()
    dy = upstream(y)
    arrays = (case.values, list(case.constants.values()), y, dy, cache)
    before = [to_host(array).copy() for array in leaves(arrays)]
    BACKWARDS[case.op](dy, cache)
    case.run()
    assert_leaves_close(before, arrays)


def test_backward_may_be_called_twice(case):
    y, cache = case.run()
    dy = upstream(y)
    first = BACKWARDS[case.op](dy, cache)
    assert_leaves_close(first, BACKWARDS[case.op](dy, cache))
    # and arrays that were returned do not change
    copies = [to_host(d).copy() for d in as_tuple(first)]
    BACKWARDS[case.op](upstream(y, seed=1), cache)
    assert_leaves_close(copies, first)


def test_backward_is_linear(case):
    y, cache = case.run()
    a, b = upstream(y, seed=1), upstream(y, seed=2)
    of_sum = as_tuple(BACKWARDS[case.op](a + 2.0 * b, cache))
    of_a, of_b = (as_tuple(BACKWARDS[case.op](dy, cache)) for dy in (a, b))
    assert_leaves_close(of_sum, [x + 2.0 * z for x, z in zip(of_a, of_b, strict=True)], 1e-12)


# --- memory layout --------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(case, layout):
    dy = upstream(case.run()[0])
    expected = both_ways(case, dy)
    found = both_ways(case.map(layout), layout(dy))
    assert_leaves_close(expected, found, 1e-14)


def test_read_only_is_read_only(backend):
    """Negative control of the layout above."""
    x = read_only(get_backend(backend).ones((2, 3)))
    if not in_host_memory(x):
        pytest.skip("a GPU's memory is always writeable")
    with pytest.raises(ValueError, match="read-only"):
        x += 1.0
