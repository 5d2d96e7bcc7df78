"""The two losses of regression and of several labels: plain formulas, extreme numbers, dtypes.

cross_entropy is tested beside the other ops, in test_ops_values.py.
"""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend, to_host
from minizha.ops.binary_cross_entropy import binary_cross_entropy, binary_cross_entropy_backward
from minizha.ops.cross_entropy import cross_entropy
from minizha.ops.squared_error import squared_error, squared_error_backward
from tests.support.op_cases import draw_case

LOSSES = {
    "squared_error": (squared_error, squared_error_backward),
    "binary_cross_entropy": (binary_cross_entropy, binary_cross_entropy_backward),
}
EXTREMES = [[1000.0, -1000.0], [1000.0, -1000.0], [1e30, -1e30], [88.8, -104.0], [0.0, -0.0]]
ASKED = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]


@pytest.fixture
def xp(backend):
    return get_backend(backend)


@pytest.fixture(params=LOSSES)
def pair(request):
    return LOSSES[request.param]


def agree(found, expected, tolerance=1e-13):
    np.testing.assert_allclose(to_host(found), expected, rtol=tolerance, atol=tolerance)


def sigmoid(z):
    return 1.0 / (1.0 + math.exp(-z))


# --- against the formulas -------------------------------------------------------------------------


@settings(max_examples=50)
@given(data=st.data())
def test_squared_error(backend, data):
    case = draw_case(data.draw, "squared_error")
    y, targets = case.variables["y"], case.constants["targets"]
    squares = [(a - b) ** 2 for a, b in zip(y.flat, targets.flat, strict=True)]
    loss, cache = case.on(get_backend(backend)).run()
    agree(loss, sum(squares) / max(1, len(squares)))
    dy = 2.0 * (y - targets) / max(1, y.size)
    agree(squared_error_backward(1.0, cache), dy)
    agree(squared_error_backward(-2.5, cache), -2.5 * dy)


@settings(max_examples=50)
@given(data=st.data())
def test_binary_cross_entropy(backend, data):
    """The definition, with the logarithms of both probabilities."""
    case = draw_case(data.draw, "binary_cross_entropy")
    logits, targets = case.variables["logits"], case.constants["targets"]
    surprises = [
        -t * math.log(sigmoid(z)) - (1.0 - t) * math.log(sigmoid(-z))
        for z, t in zip(logits.flat, targets.flat, strict=True)
    ]
    loss, cache = case.on(get_backend(backend)).run()
    agree(loss, sum(surprises) / max(1, len(surprises)))
    dlogits = np.zeros_like(logits)
    for place in np.ndindex(logits.shape):
        dlogits[place] = (sigmoid(logits[place]) - targets[place]) / logits.size
    agree(binary_cross_entropy_backward(1.0, cache), dlogits)
    agree(binary_cross_entropy_backward(-2.5, cache), -2.5 * dlogits)


def test_one_number_is_its_square(xp):
    loss, cache = squared_error(xp.asarray([[5.0]]), xp.asarray([[2.0]]))
    assert float(loss) == 9.0
    assert to_host(squared_error_backward(1.0, cache)).tolist() == [[6.0]]


def test_two_columns_are_one_that_knows_its_opposite(xp):
    """Cross-entropy over the logits (z, 0) is binary cross-entropy of z."""
    z, labels = np.linspace(-9.0, 9.0, 7)[:, None], np.arange(7) % 2
    both = xp.asarray(np.concatenate((np.zeros_like(z), z), axis=1))
    binary, _ = binary_cross_entropy(xp.asarray(z), xp.asarray(labels[:, None].astype("float64")))
    agree(binary, float(cross_entropy(both, labels)[0]))


# --- extreme numbers ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_logits_neither_overflow_nor_become_nan(dtype, xp):
    """Warnings are errors here, those of overflow and of 0 · inf among them."""
    for row, asked in zip(EXTREMES, ASKED, strict=True):
        logits, targets = xp.asarray([row], dtype=dtype), xp.asarray([asked], dtype=dtype)
        loss, cache = binary_cross_entropy(logits, targets)
        wrong = [abs(z) if (z > 0) != (t > 0) else 0.0 for z, t in zip(row, asked, strict=True)]
        expected = sum(wrong) / 2 if row[0] else math.log(2.0)
        agree(loss, expected, 1e-6)
        dlogits = to_host(binary_cross_entropy_backward(1.0, cache))
        expected = [
            [(0.5 if z == 0 else float(z > 0)) - t for z, t in zip(row, asked, strict=True)]
        ]
        agree(dlogits, np.divide(expected, 2), 1e-6)


def test_the_definition_fails_at_extreme_logits():
    """Negative control of the one above: the formula as it stands in the docstring is not usable."""
    with pytest.raises((OverflowError, ValueError)):
        math.log(sigmoid(-1000.0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_differences_are_squared_without_overflow(dtype, xp):
    large = 0.9 * math.sqrt(float(np.finfo(dtype).max))
    loss, cache = squared_error(xp.asarray([[large]], dtype=dtype), xp.zeros((1, 1), dtype=dtype))
    agree(float(loss) / large / large, 1.0, 1e-6)
    assert np.isfinite(to_host(squared_error_backward(1.0, cache))).all()


# --- dtypes, sums, nothing at all -----------------------------------------------------------------


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
    """A float32 sum of 2^18 equal terms ends up beside their number times one of them."""
    forward, _ = pair
    rows = 1 << 18
    one = [xp.full((1, 1), value, dtype="float32"), xp.full((1, 1), 0.9, dtype="float32")]
    many = [xp.repeat(array, rows, axis=0) for array in one]
    assert float(forward(*many)[0]) == float(forward(*one)[0])


def test_a_sum_in_float32_is_not_exact():
    """Negative control: 0.1 is no binary fraction, and in one long sum its error adds up."""
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


def test_what_is_asked_for_has_loss_0_and_no_gradient(xp):
    x = xp.asarray([[1.5, -2.0]])
    loss, cache = squared_error(x, x)
    assert float(loss) == 0.0
    assert (to_host(squared_error_backward(1.0, cache)) == 0).all()


def test_a_target_between_0_and_1_is_met_by_its_own_probability(xp):
    """There the slope is 0, but not the loss: it is the target's own uncertainty."""
    targets = np.asarray([[0.25, 0.5, 0.9]])
    logits = xp.asarray(np.log(targets / (1.0 - targets)))
    loss, cache = binary_cross_entropy(logits, xp.asarray(targets))
    uncertainty = -targets * np.log(targets) - (1.0 - targets) * np.log(1.0 - targets)
    agree(loss, uncertainty.mean())
    agree(binary_cross_entropy_backward(1.0, cache), np.zeros((1, 3)), 1e-15)
