"""What the arrays of a trace are computed from: its configuration, inputs and parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minizha.config import NezhaConfig
from minizha.crosscheck.names import DROPOUT, UPSTREAM, without_prefix

LARGE = 2**22
"""Numbers in a parameter that is large: 32 MiB of float64."""


class AttentionFacts(NamedTuple):
    """One attention of one layer, and what it reads besides queries, keys and values.

    ``prefix`` begins the names of its arrays, as in ``encoder.layer.0.attention.``. d is the size of
    a head, D the hidden size, K the largest relative position. ``offset`` is the number of past
    tokens before query 0. ``visible`` (B, 1, 1 or L, J) is the caller's mask and ``causal`` (L, J)
    the causal one, 1 where a query sees a key; None hides nothing. ``head_mask`` (1, N, 1, 1) and
    the dropout's ``factor`` (B, N, L, J) multiply the weights; ``all_head_masks`` (layers, heads)
    holds the head masks of all layers. ``past`` is a pair of keys and values (B, N, P, d), or None.
    """

    prefix: str
    layer: int
    is_cross: bool
    d: int
    D: int
    K: int
    offset: int
    visible: np.ndarray | None
    causal: np.ndarray | None
    head_mask: np.ndarray | None
    all_head_masks: np.ndarray | None
    factor: np.ndarray | None
    past: tuple[np.ndarray, np.ndarray] | None

    @property
    def has_new_keys(self) -> bool:
        """Whether this call computes keys; those of an encoder come with the past after the first call."""
        return not (self.is_cross and self.past is not None)

    @property
    def past_length(self) -> int:
        """The number of keys that come with the past."""
        return 0 if self.past is None else self.past[0].shape[2]

    def past_name(self, which: int) -> str:
        """The name of the past keys (``which`` 0) or values (1) among the inputs."""
        return f"past_key_values.{self.layer}.{which + 2 * self.is_cross}"


class Facts:
    """What a trace was computed from, in float64 on the host; each array is read when it is needed."""

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
        """A parameter by its name in a trace; KeyError if the trace does not hold it.

        A large one keeps its dtype: rules read rows of it, or convert it in blocks.
        """
        value = self.stored_parameter(name)
        return value if value.size > LARGE else np.asarray(value, np.float64)

    def stored_parameter(self, name: str) -> np.ndarray:
        """A parameter in its own dtype."""
        return np.asarray(self._trace.parameters[self._parameters[name]])

    def input(self, name: str) -> np.ndarray | None:
        """An argument of the call, or None; in multiple choice as (B·choices, …)."""
        if name not in self._inputs:
            return None
        value = np.asarray(self._inputs[name])
        value = value.astype(np.int64 if value.dtype.kind in "iub" else np.float64)
        has_choices = ("input_ids", "attention_mask", "token_type_ids", "inputs_embeds")
        if self.model_class == "NezhaForMultipleChoice" and name in has_choices:
            value = value.reshape(-1, *value.shape[2:])
        return value

    def was_given(self, name: str) -> bool:
        """Whether ``name`` is an argument of the call."""
        return name in self._inputs

    def upstream(self, field: str) -> np.ndarray | None:
        """The upstream gradient of an output field, or None."""
        return self.input(UPSTREAM + field)

    def upstream_of_weights(self, a: AttentionFacts) -> np.ndarray | float:
        """The upstream gradient of the weights of an attention, 0 by default."""
        upstream = self.upstream(("cross_" if a.is_cross else "") + f"attentions.{a.layer}")
        return 0.0 if upstream is None else upstream

    def starts_from_loss(self) -> bool:
        """Whether the backward pass starts from the loss."""
        return not any(n.startswith(UPSTREAM) for n in self._inputs) or (
            UPSTREAM + "loss" in self._inputs
        )

    def factor(self, name: str) -> np.ndarray | None:
        """The dropout factor ``{name}.dropout``, or None in eval mode."""
        name += DROPOUT
        return np.asarray(self._trace[name], np.float64) if name in self._trace else None

    @property
    def shape(self) -> tuple[int, int]:
        """B and L."""
        ids = self.input("input_ids")
        tokens = self.input("inputs_embeds") if ids is None else ids
        if tokens is None:
            raise KeyError("input_ids")
        return tokens.shape[0], tokens.shape[1]

    @property
    def token_types(self) -> np.ndarray:
        """(B, L), zeros by default."""
        types = self.input("token_type_ids")
        return np.zeros(self.shape, np.int64) if types is None else types

    @property
    def task(self) -> str:
        """The class without "NezhaFor": "PreTraining", …; "NezhaModel" as it is."""
        return self.model_class.removeprefix("NezhaFor")

    @property
    def has_pooler(self) -> bool:
        """Whether the model has a pooler."""
        return self.has("pooler.dense.weight") or "pooler" in self._trace

    @property
    def eps(self) -> float:
        """That of every LayerNorm."""
        return self.config.layer_norm_eps

    @property
    def labels(self) -> np.ndarray | None:
        """The labels of masked words, or of a classifier, or None."""
        return self.input("labels")

    @property
    def ends(self) -> tuple[np.ndarray | None, np.ndarray | None]:
        """The positions of the first and the last token of each answer, or None."""
        return self.input("start_positions"), self.input("end_positions")

    @property
    def pair_labels(self) -> np.ndarray | None:
        """The labels of next-sentence prediction, or None."""
        return self.input("next_sentence_label" if self.task == "PreTraining" else "labels")

    @property
    def problem(self) -> str:
        """The problem type that NezhaForSequenceClassification chooses; other classes have one label."""
        labels, c = self.labels, self.config
        if self.task != "SequenceClassification" or labels is None:
            return "single_label_classification"
        if c.problem_type is not None:
            return c.problem_type
        if c.num_labels == 1:
            return "regression"
        integers = labels.dtype.kind in "iu"
        return "single_label_classification" if integers else "multi_label_classification"

    def has_encoder(self) -> bool:
        """Whether the layers have cross-attention to an encoder."""
        return "encoder_hidden_states" in self._inputs or "past_key_values.0.2" in self._inputs

    def attention(self, layer: int, is_cross: bool) -> AttentionFacts:
        """The attention, or the cross-attention, of a layer."""
        c, module = self.config, "crossattention" if is_cross else "attention"
        prefix = f"encoder.layer.{layer}.{module}."
        past_keys = self.input(f"past_key_values.{layer}.0")
        offset = 0 if past_keys is None else past_keys.shape[2]
        first = 2 if is_cross else 0
        past = [self.input(f"past_key_values.{layer}.{first + n}") for n in (0, 1)]
        visible = self.input("encoder_attention_mask" if is_cross else "attention_mask")
        causal = None
        if visible is not None:
            visible = visible.astype(np.float64)
            visible = visible[:, None, None] if visible.ndim == 2 else visible[:, None]
        if c.is_decoder and not is_cross and (visible is None or visible.shape[2] == 1):
            _, L = self.shape
            causal = np.tri(L, offset + L, offset)
        masks = self._head_masks()
        mask = None if masks is None else masks[layer].reshape(1, -1, 1, 1)
        if mask is not None and not is_cross:
            mask = mask[:, c.unpruned_heads(layer)]
        return AttentionFacts(
            prefix=prefix,
            layer=layer,
            is_cross=is_cross,
            d=c.head_size,
            D=c.hidden_size,
            K=c.max_relative_position,
            offset=offset,
            visible=visible,
            causal=causal,
            head_mask=mask,
            all_head_masks=masks,
            factor=self.factor(prefix.removesuffix(".")),
            past=None if past[0] is None else tuple(past),
        )

    def _head_masks(self) -> np.ndarray | None:
        masks, c = self.input("head_mask"), self.config
        if masks is None:
            return None
        shape = (c.num_hidden_layers, c.num_attention_heads)
        return np.broadcast_to(np.asarray(masks, np.float64), shape)
