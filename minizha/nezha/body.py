"""NEZHA itself: embeddings, encoder, pooler. The tasks of :mod:`~minizha.nezha.losses` use its outputs."""

from __future__ import annotations

from typing import NamedTuple

from minizha.backend import Array
from minizha.config import NezhaConfig
from minizha.nezha.embeddings import EmbeddingsCache, embeddings, embeddings_backward
from minizha.nezha.encoder import (
    InputGradients,
    LayerCache,
    LayerInputs,
    NezhaResult,
    Wanted,
    encoder,
    encoder_backward,
)
from minizha.nezha.heads import PoolerCache, pooler, pooler_backward
from minizha.nezha.parameters import Tree, add
from minizha.ops.dropout import Rng


class Inputs(NamedTuple):
    """The inputs of the network: token ids (B, L) or word vectors (B, L, D), the other one being
    None; token types (B, L); and the other inputs of each layer."""

    input_ids: Array | None
    inputs_embeds: Array | None
    token_type_ids: Array
    layers: tuple[LayerInputs, ...]


class NezhaCache(NamedTuple):
    """A cache for each module, in ``encoder`` for each layer; ``pooler`` is None without a pooler."""

    embeddings: EmbeddingsCache
    encoder: tuple[LayerCache, ...]
    pooler: PoolerCache | None


def nezha(
    p: Tree, config: NezhaConfig, inputs: Inputs, rng: Rng, wanted: Wanted
) -> tuple[NezhaResult, NezhaCache | None]:
    """``last_hidden_state = encoder(embeddings(ids))``, ``pooler_output = pooler(last_hidden_state)``

    Without ``wanted.record`` there is no cache.

    Source: NezhaModel.
    """
    x, embeddings_cache = embeddings(
        p.embeddings, config, inputs.input_ids, inputs.inputs_embeds, inputs.token_type_ids, rng
    )
    result, layer_caches = encoder(p.encoder, config, x, inputs.layers, rng, wanted)
    pooler_cache = None
    if "pooler" in p:
        pooled, pooler_cache = pooler(p.pooler, result.last_hidden_state)
        result = result._replace(pooler_output=pooled)
    cache = NezhaCache(embeddings_cache, layer_caches, pooler_cache) if wanted.record else None
    return result, cache


def nezha_backward(d: NezhaResult, cache: NezhaCache, g: Tree) -> InputGradients:
    """Add the gradients of the parameters to g; return those of the inputs, x being the word vectors

    In the forward pass the last hidden state was used three times: as an output, as the last of the
    hidden states, and in the pooler. Its gradient is the sum of the three. Then come the layers in
    reverse, then the embeddings.
    """
    dlast = add(d.hidden_states[-1] if d.hidden_states else None, d.last_hidden_state)
    if d.pooler_output is not None:
        dlast = add(dlast, pooler_backward(d.pooler_output, cache.pooler, g.pooler))
    gradients = encoder_backward(d._replace(last_hidden_state=dlast), cache.encoder, g.encoder)
    if gradients.x is None:
        return gradients
    return gradients._replace(x=embeddings_backward(gradients.x, cache.embeddings, g.embeddings))
