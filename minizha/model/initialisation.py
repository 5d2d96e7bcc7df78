"""The parameters of a new model: their names, shapes and first values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from minizha.backend import Array
from minizha.config import NezhaConfig
from minizha.errors import ArgumentError

Shapes = dict[str, tuple[int, ...]]
DTYPES = ("float32", "float64", "complex128")


def check_config(config: Any) -> None:
    """Raise an ArgumentError unless ``config`` is a NezhaConfig."""
    if not isinstance(config, NezhaConfig):
        raise ArgumentError(f"config: expected a NezhaConfig, found {type(config).__name__}")


def body_shapes(config: NezhaConfig, *, pooler: bool, prefix: str = "nezha.") -> Shapes:
    """Names and shapes of the parameters of the network without heads, in checkpoint order."""
    check_config(config)
    D, F = config.hidden_size, config.intermediate_size
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (config.vocab_size, D),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, D),
        **_norm("embeddings.LayerNorm", D),
    }
    for i in range(config.num_hidden_layers):
        layer = f"encoder.layer.{i}."
        shapes |= _attention(
            layer + "attention.", D, config.num_unpruned_heads(i) * config.head_size
        )
        if config.add_cross_attention:
            shapes |= _attention(layer + "crossattention.", D, D)
        shapes |= linear_shapes(layer + "intermediate.dense", F, D)
        shapes |= linear_shapes(layer + "output.dense", D, F)
        shapes |= _norm(layer + "output.LayerNorm", D)
    if pooler:
        shapes |= linear_shapes("pooler.dense", D, D)
    return {prefix + name: shape for name, shape in shapes.items()}


def prediction_shapes(config: NezhaConfig) -> Shapes:
    """Names and shapes of the masked-language-model head, without the decoder if it is tied."""
    D, V = config.hidden_size, config.vocab_size
    shapes: Shapes = {"cls.predictions.bias": (V,)}
    shapes |= linear_shapes("cls.predictions.transform.dense", D, D)
    shapes |= _norm("cls.predictions.transform.LayerNorm", D)
    if not config.tie_word_embeddings:
        shapes["cls.predictions.decoder.weight"] = (V, D)
    return shapes


def linear_shapes(name: str, outputs: int, inputs: int) -> Shapes:
    """Names and shapes of a matrix (outputs, inputs) and its bias."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def initialise(
    shapes: Shapes,
    config: NezhaConfig,
    rng: np.random.Generator,
    xp: ModuleType,
    dtype: str,
    loaders: Mapping[str, Callable[[], Array]] | None = None,
) -> dict[str, Array]:
    """New parameters: matrices N(0, initializer_range²), biases 0, LayerNorm 1 and 0, pad row 0.

    A parameter with an entry in ``loaders`` is what that function returns, and is not drawn.

    Convention: drawn in float64 in the order of the names and rounded once, so that models with
    the same seed agree in every dtype and on every backend.
    """
    arrays, loaders = {}, loaders or {}
    for name, shape in shapes.items():
        if name in loaders:
            arrays[name] = loaders[name]()
            continue
        if len(shape) == 2:
            values = rng.standard_normal(shape) * config.initializer_range
        else:
            values = np.full(shape, 1.0 if name.endswith("LayerNorm.weight") else 0.0)
        if name.endswith("word_embeddings.weight") and config.padding_row is not None:
            values[config.padding_row] = 0.0
        arrays[name] = xp.asarray(values.astype(dtype))
    return arrays


def _attention(name: str, size: int, width: int) -> Shapes:
    """``width`` is that of all unpruned heads together, at most ``size``."""
    shapes: Shapes = {}
    for projection in ("query", "key", "value"):
        shapes |= linear_shapes(f"{name}self.{projection}", width, size)
    shapes |= linear_shapes(name + "output.dense", size, width)
    return shapes | _norm(name + "output.LayerNorm", size)


def _norm(name: str, size: int) -> Shapes:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}
