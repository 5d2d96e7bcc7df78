"""Faster pairs for a few operations, in the place of the plain ones of :mod:`minizha.ops`.

A kernel computes what the plain operation computes, from the same arguments, by other means; its
cache is of another type, so forward and backward are chosen together. The operation itself
chooses (:mod:`minizha.ops.replaceable`): float arrays run the kernel, complex ones the plain
functions. A property test holds each kernel to the plain pair. To read the mathematics, stay in ops.
"""

from minizha.kernels import embedding, gelu, relative_position
from minizha.ops.replaceable import KERNELS, Kernel

_GELU = Kernel(gelu.gelu, gelu.gelu_backward, gelu.SlopeCache)
_EMBEDDING = Kernel(embedding.embedding, embedding.embedding_backward, embedding.SortedRowsCache)
_RELATIVE_KEY = Kernel(
    relative_position.relative_key,
    relative_position.relative_key_backward,
    relative_position.ShiftCache,
)
_RELATIVE_VALUE = Kernel(
    relative_position.relative_value,
    relative_position.relative_value_backward,
    relative_position.ShiftCache,
)

KERNELS.update(
    {
        ("gelu", "numpy"): _GELU,
        ("embedding", "numpy"): _EMBEDDING,
        ("embedding", "cupy"): _EMBEDDING,
        ("relative_key", "numpy"): _RELATIVE_KEY,
        ("relative_key", "cupy"): _RELATIVE_KEY,
        ("relative_value", "numpy"): _RELATIVE_VALUE,
        ("relative_value", "cupy"): _RELATIVE_VALUE,
    }
)
