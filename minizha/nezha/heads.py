"""The heads: the pooler, the logits of masked words, and the classifier of fine-tuning."""

from __future__ import annotations

from typing import Any, NamedTuple

from minizha.backend import Array, namespace
from minizha.config import NezhaConfig
from minizha.nezha.parameters import Tree, accumulate
from minizha.ops.activation import ACTIVATIONS, TanhCache, tanh, tanh_backward
from minizha.ops.dropout import DropoutCache, Rng, dropout, dropout_backward
from minizha.ops.layer_norm import LayerNormCache, layer_norm, layer_norm_backward
from minizha.ops.linear import LinearCache, linear, linear_backward


class PoolerCache(NamedTuple):
    """The caches of dense and tanh, and the number of tokens L."""

    dense: LinearCache
    activation: TanhCache
    length: int


def pooler(p: Tree, hidden: Array) -> tuple[Array, PoolerCache]:
    """``y = tanh(hidden[:, 0] · weightᵀ + bias)``: the first token, [CLS], represents the text

    Shapes: hidden (B, L, D) → y (B, D).

    Source: NezhaPooler.
    """
    y, dense_cache = linear(hidden[:, 0], p.dense.weight, p.dense.bias)  # (B, D)
    y, tanh_cache = tanh(y)
    return y, PoolerCache(dense_cache, tanh_cache, hidden.shape[1])


def pooler_backward(dy: Array, cache: PoolerCache, g: Tree) -> Array:
    """Add the gradients of the parameters to g; return dhidden, 0 except for the first token

    Shapes: dy (B, D) → dhidden (B, L, D).
    """
    ddense = tanh_backward(dy, cache.activation)
    dfirst, dweight, dbias = linear_backward(ddense, cache.dense)  # (B, D), (D, D), (D)
    accumulate(g.dense, weight=dweight, bias=dbias)
    B, D = dfirst.shape
    dhidden = namespace(dfirst).zeros((B, cache.length, D), dtype=dfirst.dtype)  # (B, L, D)
    dhidden[:, 0] = dfirst
    return dhidden


def vocabulary_matrix(tree: Tree) -> Tree:
    """The node of a model's tree whose ``weight``, (V, D), gives the masked-word logits: the word
    embeddings if the two are tied, as by default; otherwise ``cls.predictions.decoder``."""
    head = tree.cls.predictions
    return head.decoder if "decoder" in head else tree.nezha.embeddings.word_embeddings


class PredictionsCache(NamedTuple):
    """The caches of the four steps, under the names of their modules, and the activation's name."""

    dense: LinearCache
    activation: Any
    LayerNorm: LayerNormCache
    decoder: LinearCache
    hidden_act: str


def predictions(p: Tree, config: NezhaConfig, hidden: Array) -> tuple[Array, PredictionsCache]:
    """``logits = LayerNorm(act(dense(hidden))) · Wᵀ + bias``, W the :func:`vocabulary_matrix`

    Shapes: hidden (…, D) → logits (…, V).

    Convention: p is the tree of the whole model. The rows are independent, so the loss needs only
    the labelled ones.

    Source: NezhaLMPredictionHead.
    """
    head = p.cls.predictions
    y, dense_cache = linear(hidden, head.transform.dense.weight, head.transform.dense.bias)
    y, activation_cache = ACTIVATIONS[config.hidden_act].forward(y)
    norm = head.transform.LayerNorm
    y, norm_cache = layer_norm(y, norm.weight, norm.bias, config.layer_norm_eps)
    logits, decoder_cache = linear(y, vocabulary_matrix(p).weight, head.bias)  # (…, V)
    caches = (dense_cache, activation_cache, norm_cache, decoder_cache)
    return logits, PredictionsCache(*caches, config.hidden_act)


def predictions_backward(dlogits: Array, cache: PredictionsCache, g: Tree) -> Array:
    """Add the gradients of the parameters to g, the tree of the whole model; return dhidden

    A tied W is a second use of the word embeddings: its gradient becomes theirs here, and that of the
    lookup is added in :func:`~minizha.nezha.embeddings.embeddings_backward`.

    Shapes: dlogits (…, V) → dhidden (…, D).
    """
    head = g.cls.predictions
    dy, dweight, dbias = linear_backward(dlogits, cache.decoder)  # (…, D), (V, D), (V)
    accumulate(vocabulary_matrix(g), weight=dweight)
    accumulate(head, bias=dbias)
    dy, dweight, dbias = layer_norm_backward(dy, cache.LayerNorm)  # (…, D), (D), (D)
    accumulate(head.transform.LayerNorm, weight=dweight, bias=dbias)
    dy = ACTIVATIONS[cache.hidden_act].backward(dy, cache.activation)
    dhidden, dweight, dbias = linear_backward(dy, cache.dense)  # (…, D), (D, D), (D)
    accumulate(head.transform.dense, weight=dweight, bias=dbias)
    return dhidden


class ClassifierCache(NamedTuple):
    """The caches of dropout and of the matrix."""

    dropout: DropoutCache
    dense: LinearCache


def classifier(p: Tree, config: NezhaConfig, x: Array, rng: Rng) -> tuple[Array, ClassifierCache]:
    """``logits = dropout(x) · weightᵀ + bias``

    Shapes: x (…, D) → logits (…, C).

    Convention: C is the number of rows of weight. The dropout rate is ``classifier_dropout``, or
    ``hidden_dropout_prob`` if that is None.

    Source: the last two steps of NezhaForSequenceClassification.
    """
    rate = config.classifier_dropout
    x, dropout_cache = dropout(x, config.hidden_dropout_prob if rate is None else rate, rng)
    logits, dense_cache = linear(x, p.weight, p.bias)  # (…, C)
    return logits, ClassifierCache(dropout_cache, dense_cache)


def classifier_backward(dlogits: Array, cache: ClassifierCache, g: Tree) -> Array:
    """Add the gradients of the parameters to g; return dx

    Shapes: dlogits (…, C) → dx (…, D).
    """
    dx, dweight, dbias = linear_backward(dlogits, cache.dense)  # (…, D), (C, D), (C)
    accumulate(g, weight=dweight, bias=dbias)
    return dropout_backward(dx, cache.dropout)
