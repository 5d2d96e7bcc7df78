"""relative_position and attention against the full array R of shape (Lq, Lk, d), which they never make."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend, to_backend, to_host
from minizha.ops.attention import attention, attention_backward
from minizha.ops.relative_position import (
    relative_key,
    relative_key_backward,
    relative_rows,
    relative_table,
    relative_value,
    relative_value_backward,
)
from tests.support.op_cases import draw_case, in_host_memory, typical_case, upstream

pytestmark = pytest.mark.usefixtures("plain_ops")


@pytest.fixture
def xp(backend):
    return get_backend(backend)


def relation(table, length_q, length_k, offset=0):
    """R[i, j] = table row of the distance j − (offset + i), clipped to ±K."""
    K = len(table) // 2
    R = np.empty((length_q, length_k, table.shape[1]))
    for i in range(length_q):
        for j in range(length_k):
            R[i, j] = table[max(-K, min(K, j - (offset + i))) + K]
    return R


def agree(found, expected, tolerance=1e-13):
    np.testing.assert_allclose(to_host(found), expected, rtol=tolerance, atol=tolerance)


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "d"), [(0, 2), (1, 4), (3, 6), (64, 64)])
def test_table(K, d, xp):
    table = to_host(relative_table(K, d, xp))
    assert table.shape == (2 * K + 1, d)
    for p in range(2 * K + 1):
        for m in range(d // 2):
            angle = p / 10000.0 ** (2 * m / d)
            assert table[p, 2 * m] == pytest.approx(math.sin(angle), abs=1e-13)
            assert table[p, 2 * m + 1] == pytest.approx(math.cos(angle), abs=1e-13)


def test_distance_0_is_row_64_of_the_shifted_sinusoid():
    table = relative_table(64, 64)
    assert table[64, :3].round(4).tolist() == [0.92, 0.3919, -0.7639]
    assert table[0, :4].tolist() == [0.0, 1.0, 0.0, 1.0]  # this is distance −64


def test_the_table_is_made_in_float64_and_rounded_once(xp):
    wide, narrow = (to_host(relative_table(64, 64, xp, dtype)) for dtype in ("float64", "float32"))
    assert narrow.dtype == np.float32
    assert (narrow == wide.astype("float32")).all()


@given(Lq=st.integers(1, 9), Lk=st.integers(1, 9), K=st.integers(0, 10), offset=st.integers(0, 30))
def test_the_row_is_that_of_the_clipped_distance(Lq, Lk, K, offset, backend):
    rows = to_host(relative_rows(Lq, Lk, K, offset, get_backend(backend)))
    assert rows.tolist() == [
        [max(-K, min(K, j - (offset + i))) + K for j in range(Lk)] for i in range(Lq)
    ]


# --- the two terms --------------------------------------------------------------------------------


def check_key_term(Lq, Lk, K, offset, xp, lead=(2,), d=4):
    rng = np.random.default_rng(0)
    query, table = rng.standard_normal((*lead, Lq, d)), rng.standard_normal((2 * K + 1, d))
    dy, R = rng.standard_normal((*lead, Lq, Lk)), relation(table, Lq, Lk, offset)
    y, cache = relative_key(xp.asarray(query), xp.asarray(table), Lk, offset)
    agree(y, np.einsum("...id,ijd->...ij", query, R))
    agree(relative_key_backward(xp.asarray(dy), cache), np.einsum("...ij,ijd->...id", dy, R))


def check_value_term(Lq, Lk, K, offset, xp, lead=(2,), d=4):
    rng = np.random.default_rng(0)
    probs, table = rng.random((*lead, Lq, Lk)), rng.standard_normal((2 * K + 1, d))
    dy, R = rng.standard_normal((*lead, Lq, d)), relation(table, Lq, Lk, offset)
    y, cache = relative_value(xp.asarray(probs), xp.asarray(table), offset)
    agree(y, np.einsum("...ij,ijd->...id", probs, R))
    agree(relative_value_backward(xp.asarray(dy), cache), np.einsum("...id,ijd->...ij", dy, R))


@given(Lq=st.integers(1, 9), Lk=st.integers(1, 9), K=st.integers(0, 10), offset=st.integers(0, 30))
@example(Lq=1, Lk=1, K=0, offset=0)  # no distance but 0
@example(Lq=5, Lk=5, K=0, offset=0)  # everything is clipped to one row
@example(Lq=7, Lk=7, K=6, offset=0)  # the last distance just needs no clipping
@example(Lq=7, Lk=7, K=5, offset=0)
@example(Lq=4, Lk=4, K=50, offset=0)  # nothing is clipped, most rows are unused
@example(Lq=1, Lk=9, K=2, offset=8)  # decoding: one new query, the last
@example(Lq=2, Lk=9, K=3, offset=7)
@example(Lq=9, Lk=2, K=3, offset=0)
@example(Lq=3, Lk=4, K=2, offset=3)  # no key lies after any query
@example(Lq=3, Lk=4, K=2, offset=1000)  # all keys are further than K before every query
@pytest.mark.parametrize("check", [check_key_term, check_value_term])
def test_against_the_full_array(check, backend, Lq, Lk, K, offset):
    check(Lq, Lk, K, offset, get_backend(backend))


@pytest.mark.parametrize("lead", [(), (0,), (3, 0), (2, 3)])
@pytest.mark.parametrize("check", [check_key_term, check_value_term])
def test_any_leading_axes(check, lead, xp):
    check(5, 7, 2, 1, xp, lead)


@pytest.mark.parametrize("check", [check_key_term, check_value_term])
def test_head_size_1(check, xp):
    check(5, 7, 2, 1, xp, d=1)


def test_a_flipped_distance_is_seen(xp):
    """Negative control: i − j in place of j − i, for both terms."""
    rng = np.random.default_rng(0)
    table, query, probs = (rng.standard_normal(shape) for shape in ((5, 4), (3, 4), (3, 6)))
    R = relation(table[::-1], 3, 6, 1)
    key_term, _ = relative_key(xp.asarray(query), xp.asarray(table), 6, 1)
    value_term, _ = relative_value(xp.asarray(probs), xp.asarray(table), 1)
    assert np.abs(to_host(key_term) - np.einsum("id,ijd->ij", query, R)).max() > 0.1
    assert np.abs(to_host(value_term) - np.einsum("ij,ijd->id", probs, R)).max() > 0.1


def test_shifting_queries_and_keys_together_changes_nothing(xp):
    """Only the distance counts: query 3 … of all is what a query of offset 3 is."""
    rng = np.random.default_rng(0)
    query, table = xp.asarray(rng.standard_normal((7, 4))), xp.asarray(rng.standard_normal((5, 4)))
    every, _ = relative_key(query, table, 9)
    late, _ = relative_key(query[3:], table, 9, offset=3)
    agree(late, to_host(every[3:]), 1e-15)


# --- memory ---------------------------------------------------------------------------------------

L, D_HEAD, K_LONG = 512, 64, 64
FULL = L * L * D_HEAD * 4  # bytes of a float32 array of shape (Lq, Lk, d); 2K+1 is twice d


def peak_of(compute):
    tracemalloc.start()
    compute()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def relative_terms(xp):
    x = xp.ones((1, 1, L, D_HEAD), dtype="float32")
    table = relative_table(K_LONG, D_HEAD, xp, "float32")
    scores, key_cache = relative_key(x, table, L)
    relative_key_backward(scores, key_cache)
    context, value_cache = relative_value(scores, table)
    relative_value_backward(context, value_cache)


def whole_attention(xp):
    x = xp.ones((1, 1, L, D_HEAD), dtype="float32")
    table = relative_table(K_LONG, D_HEAD, xp, "float32")
    context, cache = attention(x, x, x, table)
    attention_backward(context, cache)


@pytest.fixture
def xp_on_the_host(xp):
    if not in_host_memory(xp.ones(1)):
        pytest.skip("tracemalloc sees the host's memory alone")
    return xp


@pytest.mark.parametrize("compute", [relative_terms, whole_attention])
def test_no_array_of_size_l_l_d_is_made(compute, xp_on_the_host):
    """Nor one of size L × L × (2K+1), as a one-hot array of the rows would be."""
    xp = xp_on_the_host
    assert peak_of(lambda: compute(xp)) < FULL / 4


def test_the_full_array_would_be_seen(xp_on_the_host):
    """Negative control of the measurement."""
    xp = xp_on_the_host
    assert peak_of(lambda: xp.ones((L, L, D_HEAD), dtype="float32")) >= FULL


# --- attention ------------------------------------------------------------------------------------


def naive_attention(query, key, value, R, mask, head_mask, factor):
    """One query of one head of one example at a time; returns contexts and weights."""
    B, N, Lq, d = query.shape
    Lk = key.shape[2]
    context, weights = np.zeros((B, N, Lq, d)), np.zeros((B, N, Lq, Lk))
    for b, n, i in np.ndindex(B, N, Lq):
        scores = [
            sum(query[b, n, i, m] * (key[b, n, j, m] + R[i, j, m]) for m in range(d)) / math.sqrt(d)
            + mask[b, n, i, j]
            for j in range(Lk)
        ]
        largest = max(scores)
        total = sum(math.exp(score - largest) for score in scores)
        for j in range(Lk):
            prob = math.exp(scores[j] - largest) / total
            weights[b, n, i, j] = prob * factor[b, n, i, j] * head_mask[b, n, i, j]
            context[b, n, i] += weights[b, n, i, j] * (value[b, n, j] + R[i, j])
    return context, weights


@settings(max_examples=60)
@given(data=st.data())
def test_attention_against_plain_loops(backend, data):
    case, xp = draw_case(data.draw, "attention"), get_backend(backend)
    query, key, value = case.values
    c = case.constants
    shape = (*query.shape[:3], key.shape[2])
    rate = c["dropout_rate"]
    kept = np.random.default_rng(case.seed).random(shape, dtype=np.float32) >= rate
    context, weights = naive_attention(
        query, key, value,
        relation(c["table"], shape[2], shape[3], c["offset"]),
        np.broadcast_to(c.get("mask", 0.0), shape),
        np.broadcast_to(c.get("head_mask", 1.0), shape),
        kept / (1.0 - rate),
    )  # fmt: skip
    y, cache = case.on(xp).run()
    agree(y, context, 1e-12)
    agree(cache.weights, weights, 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fully_masked_row_attends_to_all_keys_alike(dtype, xp):
    case = typical_case("attention").on(xp, dtype)
    query, key, value = case.values
    mask = np.zeros((query.shape[0], 1, query.shape[2], key.shape[2]), dtype)
    mask[1, :, 3] = np.finfo(dtype).min
    y, cache = attention(query, key, value, case.constants["table"], mask=to_backend(mask, xp))
    weights = to_host(cache.weights)
    assert (weights[1, :, 3] == weights[1, 0, 3, 0]).all()
    agree(weights[1, :, 3], 1.0 / key.shape[2], 1e-6)
    assert np.ptp(weights[0, :, 3]) > 0.01
    assert np.isfinite(to_host(y)).all()


def test_a_masked_key_gets_no_weight_and_no_gradient(xp):
    case = typical_case("attention").on(xp)
    query, key, value = case.values
    mask = np.zeros((1, 1, 1, key.shape[2]))
    mask[..., [2, 5]] = np.finfo("float64").min
    y, cache = attention(query, key, value, case.constants["table"], mask=to_backend(mask, xp))
    assert (to_host(cache.weights)[..., [2, 5]] == 0.0).all()
    _, dkey, dvalue = (to_host(d) for d in attention_backward(upstream(y), cache))
    assert (dkey[:, :, [2, 5]] == 0.0).all()
    assert (dvalue[:, :, [2, 5]] == 0.0).all()
    assert (np.abs(dkey).max(axis=-1)[:, :, [0, 1, 3, 4]] > 0.0).all()


def test_the_cached_scores_are_those_before_the_mask(xp):
    case = typical_case("attention", masked=True).on(xp)
    _, masked = case.run()
    constants = {name: v for name, v in case.constants.items() if name != "mask"}
    _, free = case._replace(constants=constants).run()
    agree(masked.scores, to_host(free.scores), 0.0)


def test_gradients_of_the_weights_from_above_join_in(xp):
    """⟨dcontext, context⟩ + ⟨dweights, weights⟩, by differences of the second term."""
    case = typical_case("attention").on(xp)
    y, cache = case.run()
    zero, dweights = xp.zeros_like(y), upstream(cache.weights, seed=3)
    gradients = attention_backward(zero, cache, dweights)
    assert (to_host(gradients[2]) == 0.0).all()  # the weights don't depend on the values
    step = 1e-30
    for k in range(2):
        values = case.values
        v = upstream(values[k], seed=4)
        values[k] = values[k] + 1j * step * v
        slope = to_host(case.forward(*values)[1].weights).imag / step
        expected = float((to_host(dweights) * slope).sum())
        assert float((to_host(gradients[k]) * to_host(v)).sum()) == pytest.approx(expected, 1e-12)
    both = attention_backward(upstream(y), cache, dweights)
    alone = attention_backward(upstream(y), cache)
    for total, a, b in zip(both, alone, gradients, strict=True):
        agree(total, to_host(a) + to_host(b))
