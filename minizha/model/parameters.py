"""The parameter tree: arrays under the names that checkpoints give them.

``tree.encoder.layer["0"].attention.self.query.weight`` is the array that a checkpoint calls
``encoder.layer.0.attention.self.query.weight``. Gradients are a tree of the same shape; the optimizer
keeps its moments under the same names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from minizha.backend import Array
from minizha.config import NezhaConfig

Shapes = dict[str, tuple[int, ...]]
DTYPES = ("float32", "float64", "complex128")


class Tree(dict):
    """Nested names; ``tree.a.b`` is ``tree["a"]["b"]``. Leaves are arrays, or None for "nothing yet"."""

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
        sofar = gradients[name]
        # a new array, not +=: whoever was handed the gradients of an earlier step keeps them
        gradients[name] = d if sofar is None else sofar + d


def body_shapes(config: NezhaConfig, pooler: bool) -> Shapes:
    """Names and shapes of NezhaModel's parameters, in checkpoint order."""
    D, F = config.hidden_size, config.intermediate_size
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (config.vocab_size, D),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, D),
        **_norm("embeddings.LayerNorm", D),
    }
    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}."
        shapes |= _attention(layer + "attention.", D, len(config.kept_heads(i)) * config.head_size)
        if config.add_cross_attention:
            shapes |= _attention(layer + "crossattention.", D, D)
        shapes |= _linear(layer + "intermediate.dense", F, D)
        shapes |= _linear(layer + "output.dense", D, F)
        shapes |= _norm(layer + "output.LayerNorm", D)
    return shapes | (_linear("pooler.dense", D, D) if pooler else {})


def prediction_shapes(config: NezhaConfig) -> Shapes:
    """Names and shapes of the masked-language-model head; a tied decoder has none of its own."""
    D, V = config.hidden_size, config.vocab_size
    shapes: Shapes = {"cls.predictions.bias": (V,)}
    shapes |= _linear("cls.predictions.transform.dense", D, D)
    shapes |= _norm("cls.predictions.transform.LayerNorm", D)
    if not config.tie_word_embeddings:
        shapes["cls.predictions.decoder.weight"] = (V, D)
    return shapes


def linear_head_shapes(config: NezhaConfig, name: str, outputs: int) -> Shapes:
    """Names and shapes of a head that is one matrix: ``outputs`` numbers from each vector."""
    return _linear(name, outputs, config.hidden_size)


def initialise(
    shapes: Shapes,
    config: NezhaConfig,
    rng: np.random.Generator,
    xp: ModuleType,
    dtype: str,
    given: Mapping[str, Callable[[], Array]] | None = None,
) -> dict[str, Array]:
    """Fresh parameters: matrices N(0, initializer_range²), biases 0, LayerNorm 1 and 0, pad row 0.

    ``given`` makes those that come from elsewhere; they are not drawn.

    Convention: drawn in float64 in the order of the names and rounded once, so that models of
    one seed agree in every dtype and on every backend.
    """
    arrays, given = {}, given or {}
    for name, shape in shapes.items():
        if name in given:
            arrays[name] = given[name]()
            continue
        if len(shape) == 2:
            values = rng.standard_normal(shape) * config.initializer_range
        else:
            values = np.full(shape, 1.0 if name.endswith("LayerNorm.weight") else 0.0)
        if name.endswith("word_embeddings.weight") and config.pad_token_id is not None:
            values[config.pad_token_id] = 0.0
        arrays[name] = xp.asarray(values.astype(dtype))
    return arrays


def decays(name: str) -> bool:
    """Whether weight decay applies: to matrices, not to biases and not to LayerNorm."""
    return not (name.endswith("bias") or "LayerNorm" in name)


def _attention(name: str, size: int, width: int) -> Shapes:
    """``width`` is that of all heads together: less than ``size`` where some were pruned."""
    shapes: Shapes = {}
    for projection in ("query", "key", "value"):
        shapes |= _linear(f"{name}self.{projection}", width, size)
    shapes |= _linear(name + "output.dense", size, width)
    return shapes | _norm(name + "output.LayerNorm", size)


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}
