"""Attention as a module: three projections, N heads side by side, one projection back to D.

One function serves both uses. In self-attention, queries, keys and values come from the same
tokens; in the cross-attention of a decoder, keys and values come from the tokens of an encoder.

A decoder may read a text in several calls. Each call takes the past, the keys and values of the
earlier calls, and returns it with its own keys and values appended. The backward pass therefore runs
from the last call to the first: the gradient of a call's past is an upstream gradient of the
previous call::

    d = second.backward(last_hidden_state=dh[:, P:])
    first.backward(last_hidden_state=dh[:, :P], past_key_values=d["past_key_values"])
"""

from __future__ import annotations

from typing import NamedTuple

from minizha.backend import Array, namespace
from minizha.config import NezhaConfig
from minizha.nezha.parameters import Tree, accumulate, add
from minizha.ops.attention import (
    AttentionCache,
    attention,
    attention_backward,
    head_mask_gradient,
)
from minizha.ops.dropout import DropoutCache, Rng, dropout, dropout_backward
from minizha.ops.layer_norm import LayerNormCache, layer_norm, layer_norm_backward
from minizha.ops.linear import LinearCache, linear, linear_backward
from minizha.ops.replaceable import replaceable


class KeysAndValues(NamedTuple):
    """Keys and values of P tokens, each (B, N, P, d); or their gradients, None standing for 0."""

    key: Array | None = None
    value: Array | None = None


class AttentionInputs(NamedTuple):
    """The inputs of an attention besides its tokens.

    ``table`` (2K+1, d) holds the relative positions. ``mask`` broadcasts to (B, N, L, P+S) and is
    added to the scores, ``head_mask`` broadcasts likewise and multiplies the weights. Query i has
    position ``offset + i``. ``past`` holds the keys and values of earlier calls, (B, N, P, d)."""

    table: Array
    mask: Array | None = None
    head_mask: Array | None = None
    offset: int = 0
    past: KeysAndValues | None = None


class AttentionUpstream(NamedTuple):
    """Upstream gradients of the outputs besides y, None standing for 0: of the weights,
    (B, N, L, P+S), and of all keys and values, the past ones first, (B, N, P+S, d)."""

    weights: Array | None = None
    present: KeysAndValues = KeysAndValues()

    @property
    def any_given(self) -> bool:
        """Whether any of them is not None."""
        return any(d is not None for d in (self.weights, *self.present))


class AttentionGradients(NamedTuple):
    """The gradients of x, source, past and head mask, separate even if the source is x; None for
    what was not given."""

    x: Array
    source: Array | None
    past: KeysAndValues | None
    head_mask: Array | None


class MultiHeadCache(NamedTuple):
    """The caches of the three projections and of the attention. ``key`` and ``value`` are None
    without a source; ``past_length`` is None without a past, and 0 for an empty one."""

    query: LinearCache
    key: LinearCache | None
    value: LinearCache | None
    attention: AttentionCache
    past_length: int | None


def split_heads(x: Array, head_size: int) -> Array:
    """``(B, L, N·d) → (B, N, L, d)``: head n takes the features n·d … (n+1)·d − 1. A view."""
    B, L, width = x.shape
    return x.reshape(B, L, width // head_size, head_size).swapaxes(1, 2)


def merge_heads(x: Array) -> Array:
    """``(B, N, L, d) → (B, L, N·d)``: the inverse of :func:`split_heads`, and its backward pass."""
    B, N, L, d = x.shape
    return x.swapaxes(1, 2).reshape(B, L, N * d)


def multi_head_attention(
    p: Tree, config: NezhaConfig, x: Array, source: Array | None, inputs: AttentionInputs, rng: Rng
) -> tuple[Array, MultiHeadCache]:
    """``y = merge(attention(split(x Wqᵀ + bq), key, value))``

    with ``key = [past.key ; split(source Wkᵀ + bk)]``, a concatenation, and value likewise. The
    source is x itself in self-attention (then S = L), and an encoder's states in cross-attention.
    In cross-attention the past holds all keys from the second call on, and the source is None.

    Shapes: x (B, L, D), source (B, S, D), inputs.table (2K+1, d), inputs.past (B, N, P, d)
    → y (B, L, N·d).

    Convention: N counts the unpruned heads. Query i has position ``offset + i``, key j position j.
    The offset is the number of tokens read in earlier calls, which is P in self-attention. In
    cross-attention the positions of both texts start at 0, and R is that of j − (offset + i). (The
    published code does the same for texts of equal length, and supports no others.)

    Source: NezhaSelfAttention; Wei et al. 2019, equations 1 and 2.
    """
    d, past = config.head_size, inputs.past
    query, query_cache = linear(x, p.query.weight, p.query.bias)  # (B, L, N·d)
    query = split_heads(query, d)  # (B, N, L, d)
    key_cache = value_cache = None
    if source is None:
        key, value = past
    else:
        key, key_cache = linear(source, p.key.weight, p.key.bias)
        value, value_cache = linear(source, p.value.weight, p.value.bias)
        key, value = split_heads(key, d), split_heads(value, d)  # (B, N, S, d), (B, N, S, d)
        if past is not None:
            xp = namespace(x)
            key = xp.concatenate((past.key, key), axis=2)  # (B, N, P+S, d)
            value = xp.concatenate((past.value, value), axis=2)
    context, attention_cache = attention(
        query,
        key,
        value,
        inputs.table,
        mask=inputs.mask,
        head_mask=inputs.head_mask,
        offset=inputs.offset,
        dropout_rate=config.attention_probs_dropout_prob,
        rng=rng,
    )
    past_length = None if past is None else past.key.shape[2]
    cache = MultiHeadCache(query_cache, key_cache, value_cache, attention_cache, past_length)
    return merge_heads(context), cache


def multi_head_attention_backward(
    dy: Array, cache: MultiHeadCache, g: Tree, upstream: AttentionUpstream = AttentionUpstream()
) -> AttentionGradients:
    """Add the gradients of the parameters to g; return those of x, source, past and head mask

    In the forward pass, and now in mirror order:

    * ``y = merge(attention(query, key, value))``: the backward pass of attention, with
      ``upstream.weights`` if the weights were an output, and the gradient of the head mask;
    * all keys were an output too: ``upstream.present`` is added to their gradient;
    * ``key = [past.key ; split(source Wkᵀ + bk)]``: the gradient is split at P. The first part is
      dpast; the rest goes through the projection into Wk, bk and the source. Value likewise.
      Without a source there is no rest: Wk gets its gradient in the call that computed the keys,
      from the ``upstream.present`` of that call. (The key bias adds one number to all scores of a
      query, which softmax ignores: its gradient is 0. After a past it adds to some of the scores
      only, and its gradient is not 0.)
    * ``query = split(x Wqᵀ + bq)``: dx comes from the query alone.

    Shapes: dy (B, L, N·d), upstream.weights (B, N, L, P+S), upstream.present (B, N, P+S, d)
    → x (B, L, D), source (B, S, D) or None, past (B, N, P, d) or None, head_mask (1, N, 1, 1) or None.
    """
    d = cache.attention.key.shape[-1]
    dcontext = split_heads(dy, d)  # (B, N, L, d)
    dquery, dkey, dvalue = attention_backward(
        dcontext, cache.attention, upstream.weights
    )  # (B, N, L, d), (B, N, P+S, d), (B, N, P+S, d)
    dkey, dvalue = add(dkey, upstream.present.key), add(dvalue, upstream.present.value)
    dquery = merge_heads(dquery)  # (B, L, N·d)
    dx, dweight, dbias = linear_backward(dquery, cache.query)  # (B, L, D), (N·d, D), (N·d)
    accumulate(g.query, weight=dweight, bias=dbias)
    P, dpast, dsource = cache.past_length or 0, None, None
    if cache.past_length is not None:
        dpast = KeysAndValues(dkey[:, :, :P], dvalue[:, :, :P])  # (B, N, P, d)
    if cache.key is not None:
        dkey = merge_heads(dkey[:, :, P:])  # (B, S, N·d)
        dvalue = merge_heads(dvalue[:, :, P:])
        from_key, dweight, dbias = linear_backward(dkey, cache.key)  # (B, S, D), (N·d, D), (N·d)
        accumulate(g.key, weight=dweight, bias=dbias)
        from_value, dweight, dbias = linear_backward(dvalue, cache.value)
        accumulate(g.value, weight=dweight, bias=dbias)
        dsource = from_key + from_value
    return AttentionGradients(
        dx, dsource, dpast, head_mask_gradient(dcontext, cache.attention, upstream.weights)
    )


class AddAndNormCache(NamedTuple):
    """The caches of dropout and LayerNorm; their sum needs none."""

    dropout: DropoutCache
    LayerNorm: LayerNormCache


@replaceable
def add_and_norm(
    p: Tree, config: NezhaConfig, y: Array, residual: Array, rng: Rng
) -> tuple[Array, AddAndNormCache]:
    """``z = LayerNorm(dropout(y) + residual)``, the end of each block of a layer

    Shapes: y (B, L, D), residual (B, L, D) → z (B, L, D).

    Convention: LayerNorm after the sum ("post-norm").

    Source: NezhaSelfOutput and NezhaOutput; Vaswani et al. 2017, section 3.1.
    """
    dropped, dropout_cache = dropout(y, config.hidden_dropout_prob, rng)
    norm = p.LayerNorm
    z, norm_cache = layer_norm(dropped + residual, norm.weight, norm.bias, config.layer_norm_eps)
    return z, AddAndNormCache(dropout_cache, norm_cache)


@replaceable
def add_and_norm_backward(dz: Array, cache: AddAndNormCache, g: Tree) -> tuple[Array, Array]:
    """Add the gradients of the parameters to g; return dy and dresidual

    In the forward pass this was dropout, a sum, then LayerNorm: dresidual is the gradient of the
    sum, dy is the backward pass of dropout applied to it.

    Shapes: dz (B, L, D) → dy (B, L, D), dresidual (B, L, D).
    """
    dsum, dweight, dbias = layer_norm_backward(dz, cache.LayerNorm)  # (B, L, D), (D), (D)
    accumulate(g.LayerNorm, weight=dweight, bias=dbias)
    return dropout_backward(dsum, cache.dropout), dsum


class AttentionBlockCache(NamedTuple):
    """The caches of the heads (``self`` in checkpoints), the projection, and add_and_norm."""

    self: MultiHeadCache
    dense: LinearCache
    output: AddAndNormCache


def attention_block(
    p: Tree, config: NezhaConfig, x: Array, source: Array | None, inputs: AttentionInputs, rng: Rng
) -> tuple[Array, AttentionBlockCache]:
    """``y = add_and_norm(dense(multi_head_attention(x, source)), x)``

    Shapes: x (B, L, D), source (B, S, D), inputs.table (2K+1, d), inputs.past (B, N, P, d)
    → y (B, L, D).

    Source: NezhaAttention.
    """
    context, cache = multi_head_attention(p.self, config, x, source, inputs, rng)  # (B, L, N·d)
    y, dense_cache = linear(context, p.output.dense.weight, p.output.dense.bias)
    y, output_cache = add_and_norm(p.output, config, y, x, rng)
    return y, AttentionBlockCache(cache, dense_cache, output_cache)


def attention_block_backward(
    dy: Array,
    cache: AttentionBlockCache,
    g: Tree,
    upstream: AttentionUpstream = AttentionUpstream(),
) -> AttentionGradients:
    """Add the gradients of the parameters to g; return those of x, source, past and head mask

    In the forward pass x was used twice, for the queries and as the residual; its gradient is the
    sum of both. In self-attention it was the source too: the layer adds that gradient.

    Shapes: dy (B, L, D) → x (B, L, D), source (B, S, D) or None, past (B, N, P, d) or None,
    head_mask (1, N, 1, 1) or None.
    """
    ddense, dresidual = add_and_norm_backward(dy, cache.output, g.output)
    dcontext, dweight, dbias = linear_backward(ddense, cache.dense)  # (B, L, N·d), (D, N·d), (D)
    accumulate(g.output.dense, weight=dweight, bias=dbias)
    gradients = multi_head_attention_backward(dcontext, cache.self, g.self, upstream)
    return gradients._replace(x=dresidual + gradients.x)
