"""cross_entropy against its formula, ignored labels, and numbers that overflow in the plain formula."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend, to_host
from minizha.ops.cross_entropy import IGNORED, cross_entropy, cross_entropy_backward, labelled_rows
from tests.support.assertions import assert_close
from tests.support.op_cases import draw_case, typical_case

pytestmark = pytest.mark.usefixtures("plain_ops")


@settings(max_examples=50)
@given(data=st.data())
def test_cross_entropy(backend, data):
    case = draw_case(data.draw, "cross_entropy")
    logits, labels = case.variables["logits"], case.constants["labels"]
    count = case.constants["count"] or max(1, (labels != IGNORED).sum())
    nlls = [
        math.log(sum(math.exp(z) for z in row)) - row[label]
        for row, label in zip(logits, labels, strict=True)
        if label != IGNORED
    ]
    loss, cache = case.on(get_backend(backend)).run()
    assert_close(loss, sum(nlls) / count)
    dlogits = np.zeros_like(logits)
    for t, (row, label) in enumerate(zip(logits, labels, strict=True)):
        for v in range(len(row)) if label != IGNORED else ():
            p = math.exp(row[v]) / sum(math.exp(z) for z in row)
            dlogits[t, v] = (p - (v == label)) / count
    assert_close(cross_entropy_backward(1.0, cache), dlogits)
    assert_close(cross_entropy_backward(-2.5, cache), -2.5 * dlogits)


def test_labels_may_lie_on_the_host_or_with_the_logits(xp):
    case = typical_case("cross_entropy")
    logits, labels = xp.asarray(case.variables["logits"]), case.constants["labels"]
    losses = [cross_entropy(logits, where(labels)) for where in (np.asarray, xp.asarray)]
    assert float(losses[0][0]) == float(losses[1][0])
    for _, cache in losses:
        assert isinstance(cache.labels, xp.ndarray)
        assert isinstance(cross_entropy_backward(1.0, cache), xp.ndarray)


@pytest.mark.parametrize("rows", [0, 1, 4])
def test_nothing_labelled_is_loss_0_and_no_gradient(rows, xp):
    logits = xp.asarray(np.random.default_rng(0).standard_normal((rows, 3)), dtype="float32")
    loss, cache = cross_entropy(logits, xp.full((rows,), IGNORED))
    assert loss.shape == ()
    assert loss.dtype == "float32"
    assert float(loss) == 0.0
    dlogits = to_host(cross_entropy_backward(1.0, cache))
    assert dlogits.shape == (rows, 3)
    assert (dlogits == 0).all()


def test_ignored_rows_take_no_part(xp):
    """Even when they hold NaN: they are dropped before anything is computed or gathered."""
    logits, labels = np.random.default_rng(0).standard_normal((4, 3)), np.array([2, -100, 0, -100])
    expected, _ = cross_entropy(xp.asarray(logits[[0, 2]]), xp.asarray(labels[[0, 2]]))
    logits[[1, 3]] = np.nan
    loss, cache = cross_entropy(xp.asarray(logits), xp.asarray(labels))
    assert float(loss) == float(expected)
    dlogits = to_host(cross_entropy_backward(1.0, cache))
    assert (dlogits[[1, 3]] == 0).all()
    assert np.isfinite(dlogits).all()


def test_minus_100_never_reaches_a_gather(xp):
    """With 100 columns −100 is a valid index of NumPy: column 0."""
    logits, labels = xp.zeros((3, 100)), xp.asarray([5, -100, 7])
    _, cache = cross_entropy(logits, labels)
    assert to_host(cache.labels).tolist() == [5, 7]
    assert to_host(cross_entropy_backward(1.0, cache))[1].tolist() == [0.0] * 100
    rows, values = labelled_rows(labels)
    assert (to_host(rows).tolist(), to_host(values).tolist()) == ([0, 2], [5, 7])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_logits_do_not_overflow(dtype, xp):
    logits = xp.asarray([[1e30, 0.0], [0.0, 1e4]], dtype=dtype)
    loss, cache = cross_entropy(logits, xp.asarray([0, 0]))
    assert float(loss) == 5e3
    assert to_host(cross_entropy_backward(1.0, cache)).tolist() == [[0, 0], [-0.5, 0.5]]


def test_the_loss_of_many_rows_is_summed_in_float64(xp):
    """A float32 sum of 2^18 equal terms is not exact."""
    logits = xp.zeros((1 << 18, 3), dtype="float32")
    loss, _ = cross_entropy(logits, xp.zeros((1 << 18,), dtype="int64"))
    assert loss.dtype == "float32"
    assert float(loss) == np.float32(math.log(3.0))


def test_every_row_of_dlogits_sums_to_0(xp):
    loss, cache = typical_case("cross_entropy").on(xp).run()
    dlogits = to_host(cross_entropy_backward(xp.ones_like(loss), cache))
    assert np.abs(dlogits.sum(axis=-1)).max() <= 1e-16
