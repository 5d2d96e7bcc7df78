"""The rules of the computation, one small method each, so that a mistake can override one of them.

The rule of a step is the plain operation of :mod:`minizha.ops` wherever there is one. A test checks that
the rules and the model agree; that the operations are right is checked by others: formulas that share no
code with the package, another language, Transformers' vectors and the complex step. A rule keeps the
dtype of its arrays. :mod:`minizha.crosscheck.table` says where the rules apply.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minizha.crosscheck.diagnosis.facts import AttentionFacts, Facts
from minizha.nezha.attention import merge_heads, split_heads
from minizha.ops import softmax as softmax_op
from minizha.ops.activation import ACTIVATIONS, tanh
from minizha.ops.binary_cross_entropy import binary_cross_entropy
from minizha.ops.cross_entropy import IGNORED, cross_entropy
from minizha.ops.layer_norm import layer_norm
from minizha.ops.linear import linear
from minizha.ops.relative_position import RelativeCache as Relative
from minizha.ops.relative_position import (
    relative_key_backward,
    relative_rows,
    relative_table,
    relative_value_backward,
)
from minizha.ops.squared_error import squared_error

Array = np.ndarray
WORDS_AT_ONCE = 2048
"""Rows of the decoder's matrix that are converted at once."""
MASKED = float(np.finfo(np.float32).min)


def plain(operation: Callable[..., Any]) -> Callable[..., Any]:
    """The operation itself, where a kernel may replace it."""
    return getattr(operation, "plain", operation)


def distances(Lq: int, Lk: int, offset: int) -> Array:
    """``j − (offset + i)``, (Lq, Lk)."""
    return np.arange(Lk) - (offset + np.arange(Lq))[:, None]


def key_term(q: Array, relative: Relative) -> Array:
    """``q[…, i] · R[i, j]``, (B, N, Lq, Lk), for any rows: as in the backward pass of the value term."""
    return plain(relative_value_backward)(q, _in_dtype(relative, q))


def value_term(w: Array, relative: Relative) -> Array:
    """``Σ_j w[…, i, j] · R[i, j]``, (B, N, Lq, d), as in the backward pass of the key term."""
    return plain(relative_key_backward)(w, _in_dtype(relative, w))


def _in_dtype(relative: Relative, x: Array) -> Relative:
    return relative._replace(table=relative.table.astype(x.dtype))


def softmax(x: Array, axis: int = -1) -> Array:
    """``exp(x) / Σ exp(x)``."""
    with np.errstate(invalid="ignore"):  # one of the mistakes makes a row of −inf
        return softmax_op.softmax(x.swapaxes(axis, -1))[0].swapaxes(axis, -1)


def log_softmax(x: Array) -> Array:
    """``x − log Σ exp(x)``."""
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


class ForwardRules:
    """The right rules of the forward pass."""

    # --- positions

    def relative(self, a: AttentionFacts, Lq: int, Lk: int) -> Relative:
        """The table, and which of its rows each pair (i, j) reads."""
        return Relative(relative_table(a.K, a.d), relative_rows(Lq, Lk, a.K, a.offset))

    def relative_of_values(self, a: AttentionFacts, Lq: int, Lk: int) -> Relative:
        """The same for the relative term of the values."""
        return self.relative(a, Lq, Lk)

    # --- embeddings

    def words(self, table: Array, f: Facts) -> Array:
        """The word vectors of the tokens."""
        return table[f.input("input_ids")]

    def types(self, table: Array, f: Facts) -> Array:
        """The token type vectors of the tokens."""
        return table[f.token_types]

    def embedding_sum(self, words: Array, types: Array, f: Facts) -> Array:
        """The input of the embeddings' LayerNorm."""
        return words + types

    # --- operations of every part

    def dropout(self, x: Array, factor: Array | None) -> Array:
        """``x · factor``."""
        return x if factor is None else x * factor

    def parameter(self, name: str, f: Facts) -> str:
        """The name of the module whose parameters the linear map or LayerNorm ``name`` reads."""
        return name

    def linear(self, x: Array, weight: Array, bias: Array, name: str) -> Array:
        """``x · weightᵀ + bias``, the linear map ``name``."""
        return linear(x, weight, bias)[0]

    def norm(self, x: Array, weight: Array, bias: Array, eps: float, module: str) -> Array:
        """LayerNorm of ``module``: "embeddings", "attention", "layer" or "predictions"."""
        return layer_norm(x, weight, bias, eps)[0]

    def activation(self, x: Array, name: str, module: str) -> Array:
        """The activation function ``name`` of ``module``: "layer" or "predictions"."""
        return plain(ACTIVATIONS[name].forward)(x)[0]

    # --- attention

    def before_attention(self, x: Array, norm: Any) -> Array:
        """The input of the projections: the layer's input, unchanged. ``norm`` is the LayerNorm."""
        return x

    def split(self, x: Array, d: int) -> Array:
        """(B, L, N·d) → (B, N, L, d)."""
        return split_heads(x, d)

    def merge(self, x: Array) -> Array:
        """(B, N, L, d) → (B, L, N·d)."""
        return merge_heads(x)

    def scores(self, q: Array, k: Array, a: AttentionFacts) -> Array:
        """``(q·k + q·R) / √d``."""
        relative = self.relative(a, q.shape[2], k.shape[2])
        return (q @ k.swapaxes(-1, -2) + key_term(q, relative)) / math.sqrt(a.d)

    def visible(self, a: AttentionFacts) -> Array | None:
        """The mask, 1 where a query sees a key, (B or 1, 1, 1 or L, J); None hides nothing."""
        if a.causal is None:
            return a.visible
        causal = self.causal(a.causal)[None, None]
        return causal if a.visible is None else a.visible * causal

    def causal(self, lower: Array) -> Array:
        """The causal mask: the lower triangle."""
        return lower

    def masked(self, scores: Array, a: AttentionFacts) -> Array:
        """The scores, those of hidden keys set to the lowest float32 number."""
        visible = self.visible(a)
        # replaced, not added to: in float32 the sum would equal MASKED, in float64 it may not
        if visible is None:
            return scores
        return np.where(visible == 1, scores, ((1 - visible) * MASKED).astype(scores.dtype))

    def probs(self, scores: Array, a: AttentionFacts) -> Array:
        """``softmax(scores + mask)``."""
        return softmax(self.masked(scores, a))

    def weights(self, probs: Array, scores: Array, a: AttentionFacts) -> Array:
        """``dropout(probs) · head_mask``; the mistake ``attentions_are_scores`` reads the scores."""
        weights = self.dropout(probs, a.factor)
        return weights if a.head_mask is None else weights * a.head_mask

    def context(
        self, weights: Array, probs: Array, scores: Array, v: Array, a: AttentionFacts
    ) -> Array:
        """``Σ_j weights · (v + R)``; only mistakes read ``probs`` and ``scores``."""
        relative = self.relative_of_values(a, *weights.shape[2:])
        return weights @ v + value_term(weights, relative)

    # --- residual sums

    def residual(self, y: Array, x: Array, factor: Array | None, module: str) -> Array:
        """``dropout(y) + x`` at the end of ``module``: "attention" or "layer"."""
        return self.dropout(y, factor) + x

    def feed_forward_residual(self, h: Array, x: Array) -> Array:
        """The residual of the feed-forward network: its input h, not the layer's input x."""
        return h

    # --- heads

    def pooled(self, hidden: Array, f: Facts) -> Array:
        """The vector that the pooler reads: that of the first token."""
        return hidden[:, 0]

    def tanh(self, x: Array) -> Array:
        """The pooler's activation function."""
        return tanh(x)[0]

    def decoder(self, x: Array, weight: Array, bias: Array) -> Array:
        """``x · weightᵀ + bias``, a column for each word of the vocabulary."""
        logits = np.empty((*x.shape[:-1], len(weight)), x.dtype)
        for start in range(0, len(weight), WORDS_AT_ONCE):  # a large matrix is converted in blocks
            words = slice(start, start + WORDS_AT_ONCE)
            logits[..., words] = linear(x, weight[words].astype(x.dtype, copy=False), bias[words])[
                0
            ]
        return logits

    def masked_lm_loss(self, logits: Array, labels: Array) -> Array:
        """The mean negative log-likelihood over the labelled tokens."""
        return mean_nll(logits, labels, labelled(labels))

    def next_sentence_loss(self, logits: Array, labels: Array) -> Array:
        """The mean negative log-likelihood over the labelled pairs."""
        return mean_nll(logits, labels, labelled(labels))

    def total_loss(self, losses: dict[str, Array]) -> Array:
        """The sum of the losses whose labels are given."""
        return np.asarray(sum(losses.values()))

    def answer_loss(self, logits: Array, start: Array, end: Array) -> Array:
        """The mean of the losses of start and end; a position outside of [0, L) is ignored."""
        L, losses = logits.shape[1], []
        for column, positions in enumerate((start, end)):
            inside = (positions >= 0) & (positions < L)
            losses.append(mean_nll(logits[..., column], positions, inside))
        return np.asarray(0.5 * (losses[0] + losses[1]))

    def class_loss(self, logits: Array, labels: Array, problem: str) -> Array:
        """The loss of a classifier; ``problem`` is as ``problem_type`` of the configuration."""
        if problem == "regression":
            return squared_error(logits, labels.reshape(logits.shape))[0]
        if problem == "multi_label_classification":
            return binary_cross_entropy(logits, labels)[0]
        return mean_nll(logits, labels, labelled(labels))


def labelled(labels: Array) -> Array:
    """True where a label is not −100."""
    return labels != IGNORED


def mean_nll(logits: Array, labels: Array, where: Array) -> Array:
    """The mean of ``−log softmax(logits)[label]`` over the rows in ``where``; 0 if there are none."""
    return cross_entropy(logits[where], labels[where])[0]
