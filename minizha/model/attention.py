"""Attention as a module: three projections, N heads side by side, one projection back.

One function serves both uses. In self-attention, queries, keys and values come from the same
tokens; in the cross-attention of a decoder, keys and values come from an encoder's.

A decoder may read a text in several calls. Each is given the keys and values of the calls before
it (the past) and returns them with its own behind. So the way back runs from the last call to the
first: what a call returns as the gradient of its past is the gradient of what the call before it
returned, and joins whatever else is asked of that call::

    d = second.backward(last_hidden_state=dh[:, P:])
    first.backward(last_hidden_state=dh[:, :P], past_key_values=d["past_key_values"])
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minizha.backend import Array, namespace
from minizha.config import NezhaConfig
from minizha.model.parameters import Tree, accumulate
from minizha.ops.attention import AttentionCache, attention, attention_backward
from minizha.ops.dropout import DropoutCache, dropout, dropout_backward
from minizha.ops.layer_norm import LayerNormCache, layer_norm, layer_norm_backward
from minizha.ops.linear import LinearCache, linear, linear_backward


class KeysAndValues(NamedTuple):
    """What a decoder keeps of P tokens that it has read: two times (B, N, P, d). Also their
    gradients, where None is "nobody asks"."""

    key: Array | None
    value: Array | None


class MultiHeadCache(NamedTuple):
    """The caches of the three projections and of the attention between them. ``past_length`` is P,
    or None where no past was given, which is another thing than an empty one; ``key`` and
    ``value`` are None where the past was all there is."""

    query: LinearCache
    key: LinearCache | None
    value: LinearCache | None
    attention: AttentionCache
    past_length: int | None


def split_heads(x: Array, head_size: int) -> Array:
    """``(B, L, N·d) → (B, N, L, d)``: head n owns the features n·d … (n+1)·d − 1. A view."""
    B, L, width = x.shape
    return x.reshape(B, L, width // head_size, head_size).swapaxes(1, 2)


def merge_heads(x: Array) -> Array:
    """``(B, N, L, d) → (B, L, N·d)``: :func:`split_heads` undone, and its backward."""
    B, N, L, d = x.shape
    return x.swapaxes(1, 2).reshape(B, L, N * d)


def multi_head_attention(
    p: Tree,
    config: NezhaConfig,
    x: Array,
    source: Array | None,
    table: Array,
    mask: Array | None,
    head_mask: Array | None,
    offset: int,
    past: KeysAndValues | None,
    rng: np.random.Generator | None,
) -> tuple[Array, MultiHeadCache]:
    """``y = merge(attention(split(x Wqᵀ + bq), key, value))``

    with ``key = [past.key ; split(s Wkᵀ + bk)]``, one behind the other, and value likewise; s is
    the ``source``: x itself (S = L), or an encoder's states. Without a source the past is all there
    is: so it is in cross-attention from the second call on.

    Shapes: x (B, L, D), source (B, S, D), table (2K+1, d), past (B, N, P, d) → y (B, L, N·d). N
    counts the heads that were not pruned.

    mask broadcasts to (B, N, L, P+S) and is added to the scores, head_mask likewise and multiplies
    the weights.

    Convention: query i stands at position ``offset + i``, key j at j. In self-attention the
    offset is P. In cross-attention too it is the number of tokens read before: both texts are
    counted from 0, and R is that of j − (offset + i).

    Source: NezhaSelfAttention; Wei et al. 2019, equations 1 and 2.
    """
    d = config.head_size
    query, query_cache = linear(x, p.query.weight, p.query.bias)
    past_length = key_cache = value_cache = None
    if past is not None:
        key, value = past
        past_length = key.shape[2]
    if source is not None:
        new_key, key_cache = linear(source, p.key.weight, p.key.bias)
        new_value, value_cache = linear(source, p.value.weight, p.value.bias)
        new_key, new_value = split_heads(new_key, d), split_heads(new_value, d)
        xp = namespace(x)
        key = new_key if past is None else xp.concatenate((key, new_key), axis=2)
        value = new_value if past is None else xp.concatenate((value, new_value), axis=2)
    context, attention_cache = attention(
        split_heads(query, d), key, value, table, mask, head_mask, offset,
        dropout_rate=config.attention_probs_dropout_prob, rng=rng,
    )  # fmt: skip
    cache = MultiHeadCache(query_cache, key_cache, value_cache, attention_cache, past_length)
    return merge_heads(context), cache


def multi_head_attention_backward(
    dy: Array,
    cache: MultiHeadCache,
    g: Tree,
    dweights: Array | None = None,
    dpresent: KeysAndValues | None = None,
) -> tuple[Array, Array | None, KeysAndValues | None]:
    """Fill the gradients in g; return dx, dsource and dpast, in the mirror order of the forward pass

    * ``y = merge(attention(query, key, value))``: the way back of attention, with ``dweights``
      from above where the weights were an output;
    * ``key`` as a whole was an output, where ``dpresent`` asks for it: that is added first, to the
      columns of the past and to the new ones;
    * ``key = [past.key ; split(s Wkᵀ + bk)]``: then it is cut at P. What lies before is dpast, what
      lies behind goes through the projection into Wk, bk and s; value likewise. Without a source
      nothing lies behind: Wk gets its gradient in the call that made the keys, as that call's
      dpresent. (A key bias, otherwise without a gradient, gets one where keys made elsewhere stand
      beside its own.)
    * ``query = split(x Wqᵀ + bq)``: dx is the query's part alone. In self-attention s was x too;
      the layer adds dsource to it.

    Shapes: dy (B, L, N·d), dweights (B, N, L, P+S), dpresent (B, N, P+S, d) → dx (B, L, D),
    dsource (B, S, D) or None, dpast (B, N, P, d) or None.
    """
    d = cache.attention.key.shape[-1]
    dquery, dkey, dvalue = attention_backward(split_heads(dy, d), cache.attention, dweights)
    if dpresent is not None:
        dkey = dkey if dpresent.key is None else dkey + dpresent.key
        dvalue = dvalue if dpresent.value is None else dvalue + dpresent.value
    dx, dweight, dbias = linear_backward(merge_heads(dquery), cache.query)
    accumulate(g.query, weight=dweight, bias=dbias)
    P, dpast, dsource = cache.past_length or 0, None, None
    if cache.past_length is not None:
        dpast = KeysAndValues(dkey[:, :, :P], dvalue[:, :, :P])
    if cache.key is not None:
        from_key, dweight, dbias = linear_backward(merge_heads(dkey[:, :, P:]), cache.key)
        accumulate(g.key, weight=dweight, bias=dbias)
        from_value, dweight, dbias = linear_backward(merge_heads(dvalue[:, :, P:]), cache.value)
        accumulate(g.value, weight=dweight, bias=dbias)
        dsource = from_key + from_value
    return dx, dsource, dpast


class AddAndNormCache(NamedTuple):
    """The caches of dropout and LayerNorm; the sum between them needs none."""

    dropout: DropoutCache
    LayerNorm: LayerNormCache


def add_and_norm(
    p: Tree, config: NezhaConfig, y: Array, residual: Array, rng: np.random.Generator | None
) -> tuple[Array, AddAndNormCache]:
    """``z = LayerNorm(dropout(y) + residual)``, the end of each part of a layer

    Shapes: y (B, L, D), residual (B, L, D) → z (B, L, D).

    Convention: LayerNorm after the sum ("post-norm").

    Source: NezhaSelfOutput and NezhaOutput; Vaswani et al. 2017, section 3.1.
    """
    dropped, dropout_cache = dropout(y, config.hidden_dropout_prob, rng)
    norm = p.LayerNorm
    z, norm_cache = layer_norm(dropped + residual, norm.weight, norm.bias, config.layer_norm_eps)
    return z, AddAndNormCache(dropout_cache, norm_cache)


def add_and_norm_backward(dz: Array, cache: AddAndNormCache, g: Tree) -> tuple[Array, Array]:
    """Fill the gradients in g; return dy and dresidual

    In the forward pass this was a sum, then LayerNorm: the sum's gradient goes to the residual
    as it is, and to y through dropout.

    Shapes: dz (B, L, D) → dy (B, L, D), dresidual (B, L, D).
    """
    dsum, dweight, dbias = layer_norm_backward(dz, cache.LayerNorm)
    accumulate(g.LayerNorm, weight=dweight, bias=dbias)
    return dropout_backward(dsum, cache.dropout), dsum


class AttentionBlockCache(NamedTuple):
    """The caches of the heads (``self``, as checkpoints call them), the projection, and the sum."""

    self: MultiHeadCache
    dense: LinearCache
    output: AddAndNormCache


def attention_block(
    p: Tree,
    config: NezhaConfig,
    x: Array,
    source: Array | None,
    table: Array,
    mask: Array | None,
    head_mask: Array | None,
    offset: int,
    past: KeysAndValues | None,
    rng: np.random.Generator | None,
) -> tuple[Array, AttentionBlockCache]:
    """``y = add_and_norm(dense(multi_head_attention(x, source)), x)``

    Shapes: x (B, L, D), source (B, S, D), table (2K+1, d), past (B, N, P, d) → y (B, L, D).

    Source: NezhaAttention.
    """
    context, self_cache = multi_head_attention(
        p.self, config, x, source, table, mask, head_mask, offset, past, rng
    )
    y, dense_cache = linear(context, p.output.dense.weight, p.output.dense.bias)
    y, output_cache = add_and_norm(p.output, config, y, x, rng)
    return y, AttentionBlockCache(self_cache, dense_cache, output_cache)


def attention_block_backward(
    dy: Array,
    cache: AttentionBlockCache,
    g: Tree,
    dweights: Array | None = None,
    dpresent: KeysAndValues | None = None,
) -> tuple[Array, Array | None, KeysAndValues | None]:
    """Fill the gradients in g; return dx, dsource and dpast

    In the forward pass x went two ways, into the heads and around them: dx is the sum of both.

    Shapes: dy (B, L, D) → dx (B, L, D), dsource (B, S, D) or None, dpast (B, N, P, d) or None.
    """
    ddense, around = add_and_norm_backward(dy, cache.output, g.output)
    dcontext, dweight, dbias = linear_backward(ddense, cache.dense)
    accumulate(g.output.dense, weight=dweight, bias=dbias)
    through, dsource, dpast = multi_head_attention_backward(
        dcontext, cache.self, g.self, dweights, dpresent
    )
    return around + through, dsource, dpast
