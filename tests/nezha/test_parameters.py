"""The parameter tree: dotted names and back, and gradients that are added up, never overwritten."""

import numpy as np
import pytest

from minizha.nezha.parameters import Tree, accumulate, add_trees, flatten, tree_map, unflatten

NAMED = {"layer.1.dense.weight": 1.0, "layer.0.dense.weight": 2.0, "bias": None}


def test_flatten_is_the_inverse_of_unflatten():
    tree = unflatten(NAMED)
    assert list(flatten(tree)) == list(NAMED.items())  # in the same order
    assert tree.layer["1"].dense.weight == 1.0
    assert list(tree.layer) == ["1", "0"]


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    with pytest.raises(AttributeError, match="expected one of weight, found 'wieght'"):
        unflatten(NAMED).layer["0"].dense.wieght  # noqa: B018


def test_a_leaf_is_set_by_its_name():
    tree = Tree()
    tree.dense = Tree(weight=3.0)
    assert tree == {"dense": {"weight": 3.0}}


def test_tree_map_keeps_the_names():
    doubled = tree_map(lambda leaf: leaf and 2.0 * leaf, unflatten(NAMED))
    assert dict(flatten(doubled)) == {name: leaf and 2.0 * leaf for name, leaf in NAMED.items()}
    assert type(doubled.layer) is Tree


def test_contributions_add_up_in_the_first_one():
    """None is 0."""
    first, second = np.ones(2), np.ones(2)
    gradients = Tree(weight=None, bias=None)
    accumulate(gradients, weight=first, bias=None)
    accumulate(gradients, weight=second)
    accumulate(gradients, weight=None)
    assert gradients.weight is first
    assert gradients.weight.tolist() == [2.0, 2.0]
    assert gradients.bias is None
    assert second.tolist() == [1.0, 1.0]


def test_trees_add_up_in_new_arrays():
    a, b = (unflatten({"a.weight": np.ones(2), "a.bias": bias, "c": None}) for bias in (None, 3.0))
    total = add_trees(a, b)
    assert total.a.weight.tolist() == [2.0, 2.0]
    assert total.a.bias == 3.0
    assert total.c is None
    assert a.a.weight.tolist() == b.a.weight.tolist() == [1.0, 1.0]
