"""A mapping from our names to PaddleNLP's, for arrays that were saved by PaddleNLP.

This module does not import Paddle. In PaddleNLP (2.0 to 2.8) add hooks to all layers and save

* the output of a layer under the layer's name, ``nezha.encoder.layer.0.ffn``; for a layer with
  several outputs, the second one as ``nezha.encoder.layer.0.attention.1``;
* the input of a layer under its name with ``.input``: ``nezha.encoder.layer.0.ffn_output.input``;
* gradients under the name of the array or of the parameter with ``.grad``.

Then ``minizha compare ours.safetensors theirs.safetensors --mapping paddle.json``. Paddle's matrices
are (in, out): the mapping says which gradients to transpose. Its attention returns scores + mask,
which equal our scores where the mask hides nothing. Only the separate losses are missing.

Paddle's loss differs from ours: labels of −1 are ignored in the sum, but Paddle 3.3 divides by all
tokens, B·L, as it does for every negative ``ignore_index``. So start the backward pass from
Σ logits · cos(0), cos(1), …, as a trace without labels does.
"""

from __future__ import annotations

from collections.abc import Container

from minizha.checkpoint.foreign_names import PADDLE_MODULES, paddle_template
from minizha.crosscheck.names import (
    ATTENTION,
    EMBEDDINGS,
    FEED_FORWARD,
    GRADIENT,
    HEADS,
    WITHOUT_GRADIENT,
    WORDS,
    Row,
    layer_of,
)
from minizha.errors import ArgumentError

_HEADS = {
    "NezhaModel": ("pooler",),
    "NezhaForPreTraining": ("pooler", "cls", "loss"),
    "NezhaForSequenceClassification": ("pooler", "classifier", "loss"),
    "NezhaForMultipleChoice": ("pooler", "classifier", "loss"),
    "NezhaForTokenClassification": ("classifier", "loss"),
    "NezhaForQuestionAnswering": ("qa_outputs", "loss"),
}
_NAMES = {ours: theirs for theirs, ours in PADDLE_MODULES.items()} | {
    "encoder.layer.*.attention.scores": "encoder.layer.*.attention.1",
    "encoder.layer.*.attention.probs": "encoder.layer.*.attention.attention_dropout.input",
    "encoder.layer.*.attention.weights": "encoder.layer.*.attention.attention_dropout",
    "encoder.layer.*.attention.context": "encoder.layer.*.attention.dense.input",
    "encoder.layer.*.intermediate": "encoder.layer.*.ffn_output.input",
    "cls.predictions.transform.activation": "cls.predictions.layer_norm.input",
    "cls.predictions": "cls.predictions",
    "qa_outputs": "classifier",
}
_TIED = "cls.predictions.decoder.weight"

Table = dict[str, str | dict[str, str | bool]]


def mapping(
    num_hidden_layers: int,
    class_name: str = "NezhaForPreTraining",
    saved: Container[str] | None = None,
) -> Table:
    """``{our name: their name}``, or ``{"name": their name, "transpose": true}`` for a matrix.

    ``saved`` are the names of the saved arrays (any container of names, such as the dict of arrays).
    Other names are left out, since a comparison refuses a mapping to missing arrays. ``json.dump``
    writes the result as a mapping file.

    Raises:
        ArgumentError: PaddleNLP has no such class.
    """
    if class_name not in _HEADS:
        raise ArgumentError(
            f"class_name: expected one of {', '.join(_HEADS)}, found {class_name!r}"
        )
    steps = [("", entry) for entry in EMBEDDINGS]
    for i in range(num_hidden_layers):
        steps += [(f"encoder.layer.{i}.attention.", entry) for entry in ATTENTION]
        steps += [(f"encoder.layer.{i}.", entry) for entry in FEED_FORWARD]
    steps += [("", entry) for entry in HEADS if entry.name.split(".")[0] in _HEADS[class_name]]
    body = "" if class_name == "NezhaModel" else "nezha."
    table: Table = {}
    for prefix, entry in steps:
        table |= _array(prefix, entry, body) | _gradients(prefix, entry, body)
    table |= {WORDS + GRADIENT: body + WORDS + GRADIENT}
    if saved is None:
        return table
    return {k: v for k, v in table.items() if (v if isinstance(v, str) else v["name"]) in saved}


def _array(prefix: str, entry: Row, body: str) -> dict[str, str]:
    """An array and its gradient: the output of the layer that has the parameters of its step."""
    name = (prefix + entry.name).removesuffix(".")
    step = _theirs(name, body)
    if step is None and entry.parameters:
        weight = prefix + entry.parameters[0]
        step = _theirs(weight.removesuffix(".weight"), body)
    theirs = step or _in_body(name, body)
    if name.endswith(WITHOUT_GRADIENT):
        return {name: theirs}
    return {name: theirs, name + GRADIENT: theirs + GRADIENT}


def _gradients(prefix: str, entry: Row, body: str) -> Table:
    """The gradients of the parameters of a step."""
    table: Table = {}
    for name in (prefix + p for p in entry.parameters):
        module, _, leaf = name.rpartition(".")
        theirs = f"{_theirs(module, body) or _in_body(module, body)}.{leaf}"
        if name == "cls.predictions.bias":
            theirs = "cls.predictions.decoder_bias"
        is_matrix = leaf == "weight" and not module.endswith(("LayerNorm", "_embeddings"))
        if name != _TIED:
            theirs += GRADIENT
            table[name + GRADIENT] = {"name": theirs, "transpose": True} if is_matrix else theirs
    return table


def _theirs(name: str, body: str) -> str | None:
    template = paddle_template(name)
    if template not in _NAMES:
        return None
    return _in_body(_NAMES[template].replace("*", str(layer_of(name))), body)


def _in_body(name: str, body: str) -> str:
    in_head = name.split(".")[0] in ("cls", "classifier", "loss")
    return name if in_head else body + name
