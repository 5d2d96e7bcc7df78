"""NEZHA itself: embeddings, encoder, pooler; and the class that carries them without a head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array
from minizha.config import NezhaConfig
from minizha.model.attention import KeysAndValues
from minizha.model.door import flag
from minizha.model.embeddings import EmbeddingsCache, embeddings, embeddings_backward
from minizha.model.encoder import (
    EncoderGradients,
    LayerCache,
    LayerUpstream,
    add,
    encoder,
    encoder_backward,
)
from minizha.model.heads import PoolerCache, pooler, pooler_backward
from minizha.model.inputs import Inputs
from minizha.model.outputs import BaseModelOutput
from minizha.model.parameters import Shapes, Tree, body_shapes
from minizha.model.pretrained import NezhaPreTrainedModel, Wanted


class NezhaCache(NamedTuple):
    """The record of the body: one cache a module, ``encoder`` one a layer; pooler may be None."""

    embeddings: EmbeddingsCache
    encoder: tuple[LayerCache, ...]
    pooler: PoolerCache | None


class NezhaResult(NamedTuple):
    """What the body computed; ``cache`` is None where nothing was recorded, the tuples are None
    where nobody wanted them."""

    last_hidden_state: Array
    pooler_output: Array | None
    hidden_states: tuple[Array, ...]
    attentions: tuple[Array, ...] | None
    cross_attentions: tuple[Array, ...] | None
    past_key_values: tuple[tuple[Array, ...], ...] | None
    cache: NezhaCache | None


def nezha(
    p: Tree,
    config: NezhaConfig,
    inputs: Inputs,
    table: Array,
    rng: np.random.Generator | None,
    wanted: Wanted,
) -> NezhaResult:
    """``last_hidden_state = encoder(embeddings(ids))``, ``pooler_output = pooler(last_hidden_state)``

    Shapes: ids (B, L), table (2K+1, d) → last_hidden_state (B, L, D), pooler_output (B, D).
    """
    x, embeddings_cache = embeddings(
        p.embeddings, config, inputs.input_ids, inputs.inputs_embeds, inputs.token_type_ids, rng
    )
    hidden_states, attentions, cross_attentions, past, layer_caches = encoder(
        p.encoder, config, x, table, inputs.layers, rng,
        wanted.attentions, wanted.past_key_values, wanted.record,
    )  # fmt: skip
    pooled, pooler_cache = pooler(p.pooler, hidden_states[-1]) if "pooler" in p else (None, None)
    cache = NezhaCache(embeddings_cache, layer_caches, pooler_cache) if wanted.record else None
    return NezhaResult(
        hidden_states[-1], pooled, hidden_states, attentions, cross_attentions, past, cache
    )


def nezha_backward(
    upstream: Mapping[str, Any], cache: NezhaCache, config: NezhaConfig, g: Tree
) -> EncoderGradients:
    """Fill the gradients in g; return those of what was read, x being the word vectors

    ``upstream`` holds what the world outside asks of each field of the result; what is missing
    or None is not asked for.
    """
    layers = len(cache.encoder)
    dhidden = list(upstream.get("hidden_states") or (None,) * (layers + 1))
    dhidden[-1] = add(dhidden[-1], upstream.get("last_hidden_state"))
    dpooled = upstream.get("pooler_output")
    if dpooled is not None:
        dhidden[-1] = add(dhidden[-1], pooler_backward(dpooled, cache.pooler, g.pooler))
    d = encoder_backward(dhidden, _by_layer(upstream, layers), cache.encoder, config, g.encoder)
    if d.x is None:
        return d
    return d._replace(x=embeddings_backward(d.x, cache.embeddings, g.embeddings))


def _by_layer(upstream: Mapping[str, Any], layers: int) -> list[LayerUpstream]:
    nothing = (None,) * layers
    attentions = upstream.get("attentions") or nothing
    cross_attentions = upstream.get("cross_attentions") or nothing
    by_layer = []
    for i, kept in enumerate(upstream.get("past_key_values") or nothing):
        pairs = [KeysAndValues(*(kept or ())[n : n + 2]) for n in range(0, len(kept or ()), 2)]
        by_layer.append(LayerUpstream(attentions[i], cross_attentions[i], *pairs))
    return by_layer


class NezhaModel(NezhaPreTrainedModel):
    """The bare model: hidden states, and with ``add_pooling_layer`` the pooled [CLS].

    See :class:`~minizha.model.pretrained.NezhaPreTrainedModel` for construction, loading and
    gradients, and NezhaModel in the Transformers 4.37 documentation for the arguments.
    """

    def __init__(self, config: NezhaConfig, *, add_pooling_layer: bool = True, **options: Any):
        self._pooler = flag("add_pooling_layer", add_pooling_layer, True)
        super().__init__(config, **options)

    @classmethod
    def shapes(cls, config: NezhaConfig) -> Shapes:
        """As of every class; with the pooler."""
        return body_shapes(config, True)

    def _own_shapes(self) -> Shapes:
        return body_shapes(self.config, self._pooler)

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
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

        A decoder besides: past_key_values, the field of that name of an earlier call that read P
        tokens; attention_mask is then (B, P+L) or (B, L, P+L). With cross-attention:
        encoder_hidden_states (B, S, D), encoder_attention_mask (B, S) or (B, L, S); where
        past_key_values hold four arrays a layer, the encoder's keys and values are theirs, and
        encoder_hidden_states, needless then, get gradient 0.

        Convention: any length; ``record`` None keeps the activations in train mode only;
        ``use_cache`` None is the configuration's, and only decoders keep anything. A token that may
        see no key, as padding on the left in a decoder, attends to all there are alike, and in
        another call there are others. Under a mask (B, P+L) nobody sees such a token, so its own row
        alone depends on how a text is cut; under a mask (B, L, P+L) others may see it.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        wanted = self._wanted(
            output_attentions, output_hidden_states, return_dict, record,
            use_cache=flag("use_cache", use_cache, self.config.use_cache),
        )  # fmt: skip
        inputs = self._inputs(
            input_ids, attention_mask, token_type_ids, head_mask, inputs_embeds,
            encoder_hidden_states, encoder_attention_mask, past_key_values,
        )  # fmt: skip
        result = nezha(self.parameters, self.config, inputs, self.table, self._rng, wanted)

        def backward(upstream: dict[str, Any]) -> dict[str, Any]:
            gradients = nezha_backward(upstream, result.cache, self.config, self._gradient_tree())
            return self._input_gradients(inputs, gradients)

        values = {
            "last_hidden_state": result.last_hidden_state,
            "pooler_output": result.pooler_output,
            **wanted.pick(result),
        }
        return self._output(BaseModelOutput, values, wanted, result.cache, backward)
