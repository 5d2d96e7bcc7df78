"""Checks of all arguments of a call: their shapes must fit each other and the configuration."""

from __future__ import annotations

import reprlib
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array, to_backend
from minizha.errors import ArgumentError
from minizha.model.arguments import ArgumentChecker
from minizha.nezha.attention import AttentionInputs, KeysAndValues
from minizha.nezha.body import Inputs
from minizha.nezha.encoder import LayerInputs


class SharedArguments(NamedTuple):
    """The arguments of every class: five that describe the text, then options."""

    input_ids: Any = None
    attention_mask: Any = None
    token_type_ids: Any = None
    head_mask: Any = None
    inputs_embeds: Any = None
    output_attentions: bool | None = None
    output_hidden_states: bool | None = None
    return_dict: bool | None = None
    record: bool | None = None


TEXT = SharedArguments._fields[:5]
"""The names of those five."""


class DecoderArguments(NamedTuple):
    """The additional arguments of the classes that can be decoders."""

    encoder_hidden_states: Any = None
    encoder_attention_mask: Any = None
    past_key_values: Any = None
    use_cache: bool = False


class EncoderInputs(NamedTuple):
    """The inputs of every layer's cross-attention: the encoder's states (B, S, D), None if the past
    holds their keys and values; and the additive mask, (B, 1, 1, S) or (B, 1, L, S), or None."""

    states: Array | None
    mask: Array | None


def read_inputs(
    checker: ArgumentChecker, table: Array, shared: SharedArguments, decoder: DecoderArguments
) -> Inputs:
    """Check the arguments of a call, and return the inputs of the network.

    Raises:
        ArgumentError: names the argument, what was found and what was expected.
    """
    config, input_ids, inputs_embeds = checker.config, shared.input_ids, shared.inputs_embeds
    if (input_ids is None) == (inputs_embeds is None):
        found = "neither" if input_ids is None else "both"
        raise ArgumentError(f"expected exactly one of input_ids and inputs_embeds, found {found}")
    if input_ids is not None:
        input_ids = checker.integers("input_ids", input_ids, ("B", "L"), config.vocab_size)
        B, L = input_ids.shape
    else:
        D = config.hidden_size
        inputs_embeds = checker.floats("inputs_embeds", inputs_embeds, ("B", "L", D))
        B, L, _ = inputs_embeds.shape
    if L == 0:
        raise ArgumentError("input_ids or inputs_embeds: expected at least one token, found L = 0")
    if shared.token_type_ids is None:
        types = checker.xp.zeros((B, L), dtype=checker.xp.int64)
    else:
        below = config.type_vocab_size
        types = checker.integers("token_type_ids", shared.token_type_ids, (B, L), below)
    layers = config.num_hidden_layers
    past = cross = (None,) * layers
    if decoder.past_key_values is not None:
        past, cross = _past(checker, decoder.past_key_values, B)
    encoder = None
    if any(x is not None for x in (*decoder[:2], cross[0])):
        encoder = _encoder(checker, decoder, (B, L), cross[0])
    offset = 0 if past[0] is None else _tokens(past[0])
    mask = None
    if shared.attention_mask is not None or config.is_decoder:
        mask = _attention_mask(checker, shared.attention_mask, (B, L), offset)
    heads = (None,) * layers
    if shared.head_mask is not None:
        heads = checker.head_masks(shared.head_mask)
    layer_inputs = []
    for i in range(layers):
        unpruned = heads[i] if heads[i] is None else _unpruned(checker, heads[i], i)
        attention = AttentionInputs(table, mask, unpruned, offset, past[i])
        if encoder is None:
            layer_inputs.append(LayerInputs(attention))
        else:
            crossattention = AttentionInputs(table, encoder.mask, heads[i], offset, cross[i])
            layer_inputs.append(LayerInputs(attention, crossattention, encoder.states))
    return Inputs(input_ids, inputs_embeds, types, tuple(layer_inputs))


def _past(checker: ArgumentChecker, value: Any, B: int) -> tuple[tuple, tuple]:
    """The keys and values of earlier calls, one entry for each layer: those of self-attention,
    (B, N, P, d), and those of cross-attention, (B, N, S, d), or None."""
    c, name, layers = checker.config, "past_key_values", checker.config.num_hidden_layers
    if not c.is_decoder:
        raise ArgumentError(f"{name}: expected None, since is_decoder is False")
    counts = (2, 4) if c.add_cross_attention else (2,)
    if (
        not isinstance(value, (tuple, list))
        or len(value) != layers
        or not all(isinstance(v, (tuple, list)) and len(v) in counts for v in value)
        or len({len(v) for v in value}) != 1
    ):
        raise ArgumentError(
            f"{name}: expected {layers} sequences (one a layer) of "
            f"{' or '.join(map(str, counts))} arrays each, found {_lengths(value)}"
        )
    past: list[tuple[KeysAndValues, KeysAndValues | None]] = []
    P: int | str = "P"
    S: int | str = "S"
    for i, arrays in enumerate(value):
        N, d = c.num_unpruned_heads(i), c.head_size
        self_attention, cross = _pair(checker, f"{name}[{i}]", arrays, 0, (B, N, P, d)), None
        if len(arrays) == 4:
            cross = _pair(checker, f"{name}[{i}]", arrays, 2, (B, c.num_attention_heads, S, d))
            S = _tokens(cross)
        P = _tokens(self_attention)  # the same in every layer, and so is S
        past.append((self_attention, cross))
    self_attentions, cross_attentions = zip(*past, strict=True)
    return self_attentions, cross_attentions


def _pair(
    checker: ArgumentChecker, name: str, arrays: Any, first: int, shape: tuple
) -> KeysAndValues:
    key = checker.floats(f"{name}[{first}]", arrays[first], shape)
    return KeysAndValues(key, checker.floats(f"{name}[{first + 1}]", arrays[first + 1], key.shape))


def _tokens(pair: Any) -> int:
    """Of how many tokens keys and values are: P of (B, N, P, d)."""
    return pair.key.shape[2]


def _encoder(
    checker: ArgumentChecker,
    decoder: DecoderArguments,
    shape: tuple[int, int],
    cross: KeysAndValues | None,
) -> EncoderInputs:
    """The inputs of cross-attention; ``cross`` holds its past keys and values in the first layer."""
    c, states, mask, (B, L) = checker.config, *decoder[:2], shape
    if states is not None:
        if not c.add_cross_attention:
            raise ArgumentError(
                "encoder_hidden_states: expected None, since add_cross_attention is False: "
                "there is no cross-attention to read them"
            )
        S = "S" if cross is None else _tokens(cross)
        states = checker.floats("encoder_hidden_states", states, (B, S, c.hidden_size))
    elif cross is None:
        raise ArgumentError(
            "encoder_attention_mask: expected encoder_hidden_states with it, found None"
        )
    S = states.shape[1] if states is not None else _tokens(cross)
    if S == 0:
        name = "past_key_values" if states is None else "encoder_hidden_states"
        raise ArgumentError(f"{name}: expected at least one token, found S = 0")
    if mask is None:
        return EncoderInputs(states, None)
    shapes = {"(B, S)": (B, S), "(B, L, S)": (B, L, S)}
    mask = checker.mask("encoder_attention_mask", mask, shapes)
    mask = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
    return EncoderInputs(states, checker.additive_mask(mask))


def _attention_mask(
    checker: ArgumentChecker, value: Any, shape: tuple[int, int], past: int
) -> Array | None:
    """The additive mask, of a shape that broadcasts to (B, N, L, P+L).

    A mask (B, P+L) marks the visible tokens; in a decoder, tokens after position P + i are hidden
    from query i in addition. A mask (B, L, P+L) marks the visible tokens of each query, and is used
    unchanged in a decoder too.
    """
    (B, L), visible = shape, None
    if value is not None:
        P = "P+L" if past else "L"
        shapes = {f"(B, {P})": (B, past + L), f"(B, L, {P})": (B, L, past + L)}
        visible = checker.mask("attention_mask", value, shapes)
        if visible.ndim == 3:
            return checker.additive_mask(visible[:, None])
        visible = visible[:, None, None, :]
    if checker.config.is_decoder:
        causal = np.tri(L, past + L, past)
        visible = causal[None, None] if visible is None else visible * causal
    return checker.additive_mask(visible)


def _unpruned(checker: ArgumentChecker, head_mask: Array, layer: int) -> Array:
    """The entries of a layer's head mask for its unpruned heads."""
    if layer not in checker.config.pruned_heads:
        return head_mask
    return head_mask[:, to_backend(np.array(checker.config.unpruned_heads(layer)), checker.xp)]


def _lengths(value: Any) -> str:
    """The lengths of a sequence of sequences, in words."""
    if not isinstance(value, (tuple, list)):
        return type(value).__name__
    each = [len(v) if isinstance(v, (tuple, list)) else type(v).__name__ for v in value[:20]]
    return f"{len(value)} of {reprlib.repr(each)}"
