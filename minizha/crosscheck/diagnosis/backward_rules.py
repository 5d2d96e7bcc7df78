"""The rules of the backward pass, one small method each; and :class:`Rules`, those of both passes."""

from __future__ import annotations

import math

import numpy as np

from minizha.crosscheck.diagnosis.facts import AttentionFacts
from minizha.crosscheck.diagnosis.rules import (
    Array,
    ForwardRules,
    key_term,
    labelled,
    plain,
    value_term,
)
from minizha.ops.activation import ACTIVATIONS, TanhCache, tanh_backward
from minizha.ops.binary_cross_entropy import binary_cross_entropy, binary_cross_entropy_backward
from minizha.ops.cross_entropy import IGNORED, cross_entropy, cross_entropy_backward
from minizha.ops.embedding import EmbeddingCache, embedding_backward
from minizha.ops.layer_norm import layer_norm, layer_norm_backward
from minizha.ops.softmax import SoftmaxCache, softmax_backward
from minizha.ops.squared_error import squared_error, squared_error_backward


class Rules(ForwardRules):
    """The right rules of the forward and backward pass. A mistake is a subclass that overrides some."""

    # --- operations of every part

    def linear_backward(self, dy: Array, weight: Array) -> Array:
        """``dx = dy · weight``."""
        return dy @ weight

    def weight_backward(self, dy: Array, x: Array) -> Array:
        """``dweight = dyᵀ · x`` over all rows."""
        return rows(dy).T @ rows(x)

    def bias_backward(self, dy: Array) -> Array:
        """``dbias = Σ dy`` over all rows."""
        return rows(dy).sum(axis=0)

    def norm_backward(self, dy: Array, x: Array, weight: Array, eps: float) -> Array:
        """``dx = (dn − mean(dn) − n · mean(dn · n)) · s`` with ``dn = dy · weight``."""
        return layer_norm_backward(dy, layer_norm(x, weight, 0.0, eps)[1])[0]

    def norm_weight_backward(self, dy: Array, x: Array, eps: float) -> Array:
        """``dweight = Σ dy · n`` over all rows."""
        return layer_norm_backward(dy, layer_norm(x, 1.0, 0.0, eps)[1])[1]

    def activation_backward(self, dy: Array, x: Array, name: str) -> Array:
        """``dx`` of the activation function ``name``."""
        op = ACTIVATIONS[name]
        return plain(op.backward)(dy, plain(op.forward)(x)[1])

    def dropout_backward(self, dy: Array, factor: Array | None) -> Array:
        """``dx = dy · factor``."""
        return dy if factor is None else dy * factor

    def residual_backward(self, dsum: Array) -> Array:
        """The gradient of the residual: that of the sum, unchanged."""
        return dsum

    # --- attention, (B, N, L, …)

    def probs_backward(
        self, dcontext: Array, dweights: Array, v: Array, a: AttentionFacts
    ) -> Array:
        """``dprobs = (dcontext · (v + R)ᵀ + dweights) · head_mask · factor``; ``dweights`` is the
        upstream gradient of the attentions."""
        relative = self.relative_of_values(a, dcontext.shape[2], v.shape[2])
        dweights = dweights + dcontext @ v.swapaxes(-1, -2) + key_term(dcontext, relative)
        dweights = dweights if a.head_mask is None else dweights * a.head_mask
        return self.dropout_backward(dweights, a.factor)

    def softmax_backward(self, dprobs: Array, probs: Array) -> Array:
        """``dscores = probs · (dprobs − Σ dprobs · probs)``."""
        return softmax_backward(dprobs, SoftmaxCache(probs))

    def masked_backward(self, dmasked: Array, a: AttentionFacts) -> Array:
        """The gradient of the scores: that of the masked ones, since the mask is added to them."""
        return dmasked

    def query_backward(self, dscores: Array, k: Array, a: AttentionFacts) -> Array:
        """``dq[i] = Σ_j dscores[i, j] · (k[j] + R[i, j]) / √d``."""
        relative = self.relative(a, dscores.shape[2], k.shape[2])
        return (dscores @ k + value_term(dscores, relative)) / math.sqrt(a.d)

    def key_backward(self, dscores: Array, q: Array, a: AttentionFacts) -> Array:
        """``dk[j] = Σ_i dscores[i, j] · q[i] / √d``."""
        return dscores.swapaxes(-1, -2) @ q / math.sqrt(a.d)

    def value_backward(self, dcontext: Array, weights: Array) -> Array:
        """``dv[j] = Σ_i weights[i, j] · dcontext[i]``."""
        return weights.swapaxes(-1, -2) @ dcontext

    # --- embeddings

    def lookup_backward(self, dwords: Array, ids: Array, count: int, pad: int | None) -> Array:
        """``dtable[id] = Σ dwords`` over all tokens with that id; 0 in the pad row."""
        return plain(embedding_backward)(dwords, EmbeddingCache(ids, count, pad))

    def types_backward(self, dtypes: Array, types: Array, count: int) -> Array:
        """``dtable[type] = Σ dtypes`` over all tokens of that type."""
        return self.lookup_backward(dtypes, types, count, None)

    def tied_backward(self, lookup: Array, decoder: Array, pad: int | None) -> Array:
        """A tied matrix gets the sum of the gradients of the lookup and of the decoder."""
        return lookup + decoder

    # --- heads and losses

    def pooled_backward(self, dfirst: Array, L: int) -> Array:
        """The gradient of the hidden states: 0 except for the first token."""
        dhidden = np.zeros((dfirst.shape[0], L, dfirst.shape[-1]), dfirst.dtype)
        dhidden[:, 0] = dfirst
        return dhidden

    def tanh_backward(self, dy: Array, y: Array) -> Array:
        """``dx = dy · (1 − y²)``."""
        return tanh_backward(dy, TanhCache(y))

    def nll_backward(self, logits: Array, labels: Array, where: Array) -> Array:
        """``dlogits = (softmax(logits) − [v = label]) / count``; 0 in rows that are not in ``where``."""
        _, cache = cross_entropy(rows(logits), np.where(where, labels, IGNORED).reshape(-1))
        return cross_entropy_backward(1.0, cache).reshape(logits.shape)

    def masked_lm_backward(self, logits: Array, labels: Array) -> Array:
        """``dlogits`` of the mean over the labelled tokens."""
        return self.nll_backward(logits, labels, labelled(labels))

    def class_backward(self, logits: Array, labels: Array, problem: str) -> Array:
        """``dlogits`` of a classifier's loss."""
        if problem == "regression":
            return squared_error_backward(
                1.0, squared_error(logits, labels.reshape(logits.shape))[1]
            )
        if problem == "multi_label_classification":
            return binary_cross_entropy_backward(1.0, binary_cross_entropy(logits, labels)[1])
        return self.nll_backward(logits, labels, labelled(labels))

    def answer_backward(self, logits: Array, start: Array, end: Array) -> Array:
        """``dlogits`` of the mean of the losses of start and end."""
        L, columns = logits.shape[1], []
        for column, positions in enumerate((start, end)):
            inside = (positions >= 0) & (positions < L)
            columns.append(0.5 * self.nll_backward(logits[..., column], positions, inside))
        return np.stack(columns, axis=-1)


def rows(x: Array) -> Array:
    """(…, D) → (T, D)."""
    return x.reshape(-1, x.shape[-1])


def normalised(x: Array, eps: float) -> tuple[Array, Array]:
    """``n = (x − μ) · s`` and ``s = 1 / √(σ² + eps)``."""
    _, cache = layer_norm(x, 1.0, 0.0, eps)
    return cache.normalised, cache.inverse_std
