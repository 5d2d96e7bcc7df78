"""Nested arguments flattened and nested again: which are one array, and which are several."""

from types import SimpleNamespace

import numpy as np
import pytest

from minizha.crosscheck.nesting import flat, nested
from minizha.errors import ArgumentError

K, V, X = np.zeros((1, 2)), np.ones((1, 2)), np.arange(3)
TENSOR = SimpleNamespace(ndim=2)  # an array of an unknown library


def assert_identical(found, expected):
    """The identical objects, under the same names in the same order."""
    assert list(found) == list(expected)
    assert all(a is b for a, b in zip(found.values(), expected.values(), strict=True))


def test_the_past_is_taken_apart_and_put_together():
    tree = {"input_ids": X, "past_key_values": ((K, V), (V, K))}
    names = ("input_ids", *(f"past_key_values.{i}.{k}" for i in (0, 1) for k in (0, 1)))
    single = dict(zip(names, (X, K, V, V, K), strict=True))
    assert_identical(flat(tree), single)
    assert nested(single) == tree  # compares identical objects; == of other arrays would raise


@pytest.mark.parametrize(
    ("tree", "names"),
    [
        ({"a": [K, V]}, ["a.0", "a.1"]),
        ({"a": (K, None, [TENSOR])}, ["a.0", "a.1", "a.2.0"]),
        ({"a": (None, None)}, ["a.0", "a.1"]),
        ({"a": TENSOR, "b": None, "c": True, "d": 1.5}, ["a", "b", "c", "d"]),
        ({"a": [[1, 2], [3, 4]], "b": [], "c": [np.float64(1)]}, ["a", "b", "c"]),
        ({"past_key_values": [[[[1]], [[2]]]]}, ["past_key_values.0.0", "past_key_values.0.1"]),
        ({"past_key_values": np.ones((1, 2, 3))}, ["past_key_values.0.0", "past_key_values.0.1"]),
        ({"past_key_values": None}, ["past_key_values"]),
    ],
)
def test_what_is_one_array_and_what_are_several(tree, names):
    assert list(flat(tree)) == names


def test_numbers_are_numbers_and_not_words():
    arrays = {f"a.{i}": np.full(1, i) for i in (10, 2, *range(2), *range(3, 10), 11)}
    assert [x.item() for x in nested(arrays)["a"]] == list(range(12))


@pytest.mark.parametrize("names", [["a.1"], ["a.0", "a.2"], ["a.0", "a.x"], ["a.0", "a.00"]])
def test_parts_that_make_no_whole_stay_apart(names):
    arrays = dict.fromkeys(names, X)
    assert nested(arrays) == {"a": {name.removeprefix("a."): X for name in names}}


@pytest.mark.parametrize("names", [["a", "a.0"], ["b.0.0", "b.0"], ["c.0.1", "c.0.0.0", "c.0.0"]])
def test_whole_and_in_parts(names):
    with pytest.raises(
        ArgumentError, match=r"^([abc0]): expected one array or a sequence \1\.0, …, found both$"
    ):
        nested(dict.fromkeys(names, X))
