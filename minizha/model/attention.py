"""Self-attention as a module: three projections, N heads side by side, one projection back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minizha.backend import Array
from minizha.config import NezhaConfig
from minizha.model.parameters import Tree, accumulate
from minizha.ops.attention import AttentionCache, attention, attention_backward
from minizha.ops.dropout import DropoutCache, dropout, dropout_backward
from minizha.ops.layer_norm import LayerNormCache, layer_norm, layer_norm_backward
from minizha.ops.linear import LinearCache, linear, linear_backward


class SelfAttentionCache(NamedTuple):
    """The caches of the three projections and of the attention between them."""

    query: LinearCache
    key: LinearCache
    value: LinearCache
    attention: AttentionCache


def split_heads(x: Array, heads: int) -> Array:
    """``(B, L, D) → (B, N, L, d)``: head n owns the features n·d … (n+1)·d − 1. A view."""
    B, L, D = x.shape
    return x.reshape(B, L, heads, D // heads).swapaxes(1, 2)


def merge_heads(x: Array) -> Array:
    """``(B, N, L, d) → (B, L, D)``: :func:`split_heads` undone, and its backward."""
    B, N, L, d = x.shape
    return x.swapaxes(1, 2).reshape(B, L, N * d)


def self_attention(
    p: Tree,
    config: NezhaConfig,
    x: Array,
    table: Array,
    mask: Array | None,
    head_mask: Array | None,
    rng: np.random.Generator | None,
) -> tuple[Array, SelfAttentionCache]:
    """``y = merge(attention(split(x Wqᵀ + bq), split(x Wkᵀ + bk), split(x Wvᵀ + bv)))``

    Shapes: x (B, L, D), table (2K+1, d) → y (B, L, D).

    Source: NezhaSelfAttention; Wei et al. 2019, equations 1 and 2.
    """
    N = config.num_attention_heads
    query, query_cache = linear(x, p.query.weight, p.query.bias)
    key, key_cache = linear(x, p.key.weight, p.key.bias)
    value, value_cache = linear(x, p.value.weight, p.value.bias)
    context, attention_cache = attention(
        split_heads(query, N),
        split_heads(key, N),
        split_heads(value, N),
        table,
        mask,
        head_mask,
        dropout_rate=config.attention_probs_dropout_prob,
        rng=rng,
    )
    cache = SelfAttentionCache(query_cache, key_cache, value_cache, attention_cache)
    return merge_heads(context), cache


def self_attention_backward(
    dy: Array, cache: SelfAttentionCache, g: Tree, dweights: Array | None = None
) -> Array:
    """Fill the gradients in g; return dx, the sum over the three projections that read x

    ``dweights`` is the gradient of the attention weights, where they were an output.

    Shapes: dy (B, L, D) → dx (B, L, D).
    """
    N = cache.attention.key.shape[1]
    dquery, dkey, dvalue = attention_backward(split_heads(dy, N), cache.attention, dweights)
    dx = 0.0
    for d, linear_cache, leaf in (
        (dquery, cache.query, g.query),
        (dkey, cache.key, g.key),
        (dvalue, cache.value, g.value),
    ):
        dx_here, dweight, dbias = linear_backward(merge_heads(d), linear_cache)
        accumulate(leaf, weight=dweight, bias=dbias)
        dx = dx + dx_here
    return dx


class AddAndNormCache(NamedTuple):
    """The caches of dense, dropout and LayerNorm; the sum between them needs none."""

    dense: LinearCache
    dropout: DropoutCache
    LayerNorm: LayerNormCache


def add_and_norm(
    p: Tree,
    config: NezhaConfig,
    x: Array,
    residual: Array,
    rng: np.random.Generator | None,
) -> tuple[Array, AddAndNormCache]:
    """``y = LayerNorm(dropout(dense(x)) + residual)``, the end of both halves of a layer

    Shapes: x (B, L, D or F), residual (B, L, D) → y (B, L, D).

    Convention: LayerNorm after the sum ("post-norm").

    Source: NezhaSelfOutput and NezhaOutput; Vaswani et al. 2017, section 3.1.
    """
    y, dense_cache = linear(x, p.dense.weight, p.dense.bias)
    y, dropout_cache = dropout(y, config.hidden_dropout_prob, rng)
    y, norm_cache = layer_norm(
        y + residual, p.LayerNorm.weight, p.LayerNorm.bias, config.layer_norm_eps
    )
    return y, AddAndNormCache(dense_cache, dropout_cache, norm_cache)


def add_and_norm_backward(dy: Array, cache: AddAndNormCache, g: Tree) -> tuple[Array, Array]:
    """Fill the gradients in g; return dx and dresidual

    In the forward pass this was a sum, then LayerNorm: the sum's gradient goes to the residual
    as it is, and to x through dropout and dense.

    Shapes: dy (B, L, D) → dx (B, L, D or F), dresidual (B, L, D).
    """
    dsum, dweight, dbias = layer_norm_backward(dy, cache.LayerNorm)
    accumulate(g.LayerNorm, weight=dweight, bias=dbias)
    ddense = dropout_backward(dsum, cache.dropout)
    dx, dweight, dbias = linear_backward(ddense, cache.dense)
    accumulate(g.dense, weight=dweight, bias=dbias)
    return dx, dsum
