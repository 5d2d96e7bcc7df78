"""The encoder, and the decoder: a stack of layers, each attention and then a feed-forward network.

A decoder's layer has a second attention in between, whose keys and values come from an encoder,
and it can go on where an earlier call stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minizha.backend import Array, namespace
from minizha.config import NezhaConfig
from minizha.model.attention import (
    AddAndNormCache,
    AttentionBlockCache,
    KeysAndValues,
    add_and_norm,
    add_and_norm_backward,
    attention_block,
    attention_block_backward,
)
from minizha.model.feed_forward import (
    ChunkedFeedForwardCache,
    FeedForwardCache,
    feed_forward,
    feed_forward_backward,
)
from minizha.model.parameters import Tree


class LayerInputs(NamedTuple):
    """What a layer reads besides x. The masks are added to the scores: (B or 1, 1, 1 or L, P+L)
    and (B, 1, 1 or L, S). The head masks multiply the weights: (1, heads left, 1, 1) and
    (1, N, 1, 1). ``offset`` = P is the position of the first query; ``past`` and ``cross_past`` are
    the keys and values of earlier calls, of P and of S tokens. What belongs to cross-attention
    is None where there is none."""

    mask: Array | None
    head_mask: Array | None
    offset: int = 0
    past: KeysAndValues | None = None
    encoder_hidden_states: Array | None = None
    encoder_mask: Array | None = None
    cross_head_mask: Array | None = None
    cross_past: KeysAndValues | None = None

    @property
    def crosses(self) -> bool:
        """Whether there is something for cross-attention to look at."""
        return self.encoder_hidden_states is not None or self.cross_past is not None


class LayerCache(NamedTuple):
    """The caches of one layer's steps, in the order in which they ran."""

    attention: AttentionBlockCache
    crossattention: AttentionBlockCache | None
    feed_forward: FeedForwardCache | ChunkedFeedForwardCache
    output: AddAndNormCache


class LayerUpstream(NamedTuple):
    """What the world outside asks of a layer's results besides y; None: nothing. The gradients of
    the weights, (B, N, L, P+L) and (B, N, L, S), and of all keys and values, those of the past and
    the new ones: (B, N, P+L, d) and (B, N, S, d)."""

    attentions: Array | None = None
    cross_attentions: Array | None = None
    present: KeysAndValues | None = None
    cross_present: KeysAndValues | None = None

    @property
    def asks(self) -> bool:
        """Whether there is anything to pass on."""
        return any(d is not None for d in self)


class LayerGradients(NamedTuple):
    """The gradients of what a layer read, of the shapes it had; None for what was not there."""

    x: Array
    encoder_hidden_states: Array | None
    past: KeysAndValues | None
    cross_past: KeysAndValues | None


def layer(
    p: Tree,
    config: NezhaConfig,
    x: Array,
    table: Array,
    inputs: LayerInputs,
    rng: np.random.Generator | None,
) -> tuple[Array, LayerCache]:
    """``h = attention_block(x, x)``, ``h = attention_block(h, encoder)`` in a decoder that has an
    encoder to look at, ``y = add_and_norm(feed_forward(h), h)``

    Shapes: x (B, L, D) → y (B, L, D).

    Convention: cross-attention counts both texts from 0, its R is that of j − (offset + i). The
    published code does so where both are equally long, and has no other case.

    Source: NezhaLayer; Vaswani et al. 2017, section 3.1.
    """
    h, attention_cache = attention_block(
        p.attention, config, x, x, table, inputs.mask, inputs.head_mask, inputs.offset,
        inputs.past, rng,
    )  # fmt: skip
    cross_cache = None
    if inputs.crosses:
        # the encoder's keys and values do not change from call to call: those kept will do, and
        # the encoder's states, if given again, are not read and get no gradient
        source = inputs.encoder_hidden_states if inputs.cross_past is None else None
        h, cross_cache = attention_block(
            p.crossattention, config, h, source, table, inputs.encoder_mask,
            inputs.cross_head_mask, inputs.offset, inputs.cross_past, rng,
        )  # fmt: skip
    y, feed_forward_cache = feed_forward(p, config, h)
    y, output_cache = add_and_norm(p.output, config, y, h, rng)
    return y, LayerCache(attention_cache, cross_cache, feed_forward_cache, output_cache)


def layer_backward(
    dy: Array,
    cache: LayerCache,
    config: NezhaConfig,
    g: Tree,
    upstream: LayerUpstream = LayerUpstream(),  # noqa: B008 (a tuple never changes)
) -> LayerGradients:
    """Fill the gradients in g; return those of what the layer read

    In the forward pass h went two ways, into the feed-forward network and around it: it
    collects the gradients of both. Then the blocks in reverse; what self-attention asks of its
    source is asked of x.

    Shapes: dy (B, L, D) → x (B, L, D), encoder_hidden_states (B, S, D) or None,
    past (B, N, P, d) or None, cross_past (B, N, S, d) or None.
    """
    dinside, dh = add_and_norm_backward(dy, cache.output, g.output)
    dh = dh + feed_forward_backward(dinside, cache.feed_forward, config, g)
    dencoder = dcross_past = None
    if cache.crossattention is not None:
        dh, dencoder, dcross_past = attention_block_backward(
            dh, cache.crossattention, g.crossattention,
            upstream.cross_attentions, upstream.cross_present,
        )  # fmt: skip
    dx, dsource, dpast = attention_block_backward(
        dh, cache.attention, g.attention, upstream.attentions, upstream.present
    )
    return LayerGradients(dx + dsource, dencoder, dpast, dcross_past)


class EncoderResult(NamedTuple):
    """``hidden_states`` are the input and each layer's output; the others hold one entry a layer,
    or are None where nobody wanted them."""

    hidden_states: tuple[Array, ...]
    attentions: tuple[Array, ...] | None
    cross_attentions: tuple[Array, ...] | None
    past_key_values: tuple[tuple[Array, ...], ...] | None
    caches: tuple[LayerCache, ...] | None


def encoder(
    p: Tree,
    config: NezhaConfig,
    x: Array,
    table: Array,
    inputs: Sequence[LayerInputs],
    rng: np.random.Generator | None,
    want_attentions: bool = False,
    want_past: bool = False,
    record: bool = False,
) -> EncoderResult:
    """``hidden_states[i + 1] = layer_i(hidden_states[i])``, from ``hidden_states[0] = x``

    Shapes: x (B, L, D) → hidden_states, num_hidden_layers + 1 times (B, L, D); attentions
    (B, N, L, P+L), cross_attentions (B, N, L, S); past_key_values two times (B, N, P+L, d), and
    with cross-attention two times (B, N, S, d).
    """
    hidden_states, attentions, cross_attentions, past, caches = [x], [], [], [], []
    for i, layer_inputs in enumerate(inputs):
        x, cache = layer(p.layer[str(i)], config, x, table, layer_inputs, rng)
        hidden_states.append(x)
        # a cache that nobody wants is gone before the next layer makes its own
        if want_attentions:
            attentions.append(cache.attention.self.attention.weights)
            if layer_inputs.crosses:
                cross_attentions.append(cache.crossattention.self.attention.weights)
        if want_past:
            past.append(_keys_and_values(cache))
        if record:
            caches.append(cache)
    return EncoderResult(
        tuple(hidden_states),
        tuple(attentions) if want_attentions else None,
        tuple(cross_attentions) or None,
        tuple(past) if want_past else None,
        tuple(caches) if record else None,
    )


def _keys_and_values(cache: LayerCache) -> tuple[Array, ...]:
    blocks = (cache.attention, cache.crossattention)
    kept = (block.self.attention for block in blocks if block is not None)
    return tuple(array for c in kept for array in (c.key, c.value))


class EncoderGradients(NamedTuple):
    """The gradients of what the stack read; None where nobody asked or nothing was there.
    ``past_key_values`` has one entry a layer, of as many arrays as the layer was given, or None."""

    x: Array | None
    encoder_hidden_states: Array | None
    past_key_values: tuple[tuple[Array, ...] | None, ...]


def encoder_backward(
    dhidden_states: Sequence[Array | None],
    upstream: Sequence[LayerUpstream],
    caches: Sequence[LayerCache],
    config: NezhaConfig,
    g: Tree,
) -> EncoderGradients:
    """Walk the layers in reverse; fill the gradients in g and return those of what was read

    ``dhidden_states[i]`` is what the world outside asks of hidden_states[i] (None: nothing);
    on the way down it is added to what layer i asks. All layers look at one encoder, whose
    states collect the gradients of all of them.
    """
    dx, dencoder, dpast = dhidden_states[-1], None, []
    for i in reversed(range(len(caches))):
        past = None
        if dx is not None or upstream[i].asks:
            if dx is None:
                like_y = caches[i].output.LayerNorm.normalised  # has the shape and the library
                dx = namespace(like_y).zeros_like(like_y)
            d = layer_backward(dx, caches[i], config, g.layer[str(i)], upstream[i])
            dx, dencoder = d.x, add(dencoder, d.encoder_hidden_states)
            past = tuple(a for pair in (d.past, d.cross_past) if pair is not None for a in pair)
        dpast.append(past)
        dx = add(dx, dhidden_states[i])
    return EncoderGradients(dx, dencoder, tuple(reversed(dpast)))


def add(a: Array | None, b: Array | None) -> Array | None:
    """``a + b``, where None is nothing to add."""
    if a is None or b is None:
        return b if a is None else a
    return a + b
