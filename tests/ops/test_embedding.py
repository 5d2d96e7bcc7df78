"""embedding: rows read by id, and gradients added row by row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend, to_host
from minizha.ops.embedding import embedding, embedding_backward
from tests.support.assertions import assert_close
from tests.support.op_cases import draw_case, upstream

pytestmark = pytest.mark.usefixtures("plain_ops")


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
    assert_close(embedding_backward(dy, cache), dweight)


def test_repeated_ids_add_up_and_unread_rows_are_exactly_zero(xp):
    ids = xp.asarray([[3, 3, 1], [3, 1, 3]])
    y, cache = embedding(ids, xp.ones((5, 2)))
    dweight = to_host(embedding_backward(xp.ones_like(y), cache))
    assert dweight.tolist() == [[0, 0], [2, 2], [0, 0], [4, 4], [0, 0]]


def test_a_gradient_that_is_there_is_added_to(xp):
    """The row of padding gets nothing from the lookup, and keeps what it has from another use."""
    for pair in ((embedding, embedding_backward), (embedding.plain, embedding_backward.plain)):
        y, cache = pair[0](xp.asarray([[3, 0, 3], [1, 2, 2]]), xp.ones((5, 2)), 2)
        there = xp.asarray(np.arange(10.0).reshape(5, 2))
        dweight = to_host(pair[1](xp.ones_like(y), cache, there))
        assert dweight.tolist() == [[1, 2], [3, 4], [4, 5], [8, 9], [8, 9]]


def test_the_padding_row_is_read_but_does_not_learn(xp):
    weight = xp.asarray(np.arange(10.0).reshape(5, 2))
    y, cache = embedding(xp.asarray([3, 0, 3, 1]), weight, padding_idx=3)
    assert to_host(y).tolist() == [[6, 7], [0, 1], [6, 7], [2, 3]]
    dweight = to_host(embedding_backward(xp.ones_like(y), cache))
    assert dweight.tolist() == [[1, 1], [1, 1], [0, 0], [0, 0], [0, 0]]
