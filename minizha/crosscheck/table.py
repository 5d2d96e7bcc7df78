"""The table of steps: each array of a trace, what it is made of, by which rule, and its gradients.

A :class:`Row` names the arrays and parameters that a step needs, the rule that makes its array from
them, and for each need the rule of its gradient. Everything else follows from the rows: the names and
axes (:mod:`~minizha.crosscheck.names`), the forward pass, and the backward pass, in which the gradient
of an array is the sum over its uses (:mod:`minizha.crosscheck.diagnosis`).

The names of a row are relative to the block in which it stands. Some needs are links to arrays outside
of the block: ``x`` the block's input, ``h`` the input of the feed-forward network, ``source`` the
vectors that keys and values are made of, ``past_key`` and ``past_value`` those of earlier calls,
``last`` the last hidden state, ``vectors`` what a classifier reads. A need that a model or a call does
not have, such as a past or a dropout factor, is None.

A rule's arguments are chosen by their names: r the rules, f the facts of the call, a those of the
attention, name the array's name; y the array itself, dy its gradient; and the needs, each by the last
part of its name. A rule reads what it names, and nothing else.

Axes: B batch, L tokens of the call (queries), N heads, J keys (those of the past, then the new ones),
S tokens whose keys are computed (L, or the encoder's), D hidden, A features of all heads side by side,
F intermediate, V vocabulary, C columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minizha.ops.cross_entropy import IGNORED

WORDS = "embeddings.word_embeddings.weight"
"""The matrix of word vectors. If it is tied, it is the decoder's matrix too."""
DROPOUT = ".dropout"
"""The suffix of dropout factors, y = x · factor, which exist in train mode only: ``embeddings.dropout``,
``….attention.dropout`` (of probs), ``….attention.output.dropout``, ``….output.dropout``,
``classifier.dropout``."""

Rule = Callable[..., Any]


class Row(NamedTuple):
    """One step: the array that it makes, its axes, what the array is, the arrays and parameters that
    the step needs, the rule, and the rule of the gradient of each need that has one.

    ``text`` is empty for an array that is in no trace. ``has_hidden`` says whether a mask hides entries
    of the array: they have no effect.
    """

    name: str
    axes: tuple[str, ...]
    text: str
    needs: dict[str, str]
    rule: Rule
    backward: dict[str, Rule]
    has_hidden: bool = False

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the parameters that the step needs."""
        return tuple(need for need in self.needs.values() if is_parameter(need))


def is_parameter(name: str) -> bool:
    """Whether the name is that of a parameter."""
    return name.endswith((".weight", ".bias"))


# --- kinds of rows --------------------------------------------------------------------------------
# fmt: off


def _row(name: str, axes: str, text: str, needs: str, rule: Rule, **backward: Rule) -> Row:
    by_argument = {need.rpartition(".")[2]: need for need in needs.split()}
    return Row(name, tuple(axes.split()), text, by_argument, rule, backward)


def _linear(name: str, axes: str, text: str, x: str) -> Row:
    row = _row(name, axes, text, f"{name}.weight {name}.bias",
               lambda r, name, x, weight, bias: r.linear(x, weight, bias, name),
               x=lambda r, dy, weight: r.linear_backward(dy, weight),
               weight=lambda r, dy, x: r.weight_backward(dy, x),
               bias=lambda r, dy: r.bias_backward(dy))
    return row._replace(needs={"x": x} | row.needs)


def _norm(name: str, text: str, x: str, parameters: str, module: str) -> Row:
    row = _row(name, "B L D", text, f"{parameters}.weight {parameters}.bias",
               lambda r, f, x, weight, bias: r.norm(x, weight, bias, f.eps, module),
               x=lambda r, f, dy, x, weight: r.norm_backward(dy, x, weight, f.eps),
               weight=lambda r, f, dy, x: r.norm_weight_backward(dy, x, f.eps),
               bias=lambda r, dy: r.bias_backward(dy))
    return row._replace(needs={"x": x} | row.needs)


def _activation(name: str, axes: str, dense: str, module: str) -> Row:
    return _row(name, axes, "after the activation function", dense,
                lambda r, f, dense: r.activation(dense, f.config.hidden_act, module),
                dense=lambda r, f, dy, dense: r.activation_backward(dy, dense, f.config.hidden_act))


# --- the table ------------------------------------------------------------------------------------


def _word_vectors(r: Any, f: Any) -> Any:
    given = f.input("inputs_embeds")
    return r.words(f.parameter(WORDS), f) if given is None else given


def _lookup_backward(r: Any, f: Any, dy: Any) -> Any:
    ids, c = f.input("input_ids"), f.config
    if ids is None:
        return np.zeros((c.vocab_size, dy.shape[-1]), dy.dtype)
    return r.lookup_backward(dy, ids, c.vocab_size, c.padding_row)


EMBEDDING_ROWS = (
    _row("embeddings.word_embeddings", "B L D",
         "the word vectors of the tokens, or the caller's `inputs_embeds`", WORDS,
         _word_vectors, weight=_lookup_backward),
    _row("embeddings.token_type_embeddings", "B L D",
         "the vectors of the first and the second sentence",
         "embeddings.token_type_embeddings.weight",
         lambda r, f, weight: r.types(weight, f),
         weight=lambda r, f, dy: r.types_backward(dy, f.token_types, f.config.type_vocab_size)),
    _row("embeddings.sum", "B L D", "",
         "embeddings.word_embeddings embeddings.token_type_embeddings",
         lambda r, f, word_embeddings, token_type_embeddings: r.embedding_sum(
             word_embeddings, token_type_embeddings, f),
         word_embeddings=lambda dy: dy,
         token_type_embeddings=lambda dy: dy),
    _norm("embeddings.LayerNorm", "LayerNorm of the sum of both", "embeddings.sum",
          "embeddings.LayerNorm", "embeddings"),
    _row("embeddings", "B L D", "after dropout: the input of layer 0",
         "embeddings.LayerNorm embeddings.dropout",
         lambda r, LayerNorm, dropout: r.dropout(LayerNorm, dropout),
         LayerNorm=lambda r, dy, dropout: r.dropout_backward(dy, dropout)),
)


def _before_attention(r: Any, f: Any, a: Any, x: Any) -> Any:
    """The layer's input, unchanged; a mistake applies the LayerNorm that belongs after attention."""
    module = f"{a.prefix}output.LayerNorm"

    def norm(x: Any) -> Any:
        weight, bias = f.parameter(f"{module}.weight"), f.parameter(f"{module}.bias")
        return r.norm(x, weight, bias, f.eps, "attention")

    return r.before_attention(x, norm)


def _join(r: Any, a: Any, past: Any, new: Any) -> Any:
    """The keys or values of all tokens, those of the past first, (B, N, J, d)."""
    parts = [] if past is None else [past]
    return np.concatenate(parts + ([] if new is None else [r.split(new, a.d)]), axis=2)


# attention and cross-attention, in "encoder.layer.0.attention.", "….crossattention."
ATTENTION_ROWS = (
    _row("self.input", "B L D", "", "x", _before_attention, x=lambda dy: dy),
    _linear("self.query", "B L A", "queries, heads side by side", "self.input"),
    _linear("self.key", "B S A", "keys, without those of the past", "source"),
    _linear("self.value", "B S A", "values, without those of the past", "source"),
    _row("keys", "B N J d", "", "past_key self.key",
         lambda r, a, past_key, key: _join(r, a, past_key, key),
         past_key=lambda a, dy: dy[:, :, : a.past_length],
         key=lambda r, a, dy: r.merge(dy[:, :, a.past_length :])),
    _row("values", "B N J d", "", "past_value self.value",
         lambda r, a, past_value, value: _join(r, a, past_value, value),
         past_value=lambda a, dy: dy[:, :, : a.past_length],
         value=lambda r, a, dy: r.merge(dy[:, :, a.past_length :])),
    _row("scores", "B N L J", "(q·k + q·R) / √d, **before** the mask is added", "self.query keys",
         lambda r, a, query, keys: r.scores(r.split(query, a.d), keys, a),
         query=lambda r, a, dy, keys: r.merge(r.query_backward(dy, keys, a)),
         keys=lambda r, a, dy, query: r.key_backward(dy, r.split(query, a.d), a),
         )._replace(has_hidden=True),
    _row("probs", "B N L J", "softmax of scores + mask", "scores",
         lambda r, a, scores: r.probs(scores, a),
         scores=lambda r, a, dy, y: r.masked_backward(r.softmax_backward(dy, y), a)),
    _row("weights", "B N L J", "after dropout and head mask: the documented `attentions`; no gradient",
         "probs scores",
         lambda r, a, probs, scores: r.weights(probs, scores, a)),
    _row("context", "B L A", "Σ weights · (v + R), heads side by side", "weights probs scores values",
         lambda r, a, weights, probs, scores, values: r.merge(
             r.context(weights, probs, scores, values, a)),
         # through the weights, whose upstream gradient is added on the way
         probs=lambda r, f, a, dy, values: r.probs_backward(
             r.split(dy, a.d), f.upstream_of_weights(a), values, a),
         values=lambda r, a, dy, weights: r.value_backward(r.split(dy, a.d), weights)),
    _linear("output.dense", "B L D", "the projection of the context", "context"),
    _row("output.sum", "B L D", "", "output.dense x output.dropout",
         lambda r, dense, x, dropout: r.residual(dense, x, dropout, "attention"),
         dense=lambda r, dy, dropout: r.dropout_backward(dy, dropout),
         x=lambda r, dy: r.residual_backward(dy)),
    _norm("output", "after dropout, residual sum and LayerNorm", "output.sum", "output.LayerNorm",
          "attention"),
)

# in "encoder.layer.0."; the last one, without a name, is the layer itself
FEED_FORWARD_ROWS = (
    _linear("intermediate.dense", "B L F", "before the activation function", "h"),
    _activation("intermediate", "B L F", "intermediate.dense", "layer"),
    _linear("output.dense", "B L D", "the projection back to D", "intermediate"),
    _row("output.sum", "B L D", "", "output.dense h x output.dropout",
         lambda r, dense, h, x, dropout: r.residual(
             dense, r.feed_forward_residual(h, x), dropout, "layer"),
         dense=lambda r, dy, dropout: r.dropout_backward(dy, dropout),
         h=lambda r, dy: r.residual_backward(dy)),
    _norm("", "after dropout, residual sum and LayerNorm: `hidden_states[1]`", "output.sum",
          "output.LayerNorm", "layer"),
)


def _total_loss(r: Any, masked_lm_loss: Any, next_sentence_loss: Any) -> Any:
    losses = {"masked_lm_loss": masked_lm_loss, "next_sentence_loss": next_sentence_loss}
    return r.total_loss({name: loss for name, loss in losses.items() if loss is not None})


def _by_text(f: Any, logits: Any) -> Any:
    """In multiple choice the logits of a text's choices side by side, (B, C)."""
    choices = f.model_class == "NezhaForMultipleChoice"
    return logits.reshape(f.input("labels").shape[0], -1) if choices else logits


_TRANSFORM = "cls.predictions.transform"
HEAD_ROWS = (
    _row("pooler.first", "B D", "", "last",
         lambda r, f, last: r.pooled(last, f),
         last=lambda r, f, dy: r.pooled_backward(dy, f.shape[1])),
    _linear("pooler.dense", "B D", "of the first token", "pooler.first"),
    _row("pooler", "B D", "tanh of `pooler.dense`", "pooler.dense",
         lambda r, dense: r.tanh(dense),
         dense=lambda r, dy, y: r.tanh_backward(dy, y)),
    _linear(f"{_TRANSFORM}.dense", "B L D", "the first step of the masked-word head", "last"),
    _activation(f"{_TRANSFORM}.activation", "B L D", f"{_TRANSFORM}.dense", "predictions"),
    _norm(_TRANSFORM, "after LayerNorm", f"{_TRANSFORM}.activation", f"{_TRANSFORM}.LayerNorm",
          "predictions"),
    _row("cls.predictions", "B L V",
         "the logits of all tokens; the gradient is 0 for tokens that are not labelled",
         f"{_TRANSFORM} cls.predictions.decoder.weight cls.predictions.bias",
         lambda r, transform, weight, bias: r.decoder(transform, weight, bias),
         transform=lambda r, dy, weight: r.linear_backward(dy, weight),
         weight=lambda r, dy, transform: r.weight_backward(dy, transform),
         bias=lambda r, dy: r.bias_backward(dy)),
    _linear("cls.seq_relationship", "B C", 'column 0 says "B follows A"', "pooler"),
    _row("classifier.input", "B … D", "", "vectors classifier.dropout",
         lambda r, vectors, dropout: r.dropout(vectors, dropout),
         vectors=lambda r, dy, dropout: r.dropout_backward(dy, dropout)),
    _linear("classifier", "B … C",
            "(B, C) or (B, L, C); in NezhaForMultipleChoice a row for each choice",
            "classifier.input"),
    _linear("qa_outputs", "B L C", 'column 0 says "starts here", column 1 "ends here"', "last"),
    _row("masked_lm_loss", "", "mean over the labelled tokens", "cls.predictions",
         lambda r, f, predictions: r.masked_lm_loss(predictions, f.labels),
         predictions=lambda r, f, dy, predictions: (
             float(dy) * r.masked_lm_backward(predictions, f.labels))),
    _row("next_sentence_loss", "", "mean over the labelled pairs", "cls.seq_relationship",
         lambda r, f, seq_relationship: r.next_sentence_loss(seq_relationship, f.pair_labels),
         seq_relationship=lambda r, f, dy, seq_relationship: float(dy) * r.nll_backward(
             seq_relationship, f.pair_labels, f.pair_labels != IGNORED)),
    _row("loss", "", "the loss; in pre-training classes the sum of those whose labels are given",
         "masked_lm_loss next_sentence_loss",
         _total_loss, masked_lm_loss=lambda dy: dy, next_sentence_loss=lambda dy: dy),
)
LOSS_ROWS = {
    "classifier": _row("loss", "", "", "classifier",
        lambda r, f, classifier: r.class_loss(_by_text(f, classifier), f.labels, f.problem),
        classifier=lambda r, f, dy, classifier: float(dy) * r.class_backward(
            _by_text(f, classifier), f.labels, f.problem).reshape(classifier.shape)),
    "qa_outputs": _row("loss", "", "", "qa_outputs",
        lambda r, f, qa_outputs: r.answer_loss(qa_outputs, *f.ends),
        qa_outputs=lambda r, f, dy, qa_outputs: float(dy) * r.answer_backward(qa_outputs, *f.ends)),
}
"""The loss of a class with one head, by the name of its logits."""
