"""The arguments of a call, together: their shapes have to fit each other and the configuration."""

from __future__ import annotations

import reprlib
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array, to_backend
from minizha.errors import ArgumentError
from minizha.model.attention import KeysAndValues
from minizha.model.door import Door
from minizha.model.encoder import LayerInputs


class Inputs(NamedTuple):
    """What the embeddings and the layers read; one of the first two is None. ``layers`` has an
    entry for each layer."""

    input_ids: Array | None
    inputs_embeds: Array | None
    token_type_ids: Array
    encoder_hidden_states: Array | None
    layers: tuple[LayerInputs, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """``(B, L)``."""
        return self.token_type_ids.shape

    @property
    def past_length(self) -> int:
        """How many tokens earlier calls have read."""
        return self.layers[0].offset


def read_inputs(
    door: Door,
    input_ids: Any = None,
    attention_mask: Any = None,
    token_type_ids: Any = None,
    head_mask: Any = None,
    inputs_embeds: Any = None,
    encoder_hidden_states: Any = None,
    encoder_attention_mask: Any = None,
    past_key_values: Any = None,
) -> Inputs:
    """Check the arguments of a call.

    Raises:
        ArgumentError: names the argument, what was found and what was expected.
    """
    if (input_ids is None) == (inputs_embeds is None):
        both = "neither" if input_ids is None else "both"
        raise ArgumentError(f"expected exactly one of input_ids and inputs_embeds, found {both}")
    if input_ids is not None:
        input_ids = door.integers("input_ids", input_ids, ("B", "L"), door.config.vocab_size)
        B, L = input_ids.shape
    else:
        D = door.config.hidden_size
        inputs_embeds = door.floats("inputs_embeds", inputs_embeds, ("B", "L", D))
        B, L, _ = inputs_embeds.shape
    if L == 0:
        raise ArgumentError("input_ids or inputs_embeds: expected at least one token, found L = 0")
    if token_type_ids is None:
        token_type_ids = door.xp.zeros((B, L), dtype=door.xp.int64)
    else:
        types = door.config.type_vocab_size
        token_type_ids = door.integers("token_type_ids", token_type_ids, (B, L), types)
    past = _past(door, past_key_values, B)
    encoder, encoder_mask = _encoder(
        door, encoder_hidden_states, encoder_attention_mask, B, L, past
    )
    offset = 0 if past is None else past[0][0].key.shape[2]
    mask = _attention_mask(door, attention_mask, B, L, offset)
    heads = door.head_masks(head_mask)
    layers = []
    for i in range(door.config.num_hidden_layers):
        own, cross = (None, None) if past is None else past[i]
        kept = _kept(door, heads[i], i)
        layers.append(LayerInputs(mask, kept, offset, own, encoder, encoder_mask, heads[i], cross))
    return Inputs(input_ids, inputs_embeds, token_type_ids, encoder, tuple(layers))


def _past(
    door: Door, value: Any, B: int
) -> tuple[tuple[KeysAndValues, KeysAndValues | None], ...] | None:
    """Keys and values of earlier calls: a layer two arrays, (B, N, P, d), and with cross-attention
    two more, (B, N, S, d)."""
    if value is None:
        return None
    c, name, layers = door.config, "past_key_values", door.config.num_hidden_layers
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
    found, P, S = [], "P", "S"
    for i, arrays in enumerate(value):
        N, d = len(c.kept_heads(i)), c.head_size
        own, cross = _pair(door, f"{name}[{i}]", arrays, 0, (B, N, P, d)), None
        if len(arrays) == 4:
            cross = _pair(door, f"{name}[{i}]", arrays, 2, (B, c.num_attention_heads, S, d))
            S = cross.key.shape[2]
        P = own.key.shape[2]  # the same in every layer, and so is S
        found.append((own, cross))
    return tuple(found)


def _pair(door: Door, name: str, arrays: Any, first: int, shape: tuple) -> KeysAndValues:
    key = door.floats(f"{name}[{first}]", arrays[first], shape)
    return KeysAndValues(key, door.floats(f"{name}[{first + 1}]", arrays[first + 1], key.shape))


def _encoder(
    door: Door, states: Any, mask: Any, B: int, L: int, past: tuple | None
) -> tuple[Array | None, Array | None]:
    """What cross-attention looks at: (B, S, D), and the mask to add, (B, 1, 1 or L, S)."""
    c, cross = door.config, None if past is None else past[0][1]
    if states is not None:
        if not c.add_cross_attention:
            raise ArgumentError(
                "encoder_hidden_states: expected None, since add_cross_attention is False: "
                "there is no cross-attention to read them"
            )
        S = "S" if cross is None else cross.key.shape[2]
        states = door.floats("encoder_hidden_states", states, (B, S, c.hidden_size))
        S = states.shape[1]
    elif cross is not None:
        S = cross.key.shape[2]
    elif mask is not None:
        raise ArgumentError(
            "encoder_attention_mask: expected encoder_hidden_states with it, found None"
        )
    else:
        return None, None
    if S == 0:
        name = "past_key_values" if states is None else "encoder_hidden_states"
        raise ArgumentError(f"{name}: expected at least one token, found S = 0")
    if mask is None:
        return states, None
    mask = door.mask("encoder_attention_mask", mask, {"(B, S)": (B, S), "(B, L, S)": (B, L, S)})
    return states, door.added(mask[:, None, None, :] if mask.ndim == 2 else mask[:, None])


def _attention_mask(door: Door, value: Any, B: int, L: int, past: int) -> Array | None:
    """What is added to the scores, of a shape that broadcasts to (B, N, L, P+L).

    A mask (B, P+L) says which tokens may be seen; a decoder's query i sees none beyond its own
    place P + i besides. A mask (B, L, P+L) says for each query what it may see, and is taken as
    it is, in a decoder too.
    """
    visible = None
    if value is not None:
        P = "P+L" if past else "L"
        visible = door.mask(
            "attention_mask", value,
            {f"(B, {P})": (B, past + L), f"(B, L, {P})": (B, L, past + L)},
        )  # fmt: skip
        if visible.ndim == 3:
            return door.added(visible[:, None])
        visible = visible[:, None, None, :]
    if door.config.is_decoder:
        causal = np.tri(L, past + L, past)
        visible = causal[None, None] if visible is None else visible * causal
    return door.added(visible)


def _kept(door: Door, head_mask: Array | None, layer: int) -> Array | None:
    """Of a layer's head mask, the part of those heads that were not pruned."""
    if head_mask is None or layer not in door.config.pruned_heads:
        return head_mask
    return head_mask[:, to_backend(np.array(door.config.kept_heads(layer)), door.xp)]


def _lengths(value: Any) -> str:
    """How a sequence of sequences is made up, in words."""
    if not isinstance(value, (tuple, list)):
        return type(value).__name__
    each = [len(v) if isinstance(v, (tuple, list)) else type(v).__name__ for v in value[:20]]
    return f"{len(value)} of {reprlib.repr(each)}"
