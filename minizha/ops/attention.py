"""Attention: every query averages the values, weighted by how well it matches their keys.

NEZHA's attention is BERT's with two additions: a vector that depends on the distance between the
two tokens is added to the key in the score, and to the value in the context. (On the CPU, float models
run :mod:`minizha.kernels.attention`, where arrays of size Lq × Lk are never whole.)
"""

from __future__ import annotations

import math
from typing import NamedTuple

from minizha.backend import Array
from minizha.ops.dropout import DropoutCache, Rng, dropout, dropout_backward
from minizha.ops.relative_position import (
    RelativeCache,
    relative_key,
    relative_key_backward,
    relative_value,
    relative_value_backward,
)
from minizha.ops.replaceable import replaceable
from minizha.ops.softmax import SoftmaxCache, softmax, softmax_backward


class AttentionCache(NamedTuple):
    """The factors of the two products, and the caches of the steps between them."""

    scaled_query: Array
    key: Array
    value: Array
    relative_key: RelativeCache
    softmax: SoftmaxCache
    dropout: DropoutCache
    head_mask: Array | None
    weights: Array
    relative_value: RelativeCache


@replaceable
def attention(
    query: Array,
    key: Array,
    value: Array,
    table: Array,
    *,
    mask: Array | None = None,
    head_mask: Array | None = None,
    offset: int = 0,
    dropout_rate: float = 0.0,
    rng: Rng = None,
) -> tuple[Array, AttentionCache]:
    """``context[i] = Σ_j weights[i, j] · (value[j] + R[i, j])``

    with ``weights = dropout(softmax(scores + mask)) · head_mask`` and
    ``scores[i, j] = query[i] · (key[j] + R[i, j]) / √d``.

    Shapes: query (B, N, Lq, d), key (B, N, Lk, d), value (B, N, Lk, d), table (2K+1, d)
    → context (B, N, Lq, d).

    mask broadcasts to (B, N, Lq, Lk) and is *added*: 0 where a query may attend, the lowest
    number of the dtype where it may not. head_mask broadcasts likewise and multiplies.

    Convention: R[i, j] is the table row of the clipped distance j − (offset + i), see
    :mod:`~minizha.ops.relative_position`; both terms are scaled by 1/√d; the weights of both
    value terms are the same. A fully masked row attends to all keys equally. ``offset`` is the
    position of the first query: 0 in an encoder, and in a decoder the number of tokens that it
    read in earlier calls.

    Source: Vaswani et al. 2017, equation 1; Wei et al. 2019, equations 1 and 2.
    """
    scaled_query = query * (1.0 / math.sqrt(query.shape[-1]))  # L·d products instead of L·L
    key_term, relative_key_cache = relative_key(
        scaled_query, table, key.shape[-2], offset
    )  # (B, N, Lq, Lk)
    scores = scaled_query @ key.swapaxes(-1, -2) + key_term
    probs, softmax_cache = softmax(scores, mask)
    weights, dropout_cache = dropout(probs, dropout_rate, rng)
    if head_mask is not None:
        weights = weights * head_mask
    value_term, relative_value_cache = relative_value(weights, table, offset)
    context = weights @ value + value_term
    cache = AttentionCache(
        scaled_query=scaled_query,
        key=key,
        value=value,
        relative_key=relative_key_cache,
        softmax=softmax_cache,
        dropout=dropout_cache,
        head_mask=head_mask,
        weights=weights,
        relative_value=relative_value_cache,
    )
    return context, cache


@replaceable
def attention_backward(
    dcontext: Array, cache: AttentionCache, dweights: Array | None = None
) -> tuple[Array, Array, Array]:
    """The gradients of query, key and value, in the mirror order of the forward pass

    * ``context = weights · value + relative_value(weights)``: dvalue is weightsᵀ · dcontext. The
      gradient of the weights is dcontext · valueᵀ, plus the backward pass of the relative term, plus
      ``dweights``, the upstream gradient of the weights where these are an output too;
    * ``weights = dropout(probs) · head_mask`` and ``probs = softmax(scores + mask)``: each by its
      own backward pass; the mask is a constant. A masked key has probability 0, and softmax's
      backward pass multiplies by the probability, so its score has gradient 0. In a fully masked
      row, though, every key has probability 1/Lk and the gradient passes: scores + mask has slope 1
      even where rounding has removed the scores from the sum (the complex step agrees);
    * ``scores = q · keyᵀ + relative_key(q)`` with ``q = query / √d``: dkey is dscoresᵀ · q; dq is
      dscores · key plus the backward pass of the relative term; dquery is dq / √d.

    Shapes: dcontext (B, N, Lq, d) → dquery (B, N, Lq, d), dkey (B, N, Lk, d), dvalue (B, N, Lk, d).
    """
    dvalue = cache.weights.swapaxes(-1, -2) @ dcontext  # (B, N, Lk, d)
    dweights = _weights_gradient(dcontext, cache, dweights)  # (B, N, Lq, Lk)
    if cache.head_mask is not None:
        dweights = dweights * cache.head_mask
    dprobs = dropout_backward(dweights, cache.dropout)
    dscores = softmax_backward(dprobs, cache.softmax)

    dkey = dscores.swapaxes(-1, -2) @ cache.scaled_query
    dquery = dscores @ cache.key + relative_key_backward(dscores, cache.relative_key)
    return dquery * (1.0 / math.sqrt(dquery.shape[-1])), dkey, dvalue


def head_mask_gradient(
    dcontext: Array, cache: AttentionCache, dweights: Array | None = None
) -> Array | None:
    """``dhead_mask[n] = Σ_{b, i, j} dweights[b, n, i, j] · dropout(probs)[b, n, i, j]``

    In the forward pass this was ``weights = dropout(probs) · head_mask``. One factor multiplies many
    weights, so its gradient is the sum over all axes that it was broadcast along. dweights is the
    gradient of the weights as in :func:`attention_backward`: that of the context, plus the upstream
    one. (weights / head_mask would not do for dropout(probs): a factor may be 0, and its gradient
    says what the silenced head would add.)

    Shapes: dcontext (B, N, Lq, d) → dhead_mask (1, N, 1, 1) or None.

    Convention: None without a head mask. The sum is over each axis on which head_mask has length 1:
    a head_mask (B, N, 1, 1) has a gradient (B, N, 1, 1).
    """
    if cache.head_mask is None:
        return None
    dropped = cache.softmax.probs  # (B, N, Lq, Lk)
    if cache.dropout.factor is not None:
        dropped = dropped * cache.dropout.factor
    products = _weights_gradient(dcontext, cache, dweights) * dropped
    axes = tuple(axis for axis, length in enumerate(cache.head_mask.shape) if length == 1)
    return products.sum(axis=axes, keepdims=True)


def _weights_gradient(dcontext: Array, cache: AttentionCache, dweights: Array | None) -> Array:
    """dweights, that of the context added to the upstream one

    Shapes: dcontext (B, N, Lq, d), dweights (B, N, Lq, Lk) → from_context (B, N, Lq, Lk).
    """
    from_context = dcontext @ cache.value.swapaxes(-1, -2)  # (B, N, Lq, Lk)
    from_context += relative_value_backward(dcontext, cache.relative_value)
    return from_context if dweights is None else from_context + dweights
