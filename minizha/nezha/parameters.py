"""The parameter tree: arrays under the names that checkpoints give them.

``tree.encoder.layer["0"].attention.self.query.weight`` is the array that a checkpoint calls
``encoder.layer.0.attention.self.query.weight``. Gradients are a tree of the same shape; the optimizer
keeps its moments under the same names.
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
            raise AttributeError(f"no {name!r} here, only {', '.join(self)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


def unflatten(named: Mapping[str, Any]) -> Tree:
    """The tree whose leaves have the dotted names of ``named``, in the same order."""
    root = Tree()
    for name, leaf in named.items():
        *path, last = name.split(".")
        node = root
        for step in path:
            node = node.setdefault(step, Tree())
        node[last] = leaf
    return root


def flatten(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted name and the leaf of each leaf, in order."""
    for name, node in tree.items():
        if isinstance(node, Tree):
            yield from flatten(node, f"{prefix}{name}.")
        else:
            yield prefix + name, node


def tree_map(function: Callable[[Any], Any], tree: Tree) -> Tree:
    """The tree of ``function(leaf)``."""
    return Tree(
        (name, tree_map(function, node) if isinstance(node, Tree) else function(node))
        for name, node in tree.items()
    )


def accumulate(gradients: Tree, **contributions: Array) -> None:
    """Add to leaves of a gradient tree: ``accumulate(g.dense, weight=dweight, bias=dbias)``.

    A leaf used twice (the word embeddings, read at the bottom and again in the tied decoder)
    is accumulated twice: the gradient of a shared parameter is the sum over its uses.
    """
    for name, d in contributions.items():
        # a new array, not +=: the gradients of an earlier step may still be in somebody's hands
        gradients[name] = add(gradients[name], d)


def add(a: Array | None, b: Array | None) -> Array | None:
    """``a + b``, where None is 0."""
    if a is None or b is None:
        return b if a is None else a
    return a + b
