"""Known mistakes of embeddings, linear maps, activations, LayerNorm, residual sums and dropout."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np

from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.catalogue import mistake
from minizha.crosscheck.diagnosis.facts import Facts
from minizha.crosscheck.diagnosis.rules import Array

# --- embeddings


@mistake("no_token_types", "the sentences' embeddings are not added")
class NoTokenTypes(Rules):
    def embedding_sum(self, words: Array, types: Array, f: Facts) -> Array:
        return words


@mistake("token_types_zero", "every token is taken for one of the first sentence")
class TokenTypesZero(Rules):
    def types(self, table: Array, f: Facts) -> Array:
        return table[np.zeros(f.shape, np.int64)]


@mistake("embeddings_scaled", "word embeddings times √D", "Vaswani et al. 2017")
class EmbeddingsScaled(Rules):
    def words(self, table: Array, f: Facts) -> Array:
        return super().words(table, f) * math.sqrt(table.shape[1])


@mistake("pad_row_zero", "the padding token's vector is read as 0")
class PadRowZero(Rules):
    def words(self, table: Array, f: Facts) -> Array:
        is_pad = f.input("input_ids") == f.config.pad_token_id
        return super().words(table, f) * ~is_pad[..., None]


@mistake("no_embedding_norm", "no LayerNorm after the embeddings")
class NoEmbeddingNorm(Rules):
    def norm(self, x: Array, weight: Array, bias: Array, eps: float, module: str) -> Array:
        return x if module == "embeddings" else super().norm(x, weight, bias, eps, module)


# --- linear maps


@mistake("weight_transposed", "x · weight in place of x · weightᵀ: stored (in, out)", "TensorFlow")
class WeightTransposed(Rules):
    def linear(self, x: Array, weight: Array, bias: Array) -> Array:
        square = weight.shape[0] == weight.shape[1]
        return super().linear(x, weight.T if square else weight, bias)


@mistake("bias_missing", "the bias is not added")
class BiasMissing(Rules):
    def linear(self, x: Array, weight: Array, bias: Array) -> Array:
        return super().linear(x, weight, 0.0 * bias)


@mistake("layer_0_for_all", "every layer reads the parameters of layer 0", "ALBERT's sharing")
class Layer0ForAll(Rules):
    def parameter(self, name: str, f: Facts) -> str:
        return re.sub(r"^encoder\.layer\.\d+", "encoder.layer.0", name)


@mistake("layers_reversed", "the layers' parameters in reverse order")
class LayersReversed(Rules):
    def parameter(self, name: str, f: Facts) -> str:
        last = f.config.num_hidden_layers - 1
        return re.sub(r"(?<=^encoder\.layer\.)\d+", lambda layer: str(last - int(layer[0])), name)


# --- activations


class OtherActivation(Rules):
    """Rules with the activation function ``name``, whatever ``hidden_act`` says."""

    name = ""

    def activation(self, x: Array, name: str, module: str) -> Array:
        """The function ``name`` of the class."""
        return super().activation(x, self.name, module)


@mistake("gelu_tanh", "the tanh form of GELU", "Huawei's TensorFlow code")
class GeluTanh(OtherActivation):
    name = "gelu_new"


@mistake("gelu_erf", "the exact form of GELU where the configuration asks for another function")
class GeluErf(OtherActivation):
    name = "gelu"


@mistake("gelu_relu", "ReLU in place of GELU")
class GeluRelu(OtherActivation):
    name = "relu"


@mistake("gelu_silu", "SiLU in place of GELU")
class GeluSilu(OtherActivation):
    name = "silu"


@mistake("gelu_quick", "x · σ(1.702 x) in place of GELU")
class GeluQuick(Rules):
    def activation(self, x: Array, name: str, module: str) -> Array:
        return x * 0.5 * (1.0 + np.tanh(0.851 * x))


@mistake("no_activation", "no activation function")
class NoActivation(Rules):
    def activation(self, x: Array, name: str, module: str) -> Array:
        return x if module == "layer" else super().activation(x, name, module)


# --- LayerNorm


class OtherEps(Rules):
    """Rules with a fixed eps, whatever the configuration says."""

    eps = 0.0

    def norm(self, x: Array, weight: Array, bias: Array, eps: float, module: str) -> Array:
        """LayerNorm with the eps of the class."""
        return super().norm(x, weight, bias, self.eps, module)


@mistake("layer_norm_eps_1e_5", "LayerNorm with eps 1e-5", "torch's default")
class LayerNormEps1e5(OtherEps):
    eps = 1e-5


@mistake("layer_norm_eps_1e_6", "LayerNorm with eps 1e-6")
class LayerNormEps1e6(OtherEps):
    eps = 1e-6


@mistake("layer_norm_eps_1e_7", "LayerNorm with eps 1e-7", "bert4keras")
class LayerNormEps1e7(OtherEps):
    eps = 1e-7


@mistake("layer_norm_eps_1e_12", "LayerNorm with eps 1e-12, whatever the configuration says")
class LayerNormEps1e12(OtherEps):
    eps = 1e-12


def _scaled_norm(x: Array, std: Array, weight: Array, bias: Array) -> Array:
    return (x - x.mean(axis=-1, keepdims=True)) / std * weight + bias


@mistake(
    "layer_norm_eps_outside", "LayerNorm with eps outside of the root", "The Annotated Transformer"
)
class LayerNormEpsOutside(Rules):
    def norm(self, x: Array, weight: Array, bias: Array, eps: float, module: str) -> Array:
        return _scaled_norm(x, x.std(axis=-1, keepdims=True) + eps, weight, bias)


@mistake("layer_norm_unbiased", "LayerNorm divides the variance by D − 1", "unbiased std")
class LayerNormUnbiased(Rules):
    def norm(self, x: Array, weight: Array, bias: Array, eps: float, module: str) -> Array:
        variance = x.var(axis=-1, keepdims=True) * (x.shape[-1] / max(x.shape[-1] - 1, 1))
        return _scaled_norm(x, np.sqrt(variance + eps), weight, bias)


@mistake(
    "layer_norm_unbiased_eps_outside",
    "LayerNorm divides the variance by D − 1 and adds eps outside of the root",
    "The Annotated Transformer, BERT-pytorch",
)
class LayerNormUnbiasedEpsOutside(Rules):
    def norm(self, x: Array, weight: Array, bias: Array, eps: float, module: str) -> Array:
        variance = x.var(axis=-1, keepdims=True) * (x.shape[-1] / max(x.shape[-1] - 1, 1))
        return _scaled_norm(x, np.sqrt(variance) + eps, weight, bias)


@mistake("layer_norm_no_weight", "LayerNorm without its weight")
class LayerNormNoWeight(Rules):
    def norm(self, x: Array, weight: Array, bias: Array, eps: float, module: str) -> Array:
        return super().norm(x, np.ones_like(weight), bias, eps, module)


@mistake("layer_norm_no_bias", "LayerNorm without its bias")
class LayerNormNoBias(Rules):
    def norm(self, x: Array, weight: Array, bias: Array, eps: float, module: str) -> Array:
        return super().norm(x, weight, 0.0 * bias, eps, module)


@mistake("layer_norm_no_mean", "LayerNorm does not subtract the mean", "RMSNorm")
class LayerNormNoMean(Rules):
    def norm(self, x: Array, weight: Array, bias: Array, eps: float, module: str) -> Array:
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * weight + bias


# --- residual sums


@mistake("no_residual", "the residual is not added")
class NoResidual(Rules):
    def residual(self, y: Array, x: Array, factor: Array | None, module: str) -> Array:
        return self.dropout(y, factor)


@mistake("residual_of_input", "the feed-forward network's residual is the layer's input")
class ResidualOfInput(Rules):
    def feed_forward_residual(self, h: Array, x: Array) -> Array:
        return x


@mistake("no_output_norm", "no LayerNorm after the residual sum")
class NoOutputNorm(Rules):
    def norm(self, x: Array, weight: Array, bias: Array, eps: float, module: str) -> Array:
        in_encoder = module in ("attention", "layer")
        return x if in_encoder else super().norm(x, weight, bias, eps, module)


@mistake("pre_norm", "LayerNorm before attention too, not after the residual sum alone")
class PreNorm(Rules):
    def before_attention(self, x: Array, norm: Callable[[Array], Array]) -> Array:
        return norm(x)


# --- dropout


@mistake("dropout_after_residual", "dropout after the residual sum, not before")
class DropoutAfterResidual(Rules):
    def residual(self, y: Array, x: Array, factor: Array | None, module: str) -> Array:
        return self.dropout(y + x, factor)


@mistake("dropout_before_norm", "the embeddings' dropout before their LayerNorm")
class DropoutBeforeNorm(Rules):
    def embedding_sum(self, words: Array, types: Array, f: Facts) -> Array:
        return self.dropout(super().embedding_sum(words, types, f), f.factor("embeddings"))


@mistake("dropout_unscaled", "dropout without the factor 1/(1 − p)")
class DropoutUnscaled(Rules):
    def dropout(self, x: Array, factor: Array | None) -> Array:
        return super().dropout(x, None if factor is None else 1.0 * (factor > 0))


@mistake("dropout_ignored", "dropout does not act")
class DropoutIgnored(Rules):
    def dropout(self, x: Array, factor: Array | None) -> Array:
        return x
