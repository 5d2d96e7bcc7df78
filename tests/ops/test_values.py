"""Each op against the obvious: its formula in plain loops, in float64. The activations
have a file of their own, and so have relative_position and attention."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend, to_host
from minizha.ops.cross_entropy import IGNORED, cross_entropy, cross_entropy_backward, labelled_rows
from minizha.ops.dropout import dropout, dropout_backward
from minizha.ops.embedding import embedding, embedding_backward
from minizha.ops.layer_norm import layer_norm
from minizha.ops.linear import linear
from minizha.ops.softmax import softmax, softmax_backward
from tests.support.op_cases import draw_case, typical_case, upstream

pytestmark = pytest.mark.usefixtures("plain_ops")


@pytest.fixture
def xp(backend):
    return get_backend(backend)


def vectors(x):
    """The last axis, one vector at a time."""
    return x.reshape(-1, x.shape[-1])


def agree(found, expected, tolerance=1e-13):
    np.testing.assert_allclose(to_host(found), expected, rtol=tolerance, atol=tolerance)


# --- linear, embedding ----------------------------------------------------------------------------


@settings(max_examples=50)
@given(data=st.data())
def test_linear(backend, data):
    case = draw_case(data.draw, "linear")
    x, weight, bias = case.values
    expected = [
        [bias[o] + sum(row[i] * weight[o, i] for i in range(len(row))) for o in range(len(bias))]
        for row in vectors(x)
    ]
    y, _ = case.on(get_backend(backend)).run()
    agree(y, np.reshape(expected, (*x.shape[:-1], len(bias))))


def test_linear_takes_a_single_vector(xp):
    y, _ = linear(xp.ones(3), xp.ones((2, 3)), xp.zeros(2))
    assert to_host(y).tolist() == [3.0, 3.0]


@settings(max_examples=50)
@given(data=st.data())
def test_embedding_reads_rows_and_adds_gradients_by_row(backend, data):
    case = draw_case(data.draw, "embedding")
    ids, weight = case.constants["ids"], case.variables["weight"]
    y, cache = case.on(get_backend(backend)).run()
    expected = np.zeros((*ids.shape, weight.shape[1]))
    for place in np.ndindex(ids.shape):
        expected[place] = weight[ids[place]]
    assert (to_host(y) == expected).all()
    dy = upstream(y)
    dweight = np.zeros_like(weight)
    for place in np.ndindex(ids.shape):
        dweight[ids[place]] += to_host(dy)[place]
    agree(embedding_backward(dy, cache), dweight)


def test_repeated_ids_add_up_and_unread_rows_are_exactly_zero(xp):
    ids = xp.asarray([[3, 3, 1], [3, 1, 3]])
    y, cache = embedding(ids, xp.ones((5, 2)))
    dweight = to_host(embedding_backward(xp.ones_like(y), cache))
    assert dweight.tolist() == [[0, 0], [2, 2], [0, 0], [4, 4], [0, 0]]


def test_the_padding_row_is_read_but_does_not_learn(xp):
    weight = xp.asarray(np.arange(10.0).reshape(5, 2))
    y, cache = embedding(xp.asarray([3, 0, 3, 1]), weight, padding_idx=3)
    assert to_host(y).tolist() == [[6, 7], [0, 1], [6, 7], [2, 3]]
    dweight = to_host(embedding_backward(xp.ones_like(y), cache))
    assert dweight.tolist() == [[1, 1], [1, 1], [0, 0], [0, 0], [0, 0]]


# --- layer_norm -----------------------------------------------------------------------------------


@settings(max_examples=50)
@given(data=st.data())
def test_layer_norm(backend, data):
    case = draw_case(data.draw, "layer_norm")
    x, weight, bias = case.values
    D, expected = x.shape[-1], []
    for row in vectors(x):
        mean = sum(row) / D
        variance = sum((value - mean) ** 2 for value in row) / D
        root = math.sqrt(variance + case.constants["eps"])
        expected.append([w * (v - mean) / root + b for v, w, b in zip(row, weight, bias)])  # noqa: B905
    y, _ = case.on(get_backend(backend)).run()
    agree(y, np.reshape(expected, x.shape))


def test_eps_is_inside_the_root_and_the_variance_biased(xp):
    x, one, zero = xp.asarray([[-1.0, 1.0]]), xp.ones(2), xp.zeros(2)
    agree(layer_norm(x, one, zero, eps=3.0)[0], [[-0.5, 0.5]])
    constant, _ = layer_norm(xp.ones((1, 2)), one, zero, eps=1e-12)
    assert to_host(constant).tolist() == [[0.0, 0.0]]


# --- softmax --------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(data=st.data())
def test_softmax(backend, data):
    case = draw_case(data.draw, "softmax")
    scores = case.variables["scores"]
    expected = [[math.exp(s) / sum(map(math.exp, row)) for s in row] for row in vectors(scores)]
    probs, _ = case.on(get_backend(backend)).run()
    agree(probs, np.reshape(expected, scores.shape))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_scores_do_not_overflow(dtype, xp):
    lowest = float(np.finfo(dtype).min)
    scores = [[1e30, 1e30, 0.0], [-1e30, 0.0, -1e30], [lowest, lowest, lowest], [lowest, 3.0, 3.0]]
    probs, cache = softmax(xp.asarray(scores, dtype=dtype))
    third = 1.0 / 3.0
    expected = [[0.5, 0.5, 0], [0, 1, 0], [third, third, third], [0, 0.5, 0.5]]
    agree(probs, expected, 1e-7)
    dscores = to_host(softmax_backward(upstream(probs), cache))
    assert np.isfinite(dscores).all()
    assert dscores[3, 0] == 0.0


def test_a_common_shift_changes_nothing_and_has_no_gradient(xp):
    case = typical_case("softmax").on(xp)
    scores = case.variables["scores"]
    agree(softmax(scores + 100.0)[0], to_host(softmax(scores)[0]))
    probs, cache = softmax(scores)
    dscores = softmax_backward(upstream(probs), cache)
    assert np.abs(to_host(dscores).sum(axis=-1)).max() <= 1e-15
    # which is why a gradient of ones shows nothing
    assert np.abs(to_host(softmax_backward(xp.ones_like(probs), cache))).max() <= 1e-15


# --- dropout --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_by_scaling(rate, xp):
    n = 100_000
    y, cache = dropout(xp.ones(n), rate, np.random.default_rng(0))
    found = to_host(y)
    assert set(np.unique(found)) == {0.0, 1.0 / (1.0 - rate)}
    # five standard deviations of a mean of n
    assert abs(found.mean() - 1.0) <= 5.0 * math.sqrt(rate / (1.0 - rate) / n)
    assert (to_host(dropout_backward(xp.ones(n), cache)) == found).all()


def test_every_dtype_and_library_draws_the_same_factors(xp):
    shape = (40, 50)
    masks = [
        to_host(dropout(library.ones(shape, dtype=dtype), 0.3, np.random.default_rng(5))[0]) != 0
        for library in (np, xp)
        for dtype in ("float32", "float64", "complex128")
    ]
    assert all((mask == masks[0]).all() for mask in masks)
    assert 0.6 < masks[0].mean() < 0.8


def test_successive_calls_drop_differently(xp):
    rng, x = np.random.default_rng(0), xp.ones((9, 9))
    assert (to_host(dropout(x, 0.5, rng)[0]) != to_host(dropout(x, 0.5, rng)[0])).any()


@pytest.mark.parametrize(("rate", "drawing"), [(0.0, True), (0.5, False), (0.0, False)])
def test_dropout_is_the_identity_without_rate_or_generator(rate, drawing, xp):
    rng, x = np.random.default_rng(0) if drawing else None, xp.ones((3, 5))
    y, cache = dropout(x, rate, rng)
    assert y is x
    dy = upstream(y)
    assert (to_host(dropout_backward(dy, cache)) == to_host(dy)).all()
    if drawing:  # and a rate of 0 leaves the generator where it was
        assert rng.random() == np.random.default_rng(0).random()


# --- cross_entropy --------------------------------------------------------------------------------


@settings(max_examples=50)
@given(data=st.data())
def test_cross_entropy(backend, data):
    case = draw_case(data.draw, "cross_entropy")
    logits, labels = case.variables["logits"], case.constants["labels"]
    count = case.constants["count"] or max(1, (labels != IGNORED).sum())
    surprises = [
        math.log(sum(math.exp(z) for z in row)) - row[label]
        for row, label in zip(logits, labels, strict=True)
        if label != IGNORED
    ]
    loss, cache = case.on(get_backend(backend)).run()
    agree(loss, sum(surprises) / count)
    dlogits = np.zeros_like(logits)
    for t, (row, label) in enumerate(zip(logits, labels, strict=True)):
        for v in range(len(row)) if label != IGNORED else ():
            p = math.exp(row[v]) / sum(math.exp(z) for z in row)
            dlogits[t, v] = (p - (v == label)) / count
    agree(cross_entropy_backward(1.0, cache), dlogits)
    agree(cross_entropy_backward(-2.5, cache), -2.5 * dlogits)


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
    """Not even when they hold NaN: they are left out before anything is computed or gathered."""
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
    rows, kept = labelled_rows(labels)
    assert (to_host(rows).tolist(), to_host(kept).tolist()) == ([0, 2], [5, 7])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_huge_logits_do_not_overflow(dtype, xp):
    logits = xp.asarray([[1e30, 0.0], [0.0, 1e4]], dtype=dtype)
    loss, cache = cross_entropy(logits, xp.asarray([0, 0]))
    assert float(loss) == 5e3
    assert to_host(cross_entropy_backward(1.0, cache)).tolist() == [[0, 0], [-0.5, 0.5]]


def test_the_loss_of_many_rows_is_summed_in_float64(xp):
    """In float32, 2^18 equal terms would be exact only by luck."""
    logits = xp.zeros((1 << 18, 3), dtype="float32")
    loss, _ = cross_entropy(logits, xp.zeros((1 << 18,), dtype="int64"))
    assert loss.dtype == "float32"
    assert float(loss) == np.float32(math.log(3.0))


def test_every_row_of_dlogits_sums_to_0(xp):
    loss, cache = typical_case("cross_entropy").on(xp).run()
    dlogits = to_host(cross_entropy_backward(xp.ones_like(loss), cache))
    assert np.abs(dlogits.sum(axis=-1)).max() <= 1e-16
