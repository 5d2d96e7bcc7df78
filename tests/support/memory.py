"""How much memory the terms of relative positions take, next to the full array that they never make."""

import tracemalloc

from minizha.ops.attention import attention, attention_backward
from minizha.ops.relative_position import (
    relative_key,
    relative_key_backward,
    relative_table,
    relative_value,
    relative_value_backward,
)

L, HEAD_SIZE, K = 512, 64, 64
FULL = L * L * HEAD_SIZE * 4  # bytes of a float32 array of shape (Lq, Lk, d); 2K+1 is twice d


def peak_of(compute):
    """The largest number of bytes allocated at once, on the host, while ``compute()`` runs."""
    tracemalloc.start()
    compute()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def relative_terms(xp):
    x = xp.ones((1, 1, L, HEAD_SIZE), dtype="float32")
    table = relative_table(K, HEAD_SIZE, xp, "float32")
    scores, key_cache = relative_key(x, table, L)
    relative_key_backward(scores, key_cache)
    context, value_cache = relative_value(scores, table)
    relative_value_backward(context, value_cache)


def whole_attention(xp):
    x = xp.ones((1, 1, L, HEAD_SIZE), dtype="float32")
    table = relative_table(K, HEAD_SIZE, xp, "float32")
    context, cache = attention(x, x, x, table)
    attention_backward(context, cache)
