"""The encoder: a stack of layers, each attention and then a feed-forward network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array, namespace
from minizha.config import NezhaConfig
from minizha.model.attention import (
    AddAndNormCache,
    SelfAttentionCache,
    add_and_norm,
    add_and_norm_backward,
    self_attention,
    self_attention_backward,
)
from minizha.model.parameters import Tree, accumulate
from minizha.ops.activation import ACTIVATIONS
from minizha.ops.linear import LinearCache, linear, linear_backward


class LayerCache(NamedTuple):
    """The caches of one layer's steps, in the order in which they ran."""

    self_attention: SelfAttentionCache
    attention_output: AddAndNormCache
    intermediate: LinearCache
    activation: Any
    output: AddAndNormCache


def layer(
    p: Tree,
    config: NezhaConfig,
    x: Array,
    table: Array,
    mask: Array | None,
    head_mask: Array | None,
    rng: np.random.Generator | None,
) -> tuple[Array, LayerCache]:
    """``h = add_and_norm(self_attention(x), x)``, ``y = add_and_norm(act(dense(h)), h)``

    Shapes: x (B, L, D) → y (B, L, D); the feed-forward network is F wide inside.

    Source: NezhaLayer; Vaswani et al. 2017, section 3.1.
    """
    context, self_cache = self_attention(p.attention.self, config, x, table, mask, head_mask, rng)
    h, attention_cache = add_and_norm(p.attention.output, config, context, x, rng)
    inner, inner_cache = linear(h, p.intermediate.dense.weight, p.intermediate.dense.bias)
    activated, activation_cache = ACTIVATIONS[config.hidden_act].forward(inner)
    y, output_cache = add_and_norm(p.output, config, activated, h, rng)
    return y, LayerCache(self_cache, attention_cache, inner_cache, activation_cache, output_cache)


def layer_backward(
    dy: Array, cache: LayerCache, config: NezhaConfig, g: Tree, dweights: Array | None = None
) -> Array:
    """Fill the gradients in g; return dx

    In the forward pass h went two ways, into the feed-forward network and around it, and so did
    x before: each collects the gradients of both ways.

    Shapes: dy (B, L, D) → dx (B, L, D).
    """
    dactivated, dh = add_and_norm_backward(dy, cache.output, g.output)
    dinner = ACTIVATIONS[config.hidden_act].backward(dactivated, cache.activation)
    dh_inside, dweight, dbias = linear_backward(dinner, cache.intermediate)
    accumulate(g.intermediate.dense, weight=dweight, bias=dbias)
    dcontext, dx = add_and_norm_backward(dh + dh_inside, cache.attention_output, g.attention.output)
    return dx + self_attention_backward(dcontext, cache.self_attention, g.attention.self, dweights)


class EncoderResult(NamedTuple):
    """``hidden_states`` are the encoder's input and each layer's output, ``attentions`` each
    layer's attention weights, (B, N, L, L); ``caches`` is None where nothing was recorded."""

    hidden_states: tuple[Array, ...]
    attentions: tuple[Array, ...] | None
    caches: tuple[LayerCache, ...] | None


def encoder(
    p: Tree,
    config: NezhaConfig,
    x: Array,
    table: Array,
    mask: Array | None,
    head_masks: Sequence[Array | None],
    rng: np.random.Generator | None,
    want_attentions: bool,
    record: bool,
) -> EncoderResult:
    """``hidden_states[i + 1] = layer_i(hidden_states[i])``, from ``hidden_states[0] = x``

    Shapes: x (B, L, D) → hidden_states, num_hidden_layers + 1 times (B, L, D).
    """
    hidden_states, attentions, caches = [x], [], []
    for i, head_mask in enumerate(head_masks):
        x, cache = layer(p.layer[str(i)], config, x, table, mask, head_mask, rng)
        hidden_states.append(x)
        if want_attentions:
            attentions.append(cache.self_attention.attention.weights)
        if record:
            caches.append(cache)
    return EncoderResult(
        tuple(hidden_states),
        tuple(attentions) if want_attentions else None,
        tuple(caches) if record else None,
    )


def encoder_backward(
    dhidden_states: Sequence[Array | None],
    dattentions: Sequence[Array | None],
    caches: Sequence[LayerCache],
    config: NezhaConfig,
    g: Tree,
) -> Array | None:
    """Walk the layers in reverse; fill the gradients in g and return the gradient of x

    ``dhidden_states[i]`` is what the world outside asks of hidden_states[i] (None: nothing);
    on the way down it is added to what layer i asks. None comes back where nobody asked.
    """
    dx = dhidden_states[-1]
    for i in reversed(range(len(caches))):
        if dx is not None or dattentions[i] is not None:
            if dx is None:
                like_y = caches[i].output.LayerNorm.normalised  # has the shape and the library
                dx = namespace(like_y).zeros_like(like_y)
            dx = layer_backward(dx, caches[i], config, g.layer[str(i)], dattentions[i])
        here = dhidden_states[i]
        if here is not None:
            dx = here if dx is None else dx + here
    return dx
