"""Optimised versions of a few operations of :mod:`minizha.ops`.

A kernel computes the same as the plain operation, from the same arguments, by other means. Its cache
has another type, so that the backward function always fits the forward function. The operation itself
chooses (:mod:`minizha.ops.replaceable`): float arrays run the kernel, complex ones the plain
functions. A property test compares each kernel with the plain pair. In the reading order in README.md
the plain operations come first; the mathematics is complete without the kernels.
"""

from minizha.kernels import (
    add_and_norm,
    attention,
    attention_backward,
    embedding,
    gelu,
    layer_norm,
    linear,
    relative_position,
)
from minizha.kernels.attention_tile import TileCache
from minizha.ops.replaceable import KERNELS, Kernel, unread

_ATTENTION = Kernel(
    attention.attention, attention_backward.attention_backward, TileCache, attention.takes
)
_GELU = Kernel(gelu.gelu, gelu.gelu_backward, gelu.SlopeCache)
_EMBEDDING = Kernel(embedding.embedding, embedding.embedding_backward, embedding.SortedRowsCache)
_LINEAR = Kernel(linear.linear, linear.linear_backward, linear.InPlaceLinearCache)
_LAYER_NORM = Kernel(layer_norm.layer_norm, layer_norm.layer_norm_backward, layer_norm.NormCache)
_ADD_AND_NORM = Kernel(
    add_and_norm.add_and_norm,
    add_and_norm.add_and_norm_backward,
    add_and_norm.AddAndNormCache,
    takes=unread,
)
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
        ("attention", "numpy"): _ATTENTION,
        ("gelu", "numpy"): _GELU,
        ("linear", "numpy"): _LINEAR,
        ("layer_norm", "numpy"): _LAYER_NORM,
        ("add_and_norm", "numpy"): _ADD_AND_NORM,
        ("embedding", "numpy"): _EMBEDDING,
        ("embedding", "cupy"): _EMBEDDING,
        ("relative_key", "numpy"): _RELATIVE_KEY,
        ("relative_key", "cupy"): _RELATIVE_KEY,
        ("relative_value", "numpy"): _RELATIVE_VALUE,
        ("relative_value", "cupy"): _RELATIVE_VALUE,
    }
)
