"""Embedding: a table is read at integer positions."""

from __future__ import annotations

from typing import NamedTuple

from minizha.backend import Array, namespace
from minizha.ops.replaceable import replaceable


class EmbeddingCache(NamedTuple):
    """Where each row was read, how many rows the table has, and the row that never learns."""

    ids: Array
    num_rows: int
    padding_idx: int | None


@replaceable
def embedding(
    ids: Array, weight: Array, padding_idx: int | None = None
) -> tuple[Array, EmbeddingCache]:
    """``y[…] = weight[ids[…]]``

    Shapes: ids (…) integers in [0, V), weight (V, D) → y (…, D) of weight's dtype.

    Convention: the row ``padding_idx`` is read like any other but receives no gradient from
    here. The ids are not checked: the model checks its arguments on the host, because an
    index out of range is an exception in NumPy and wraps around in silence in CuPy.

    Source: ``torch.nn.Embedding``; ``word_embeddings`` and ``token_type_embeddings``.
    """
    return weight[ids], EmbeddingCache(ids, weight.shape[0], padding_idx)


@replaceable
def embedding_backward(dy: Array, cache: EmbeddingCache) -> Array:
    """``dweight[r] = Σ_{t : ids[t] = r} dy[t]``, except ``dweight[padding_idx] = 0``

    In the forward pass this was ``y[t] = weight[ids[t]]``: reading is a product with a one-hot
    matrix, so the gradient is a product with its transpose. Gradients of rows that were read
    with one id are added together, and rows that were not read get exactly 0.

    Shapes: dy (…, D) → dweight (V, D).
    """
    xp = namespace(cache.ids, dy)
    dweight = xp.zeros((cache.num_rows, dy.shape[-1]), dtype=dy.dtype)  # (V, D)
    # dweight[ids] += dy would be wrong: of all rows with one id, it adds a single one
    xp.add.at(dweight, cache.ids, dy)
    if cache.padding_idx is not None:
        dweight[cache.padding_idx] = 0
    return dweight
