"""Each rule of the computation as one small function, so that a mistake can take the place of one.

This is the arithmetic of :mod:`minizha.ops` and :mod:`minizha.model` a second time, in float64 and
NumPy, without caches and without speed: a reader of reports, not of models, looks here. A test
holds it equal to the model. :mod:`~minizha.crosscheck.diagnosis.forward` says in which order the
rules apply.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from minizha.crosscheck.diagnosis.facts import Facts, Place
from minizha.ops.activation import ACTIVATIONS
from minizha.ops.cross_entropy import IGNORED
from minizha.ops.relative_position import relative_table

Array = np.ndarray
MASKED = float(np.finfo(np.float32).min)


class Relative(NamedTuple):
    """R[i, j] = table[rows[i, j]]."""

    table: Array
    rows: Array


def distances(Lq: int, Lk: int, offset: int) -> Array:
    """``j − (offset + i)``, (Lq, Lk)."""
    return np.arange(Lk) - (offset + np.arange(Lq))[:, None]


def key_term(q: Array, relative: Relative) -> Array:
    """``q[…, i] · R[i, j]``, (B, N, Lq, Lk)."""
    columns = q @ relative.table.T
    rows = np.broadcast_to(relative.rows, (*q.shape[:2], *relative.rows.shape))
    return np.take_along_axis(columns, rows, -1)


def by_row(w: Array, relative: Relative) -> Array:
    """``Σ_j w[…, i, j] · [rows[i, j] = r]``, (B, N, Lq, rows of the table)."""
    every = np.arange(len(relative.table))
    return np.stack(
        [w[:, :, i] @ (row[:, None] == every) for i, row in enumerate(relative.rows)], axis=2
    )


def value_term(w: Array, relative: Relative) -> Array:
    """``Σ_j w[…, i, j] · R[i, j]``, (B, N, Lq, d)."""
    return by_row(w, relative) @ relative.table


def softmax(x: Array, axis: int = -1) -> Array:
    """``exp(x) / Σ exp(x)``."""
    with np.errstate(invalid="ignore"):  # −inf everywhere, in one of the mistakes
        e = np.exp(x - x.max(axis=axis, keepdims=True))
        return e / e.sum(axis=axis, keepdims=True)


def log_softmax(x: Array) -> Array:
    """``x − log Σ exp(x)``."""
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


class ForwardRules:
    """The right rules of the forward pass."""

    # --- positions

    def relative(self, a: Place, Lq: int, Lk: int) -> Relative:
        """The table, and the row that each pair reads."""
        rows = np.clip(distances(Lq, Lk, a.offset), -a.K, a.K) + a.K
        return Relative(relative_table(a.K, a.d), rows)

    def relative_of_values(self, a: Place, Lq: int, Lk: int) -> Relative:
        """The same for the values."""
        return self.relative(a, Lq, Lk)

    # --- embeddings

    def words(self, table: Array, f: Facts) -> Array:
        """The vectors of the tokens."""
        return table[f.input("input_ids")]

    def types(self, table: Array, f: Facts) -> Array:
        """The vectors of the sentences."""
        return table[f.token_types]

    def embedding_sum(self, words: Array, types: Array, f: Facts) -> Array:
        """What LayerNorm reads."""
        return words + types

    # --- everywhere

    def dropout(self, x: Array, factor: Array | None) -> Array:
        """``x · factor``."""
        return x if factor is None else x * factor

    def parameter(self, name: str, f: Facts) -> str:
        """Which parameters a linear map or a LayerNorm reads: its own."""
        return name

    def linear(self, x: Array, weight: Array, bias: Array) -> Array:
        """``x · weightᵀ + bias``."""
        return x @ weight.T + bias

    def norm(self, x: Array, weight: Array, bias: Array, eps: float, place: str) -> Array:
        """LayerNorm; ``place`` is "embeddings", "attention", "layer" or "predictions"."""
        centred = x - x.mean(axis=-1, keepdims=True)
        variance = (centred * centred).mean(axis=-1, keepdims=True)
        return centred / np.sqrt(variance + eps) * weight + bias

    def activation(self, x: Array, name: str, place: str) -> Array:
        """``hidden_act``; ``place`` is "layer" or "predictions"."""
        return ACTIVATIONS[name].forward(x)[0]

    # --- attention

    def before_attention(self, x: Array, norm: Any) -> Array:
        """What the projections read: the layer's input as it is. ``norm`` normalises."""
        return x

    def split(self, x: Array, d: int) -> Array:
        """(B, L, N·d) → (B, N, L, d)."""
        B, L, width = x.shape
        return x.reshape(B, L, width // d, d).swapaxes(1, 2)

    def merge(self, x: Array) -> Array:
        """(B, N, L, d) → (B, L, N·d)."""
        B, N, L, d = x.shape
        return x.swapaxes(1, 2).reshape(B, L, N * d)

    def scores(self, q: Array, k: Array, a: Place) -> Array:
        """``(q·k + q·R) / √d``."""
        relative = self.relative(a, q.shape[2], k.shape[2])
        return (q @ k.swapaxes(-1, -2) + key_term(q, relative)) / math.sqrt(a.d)

    def visible(self, a: Place) -> Array | None:
        """1 where a query may look, (B or 1, 1, 1 or L, J); None: everywhere."""
        if a.causal is None:
            return a.visible
        causal = self.causal(a.causal)[None, None]
        return causal if a.visible is None else a.visible * causal

    def causal(self, lower: Array) -> Array:
        """Causality: the lower triangle."""
        return lower

    def masked(self, scores: Array, a: Place) -> Array:
        """The scores with what is hidden pushed down to the lowest number."""
        visible = self.visible(a)
        # hidden scores are replaced, not pushed: float32 would swallow them, float64 may not
        return scores if visible is None else np.where(visible == 1, scores, (1 - visible) * MASKED)

    def probs(self, scores: Array, a: Place) -> Array:
        """``softmax(scores + mask)``."""
        return softmax(self.masked(scores, a))

    def weights(self, probs: Array, scores: Array, a: Place) -> Array:
        """``dropout(probs) · head_mask``; the scores are there for who mistakes them for it."""
        weights = self.dropout(probs, a.factor)
        return weights if a.head_mask is None else weights * a.head_mask

    def context(self, weights: Array, probs: Array, v: Array, a: Place) -> Array:
        """``Σ_j weights · (v + R)``."""
        relative = self.relative_of_values(a, *weights.shape[2:])
        return weights @ v + value_term(weights, relative)

    # --- the ends of the two halves of a layer

    def residual(self, y: Array, x: Array, factor: Array | None, place: str) -> Array:
        """``dropout(y) + x``; ``place`` is "attention" or "layer"."""
        return self.dropout(y, factor) + x

    def feed_forward_residual(self, h: Array, x: Array) -> Array:
        """What the feed-forward network's result is added to: h, not the layer's input x."""
        return h

    # --- heads

    def pooled(self, hidden: Array) -> Array:
        """The vector that the pooler reads: the first token's."""
        return hidden[:, 0]

    def tanh(self, x: Array) -> Array:
        """The pooler's."""
        return np.tanh(x)

    def decoder(self, x: Array, weight: Array, bias: Array) -> Array:
        """``x · weightᵀ + bias``, one column a word."""
        return x @ weight.T + bias

    def masked_lm_loss(self, logits: Array, labels: Array) -> Array:
        """The mean surprise over labelled tokens."""
        return mean_nll(logits, labels, labelled(labels))

    def next_sentence_loss(self, logits: Array, labels: Array) -> Array:
        """The mean surprise over labelled pairs."""
        return mean_nll(logits, labels, labelled(labels))

    def total_loss(self, losses: dict[str, Array]) -> Array:
        """The sum of the losses whose labels are given."""
        return np.asarray(sum(losses.values()))

    def answer_loss(self, logits: Array, start: Array, end: Array) -> Array:
        """Half the sum of both ends' losses."""
        L, losses = logits.shape[1], []
        for column, places in enumerate((start, end)):
            inside = (places >= 0) & (places < L)
            losses.append(mean_nll(logits[..., column], places, inside))
        return np.asarray(0.5 * (losses[0] + losses[1]))

    def class_loss(self, logits: Array, labels: Array, problem: str) -> Array:
        """Of the classes that classify; ``problem`` as the configuration's ``problem_type``."""
        if problem == "regression":
            return np.asarray(((logits - labels.reshape(logits.shape)) ** 2).mean())
        if problem == "multi_label_classification":
            softplus = np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits)))
            return np.asarray((softplus - labels * logits).mean())
        return mean_nll(logits, labels, labelled(labels))


def labelled(labels: Array) -> Array:
    """Where there is a label."""
    return labels != IGNORED


def mean_nll(logits: Array, labels: Array, where: Array) -> Array:
    """``mean over what is asked of −log softmax(logits)[label]``, 0 where nothing is."""
    rows = log_softmax(logits[where])
    right = np.take_along_axis(rows, labels[where][..., None], -1)
    return np.asarray(-right.sum() / max(right.size, 1))
