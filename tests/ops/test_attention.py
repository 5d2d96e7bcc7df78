"""attention against plain loops over the full array R of shape (Lq, Lk, d), which it never makes."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend, to_backend, to_host
from minizha.ops.attention import attention, attention_backward
from tests.support.assertions import assert_close
from tests.support.op_cases import draw_case, relation, typical_case, upstream

pytestmark = pytest.mark.usefixtures("plain_ops")


def naive_attention(query, key, value, R, mask, head_mask, factor):
    """One query of one head of one example at a time; returns context and weights."""
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
    retained = np.random.default_rng(case.seed).random(shape, dtype=np.float32) >= rate
    context, weights = naive_attention(
        query,
        key,
        value,
        relation(c["table"], shape[2], shape[3], c["offset"]),
        np.broadcast_to(c.get("mask", 0.0), shape),
        np.broadcast_to(c.get("head_mask", 1.0), shape),
        retained / (1.0 - rate),
    )
    y, cache = case.on(xp).run()
    assert_close(y, context, 1e-12)
    assert_close(cache.weights, weights, 1e-12)


def test_the_mask_is_added_after_the_scale(xp):
    """A mask of the lowest numbers can't tell: divided by √d it hides as much. A small one can."""
    case = typical_case("attention").on(xp)
    query, key, value = (to_host(a) for a in case.values)
    shape = (*query.shape[:3], key.shape[2])
    mask = np.asarray(np.random.default_rng(3).standard_normal(shape))
    table, ones = case.constants["table"], np.ones(shape)
    R = relation(to_host(table), shape[2], shape[3], 0)
    y, cache = attention(*case.values, table, mask=to_backend(mask, xp))
    context, weights = naive_attention(query, key, value, R, mask, ones, ones)
    assert_close(y, context, 1e-12)
    assert_close(cache.weights, weights, 1e-12)
    # the control: added before the scale, it gives other weights
    _, scaled = naive_attention(query, key, value, R, mask / math.sqrt(query.shape[-1]), ones, ones)
    assert np.abs(scaled - weights).max() > 0.01


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fully_masked_row_attends_to_all_keys_alike(dtype, xp):
    case = typical_case("attention").on(xp, dtype)
    query, key, value = case.values
    mask = np.zeros((query.shape[0], 1, query.shape[2], key.shape[2]), dtype)
    mask[1, :, 3] = np.finfo(dtype).min
    y, cache = attention(query, key, value, case.constants["table"], mask=to_backend(mask, xp))
    weights = to_host(cache.weights)
    assert (weights[1, :, 3] == weights[1, 0, 3, 0]).all()
    assert_close(weights[1, :, 3], 1.0 / key.shape[2], 1e-6)
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


def test_gradients_of_the_weights_from_above_join_in(xp):
    """The gradient of ⟨dcontext, context⟩ + ⟨dweights, weights⟩; the second term by the complex step."""
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
        assert_close(total, to_host(a) + to_host(b))
