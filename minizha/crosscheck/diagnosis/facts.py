"""What a computation is made from: configuration, inputs and parameters, as a trace holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minizha.config import NezhaConfig
from minizha.crosscheck.names import DROPOUT, UPSTREAM, without_prefix


class Place(NamedTuple):
    """One attention of one layer, and what it reads besides queries, keys and values.

    ``prefix`` begins the names of its arrays, ``encoder.layer.0.attention.``; d is the size of a
    head, D the hidden size, K the largest relative position; ``offset`` tokens of the past stand
    before query 0. ``visible`` (B, 1, 1 or L, J) says what the caller's mask lets be seen, ``causal``
    (L, J) what causality does; None: everything. ``head_mask`` (1, N, 1, 1) and the dropout's
    ``factor`` (B, N, L, J) multiply the weights; ``every_head_mask`` (layers, heads) is the mask of
    all layers. ``past`` is a pair (B, N, P, d) or None.
    """

    prefix: str
    layer: int
    crosses: bool
    d: int
    D: int
    K: int
    offset: int
    visible: np.ndarray | None
    causal: np.ndarray | None
    head_mask: np.ndarray | None
    every_head_mask: np.ndarray | None
    factor: np.ndarray | None
    past: tuple[np.ndarray, np.ndarray] | None

    @property
    def fresh(self) -> bool:
        """Whether keys are made here: an encoder's are made once, and then come with the past."""
        return not (self.crosses and self.past is not None)

    @property
    def past_length(self) -> int:
        """How many of the keys come with the past."""
        return 0 if self.past is None else self.past[0].shape[2]

    def past_name(self, which: int) -> str:
        """What the past's keys (0) or values (1) are called among the inputs."""
        return f"past_key_values.{self.layer}.{which + 2 * self.crosses}"


class Facts:
    """The facts behind a trace, in float64 on the host; nothing is read before it is needed."""

    def __init__(self, trace: Any) -> None:
        self.config: NezhaConfig = trace.config
        self.model_class: str = trace.model_class
        self._trace = trace
        self._inputs: Mapping[str, np.ndarray] = trace.inputs
        self._parameters = {without_prefix(name): name for name in getattr(trace, "parameters", {})}

    def has(self, name: str) -> bool:
        """Whether the trace holds the parameter ``name``."""
        return name in self._parameters

    def parameter(self, name: str) -> np.ndarray:
        """A parameter by its name in a trace; KeyError where the trace holds none such."""
        return np.asarray(self._trace.parameters[self._parameters[name]], np.float64)

    def input(self, name: str) -> np.ndarray | None:
        """An argument of the call, or None; rows of several choices lie one below the other."""
        if name not in self._inputs:
            return None
        value = np.asarray(self._inputs[name])
        value = value.astype(np.int64 if value.dtype.kind in "iub" else np.float64)
        rows = ("input_ids", "attention_mask", "token_type_ids", "inputs_embeds")
        if self.model_class == "NezhaForMultipleChoice" and name in rows:
            value = value.reshape(-1, *value.shape[2:])
        return value

    def upstream(self, field: str) -> np.ndarray | None:
        """What the way back was asked for besides the loss, for an output field."""
        return self.input(UPSTREAM + field)

    def begins_at_loss(self) -> bool:
        """Whether the way back began at the loss."""
        return not any(n.startswith(UPSTREAM) for n in self._inputs) or (
            UPSTREAM + "loss" in self._inputs
        )

    def factor(self, name: str) -> np.ndarray | None:
        """The dropout's factor behind a name, or None in eval mode."""
        name += DROPOUT
        return np.asarray(self._trace[name], np.float64) if name in self._trace else None

    @property
    def shape(self) -> tuple[int, int]:
        """B and L."""
        ids = self.input("input_ids")
        found = self.input("inputs_embeds") if ids is None else ids
        if found is None:
            raise KeyError("input_ids")
        return found.shape[0], found.shape[1]

    @property
    def token_types(self) -> np.ndarray:
        """(B, L), zeros where none were given."""
        given = self.input("token_type_ids")
        return np.zeros(self.shape, np.int64) if given is None else given

    def crosses(self) -> bool:
        """Whether there is an encoder to look at."""
        return "encoder_hidden_states" in self._inputs or "past_key_values.0.2" in self._inputs

    def place(self, layer: int, crosses: bool) -> Place:
        """The attention, or the cross-attention, of a layer."""
        c, kind = self.config, "crossattention" if crosses else "attention"
        prefix = f"encoder.layer.{layer}.{kind}."
        own = self.input(f"past_key_values.{layer}.0")
        offset = 0 if own is None else own.shape[2]
        first = 2 if crosses else 0
        kept = [self.input(f"past_key_values.{layer}.{first + n}") for n in (0, 1)]
        visible = self.input("encoder_attention_mask" if crosses else "attention_mask")
        causal = None
        if visible is not None:
            visible = visible.astype(np.float64)
            visible = visible[:, None, None] if visible.ndim == 2 else visible[:, None]
        if c.is_decoder and not crosses and (visible is None or visible.shape[2] == 1):
            _, L = self.shape
            causal = np.tri(L, offset + L, offset)
        masks = self._head_masks()
        mask = None if masks is None else masks[layer].reshape(1, -1, 1, 1)
        if mask is not None and not crosses:
            mask = mask[:, c.unpruned_heads(layer)]
        return Place(
            prefix, layer, crosses, c.head_size, c.hidden_size, c.max_relative_position, offset,
            visible, causal, mask, masks, self.factor(prefix.removesuffix(".")),
            None if kept[0] is None else tuple(kept),
        )  # fmt: skip

    def _head_masks(self) -> np.ndarray | None:
        given, c = self.input("head_mask"), self.config
        if given is None:
            return None
        shape = (c.num_hidden_layers, c.num_attention_heads)
        return np.broadcast_to(np.asarray(given, np.float64), shape)
