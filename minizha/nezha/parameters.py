"""The parameter tree: arrays under their checkpoint names.

``tree.encoder.layer["0"].attention.self.query.weight`` is the array that a checkpoint calls
``encoder.layer.0.attention.self.query.weight``. Gradients are a tree of the same shape; the optimizer
stores its moments under the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from minizha.backend import Array


class Tree(dict):
    """Nested names; ``tree.a.b`` is ``tree["a"]["b"]``. Leaves are arrays, or None for 0."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"expected one of {', '.join(self)}, found {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def unflatten(named: Mapping[str, Any]) -> Tree:
    """The tree of leaves with the dotted names of ``named``, in the same order."""
    root = Tree()
    for name, leaf in named.items():
        *path, last = name.split(".")
        node = root
        for step in path:
            node = node.setdefault(step, Tree())
        node[last] = leaf
    return root


def flatten(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each leaf with its dotted name, in order."""
    for name, node in tree.items():
        if isinstance(node, Tree):
            yield from flatten(node, f"{prefix}{name}.")
        else:
            yield prefix + name, node


def tree_map(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """The tree with ``function(leaf)`` for each leaf."""
    return Tree(
        (name, tree_map(function, node) if isinstance(node, Tree) else function(node))
        for name, node in tree.items()
    )


def add_trees(a: Tree, b: Tree) -> Tree:
    """``a + b``, leaf by leaf, None standing for 0: new arrays, but where one of the two is None."""
    return Tree(
        (name, add_trees(node, b[name]) if isinstance(node, Tree) else add(node, b[name]))
        for name, node in a.items()
    )


def accumulate(gradients: Tree, **contributions: Array) -> None:
    """Add to leaves of a gradient tree: ``accumulate(g.dense, weight=dweight, bias=dbias)``.

    The gradient of a shared parameter is the sum over its uses: the word embeddings' in the lookup and
    in the tied decoder, a feed-forward network's in each piece of the sequence.

    Convention: the tree is that of one backward pass. The first contribution becomes the leaf itself, to
    which the others are added in place.
    """
    for name, d in contributions.items():
        if gradients[name] is None:
            gradients[name] = d
        elif d is not None:
            gradients[name] += d


def add(a: Array | None, b: Array | None) -> Array | None:
    """``a + b``, None standing for 0."""
    if a is None or b is None:
        return b if a is None else a
    return a + b
