"""The encoder, and the decoder: a stack of layers, each attention and then a feed-forward network.

A decoder's layer may have cross-attention in between, with keys and values from an encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from minizha.backend import Array, namespace
from minizha.config import NezhaConfig
from minizha.nezha.attention import (
    AddAndNormCache,
    AttentionBlockCache,
    AttentionInputs,
    AttentionUpstream,
    KeysAndValues,
    add_and_norm,
    add_and_norm_backward,
    attention_block,
    attention_block_backward,
)
from minizha.nezha.feed_forward import (
    ChunkedFeedForwardCache,
    FeedForwardCache,
    feed_forward,
    feed_forward_backward,
)
from minizha.nezha.parameters import Tree, add
from minizha.ops.dropout import Rng


class LayerInputs(NamedTuple):
    """The inputs of a layer besides x: those of its attention and, if it has cross-attention, those
    of that and the encoder's states, (B, S, D)."""

    attention: AttentionInputs
    crossattention: AttentionInputs | None = None
    encoder_hidden_states: Array | None = None


class LayerCache(NamedTuple):
    """The caches of a layer's steps, in the order of execution."""

    attention: AttentionBlockCache
    crossattention: AttentionBlockCache | None
    feed_forward: FeedForwardCache | ChunkedFeedForwardCache
    output: AddAndNormCache


class LayerUpstream(NamedTuple):
    """Upstream gradients of a layer's outputs besides y."""

    attention: AttentionUpstream = AttentionUpstream()
    crossattention: AttentionUpstream = AttentionUpstream()


class LayerGradients(NamedTuple):
    """The gradients of a layer's inputs, in their shapes; None for an input that was not given."""

    x: Array
    encoder_hidden_states: Array | None
    past: KeysAndValues | None
    cross_past: KeysAndValues | None
    head_mask: Array | None
    cross_head_mask: Array | None


def layer(
    p: Tree, config: NezhaConfig, x: Array, inputs: LayerInputs, rng: Rng
) -> tuple[Array, LayerCache]:
    """``h = attention_block(x, x)``, ``y = add_and_norm(feed_forward(h), h)``

    In a decoder that has an encoder, ``h = attention_block(h, encoder)`` comes in between.

    Shapes: x (B, L, D), inputs.encoder_hidden_states (B, S, D) → y (B, L, D).

    Source: NezhaLayer; Vaswani et al. 2017, section 3.1.
    """
    h, attention_cache = attention_block(p.attention, config, x, x, inputs.attention, rng)
    cross, cross_cache = inputs.crossattention, None
    if cross is not None:
        # the encoder's keys and values are the same in every call; if the past holds them, the
        # encoder's states are not read, even if given, and have gradient 0
        source = inputs.encoder_hidden_states if cross.past is None else None
        h, cross_cache = attention_block(p.crossattention, config, h, source, cross, rng)
    y, feed_forward_cache = feed_forward(p, config, h)
    y, output_cache = add_and_norm(p.output, config, y, h, rng)
    return y, LayerCache(attention_cache, cross_cache, feed_forward_cache, output_cache)


def layer_backward(
    dy: Array, cache: LayerCache, g: Tree, upstream: LayerUpstream = LayerUpstream()
) -> LayerGradients:
    """Add the gradients of the parameters to g; return those of the layer's inputs

    In the forward pass h was used twice, in the feed-forward network and as the residual: dh is the
    sum of both. Then come the attentions in reverse. The source of self-attention was x, so its
    gradient is added to dx.

    Shapes: dy (B, L, D) → x (B, L, D), encoder_hidden_states (B, S, D) or None,
    past (B, N, P, d) or None, cross_past (B, N, S, d) or None,
    head_mask (1, N, 1, 1) or None, cross_head_mask (1, N, 1, 1) or None.
    """
    dfeed_forward, dh = add_and_norm_backward(dy, cache.output, g.output)
    dh = dh + feed_forward_backward(dfeed_forward, cache.feed_forward, g)
    dencoder = dcross_past = dcross_mask = None
    if cache.crossattention is not None:
        dh, dencoder, dcross_past, dcross_mask = attention_block_backward(
            dh, cache.crossattention, g.crossattention, upstream.crossattention
        )  # (B, L, D), (B, S, D), (B, N, S, d), (1, N, 1, 1)
    dx, dsource, dpast, dhead_mask = attention_block_backward(
        dh, cache.attention, g.attention, upstream.attention
    )  # (B, L, D), (B, L, D), (B, N, P, d), (1, N, 1, 1)
    return LayerGradients(dx + dsource, dencoder, dpast, dcross_past, dhead_mask, dcross_mask)


class Wanted(NamedTuple):
    """Whether each layer returns, besides its output, its attention weights, its keys and values
    for a later call, and its cache for the backward pass."""

    attentions: bool = False
    past_key_values: bool = False
    record: bool = False


class NezhaResult(NamedTuple):
    """The outputs of the network, None for those that were not requested. Also their upstream
    gradients, None standing for 0. The tuples have one entry for each layer."""

    last_hidden_state: Array | None = None  # of each token, (B, L, D)
    pooler_output: Array | None = None  # of each text, (B, D)
    hidden_states: tuple[Array, ...] | None = None  # of the embeddings, then of each layer
    past_key_values: tuple[tuple[Array, ...], ...] | None = None  # see keys_and_values
    attentions: tuple[Array, ...] | None = None  # the weights, (B, N, L, P+L)
    cross_attentions: tuple[Array, ...] | None = None  # the weights, (B, N, L, S)


def encoder(
    p: Tree, config: NezhaConfig, x: Array, inputs: Sequence[LayerInputs], rng: Rng, wanted: Wanted
) -> tuple[NezhaResult, tuple[LayerCache, ...]]:
    """``hidden_states[i + 1] = layer_i(hidden_states[i])``, from ``hidden_states[0] = x``, (B, L, D)

    Without ``wanted.record`` there are no caches.
    """
    hidden_states, attentions, cross_attentions, past, caches = [x], [], [], [], []
    for i, layer_inputs in enumerate(inputs):
        x, cache = layer(p.layer[str(i)], config, x, layer_inputs, rng)
        hidden_states.append(x)
        if wanted.attentions:
            attentions.append(cache.attention.self.attention.weights)
            if cache.crossattention is not None:
                cross_attentions.append(cache.crossattention.self.attention.weights)
        if wanted.past_key_values:
            past.append(keys_and_values(cache))
        if wanted.record:
            caches.append(cache)
        del cache  # otherwise an unwanted cache would stay in memory while the next layer runs
    result = NezhaResult(
        last_hidden_state=x,
        hidden_states=tuple(hidden_states),
        past_key_values=tuple(past) if wanted.past_key_values else None,
        attentions=tuple(attentions) if wanted.attentions else None,
        cross_attentions=tuple(cross_attentions) or None,
    )
    return result, tuple(caches)


def keys_and_values(cache: LayerCache) -> tuple[Array, ...]:
    """The keys and values of a layer, for a later call: two arrays (B, N, P+L, d), and with
    cross-attention two more, (B, N, S, d)."""
    blocks = (cache.attention, cache.crossattention)
    caches = (block.self.attention for block in blocks if block is not None)
    return tuple(array for c in caches for array in (c.key, c.value))


class InputGradients(NamedTuple):
    """The gradients of the inputs, None for 0 and for an input that was not given.
    ``past_key_values`` has one entry for each layer: the gradients of the arrays given to it, or None.
    So has ``head_mask``: those in self-attention and in cross-attention. ``hidden_states`` has an
    entry for each hidden state if these were an output, and else none."""

    x: Array | None
    encoder_hidden_states: Array | None
    past_key_values: tuple[tuple[Array, ...] | None, ...]
    head_mask: tuple[tuple[Array | None, Array | None], ...]
    hidden_states: tuple[Array | None, ...]


def encoder_backward(d: NezhaResult, caches: Sequence[LayerCache], g: Tree) -> InputGradients:
    """Go through the layers in reverse; add the gradients of the parameters to g

    Each hidden state was the input of the next layer and possibly an output: its gradient is the
    sum of both. All layers read the same encoder states, so their gradients add up over the layers.
    """
    dx, dencoder, dpast, dmasks, dhidden = d.last_hidden_state, None, [], [], []
    for i in reversed(range(len(caches))):
        cache = caches[i]
        if d.hidden_states:  # kept for these alone: they take memory
            dhidden.append(dx)
        upstream, past, masks = layer_upstream(d, i), None, (None, None)
        if dx is not None or upstream.attention.any_given or upstream.crossattention.any_given:
            if dx is None:
                like_dx = cache.output.LayerNorm.normalised  # same shape, dtype and library
                dx = namespace(like_dx).zeros_like(like_dx)
            gradients = layer_backward(dx, cache, g.layer[str(i)], upstream)
            dx, dencoder = gradients.x, add(dencoder, gradients.encoder_hidden_states)
            pairs = (gradients.past, gradients.cross_past)
            past = tuple(array for pair in pairs if pair is not None for array in pair)
            masks = gradients.head_mask, gradients.cross_head_mask
        dpast.append(past)
        dmasks.append(masks)
        dx = add(dx, d.hidden_states[i] if d.hidden_states else None)
    if d.hidden_states:
        dhidden.append(dx)
    lists = (dpast, dmasks, dhidden)  # from the last layer to the first
    return InputGradients(dx, dencoder, *(tuple(reversed(each)) for each in lists))


def layer_upstream(d: NezhaResult, i: int) -> LayerUpstream:
    """The upstream gradients of layer i in d, but for that of its hidden state."""
    weights, cross_weights, present = (
        None if of_all is None else of_all[i]
        for of_all in (d.attentions, d.cross_attentions, d.past_key_values)
    )
    key, value, *cross = present or (None, None)
    return LayerUpstream(
        AttentionUpstream(weights, KeysAndValues(key, value)),
        AttentionUpstream(cross_weights, KeysAndValues(*cross)),
    )
