"""The class that answers questions: where in the text does the answer start, and where does it end?"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array
from minizha.config import NezhaConfig
from minizha.errors import ArgumentError
from minizha.model.inputs import Inputs
from minizha.model.nezha import NezhaCache, nezha, nezha_backward
from minizha.model.outputs import QuestionAnsweringOutput
from minizha.model.parameters import Shapes, accumulate, body_shapes, linear_head_shapes
from minizha.model.pretrained import NezhaPreTrainedModel
from minizha.ops.cross_entropy import (
    IGNORED,
    CrossEntropyCache,
    cross_entropy,
    cross_entropy_backward,
)
from minizha.ops.linear import LinearCache, linear, linear_backward

FIELDS = ("start_logits", "end_logits")


class QuestionAnsweringCache(NamedTuple):
    """The record: body, matrix, and the two losses, or None where there were no positions."""

    nezha: NezhaCache
    qa_outputs: LinearCache
    losses: tuple[CrossEntropyCache, CrossEntropyCache] | None


class NezhaForQuestionAnswering(NezhaPreTrainedModel):
    """Two numbers for each token: column 0 says "starts here", column 1 "ends here". No pooler.

    Convention: always two columns; a configuration with another ``num_labels`` gets 2.
    """

    @classmethod
    def settle(cls, config: NezhaConfig) -> NezhaConfig:
        """With two labels: Transformers makes as many columns as there are."""
        return config if config.num_labels == 2 else config.replace(num_labels=2)

    @classmethod
    def shapes(cls, config: NezhaConfig) -> Shapes:
        """Names and shapes of the parameters of a model of this class, in checkpoint order."""
        shapes = {f"nezha.{name}": s for name, s in body_shapes(config, False).items()}
        return shapes | linear_head_shapes(config, "qa_outputs", 2)

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        record: bool | None = None,
    ) -> QuestionAnsweringOutput | tuple:
        """``start_logits, end_logits = hidden · weightᵀ + bias``; the loss is the mean of two
        cross-entropies over the L places

        Shapes: start_positions (B,), end_positions (B,) integers. The others as for
        :class:`~minizha.model.nezha.NezhaModel`.

        Convention: a position outside of [0, L) is not taken into account (Transformers counts a
        negative one as 0); where none is left the loss is 0. Both are given or neither.

        Raises:
            ArgumentError: an argument has a wrong shape or type, or one of the two is missing.
        """
        if (start_positions is None) != (end_positions is None):
            missing = "start_positions" if start_positions is None else "end_positions"
            raise ArgumentError(f"{missing}: expected both start and end, found None")
        wanted = self._wanted(
            output_attentions, output_hidden_states, return_dict, record,
            start_positions is not None,
        )  # fmt: skip
        inputs = self._inputs(input_ids, attention_mask, token_type_ids, head_mask, inputs_embeds)
        p = self.parameters
        body = nezha(p.nezha, self.config, inputs, self.table, self._rng, wanted)
        head = p.qa_outputs
        logits, qa_cache = linear(body.last_hidden_state, head.weight, head.bias)
        values = {"loss": None, "start_logits": logits[..., 0], "end_logits": logits[..., 1]}
        losses = None
        if start_positions is not None:
            start = self._positions("start_positions", start_positions, inputs)
            end = self._positions("end_positions", end_positions, inputs)
            start_loss, start_cache = cross_entropy(values["start_logits"], start)
            end_loss, end_cache = cross_entropy(values["end_logits"], end)
            values["loss"], losses = (start_loss + end_loss) * 0.5, (start_cache, end_cache)
        cache = QuestionAnsweringCache(body.cache, qa_cache, losses) if wanted.record else None

        def backward(upstream: dict[str, Any]) -> dict[str, Any]:
            return self._backward(upstream, cache, logits, inputs)

        values |= wanted.pick(body)
        return self._output(QuestionAnsweringOutput, values, wanted, cache, backward)

    def _backward(
        self,
        upstream: dict[str, Any],
        cache: QuestionAnsweringCache,
        logits: Array,
        inputs: Inputs,
    ) -> dict[str, Any]:
        """In the forward pass the two columns went two ways, and each loss counted half."""
        g, asked = self._gradient_tree(), dict(upstream)
        dlogits, dloss = self.xp.zeros_like(logits), upstream.get("loss")
        for column, field in enumerate(FIELDS):
            if upstream.get(field) is not None:
                dlogits[..., column] += upstream[field]
            if dloss is not None:
                dlogits[..., column] += cross_entropy_backward(dloss * 0.5, cache.losses[column])
        if any(upstream.get(name) is not None for name in ("loss", *FIELDS)):
            dhidden, dweight, dbias = linear_backward(dlogits, cache.qa_outputs)
            accumulate(g.qa_outputs, weight=dweight, bias=dbias)
            asked["last_hidden_state"] = dhidden
        gradients = nezha_backward(asked, cache.nezha, self.config, g.nezha)
        return self._input_gradients(inputs, gradients)

    def _positions(self, name: str, value: Any, inputs: Inputs) -> np.ndarray:
        B, L = inputs.shape
        # any integer; the largest unsigned ones become negative, which is as far outside
        positions = self._door.host_integers(name, value, (B,), 2**64, low=-(2**63))
        return np.where((positions >= 0) & (positions < L), positions, IGNORED)
