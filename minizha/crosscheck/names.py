"""The names of a trace, version 1: what each array is, its axes, and the order in which they arise.

``encoder.layer.0.attention.scores`` is an activation, ``encoder.layer.0.attention.scores.grad`` the
gradient of the loss with respect to it, ``encoder.layer.0.attention.self.query.weight.grad`` that of
a parameter, under its checkpoint name. There is no prefix ``nezha.``: a bare model and one with
heads use the same names. A name never changes its meaning within a version; new ones may join.

Axes: B batch, L tokens that are read (queries), N heads, J keys (those of the past, then the new
ones), S tokens read here for keys (L, or the encoder's), D hidden, A the heads' features side by side,
F intermediate, V vocabulary, C columns, O and I a matrix's outputs and inputs.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

VERSION = 1


class Entry(NamedTuple):
    """One name: its axes, the parameters of the step that makes the array, and what it is.

    Names of attention and feed-forward, and of their parameters, are relative to their prefix; the
    empty name is the layer itself.
    """

    name: str
    axes: tuple[str, ...]
    parameters: tuple[str, ...]
    text: str


def _entry(name: str, axes: str, parameters: str, text: str) -> Entry:
    return Entry(name, tuple(axes.split()), tuple(parameters.split()), text)


EMBEDDINGS = (
    _entry("embeddings.word_embeddings", "B L D", "", "the vectors of the tokens"),
    _entry(
        "embeddings.token_type_embeddings", "B L D", "embeddings.token_type_embeddings.weight",
        "the vectors of the first and the second sentence",
    ),
    _entry(
        "embeddings.LayerNorm", "B L D", "embeddings.LayerNorm.weight embeddings.LayerNorm.bias",
        "LayerNorm of the sum of both",
    ),
    _entry("embeddings", "B L D", "", "after dropout: what the first layer reads"),
)  # fmt: skip

# of attention and of crossattention, behind "encoder.layer.0.attention."
ATTENTION = (
    _entry("self.query", "B L A", "self.query.weight self.query.bias", "queries, heads side by side"),
    _entry("self.key", "B S A", "self.key.weight self.key.bias", "keys of the tokens read here"),
    _entry("self.value", "B S A", "self.value.weight self.value.bias", "their values"),
    _entry("scores", "B N L J", "", "(q·k + q·R) / √d, before the mask is added"),
    _entry("probs", "B N L J", "", "softmax of scores + mask"),
    _entry("weights", "B N L J", "", "after dropout and head mask: the documented attentions"),
    _entry("context", "B L A", "", "Σ weights · (v + R), heads side by side"),
    _entry("output.dense", "B L D", "output.dense.weight output.dense.bias", "the projection"),
    _entry(
        "output", "B L D", "output.LayerNorm.weight output.LayerNorm.bias",
        "after dropout, the residual sum and LayerNorm",
    ),
)  # fmt: skip

# behind "encoder.layer.0."; the last one is the layer itself
FEED_FORWARD = (
    _entry(
        "intermediate.dense", "B L F", "intermediate.dense.weight intermediate.dense.bias",
        "before the activation function",
    ),
    _entry("intermediate", "B L F", "", "after it"),
    _entry("output.dense", "B L D", "output.dense.weight output.dense.bias", "the way back to D"),
    _entry(
        "", "B L D", "output.LayerNorm.weight output.LayerNorm.bias",
        "the layer's result: dropout, residual sum, LayerNorm",
    ),
)  # fmt: skip

HEADS = (
    _entry("pooler.dense", "B D", "pooler.dense.weight pooler.dense.bias", "of the first token"),
    _entry("pooler", "B D", "", "tanh of it"),
    _entry(
        "cls.predictions.transform.dense", "B L D",
        "cls.predictions.transform.dense.weight cls.predictions.transform.dense.bias",
        "the first step of the masked-word head",
    ),
    _entry("cls.predictions.transform.activation", "B L D", "", "after the activation function"),
    _entry(
        "cls.predictions.transform", "B L D",
        "cls.predictions.transform.LayerNorm.weight cls.predictions.transform.LayerNorm.bias",
        "after LayerNorm",
    ),
    _entry(
        "cls.predictions", "B L V", "cls.predictions.decoder.weight cls.predictions.bias",
        "the logits of all tokens; the gradient is 0 in rows that no label asks for",
    ),
    _entry(
        "cls.seq_relationship", "B C", "cls.seq_relationship.weight cls.seq_relationship.bias",
        "column 0: B follows A",
    ),
    _entry("classifier", "B … C", "classifier.weight classifier.bias", "(B, C) or (B, L, C)"),
    _entry("qa_outputs", "B L C", "qa_outputs.weight qa_outputs.bias", "column 0: starts here"),
    _entry("masked_lm_loss", "", "", "mean over the labelled tokens"),
    _entry("next_sentence_loss", "", "", "mean over the pairs"),
    _entry("loss", "", "", "the sum of the losses whose labels are given"),
)  # fmt: skip

DROPOUT = ".dropout"
"""Ends the name of a dropout factor, y = x · factor; in train mode only: ``embeddings.dropout``,
``….attention.dropout`` (of probs), ``….attention.output.dropout``, ``….output.dropout``,
``classifier.dropout``."""

GRADIENT = ".grad"
UPSTREAM = "upstream."
"""Begins the name, among a trace's inputs, of what the way back started from besides the loss."""
WORDS = "embeddings.word_embeddings.weight"
"""The parameter whose gradient is complete last, at the very end of the way back."""
FLOAT_INPUTS = ("inputs_embeds", "encoder_hidden_states", "past_key_values")
"""Begin the names of inputs that get a gradient; that of ``inputs_embeds`` is the word vectors'."""
WITHOUT_GRADIENT = ("attention.weights", "loss")
"""End the names of activations whose gradient is in no trace."""

_LAYER = re.compile(r"encoder\.layer\.(\d+)(?:\.|$)")
_ATTENTION = re.compile(r"(?:cross)?attention\.")
_TABLES = {
    "outside": {e.name: e for e in EMBEDDINGS + HEADS},
    "attention": {e.name: e for e in ATTENTION},
    "layer": {e.name: e for e in FEED_FORWARD},
}
_MADE_WITH = {
    table: {parameter: e.name for e in entries.values() for parameter in e.parameters}
    for table, entries in _TABLES.items()
}


def _split(name: str) -> tuple[str, str, str]:
    """Prefix, key of the table, and the name there."""
    layer = _LAYER.match(name)
    if layer is None:
        return "", "outside", name
    attention = _ATTENTION.match(name, layer.end())
    end, table = (layer.end(), "layer") if attention is None else (attention.end(), "attention")
    return name[:end], table, name[end:]


def entry(name: str) -> Entry | None:
    """What the table says of an activation (or of the activation whose gradient it is)."""
    _, table, rest = _split(name.removesuffix(GRADIENT))
    return _TABLES[table].get(rest)


def made_with(parameter: str) -> str:
    """The activation that the step of a parameter makes: ``encoder.layer.0`` with
    ``encoder.layer.0.output.LayerNorm.weight``.

    Convention: a parameter that no step of the tables has, makes what its module is called.
    """
    prefix, table, rest = _split(parameter)
    made = _MADE_WITH[table].get(rest, rest.rpartition(".")[0])
    return (prefix + made).removesuffix(".")


def axes(name: str, ndim: int) -> tuple[str, ...]:
    """One letter for each of the ``ndim`` axes of the array ``name``.

    Convention: a parameter's gradient has O and I; what the table does not know has letters a, b, ….
    """
    found = entry(name)
    letters = () if found is None else found.axes
    if "…" in letters:
        letters = ("B", *"L" * (ndim - 2), "C")
    if found is None and is_gradient(name) and ndim in (1, 2):
        letters = ("O", "I")[:ndim]
    if found is None and name.endswith(DROPOUT):
        letters = ("B", "N", "L", "J") if ndim == 4 else ("B", "L", "D")
    return letters if len(letters) == ndim else tuple("abcdefgh"[:ndim])


def is_gradient(name: str) -> bool:
    """Whether the array is a gradient, of an activation or of a parameter."""
    return name.endswith(GRADIENT)


def layer_of(name: str) -> int | None:
    """The number of the layer that an array belongs to; None for embeddings and heads."""
    found = _LAYER.match(name)
    return None if found is None else int(found[1])


def part_of(name: str) -> str:
    """The part of the model that an array belongs to: "inputs" (their gradients), "embeddings",
    "layer 0", …, "heads" or "loss"."""
    layer = layer_of(name)
    if layer is not None:
        return f"layer {layer}"
    if name.startswith(FLOAT_INPUTS):
        return "inputs"
    if name.startswith("embeddings"):
        return "embeddings"
    return "loss" if name.removesuffix(GRADIENT).endswith("loss") else "heads"


def in_order(names: Collection[str]) -> list[str]:
    """``names`` in execution order; those that the tables don't know come last, as they were."""
    layers = max((layer_of(name) or 0 for name in names), default=0) + 1
    steps = [(e.name, e.parameters) for e in EMBEDDINGS]
    for i in range(layers):
        layer = f"encoder.layer.{i}."
        for prefix, table in (
            (layer + "attention.", ATTENTION), (layer + "crossattention.", ATTENTION),
            (layer, FEED_FORWARD),
        ):  # fmt: skip
            steps += [
                ((prefix + e.name).removesuffix("."), tuple(prefix + p for p in e.parameters))
                for e in table
            ]
    steps += [(e.name, e.parameters) for e in HEADS]
    order = [name for name, _ in steps]
    order += [n + GRADIENT for name, parameters in reversed(steps) for n in (name, *parameters)]
    place = {name: i for i, name in enumerate([*order, WORDS + GRADIENT])}
    return sorted(names, key=lambda name: place.get(name, len(place)))


def without_prefix(name: str) -> str:
    """A checkpoint name as it stands in a trace."""
    return name.removeprefix("nezha.")
