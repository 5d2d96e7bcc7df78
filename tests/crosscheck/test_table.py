"""The rows of the table are consistent: rules read what the row needs, and every need exists."""

import inspect

import pytest

from minizha.crosscheck.names import MASKED
from minizha.crosscheck.table import (
    ATTENTION_ROWS,
    EMBEDDING_ROWS,
    FEED_FORWARD_ROWS,
    HEAD_ROWS,
    LOSS_ROWS,
    is_parameter,
)

BLOCKS = {
    "embeddings": (EMBEDDING_ROWS, set()),
    "attention": (ATTENTION_ROWS, {"x", "source", "past_key", "past_value"}),
    "feed_forward": (FEED_FORWARD_ROWS, {"x", "h"}),
    "heads": ((*HEAD_ROWS, *LOSS_ROWS.values()), {"last", "vectors"}),
}
ROWS = [(block, row) for block, (rows, _) in BLOCKS.items() for row in rows]


def unknown_arguments(row):
    """The arguments of the rules of a row that nothing gives them."""
    forward = {"r", "f", "a", "name", *row.needs}
    found = set(inspect.signature(row.rule).parameters) - forward
    for back in row.backward.values():
        found |= set(inspect.signature(back).parameters) - forward - {"y", "dy"}
    return found


@pytest.mark.parametrize(("block", "row"), ROWS)
def test_a_rule_reads_what_its_row_needs(block, row):
    assert not unknown_arguments(row)
    assert row.backward.keys() <= row.needs.keys()


def test_a_misspelt_argument_is_found():
    """The control."""
    row = ATTENTION_ROWS[0]
    assert unknown_arguments(row._replace(rule=lambda r, wieght: 0)) == {"wieght"}
    assert unknown_arguments(row._replace(rule=lambda r, dy: 0)) == {"dy"}


@pytest.mark.parametrize(("block", "row"), ROWS)
def test_a_need_is_a_row_before_it_a_link_or_an_input(block, row):
    rows, links = BLOCKS[block]
    before = [other.name for other in rows[: rows.index(row)]]
    for need in row.needs.values():
        assert need in before or need in links or is_parameter(need) or need.endswith(".dropout")


@pytest.mark.parametrize(("block", "row"), ROWS)
def test_every_parameter_has_a_gradient(block, row):
    assert set(row.parameters) == {row.needs[n] for n in row.backward if is_parameter(row.needs[n])}


def test_a_mask_hides_scores_alone():
    assert MASKED == ("attention.scores", "attention.scores.grad")
