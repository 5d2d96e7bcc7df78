"""Known mistakes of the backward pass."""

from __future__ import annotations

import math

import numpy as np

from minizha.crosscheck.diagnosis.backward_rules import Rules, normalised
from minizha.crosscheck.diagnosis.catalogue import mistake
from minizha.crosscheck.diagnosis.facts import AttentionFacts
from minizha.crosscheck.diagnosis.rules import Array, key_term, labelled, softmax
from minizha.ops.activation import ACTIVATIONS


@mistake("softmax_backward_no_mean", "softmax's backward without the mean Σ dprobs · probs")
class SoftmaxBackwardNoMean(Rules):
    def softmax_backward(self, dprobs: Array, probs: Array) -> Array:
        return probs * dprobs


@mistake("layer_norm_backward_no_mean", "LayerNorm's backward without mean(dn)")
class LayerNormBackwardNoMean(Rules):
    def norm_backward(self, dy: Array, x: Array, weight: Array, eps: float) -> Array:
        n, s = normalised(x, eps)
        dn = dy * weight
        return (dn - n * (dn * n).mean(axis=-1, keepdims=True)) * s


@mistake("layer_norm_backward_no_variance", "LayerNorm's backward without n · mean(dn · n)")
class LayerNormBackwardNoVariance(Rules):
    def norm_backward(self, dy: Array, x: Array, weight: Array, eps: float) -> Array:
        _, s = normalised(x, eps)
        dn = dy * weight
        return (dn - dn.mean(axis=-1, keepdims=True)) * s


@mistake(
    "layer_norm_backward_no_means", "LayerNorm's backward is dy · weight · s, without both means"
)
class LayerNormBackwardNoMeans(Rules):
    def norm_backward(self, dy: Array, x: Array, weight: Array, eps: float) -> Array:
        return dy * weight * normalised(x, eps)[1]


@mistake("layer_norm_backward_no_weight", "LayerNorm's backward without its weight")
class LayerNormBackwardNoWeight(Rules):
    def norm_backward(self, dy: Array, x: Array, weight: Array, eps: float) -> Array:
        return super().norm_backward(dy, x, np.ones_like(weight), eps)


@mistake("no_relative_key_gradient", "the queries' gradient without the relative term")
class NoRelativeKeyGradient(Rules):
    def query_backward(self, dscores: Array, k: Array, a: AttentionFacts) -> Array:
        return dscores @ k / math.sqrt(a.d)


@mistake("no_relative_value_gradient", "the weights' gradient without the relative term")
class NoRelativeValueGradient(Rules):
    def probs_backward(
        self, dcontext: Array, dweights: Array, v: Array, a: AttentionFacts
    ) -> Array:
        relative = self.relative_of_values(a, dcontext.shape[2], v.shape[2])
        without_term = dweights - key_term(dcontext, relative)
        return super().probs_backward(dcontext, without_term, v, a)


@mistake("no_scale_gradient", "the queries' gradient without 1/√d")
class NoScaleGradient(Rules):
    def query_backward(self, dscores: Array, k: Array, a: AttentionFacts) -> Array:
        return super().query_backward(dscores, k, a) * math.sqrt(a.d)


@mistake("no_scale_key_gradient", "the keys' gradient without 1/√d")
class NoScaleKeyGradient(Rules):
    def key_backward(self, dscores: Array, q: Array, a: AttentionFacts) -> Array:
        return super().key_backward(dscores, q, a) * math.sqrt(a.d)


@mistake("tied_decoder_gradient_lost", "the tied matrix gets the gradient of the lookup alone")
class TiedDecoderGradientLost(Rules):
    def tied_backward(self, lookup: Array, decoder: Array, pad: int | None) -> Array:
        return lookup


@mistake("lookup_gradient_lost", "the tied matrix gets the gradient of the decoder alone")
class LookupGradientLost(Rules):
    def tied_backward(self, lookup: Array, decoder: Array, pad: int | None) -> Array:
        return decoder


@mistake("pad_row_not_zeroed", "the lookup gives the padding row a gradient")
class PadRowNotZeroed(Rules):
    def lookup_backward(self, dwords: Array, ids: Array, count: int, pad: int | None) -> Array:
        return super().lookup_backward(dwords, ids, count, None)


@mistake("pad_row_zeroed", "the padding row's gradient is 0, that of the tied decoder too")
class PadRowZeroed(Rules):
    def tied_backward(self, lookup: Array, decoder: Array, pad: int | None) -> Array:
        total = super().tied_backward(lookup, decoder, pad)
        if pad is not None:
            total[pad] = 0.0
        return total


@mistake("repeated_ids_lost", "of a token that occurs several times, one place alone counts")
class RepeatedIdsLost(Rules):
    def lookup_backward(self, dwords: Array, ids: Array, count: int, pad: int | None) -> Array:
        dtable = np.zeros((count, dwords.shape[-1]))
        dtable[ids.reshape(-1)] = dwords.reshape(
            -1, dwords.shape[-1]
        )  # of equal ids the last one stays
        if pad is not None:
            dtable[pad] = 0.0
        return dtable


@mistake("token_type_gradient_lost", "the sentences' embeddings get no gradient")
class TokenTypeGradientLost(Rules):
    def types_backward(self, dtypes: Array, types: Array, count: int) -> Array:
        return 0.0 * super().types_backward(dtypes, types, count)


@mistake("gelu_slope_tanh", "the slope of the tanh form of GELU")
class GeluSlopeTanh(Rules):
    def activation_backward(self, dy: Array, x: Array, name: str) -> Array:
        return super().activation_backward(dy, x, "gelu_new")


@mistake("gelu_slope_cdf", "Φ(x) as the slope of GELU: x · φ(x) is missing")
class GeluSlopeCdf(Rules):
    def activation_backward(self, dy: Array, x: Array, name: str) -> Array:
        safe = np.where(x == 0.0, 1.0, x)
        return dy * np.where(x == 0.0, 0.5, ACTIVATIONS["gelu"].forward(safe)[0] / safe)


@mistake("residual_gradient_lost", "the gradient that goes around a block is lost")
class ResidualGradientLost(Rules):
    def residual_backward(self, dsum: Array) -> Array:
        return 0.0 * dsum


@mistake("bias_gradient_mean", "a bias gets the mean over all rows, not the sum")
class BiasGradientMean(Rules):
    def bias_backward(self, dy: Array) -> Array:
        return super().bias_backward(dy) / max(dy.size // dy.shape[-1], 1)


@mistake("bias_gradient_lost", "a bias gets no gradient")
class BiasGradientLost(Rules):
    def bias_backward(self, dy: Array) -> Array:
        return 0.0 * super().bias_backward(dy)


@mistake("weight_gradient_transposed", "a weight's gradient is transposed")
class WeightGradientTransposed(Rules):
    def weight_backward(self, dy: Array, x: Array) -> Array:
        right = super().weight_backward(dy, x)
        return right.T if right.shape[0] == right.shape[1] else right


@mistake("gradient_over_batch", "parameters' gradients are divided by the batch size")
class GradientOverBatch(Rules):
    def weight_backward(self, dy: Array, x: Array) -> Array:
        return super().weight_backward(dy, x) / max(dy.shape[0], 1)

    def bias_backward(self, dy: Array) -> Array:
        return super().bias_backward(dy) / max(dy.shape[0], 1)

    def norm_weight_backward(self, dy: Array, x: Array, eps: float) -> Array:
        return super().norm_weight_backward(dy, x, eps) / max(dy.shape[0], 1)


@mistake("linear_backward_transposed", "dy · weightᵀ in place of dy · weight")
class LinearBackwardTransposed(Rules):
    def linear_backward(self, dy: Array, weight: Array) -> Array:
        square = weight.shape[0] == weight.shape[1]
        return super().linear_backward(dy, weight.T if square else weight)


@mistake("head_mask_gradient_lost", "the head mask is missing on the way back")
class HeadMaskGradientLost(Rules):
    def probs_backward(
        self, dcontext: Array, dweights: Array, v: Array, a: AttentionFacts
    ) -> Array:
        return super().probs_backward(dcontext, dweights, v, a._replace(head_mask=None))


@mistake("dropout_gradient_lost", "dropout is missing on the way back")
class DropoutGradientLost(Rules):
    def dropout_backward(self, dy: Array, factor: Array | None) -> Array:
        return dy


@mistake("tanh_gradient_lost", "the pooler's tanh is missing on the way back")
class TanhGradientLost(Rules):
    def tanh_backward(self, dy: Array, y: Array) -> Array:
        return dy


@mistake("loss_gradient_sum", "the loss's gradient is not divided by the number of labels")
class LossGradientSum(Rules):
    def nll_backward(self, logits: Array, labels: Array, where: Array) -> Array:
        return super().nll_backward(logits, labels, where) * max(int(where.sum()), 1)


@mistake(
    "loss_gradient_all_tokens", "the masked-word gradient is divided by the number of all tokens"
)
class LossGradientAllTokens(Rules):
    def masked_lm_backward(self, logits: Array, labels: Array) -> Array:
        share = labelled(labels).sum() / max(labels.size, 1)
        return super().masked_lm_backward(logits, labels) * share


@mistake("loss_gradient_no_label", "the loss's gradient without [v = label]")
class LossGradientNoLabel(Rules):
    def nll_backward(self, logits: Array, labels: Array, where: Array) -> Array:
        return softmax(logits) * where[..., None] / max(int(where.sum()), 1)
