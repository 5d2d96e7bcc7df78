"""Known mistakes of the backward pass."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minizha.crosscheck.diagnosis.backward_rules import normalised
from minizha.crosscheck.diagnosis.catalogue import add, mistake, times
from minizha.crosscheck.diagnosis.rules import Array, key_term, labelled, softmax
from minizha.ops.activation import ACTIVATIONS


def passed_on(right, d, *_):
    """The gradient as it comes: the factor of the operation is forgotten."""
    return d


def lost(*_: Any) -> float:
    """A factor of 0."""
    return 0.0


# --- operations


@mistake("norm_backward", "LayerNorm's backward without mean(dn)")
def layer_norm_backward_no_mean(right, dy, x, weight, eps):
    n, s = normalised(x, eps)
    dn = dy * weight
    return (dn - n * (dn * n).mean(axis=-1, keepdims=True)) * s


@mistake("norm_backward", "LayerNorm's backward without n · mean(dn · n)")
def layer_norm_backward_no_variance(right, dy, x, weight, eps):
    dn = dy * weight
    return (dn - dn.mean(axis=-1, keepdims=True)) * normalised(x, eps)[1]


@mistake("activation_backward", "Φ(x) as the slope of GELU: x · φ(x) is missing")
def gelu_slope_cdf(right, dy, x, name):
    safe = np.where(x == 0.0, 1.0, x)
    return dy * np.where(x == 0.0, 0.5, ACTIVATIONS["gelu"].forward(safe)[0] / safe)


@mistake("linear_backward", "dy · weightᵀ in place of dy · weight")
def linear_backward_transposed(right, dy, weight):
    return right.linear_backward(dy, weight.T if weight.shape[0] == weight.shape[1] else weight)


@mistake("weight_backward", "a weight's gradient is transposed")
def weight_gradient_transposed(right, dy, x):
    dweight = right.weight_backward(dy, x)
    return dweight.T if dweight.shape[0] == dweight.shape[1] else dweight


# fmt: off
add("softmax_backward_no_mean", "softmax's backward without the mean Σ dprobs · probs",
    softmax_backward=lambda right, dprobs, probs: probs * dprobs)
add("layer_norm_backward_no_means", "LayerNorm's backward is dy · weight · s, without both means",
    norm_backward=lambda right, dy, x, weight, eps: dy * weight * normalised(x, eps)[1])
add("layer_norm_backward_no_weight", "LayerNorm's backward without its weight",
    norm_backward=lambda right, dy, x, w, eps: right.norm_backward(dy, x, np.ones_like(w), eps))
add("gelu_slope_tanh", "the slope of the tanh form of GELU",
    activation_backward=lambda right, dy, x, name: right.activation_backward(dy, x, "gelu_new"))
add("bias_gradient_mean", "a bias gets the mean over all rows, not the sum",
    bias_backward=lambda right, dy: right.bias_backward(dy) / max(dy.size // dy.shape[-1], 1))
add("bias_gradient_lost", "a bias gets no gradient", **times(lost, "bias_backward"))
add("gradient_over_batch", "parameters' gradients are divided by the batch size",
    weight_backward=lambda right, dy, x: right.weight_backward(dy, x) / max(len(dy), 1),
    bias_backward=lambda right, dy: right.bias_backward(dy) / max(len(dy), 1),
    norm_weight_backward=lambda right, dy, x, eps: right.norm_weight_backward(dy, x, eps) / max(len(dy), 1))
add("residual_gradient_lost", "the gradient that goes around a block is lost",
    **times(lost, "residual_backward"))
add("dropout_gradient_lost", "dropout is missing on the way back", dropout_backward=passed_on)
add("tanh_gradient_lost", "the pooler's tanh is missing on the way back", tanh_backward=passed_on)
# fmt: on

# --- attention


# fmt: off
add("no_relative_key_gradient", "the queries' gradient without the relative term",
    query_backward=lambda right, dscores, k, a: dscores @ k / math.sqrt(a.d))
add("no_scale_gradient", "the queries' gradient without 1/√d",
    **times(lambda dscores, k, a: math.sqrt(a.d), "query_backward"))
add("no_scale_key_gradient", "the keys' gradient without 1/√d",
    **times(lambda dscores, q, a: math.sqrt(a.d), "key_backward"))
add("head_mask_gradient_lost", "the head mask is missing on the way back",
    probs_backward=lambda right, dcontext, dweights, v, a: (
        right.probs_backward(dcontext, dweights, v, a._replace(head_mask=None))))
# fmt: on


@mistake("probs_backward", "the weights' gradient without the relative term")
def no_relative_value_gradient(right, dcontext, dweights, v, a):
    relative = right.relative_of_values(a, dcontext.shape[2], v.shape[2])
    return right.probs_backward(dcontext, dweights - key_term(dcontext, relative), v, a)


# --- embeddings


def _no_pad_row(dtable: Array, pad: int | None) -> Array:
    if pad is not None:
        dtable[pad] = 0.0
    return dtable


@mistake("lookup_backward", "of a token that occurs several times, one place alone counts")
def repeated_ids_lost(right, dwords, ids, count, pad):
    dtable = np.zeros((count, dwords.shape[-1]), dwords.dtype)
    dtable[ids.reshape(-1)] = dwords.reshape(-1, dwords.shape[-1])  # the last of equal ids stays
    return _no_pad_row(dtable, pad)


# fmt: off
add("tied_decoder_gradient_lost", "the tied matrix gets the gradient of the lookup alone",
    tied_backward=lambda right, lookup, decoder, pad: lookup)
add("lookup_gradient_lost", "the tied matrix gets the gradient of the decoder alone",
    tied_backward=lambda right, lookup, decoder, pad: decoder)
add("pad_row_not_zeroed", "the lookup gives the padding row a gradient",
    lookup_backward=lambda right, dwords, ids, count, pad: right.lookup_backward(dwords, ids, count, None))
add("pad_row_zeroed", "the padding row's gradient is 0, that of the tied decoder too",
    tied_backward=lambda right, *both: _no_pad_row(right.tied_backward(*both), both[-1]))
add("token_type_gradient_lost", "the sentences' embeddings get no gradient",
    **times(lost, "types_backward"))

# --- losses

add("loss_gradient_sum", "the loss's gradient is not divided by the number of labels",
    **times(lambda logits, labels, where: max(int(where.sum()), 1), "nll_backward"))
add("loss_gradient_all_tokens", "the masked-word gradient is divided by the number of all tokens",
    **times(lambda logits, y: int(labelled(y).sum()) / max(y.size, 1), "masked_lm_backward"))
add("loss_gradient_no_label", "the loss's gradient without [v = label]",
    nll_backward=lambda right, logits, labels, where: (
        softmax(logits) * where[..., None] / max(int(where.sum()), 1)))
# fmt: on
