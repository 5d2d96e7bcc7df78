"""The names of a trace, version 1: what each array is, its axes, and the execution order.

``encoder.layer.0.attention.scores`` is an activation, ``encoder.layer.0.attention.scores.grad`` the
gradient of the loss with respect to it, ``encoder.layer.0.attention.self.query.weight.grad`` that of
a parameter, under its checkpoint name. There is no prefix ``nezha.``: a bare model and one with
heads use the same names. A name never changes its meaning within a version; new names may be added.

Axes: B batch, L tokens of the call (queries), N heads, J keys (those of the past, then the new
ones), S tokens whose keys are computed (L, or the encoder's), D hidden, A features of all heads side
by side, F intermediate, V vocabulary, C columns, O and I outputs and inputs of a matrix.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

VERSION = 1


class Entry(NamedTuple):
    """One array: its name, its axes, the parameters of the step that computes it, and what it is.

    In the tables of attention and feed-forward, names are relative to a prefix; the empty name is the
    layer itself.
    """

    name: str
    axes: tuple[str, ...]
    parameters: tuple[str, ...]
    text: str


def _entry(name: str, axes: str, text: str, *parameters: str) -> Entry:
    return Entry(name, tuple(axes.split()), parameters, text)


def _affine(name: str, axes: str, text: str, module: str = "") -> Entry:
    """The result of a step with the weight and the bias of ``module``, by default that of its name."""
    module = module or name
    return _entry(name, axes, text, f"{module}.weight", f"{module}.bias")


EMBEDDINGS = (
    _entry("embeddings.word_embeddings", "B L D", "the word vectors of the tokens"),
    _entry(
        "embeddings.token_type_embeddings",
        "B L D",
        "the vectors of the first and the second sentence",
        "embeddings.token_type_embeddings.weight",
    ),
    _affine("embeddings.LayerNorm", "B L D", "LayerNorm of the sum of both"),
    _entry("embeddings", "B L D", "after dropout: the input of the first layer"),
)

# attention and cross-attention; their prefixes: "encoder.layer.0.attention.", "….crossattention."
ATTENTION = (
    _affine("self.query", "B L A", "queries, heads side by side"),
    _affine("self.key", "B S A", "keys, without those of the past"),
    _affine("self.value", "B S A", "values, without those of the past"),
    _entry("scores", "B N L J", "(q·k + q·R) / √d, before the mask is added"),
    _entry("probs", "B N L J", "softmax of scores + mask"),
    _entry("weights", "B N L J", "after dropout and head mask: the documented attentions"),
    _entry("context", "B L A", "Σ weights · (v + R), heads side by side"),
    _affine("output.dense", "B L D", "the projection of the context"),
    _affine("output", "B L D", "after dropout, residual sum and LayerNorm", "output.LayerNorm"),
)

# the prefix is "encoder.layer.0."; the last one is the layer itself
FEED_FORWARD = (
    _affine("intermediate.dense", "B L F", "before the activation function"),
    _entry("intermediate", "B L F", "after the activation function"),
    _affine("output.dense", "B L D", "the projection back to D"),
    _affine("", "B L D", "after dropout, residual sum and LayerNorm", "output.LayerNorm"),
)

HEADS = (
    _affine("pooler.dense", "B D", "of the first token"),
    _entry("pooler", "B D", "tanh of pooler.dense"),
    _affine("cls.predictions.transform.dense", "B L D", "the first step of the masked-word head"),
    _entry("cls.predictions.transform.activation", "B L D", "after the activation function"),
    _affine(
        "cls.predictions.transform",
        "B L D",
        "after LayerNorm",
        "cls.predictions.transform.LayerNorm",
    ),
    _entry(
        "cls.predictions",
        "B L V",
        "the logits of all tokens; the gradient is 0 for tokens that are not labelled",
        "cls.predictions.decoder.weight",
        "cls.predictions.bias",
    ),
    _affine("cls.seq_relationship", "B C", "column 0: B follows A"),
    _affine("classifier", "B … C", "(B, C) or (B, L, C)"),
    _affine("qa_outputs", "B L C", "column 0: start of the answer, column 1: end"),
    _entry("masked_lm_loss", "", "mean over the labelled tokens"),
    _entry("next_sentence_loss", "", "mean over the pairs"),
    _entry("loss", "", "the sum of the losses whose labels are given"),
)

DROPOUT = ".dropout"
"""The suffix of dropout factors, y = x · factor, which exist in train mode only: ``embeddings.dropout``,
``….attention.dropout`` (of probs), ``….attention.output.dropout``, ``….output.dropout``,
``classifier.dropout``."""

GRADIENT = ".grad"
"""The suffix of gradients."""
UPSTREAM = "upstream."
"""The prefix of upstream gradients among a trace's inputs."""
WORDS = "embeddings.word_embeddings.weight"
"""The parameter whose gradient is complete last, at the end of the backward pass."""
FLOAT_INPUTS = ("inputs_embeds", "encoder_hidden_states", "past_key_values")
"""The names, or prefixes, of inputs with a gradient; that of ``inputs_embeds`` is stored as that of
``embeddings.word_embeddings``."""
WITHOUT_GRADIENT = ("attention.weights", "loss")
"""The suffixes of activations whose gradient is in no trace."""

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
    """The prefix of a name, the key of its table, and the name in that table."""
    layer = _LAYER.match(name)
    if layer is None:
        return "", "outside", name
    attention = _ATTENTION.match(name, layer.end())
    end, table = (layer.end(), "layer") if attention is None else (attention.end(), "attention")
    return name[:end], table, name[end:]


def entry(name: str) -> Entry | None:
    """The entry of an activation or of the gradient of one; None for other names."""
    _, table, rest = _split(name.removesuffix(GRADIENT))
    return _TABLES[table].get(rest)


def made_with(parameter: str) -> str:
    """The activation that is computed with a parameter: ``encoder.layer.0`` for
    ``encoder.layer.0.output.LayerNorm.weight``.

    Convention: for a parameter that is not in the tables it is the name of its module.
    """
    prefix, table, rest = _split(parameter)
    activation = _MADE_WITH[table].get(rest, rest.rpartition(".")[0])
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
    layers = max((layer_of(name) or 0 for name in names), default=0) + 1
    steps = _steps("", EMBEDDINGS)
    for i in range(layers):
        layer = f"encoder.layer.{i}."
        for prefix in (f"{layer}attention.", f"{layer}crossattention."):
            steps += _steps(prefix, ATTENTION)
        steps += _steps(layer, FEED_FORWARD)
    steps += _steps("", HEADS)
    order = [name for name, _ in steps]
    order += [n + GRADIENT for name, parameters in reversed(steps) for n in (name, *parameters)]
    position = {name: i for i, name in enumerate([*order, WORDS + GRADIENT])}
    return sorted(names, key=lambda name: position.get(name, len(position)))


def _steps(prefix: str, table: tuple[Entry, ...]) -> list[tuple[str, tuple[str, ...]]]:
    """The full names of a table's arrays, each with those of its parameters."""
    return [
        ((prefix + e.name).removesuffix("."), tuple(prefix + p for p in e.parameters))
        for e in table
    ]


def without_prefix(name: str) -> str:
    """A checkpoint name as a trace has it, without ``nezha.``."""
    return name.removeprefix("nezha.")
