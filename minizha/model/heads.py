"""The heads: the pooler, the guess at masked words, and the classifier of fine-tuning."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array, namespace
from minizha.config import NezhaConfig
from minizha.model.parameters import Tree, accumulate
from minizha.ops.activation import ACTIVATIONS, TanhCache, tanh, tanh_backward
from minizha.ops.dropout import DropoutCache, dropout, dropout_backward
from minizha.ops.layer_norm import LayerNormCache, layer_norm, layer_norm_backward
from minizha.ops.linear import LinearCache, linear, linear_backward


class PoolerCache(NamedTuple):
    """The caches of dense and tanh, and how many tokens there were besides the first."""

    dense: LinearCache
    activation: TanhCache
    length: int


def pooler(p: Tree, hidden: Array) -> tuple[Array, PoolerCache]:
    """``y = tanh(hidden[:, 0] · weightᵀ + bias)``: the first token, [CLS], speaks for the sentence

    Shapes: hidden (B, L, D) → y (B, D).

    Source: NezhaPooler.
    """
    y, dense_cache = linear(hidden[:, 0], p.dense.weight, p.dense.bias)
    y, tanh_cache = tanh(y)
    return y, PoolerCache(dense_cache, tanh_cache, hidden.shape[1])


def pooler_backward(dy: Array, cache: PoolerCache, g: Tree) -> Array:
    """Fill the gradients in g; return dhidden, 0 but for the first token

    Shapes: dy (B, D) → dhidden (B, L, D).
    """
    dfirst, dweight, dbias = linear_backward(tanh_backward(dy, cache.activation), cache.dense)
    accumulate(g.dense, weight=dweight, bias=dbias)
    B, D = dfirst.shape
    dhidden = namespace(dfirst).zeros((B, cache.length, D), dtype=dfirst.dtype)
    dhidden[:, 0] = dfirst
    return dhidden


class PredictionsCache(NamedTuple):
    """The caches of the four steps, under their modules' names."""

    dense: LinearCache
    activation: Any
    LayerNorm: LayerNormCache
    decoder: LinearCache


def predictions(
    p: Tree, config: NezhaConfig, hidden: Array, decoder_weight: Array
) -> tuple[Array, PredictionsCache]:
    """``logits = LayerNorm(act(dense(hidden))) · decoder_weightᵀ + bias``

    Shapes: hidden (…, D), decoder_weight (V, D) → logits (…, V).

    Convention: ``decoder_weight`` is the word embedding itself where the two are tied, as they
    are by default. Each row is treated alone, so the loss needs only the labelled ones.

    Source: NezhaLMPredictionHead.
    """
    y, dense_cache = linear(hidden, p.transform.dense.weight, p.transform.dense.bias)
    y, activation_cache = ACTIVATIONS[config.hidden_act].forward(y)
    norm = p.transform.LayerNorm
    y, norm_cache = layer_norm(y, norm.weight, norm.bias, config.layer_norm_eps)
    logits, decoder_cache = linear(y, decoder_weight, p.bias)
    return logits, PredictionsCache(dense_cache, activation_cache, norm_cache, decoder_cache)


def predictions_backward(
    dlogits: Array, cache: PredictionsCache, config: NezhaConfig, g: Tree, g_decoder: Tree
) -> Array:
    """Fill the gradients in g, the decoder's in ``g_decoder.weight``; return dhidden

    ``g_decoder`` is the gradient leaf of the word embeddings where the decoder is tied to them.

    Shapes: dlogits (…, V) → dhidden (…, D).
    """
    dy, dweight, dbias = linear_backward(dlogits, cache.decoder)
    accumulate(g_decoder, weight=dweight)
    accumulate(g, bias=dbias)
    dy, dweight, dbias = layer_norm_backward(dy, cache.LayerNorm)
    accumulate(g.transform.LayerNorm, weight=dweight, bias=dbias)
    dy = ACTIVATIONS[config.hidden_act].backward(dy, cache.activation)
    dhidden, dweight, dbias = linear_backward(dy, cache.dense)
    accumulate(g.transform.dense, weight=dweight, bias=dbias)
    return dhidden


class ClassifierCache(NamedTuple):
    """The caches of dropout and of the matrix."""

    dropout: DropoutCache
    dense: LinearCache


def classifier(
    p: Tree, config: NezhaConfig, x: Array, rng: np.random.Generator | None
) -> tuple[Array, ClassifierCache]:
    """``logits = dropout(x) · weightᵀ + bias``

    Shapes: x (…, D) → logits (…, C), with C rows of weight.

    Convention: the dropout's rate is ``classifier_dropout``, or ``hidden_dropout_prob`` where that
    is None.

    Source: the last two steps of NezhaForSequenceClassification.
    """
    rate = config.classifier_dropout
    x, dropout_cache = dropout(x, config.hidden_dropout_prob if rate is None else rate, rng)
    logits, dense_cache = linear(x, p.weight, p.bias)
    return logits, ClassifierCache(dropout_cache, dense_cache)


def classifier_backward(dlogits: Array, cache: ClassifierCache, g: Tree) -> Array:
    """Fill the gradients in g; return dx

    Shapes: dlogits (…, C) → dx (…, D).
    """
    dx, dweight, dbias = linear_backward(dlogits, cache.dense)
    accumulate(g, weight=dweight, bias=dbias)
    return dropout_backward(dx, cache.dropout)
