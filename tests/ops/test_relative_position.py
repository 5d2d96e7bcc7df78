"""relative_position against the full array R of shape (Lq, Lk, d), which it never makes."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minizha.backend import get_backend, to_host
from minizha.ops.relative_position import (
    relative_key,
    relative_key_backward,
    relative_rows,
    relative_table,
    relative_value,
    relative_value_backward,
)
from tests.support.assertions import assert_close
from tests.support.layouts import in_host_memory
from tests.support.memory import FULL, HEAD_SIZE, L, peak_of, relative_terms, whole_attention
from tests.support.op_cases import relation

pytestmark = pytest.mark.usefixtures("plain_ops")


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
    assert_close(y, np.einsum("...id,ijd->...ij", query, R))
    assert_close(relative_key_backward(xp.asarray(dy), cache), np.einsum("...ij,ijd->...id", dy, R))


def check_value_term(Lq, Lk, K, offset, xp, lead=(2,), d=4):
    rng = np.random.default_rng(0)
    probs, table = rng.random((*lead, Lq, Lk)), rng.standard_normal((2 * K + 1, d))
    dy, R = rng.standard_normal((*lead, Lq, d)), relation(table, Lq, Lk, offset)
    y, cache = relative_value(xp.asarray(probs), xp.asarray(table), offset)
    assert_close(y, np.einsum("...ij,ijd->...id", probs, R))
    assert_close(
        relative_value_backward(xp.asarray(dy), cache), np.einsum("...id,ijd->...ij", dy, R)
    )


@given(Lq=st.integers(1, 9), Lk=st.integers(1, 9), K=st.integers(0, 10), offset=st.integers(0, 30))
@example(Lq=1, Lk=1, K=0, offset=0)  # no distance but 0
@example(Lq=5, Lk=5, K=0, offset=0)  # everything is clipped to one row
@example(Lq=7, Lk=7, K=6, offset=0)  # the largest distance is K
@example(Lq=7, Lk=7, K=5, offset=0)
@example(Lq=4, Lk=4, K=50, offset=0)  # nothing is clipped, and most rows are unused
@example(Lq=1, Lk=9, K=2, offset=8)  # decoding: one new query, the last
@example(Lq=2, Lk=9, K=3, offset=7)
@example(Lq=9, Lk=2, K=3, offset=0)
@example(Lq=3, Lk=4, K=2, offset=3)  # no key lies after any query
@example(Lq=3, Lk=4, K=2, offset=1000)  # all keys are more than K before every query
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
    """Only the distance counts: query 3 of all is the first query of offset 3."""
    rng = np.random.default_rng(0)
    query, table = xp.asarray(rng.standard_normal((7, 4))), xp.asarray(rng.standard_normal((5, 4)))
    every, _ = relative_key(query, table, 9)
    late, _ = relative_key(query[3:], table, 9, offset=3)
    assert_close(late, to_host(every[3:]), 1e-15)


# --- memory ---------------------------------------------------------------------------------------


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
    assert peak_of(lambda: xp.ones((L, L, HEAD_SIZE), dtype="float32")) >= FULL
