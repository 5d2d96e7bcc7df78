"""Embedding: each integer id selects a row of a table."""

from __future__ import annotations

from typing import NamedTuple

from minizha.backend import Array, namespace
from minizha.ops.replaceable import replaceable


class EmbeddingCache(NamedTuple):
    """The ids, the number of rows of the table, and the id of the row without a gradient."""

    ids: Array
    num_rows: int
    padding_idx: int | None


@replaceable
def embedding(
    ids: Array, weight: Array, padding_idx: int | None = None
) -> tuple[Array, EmbeddingCache]:
    """``y[…] = weight[ids[…]]``

    Shapes: ids (…) integers in [0, V), weight (V, D) → y (…, D) of weight's dtype.

    Convention: the row ``padding_idx`` is read like any other, but the lookup gives it no
    gradient. The ids are not checked here: the model checks its arguments on the host, because
    an index out of range raises an exception in NumPy and silently wraps around in CuPy.

    Source: ``torch.nn.Embedding``; ``word_embeddings`` and ``token_type_embeddings``.
    """
    return weight[ids], EmbeddingCache(ids, weight.shape[0], padding_idx)


@replaceable
def embedding_backward(dy: Array, cache: EmbeddingCache, dweight: Array | None = None) -> Array:
    """``dweight[r] = Σ_{t : ids[t] = r} dy[t]``, except ``dweight[padding_idx] = 0``

    In the forward pass this was ``y[t] = weight[ids[t]]``, a product with a one-hot matrix, so
    the gradient is a product with its transpose. The gradients of all positions with the same id
    are added up; a row that was not read has gradient 0.

    Shapes: dy (…, D) → dweight (V, D).

    Convention: a weight with other uses has a gradient already. Given as ``dweight``, it is added to in
    place, which changes the rows that were read only.

    Derived in the book, equation ``lin-scatter``.
    """
    xp = namespace(cache.ids, dy)
    if dweight is None:
        dweight = xp.zeros((cache.num_rows, dy.shape[-1]), dtype=dy.dtype)  # (V, D)
    if cache.padding_idx is not None:
        dy = xp.where((cache.ids == cache.padding_idx)[..., None], 0, dy)
    # dweight[ids] += dy would be wrong: of several positions with the same id, it adds only one
    xp.add.at(dweight, cache.ids, dy)
    return dweight
