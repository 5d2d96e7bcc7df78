"""The names of a trace, version 1: what each array is, its axes, and the execution order.

``encoder.layer.0.attention.scores`` is an activation, ``encoder.layer.0.attention.scores.grad`` the
gradient of the loss with respect to it, ``encoder.layer.0.attention.self.query.weight.grad`` that of
a parameter, under its checkpoint name. There is no prefix ``nezha.``: a bare model and one with
heads use the same names. A name never changes its meaning within a version; new names may be added.

The arrays are those of the rows of :mod:`~minizha.crosscheck.table`, which also explains the axes. Of a
matrix, O and I are the outputs and inputs.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from minizha.crosscheck.table import (
    ATTENTION_ROWS,
    EMBEDDING_ROWS,
    FEED_FORWARD_ROWS,
    HEAD_ROWS,
    Row,
)
from minizha.crosscheck.table import DROPOUT as DROPOUT
from minizha.crosscheck.table import WORDS as WORDS

VERSION = 1


def _in_trace(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    return tuple(row for row in rows if row.text)


EMBEDDINGS = _in_trace(EMBEDDING_ROWS)
ATTENTION = _in_trace(ATTENTION_ROWS)
"""Of attention and of cross-attention; their prefixes: ``encoder.layer.0.attention.``,
``….crossattention.``."""
FEED_FORWARD = _in_trace(FEED_FORWARD_ROWS)
"""The prefix is ``encoder.layer.0.``; the last one, without a name, is the layer itself."""
HEADS = _in_trace(HEAD_ROWS)

GRADIENT = ".grad"
"""The suffix of gradients."""
UPSTREAM = "upstream."
"""The prefix of upstream gradients among a trace's inputs."""
FLOAT_INPUTS = ("inputs_embeds", "encoder_hidden_states", "past_key_values")
"""The names, or prefixes, of inputs with a gradient; that of ``inputs_embeds`` is stored as that of
``embeddings.word_embeddings``."""
WITHOUT_GRADIENT = ("attention.weights", "loss")
"""The suffixes of activations whose gradient is in no trace."""
MASKED = tuple(
    f"attention.{row.name}{suffix}"
    for row in ATTENTION
    if row.has_hidden
    for suffix in ("", GRADIENT)
)
"""The suffixes of the arrays of which a mask hides entries."""

# a number as Python writes it, of a size that a file can't misuse
_LAYER = re.compile(r"encoder\.layer\.(0|[1-9][0-9]{0,8})(?:\.|$)")
_ATTENTION = re.compile(r"(?:cross)?attention\.")
_TABLES = {
    name: {row.name: (k, row) for k, row in enumerate(rows)}
    for name, rows in (
        ("embeddings", EMBEDDINGS),
        ("attention", ATTENTION),
        ("layer", FEED_FORWARD),
        ("heads", HEADS),
    )
}
_MADE_WITH = {
    name: {parameter: row.name for _, row in rows.values() for parameter in row.parameters}
    for name, rows in _TABLES.items()
}


def _split(name: str) -> tuple[str, str, str]:
    """The prefix of a name, the key of its table, and the name in that table."""
    layer = _LAYER.match(name)
    if layer is None:
        return "", "embeddings" if name.startswith("embeddings") else "heads", name
    attention = _ATTENTION.match(name, layer.end())
    end, rows = (layer.end(), "layer") if attention is None else (attention.end(), "attention")
    return name[:end], rows, name[end:]


def entry(name: str) -> Row | None:
    """The row of an activation or of the gradient of one; None for other names."""
    _, rows, rest = _split(name.removesuffix(GRADIENT))
    return _TABLES[rows].get(rest, (0, None))[1]


def made_with(parameter: str) -> str:
    """The activation that is computed with a parameter: ``encoder.layer.0`` for
    ``encoder.layer.0.output.LayerNorm.weight``.

    Convention: for a parameter that is not in the tables it is the name of its module.
    """
    prefix, rows, rest = _split(parameter)
    activation = _MADE_WITH[rows].get(rest, rest.rpartition(".")[0])
    return (prefix + activation).removesuffix(".")


def axes(name: str, ndim: int) -> tuple[str, ...]:
    """One letter for each of the ``ndim`` axes of the array ``name``.

    Convention: a parameter's gradient has O and I; an array that is not in the tables has a, b, ….
    """
    known = entry(name)
    letters = () if known is None else known.axes
    if "…" in letters:
        letters = ("B", *"L" * (ndim - 2), "C")
    if known is None and is_gradient(name) and ndim in (1, 2):
        letters = ("O", "I")[:ndim]
    if known is None and name.endswith(DROPOUT):
        letters = ("B", "N", "L", "J") if ndim == 4 else ("B", "L", "D")
    return letters if len(letters) == ndim else tuple("abcdefgh"[:ndim])


def is_gradient(name: str) -> bool:
    """Whether the array is a gradient, of an activation or of a parameter."""
    return name.endswith(GRADIENT)


def layer_of(name: str) -> int | None:
    """The number of the layer of an array; None for embeddings and heads."""
    layer = _LAYER.match(name)
    return None if layer is None else int(layer[1])


def part_of(name: str) -> str:
    """The part of the model that computes an array: "embeddings", "layer 0", …, "heads" or "loss";
    "inputs" for the gradients of inputs."""
    layer = layer_of(name)
    if layer is not None:
        return f"layer {layer}"
    if name.startswith(FLOAT_INPUTS):
        return "inputs"
    if name.startswith("embeddings"):
        return "embeddings"
    return "loss" if name.removesuffix(GRADIENT).endswith("loss") else "heads"


def in_order(names: Collection[str]) -> list[str]:
    """``names`` in execution order; names that are not in the tables come last, in their old order."""
    return sorted(names, key=_position)


def _position(name: str) -> tuple[int, ...]:
    """The position of a name in execution order, as numbers to compare."""
    differentiated = name.removesuffix(GRADIENT)
    position, parameter = _forward_position(differentiated), 0
    if position is None and is_gradient(name):
        activation, rest = made_with(differentiated), _split(differentiated)[2]
        known = entry(activation)
        if known is not None and rest in known.parameters:
            position, parameter = _forward_position(activation), 1 + known.parameters.index(rest)
    if position is None:
        return (2,)
    if not is_gradient(name):
        return (0, *position)
    return (1, *(-k for k in position), parameter)


def _forward_position(activation: str) -> tuple[int, ...] | None:
    """The part of the model, the layer, the block and the row; None for an unknown name."""
    prefix, rows, rest = _split(activation)
    if rest not in _TABLES[rows]:
        return None
    part = {"embeddings": 0, "heads": 2}.get(rows, 1)
    block = 2 if rows == "layer" else int("crossattention." in prefix)
    return part, layer_of(activation) or 0, block, _TABLES[rows][rest][0]


def without_prefix(name: str) -> str:
    """A checkpoint name as a trace has it, without ``nezha.``."""
    return name.removeprefix("nezha.")
