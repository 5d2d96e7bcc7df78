"""The names of a trace, version 1: what each array is, its axes, and the order in which they arise.

``encoder.layer.0.attention.scores`` is an activation, ``encoder.layer.0.attention.scores.grad`` the
gradient of the loss with respect to it, ``encoder.layer.0.attention.self.query.weight.grad`` that of
a parameter, under its checkpoint name. There is no prefix ``nezha.``: a bare model and one with
heads use the same names. A name never changes its meaning within a version; new ones may join.

Axes: B batch, L tokens that are read (queries), N heads, J keys (those of the past, then the new
ones), S tokens of the encoder that cross-attention looks at, D hidden, A the heads' features side by
side, F intermediate, V vocabulary, C labels, O and I a matrix's outputs and inputs.
"""

from __future__ import annotations

import re
from typing import NamedTuple

VERSION = 1


class Entry(NamedTuple):
    """One name: its axes, the parameters of the step that makes the array, and what it is.

    A name that ends in a dot stands for the names that follow it, in each layer.
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

_LAYER = re.compile(r"encoder\.layer\.(\d+)(?:\.|$)")
_ATTENTION = re.compile(r"(?:cross)?attention\.")
_TABLES = {
    "embeddings": {e.name: e for e in EMBEDDINGS + HEADS},
    "attention": {e.name: e for e in ATTENTION},
    "layer": {e.name: e for e in FEED_FORWARD},
}


def entry(name: str) -> Entry | None:
    """What the table says of an activation (or of the activation whose gradient it is)."""
    name = name.removesuffix(GRADIENT)
    layer = _LAYER.match(name)
    if layer is None:
        return _TABLES["embeddings"].get(name)
    rest = name[layer.end() :]
    attention = _ATTENTION.match(rest)
    if attention is None:
        return _TABLES["layer"].get(rest)
    return _TABLES["attention"].get(rest[attention.end() :])


def axes(name: str, ndim: int) -> tuple[str, ...]:
    """One letter for each of the ``ndim`` axes of the array ``name``.

    Convention: a parameter's gradient has O and I; what the table does not know has letters a, b, ….
    """
    found = entry(name)
    letters = () if found is None else found.axes
    if "…" in letters:
        letters = ("B", "L", "C")[:1] + ("L",) * (ndim - 2) + ("C",)
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


def without_prefix(name: str) -> str:
    """A checkpoint name as it stands in a trace."""
    return name.removeprefix("nezha.")
