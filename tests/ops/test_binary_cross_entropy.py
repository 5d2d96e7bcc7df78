"""binary_cross_entropy against its definition, and for logits at which the definition fails."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend, to_host
from minizha.ops.binary_cross_entropy import binary_cross_entropy, binary_cross_entropy_backward
from minizha.ops.cross_entropy import cross_entropy
from tests.support.assertions import assert_close
from tests.support.op_cases import draw_case

EXTREMES = [[1000.0, -1000.0], [1000.0, -1000.0], [1e30, -1e30], [88.8, -104.0], [0.0, -0.0]]
TARGETS = [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]


def sigmoid(z):
    return 1.0 / (1.0 + math.exp(-z))


@settings(max_examples=50)
@given(data=st.data())
def test_binary_cross_entropy(backend, data):
    """The definition, with the logarithms of both probabilities."""
    case = draw_case(data.draw, "binary_cross_entropy")
    logits, targets = case.variables["logits"], case.constants["targets"]
    nlls = [
        -t * math.log(sigmoid(z)) - (1.0 - t) * math.log(sigmoid(-z))
        for z, t in zip(logits.flat, targets.flat, strict=True)
    ]
    loss, cache = case.on(get_backend(backend)).run()
    count = case.constants["count"] or max(1, len(nlls))
    assert_close(loss, sum(nlls) / count)
    dlogits = np.zeros_like(logits)
    for place in np.ndindex(logits.shape):
        dlogits[place] = (sigmoid(logits[place]) - targets[place]) / count
    assert_close(binary_cross_entropy_backward(1.0, cache), dlogits)
    assert_close(binary_cross_entropy_backward(-2.5, cache), -2.5 * dlogits)


def test_two_columns_are_one_that_knows_its_opposite(xp):
    """Cross-entropy over the logits (z, 0) is binary cross-entropy of z."""
    z, labels = np.linspace(-9.0, 9.0, 7)[:, None], np.arange(7) % 2
    both = xp.asarray(np.concatenate((np.zeros_like(z), z), axis=1))
    binary, _ = binary_cross_entropy(xp.asarray(z), xp.asarray(labels[:, None].astype("float64")))
    assert_close(binary, float(cross_entropy(both, labels)[0]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_logits_neither_overflow_nor_become_nan(dtype, xp):
    """Warnings are errors here, those of overflow and of 0 · inf among them."""
    for row, wanted in zip(EXTREMES, TARGETS, strict=True):
        logits, targets = xp.asarray([row], dtype=dtype), xp.asarray([wanted], dtype=dtype)
        loss, cache = binary_cross_entropy(logits, targets)
        wrong = [abs(z) if (z > 0) != (t > 0) else 0.0 for z, t in zip(row, wanted, strict=True)]
        expected = sum(wrong) / 2 if row[0] else math.log(2.0)
        assert_close(loss, expected, 1e-6)
        dlogits = to_host(binary_cross_entropy_backward(1.0, cache))
        expected = [
            [(0.5 if z == 0 else float(z > 0)) - t for z, t in zip(row, wanted, strict=True)]
        ]
        assert_close(dlogits, np.divide(expected, 2), 1e-6)


def test_the_definition_fails_at_extreme_logits():
    """Negative control of the test above: the formula in the docstring overflows."""
    with pytest.raises((OverflowError, ValueError)):
        math.log(sigmoid(-1000.0))


def test_a_target_between_0_and_1_is_met_by_its_own_probability(xp):
    """There the slope is 0, but the loss is the entropy of the target."""
    targets = np.asarray([[0.25, 0.5, 0.9]])
    logits = xp.asarray(np.log(targets / (1.0 - targets)))
    loss, cache = binary_cross_entropy(logits, xp.asarray(targets))
    entropy = -targets * np.log(targets) - (1.0 - targets) * np.log(1.0 - targets)
    assert_close(loss, entropy.mean())
    assert_close(binary_cross_entropy_backward(1.0, cache), np.zeros((1, 3)), 1e-15)
