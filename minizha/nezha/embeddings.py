"""Embeddings: a vector for each word and for the sentence that it belongs to; none for its position."""

from __future__ import annotations

from typing import NamedTuple

from minizha.backend import Array
from minizha.config import NezhaConfig
from minizha.nezha.parameters import Tree, accumulate
from minizha.ops.dropout import DropoutCache, Rng, dropout, dropout_backward
from minizha.ops.embedding import EmbeddingCache, embedding, embedding_backward
from minizha.ops.layer_norm import LayerNormCache, layer_norm, layer_norm_backward


class EmbeddingsCache(NamedTuple):
    """The caches of the steps; ``word_embeddings`` is None if the caller passed word vectors."""

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
    rng: Rng,
) -> tuple[Array, EmbeddingsCache]:
    """``y = dropout(LayerNorm(word[input_ids] + token_type[token_type_ids]))``

    Shapes: input_ids (B, L) or inputs_embeds (B, L, D) in its place, token_type_ids (B, L)
    → y (B, L, D).

    Convention: no position embedding; positions enter in the attention layers. The lookup gives
    the row ``padding_row`` no gradient.

    Source: NezhaEmbeddings of the Transformers 4.37 documentation.
    """
    words, word_cache = inputs_embeds, None
    if words is None:
        weight, padding = p.word_embeddings.weight, config.padding_row  # (V, D)
        words, word_cache = embedding(input_ids, weight, padding)  # (B, L, D)
    types, type_cache = embedding(token_type_ids, p.token_type_embeddings.weight)
    norm = p.LayerNorm
    y, norm_cache = layer_norm(words + types, norm.weight, norm.bias, config.layer_norm_eps)
    y, dropout_cache = dropout(y, config.hidden_dropout_prob, rng)
    return y, EmbeddingsCache(word_cache, type_cache, norm_cache, dropout_cache)


def embeddings_backward(dy: Array, cache: EmbeddingsCache, g: Tree) -> Array:
    """Add the gradients of the parameters to g; return that of the word vectors

    In the forward pass this was a sum of two lookups, then LayerNorm, then dropout; so now dropout,
    then LayerNorm, whose gradient is that of both terms of the sum.

    Shapes: dy (B, L, D) → dwords (B, L, D).
    """
    dy = dropout_backward(dy, cache.dropout)
    dsum, dweight, dbias = layer_norm_backward(dy, cache.LayerNorm)  # (B, L, D), (D), (D)
    accumulate(g.LayerNorm, weight=dweight, bias=dbias)
    dtypes = embedding_backward(dsum, cache.token_type_embeddings)  # (T, D)
    accumulate(g.token_type_embeddings, weight=dtypes)
    if cache.word_embeddings is not None:
        words = g.word_embeddings  # a tied decoder's gradient is there already
        words.weight = embedding_backward(dsum, cache.word_embeddings, words.weight)
    return dsum
