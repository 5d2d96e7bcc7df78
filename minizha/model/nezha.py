"""NEZHA itself: embeddings, encoder, pooler; and the class that carries them without a head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array
from minizha.config import NezhaConfig
from minizha.model.embeddings import EmbeddingsCache, embeddings, embeddings_backward
from minizha.model.encoder import LayerCache, encoder, encoder_backward
from minizha.model.heads import PoolerCache, pooler, pooler_backward
from minizha.model.inputs import Inputs, flag
from minizha.model.outputs import BaseModelOutput
from minizha.model.parameters import Shapes, Tree, body_shapes
from minizha.model.pretrained import NezhaPreTrainedModel


class NezhaCache(NamedTuple):
    """The record of the body: one cache a module, ``encoder`` one a layer; pooler may be None."""

    embeddings: EmbeddingsCache
    encoder: tuple[LayerCache, ...]
    pooler: PoolerCache | None


class NezhaResult(NamedTuple):
    """What the body computed; ``cache`` is None where nothing was recorded."""

    last_hidden_state: Array
    pooler_output: Array | None
    hidden_states: tuple[Array, ...]
    attentions: tuple[Array, ...] | None
    cache: NezhaCache | None


def nezha(
    p: Tree,
    config: NezhaConfig,
    inputs: Inputs,
    table: Array,
    rng: np.random.Generator | None,
    want_attentions: bool,
    record: bool,
) -> NezhaResult:
    """``last_hidden_state = encoder(embeddings(ids))``, ``pooler_output = pooler(last_hidden_state)``

    Shapes: ids (B, L), table (2K+1, d) → last_hidden_state (B, L, D), pooler_output (B, D).
    """
    x, embeddings_cache = embeddings(
        p.embeddings, config, inputs.input_ids, inputs.inputs_embeds, inputs.token_type_ids, rng
    )
    hidden_states, attentions, layer_caches = encoder(
        p.encoder, config, x, table, inputs.mask, inputs.head_masks, rng, want_attentions, record
    )
    pooled, pooler_cache = pooler(p.pooler, hidden_states[-1]) if "pooler" in p else (None, None)
    cache = NezhaCache(embeddings_cache, layer_caches, pooler_cache) if record else None
    return NezhaResult(hidden_states[-1], pooled, hidden_states, attentions, cache)


def nezha_backward(
    dlast: Array | None,
    dpooled: Array | None,
    dhidden_states: Sequence[Array | None] | None,
    dattentions: Sequence[Array | None] | None,
    cache: NezhaCache,
    config: NezhaConfig,
    g: Tree,
) -> Array | None:
    """Fill the gradients in g; return the gradient of the word vectors, (B, L, D)

    Each argument is what the world outside asks of that output; None: nothing.
    """
    layers = len(cache.encoder)
    dhidden = list(dhidden_states or (None,) * (layers + 1))
    dlast = add(dhidden[-1], dlast)
    if dpooled is not None:
        dlast = add(dlast, pooler_backward(dpooled, cache.pooler, g.pooler))
    dhidden[-1] = dlast
    dx = encoder_backward(
        dhidden, dattentions or (None,) * layers, cache.encoder, config, g.encoder
    )
    return None if dx is None else embeddings_backward(dx, cache.embeddings, g.embeddings)


def add(a: Array | None, b: Array | None) -> Array | None:
    """``a + b``, where None is nothing to add."""
    if a is None or b is None:
        return b if a is None else a
    return a + b


class NezhaModel(NezhaPreTrainedModel):
    """The bare model: hidden states, and with ``add_pooling_layer`` the pooled [CLS].

    See :class:`~minizha.model.pretrained.NezhaPreTrainedModel` for construction, loading and
    gradients, and NezhaModel in the Transformers 4.37 documentation for the arguments.
    """

    def __init__(self, config: NezhaConfig, *, add_pooling_layer: bool = True, **options: Any):
        self._pooler = flag("add_pooling_layer", add_pooling_layer, True)
        super().__init__(config, **options)

    def _shapes(self, config: NezhaConfig) -> Shapes:
        return body_shapes(config, self._pooler)

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        record: bool | None = None,
    ) -> BaseModelOutput | tuple:
        """Run the model.

        Shapes: input_ids (B, L) integers or inputs_embeds (B, L, D), attention_mask (B, L) or
        (B, L, L) with 1 where a token may be seen, token_type_ids (B, L), head_mask (N,) or
        (layers, N) with 1 where a head is kept. Arrays or nested lists.

        Convention: any length; ``record`` None keeps the activations in train mode only.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        wanted = self._wanted(output_attentions, output_hidden_states, return_dict, record)
        inputs = self._inputs(input_ids, attention_mask, token_type_ids, head_mask, inputs_embeds)
        result = nezha(
            self.parameters,
            self.config,
            inputs,
            self.table,
            self._rng,
            wanted.attentions,
            wanted.record,
        )

        def backward(upstream: dict[str, Any]) -> dict[str, Any]:
            dx = nezha_backward(
                upstream.get("last_hidden_state"),
                upstream.get("pooler_output"),
                upstream.get("hidden_states"),
                upstream.get("attentions"),
                result.cache,
                self.config,
                self._gradient_tree(),
            )
            return self._input_gradients(inputs, dx)

        values = {
            "last_hidden_state": result.last_hidden_state,
            "pooler_output": result.pooler_output,
            **wanted.pick(result),
        }
        return self._output(BaseModelOutput, values, wanted, result.cache, backward)
