"""Known mistakes of embeddings, linear maps, activations, LayerNorm, residual sums and dropout."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np

from minizha.crosscheck.diagnosis.catalogue import Wrong, add, mistake, skipped, times
from minizha.crosscheck.diagnosis.rules import Array

# --- embeddings

# fmt: off
add("no_token_types", "the sentences' embeddings are not added",
    embedding_sum=lambda right, words, types, f: words)
add("token_types_zero", "every token is taken for one of the first sentence",
    types=lambda right, table, f: table[np.zeros(f.shape, np.int64)])
add("embeddings_scaled", "word embeddings times √D", "Vaswani et al. 2017",
    **times(lambda table, f: math.sqrt(table.shape[1]), "words"))
add("pad_row_zero", "the padding token's vector is read as 0",
    **times(lambda table, f: (f.input("input_ids") != f.config.pad_token_id)[..., None], "words"))
add("no_embedding_norm", "no LayerNorm after the embeddings", **skipped("norm", "embeddings"))
# fmt: on


@mistake("types", "where no token types are given, every token is one of the second sentence")
def token_types_default_one(right, table, f):
    given = f.input("token_type_ids") is not None
    return right.types(table, f) if given else table[np.ones(f.shape, np.int64)]


# --- linear maps


@mistake("linear", "x · weight in place of x · weightᵀ: stored (in, out)", "TensorFlow")
def weight_transposed(right, x, weight, bias, name):
    square = weight.shape[0] == weight.shape[1]
    return right.linear(x, weight.T if square else weight, bias, name)


def _no_bias(module: str) -> Wrong:
    """Linear maps whose name matches ``module`` have no bias."""

    def linear(right, x, weight, bias, name):
        return right.linear(x, weight, 0.0 * bias if re.search(module, name) else bias, name)

    return linear


# fmt: off
add("bias_missing", "the bias is not added", linear=_no_bias(""))
add("feed_forward_no_bias", "the feed-forward network has no biases", "bert4torch 0.6.0",
    linear=_no_bias(r"\d\.(intermediate|output)\.dense$"))
add("intermediate_no_bias", "the first bias of the feed-forward network is not added",
    linear=_no_bias(r"\d\.intermediate\.dense$"))
add("output_no_bias", "the second bias of the feed-forward network is not added",
    linear=_no_bias(r"\d\.output\.dense$"))
# fmt: on


@mistake("parameter", "every layer reads the parameters of layer 0", "ALBERT's sharing")
def layer_0_for_all(right, name, f):
    return re.sub(r"^encoder\.layer\.\d+", "encoder.layer.0", name)


@mistake("parameter", "the layers' parameters in reverse order")
def layers_reversed(right, name, f):
    last = f.config.num_hidden_layers - 1
    return re.sub(r"(?<=^encoder\.layer\.)\d+", lambda layer: str(last - int(layer[0])), name)


# --- activations


def _other_activation(name: str) -> Wrong:
    """The activation function ``name``, whatever ``hidden_act`` says."""
    return lambda right, x, _, module: right.activation(x, name, module)


def _sigmoid_gelu(slope: float) -> Wrong:
    """``x · σ(slope · x)``."""
    return lambda right, x, name, module: x * 0.5 * (1.0 + np.tanh(0.5 * slope * x))


# fmt: off
add("gelu_tanh", "the tanh form of GELU", "Huawei's TensorFlow code",
    activation=_other_activation("gelu_new"))
add("gelu_erf", "the exact form of GELU where the configuration asks for another function",
    activation=_other_activation("gelu"))
add("gelu_relu", "ReLU in place of GELU", activation=_other_activation("relu"))
add("gelu_silu", "SiLU in place of GELU", activation=_other_activation("silu"))
add("gelu_quick", "x · σ(1.702 x) in place of GELU", activation=_sigmoid_gelu(1.702))
add("gelu_quick_1_7", "x · σ(1.7 x) in place of GELU", activation=_sigmoid_gelu(1.7))
add("no_activation", "no activation function", **skipped("activation", "layer"))
# fmt: on

# --- LayerNorm


def _other_eps(eps: float) -> Wrong:
    """LayerNorm with this eps, whatever the configuration says."""
    return lambda right, x, weight, bias, _, module: right.norm(x, weight, bias, eps, module)


# fmt: off
add("layer_norm_eps_1e_3", "LayerNorm with eps 1e-3", "Keras' default", norm=_other_eps(1e-3))
add("layer_norm_eps_1e_5", "LayerNorm with eps 1e-5", "torch's default", norm=_other_eps(1e-5))
add("layer_norm_eps_1e_6", "LayerNorm with eps 1e-6", norm=_other_eps(1e-6))
add("layer_norm_eps_1e_7", "LayerNorm with eps 1e-7", "bert4keras", norm=_other_eps(1e-7))
add("layer_norm_eps_1e_12", "LayerNorm with eps 1e-12, whatever the configuration says",
    norm=_other_eps(1e-12))
# fmt: on


def _other_deviation(deviation: Callable[[Array, float], Array]) -> Wrong:
    """LayerNorm that divides by ``deviation(x, eps)``."""

    return lambda right, x, weight, bias, eps, module: (
        (x - x.mean(axis=-1, keepdims=True)) / deviation(x, eps) * weight + bias
    )


def _unbiased(x: Array) -> Array:
    return x.var(axis=-1, keepdims=True) * (x.shape[-1] / max(x.shape[-1] - 1, 1))


# fmt: off
add("layer_norm_eps_outside", "LayerNorm with eps outside of the root", "The Annotated Transformer",
    norm=_other_deviation(lambda x, eps: x.std(axis=-1, keepdims=True) + eps))
add("layer_norm_unbiased", "LayerNorm divides the variance by D − 1", "unbiased std",
    norm=_other_deviation(lambda x, eps: np.sqrt(_unbiased(x) + eps)))
add("layer_norm_unbiased_eps_outside",
    "LayerNorm divides the variance by D − 1 and adds eps outside of the root",
    "The Annotated Transformer, BERT-pytorch",
    norm=_other_deviation(lambda x, eps: np.sqrt(_unbiased(x)) + eps))
add("layer_norm_no_weight", "LayerNorm without its weight",
    norm=lambda right, x, weight, *rest: right.norm(x, np.ones_like(weight), *rest))
add("layer_norm_no_bias", "LayerNorm without its bias",
    norm=lambda right, x, weight, bias, *rest: right.norm(x, weight, 0.0 * bias, *rest))
add("layer_norm_no_mean", "LayerNorm does not subtract the mean", "RMSNorm",
    norm=lambda right, x, weight, bias, eps, module: (
        x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight + bias))
# fmt: on


@mistake("norm", "LayerNorm over (L, D), all tokens of an example together")
def layer_norm_over_tokens(right, x, weight, bias, eps, module):
    centred = x - x.mean(axis=(-2, -1), keepdims=True)
    variance = (centred * centred).mean(axis=(-2, -1), keepdims=True)
    return centred / np.sqrt(variance + eps) * weight + bias


# --- residual sums and dropout

# fmt: off
add("no_residual", "the residual is not added",
    residual=lambda right, y, x, factor, module: right.dropout(y, factor))
add("residual_of_input", "the feed-forward network's residual is the layer's input",
    feed_forward_residual=lambda right, h, x: x)
add("no_output_norm", "no LayerNorm after the residual sum", **skipped("norm", "attention", "layer"))
add("pre_norm", "LayerNorm before attention too, not after the residual sum alone",
    before_attention=lambda right, x, norm: norm(x))
add("dropout_after_residual", "dropout after the residual sum, not before",
    residual=lambda right, y, x, factor, module: right.dropout(y + x, factor))
add("dropout_unscaled", "dropout without the factor 1/(1 − p)",
    dropout=lambda right, x, factor: x if factor is None else x * (factor > 0))
add("dropout_ignored", "dropout does not act", dropout=lambda right, x, factor: x)
# fmt: on


@mistake("embedding_sum", "the embeddings' dropout before their LayerNorm")
def dropout_before_norm(right, words, types, f):
    return right.dropout(right.embedding_sum(words, types, f), f.factor("embeddings"))
