"""Embeddings: what each token is, and which of the two sentences it is in. Not where it stands."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minizha.backend import Array
from minizha.config import NezhaConfig
from minizha.model.parameters import Tree, accumulate
from minizha.ops.dropout import DropoutCache, dropout, dropout_backward
from minizha.ops.embedding import EmbeddingCache, embedding, embedding_backward
from minizha.ops.layer_norm import LayerNormCache, layer_norm, layer_norm_backward


class EmbeddingsCache(NamedTuple):
    """``word_embeddings`` is None where the caller brought embeddings of their own."""

    word_embeddings: EmbeddingCache | None
    token_type_embeddings: EmbeddingCache
    LayerNorm: LayerNormCache
    dropout: DropoutCache


def embeddings(
    p: Tree,
    config: NezhaConfig,
    input_ids: Array | None,
    inputs_embeds: Array | None,
    token_type_ids: Array,
    rng: np.random.Generator | None,
) -> tuple[Array, EmbeddingsCache]:
    """``y = dropout(LayerNorm(word[input_ids] + token_type[token_type_ids]))``

    Shapes: input_ids (B, L) or inputs_embeds (B, L, D) in its place, token_type_ids (B, L)
    → y (B, L, D).

    Convention: no position embedding; the attention layers bring the positions in. The lookup
    gives the row ``pad_token_id`` no gradient.

    Source: NezhaEmbeddings of the Transformers 4.37 documentation.
    """
    word_cache = None
    if inputs_embeds is None:
        inputs_embeds, word_cache = embedding(
            input_ids, p.word_embeddings.weight, config.pad_token_id
        )
    token_types, token_type_cache = embedding(token_type_ids, p.token_type_embeddings.weight)
    y, norm_cache = layer_norm(
        inputs_embeds + token_types, p.LayerNorm.weight, p.LayerNorm.bias, config.layer_norm_eps
    )
    y, dropout_cache = dropout(y, config.hidden_dropout_prob, rng)
    return y, EmbeddingsCache(word_cache, token_type_cache, norm_cache, dropout_cache)


def embeddings_backward(dy: Array, cache: EmbeddingsCache, g: Tree) -> Array:
    """Fill the gradients in g; return the gradient of the word vectors, (B, L, D)

    In the forward pass this was a sum of two lookups, then LayerNorm, then dropout; a sum hands
    its gradient to both terms unchanged.
    """
    dy = dropout_backward(dy, cache.dropout)
    dsum, dweight, dbias = layer_norm_backward(dy, cache.LayerNorm)
    accumulate(g.LayerNorm, weight=dweight, bias=dbias)
    accumulate(
        g.token_type_embeddings, weight=embedding_backward(dsum, cache.token_type_embeddings)
    )
    if cache.word_embeddings is not None:
        accumulate(g.word_embeddings, weight=embedding_backward(dsum, cache.word_embeddings))
    return dsum
