"""Known mistakes about relative positions: the table, the row that a pair reads, the two terms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from minizha.crosscheck.diagnosis.catalogue import Wrong, add, mistake
from minizha.crosscheck.diagnosis.facts import AttentionFacts
from minizha.crosscheck.diagnosis.rules import Array, Relative, distances, key_term, value_term

# --- the table


def sinusoid(positions: Array, d: int, base: float = 10000.0, period: int | None = None) -> Array:
    """Sine and cosine of ``p · base^(−2m / period)``, alternating, (len(positions), d); the period
    is d unless it is given."""
    angles = positions[:, None] * base ** (-2.0 * np.arange(d // 2) / (period or d))
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(positions), d)


def table_of(a: AttentionFacts, base: float = 10000.0, period: int | None = None) -> Array:
    """The sinusoid of the rows 0 to 2K."""
    return sinusoid(np.arange(2 * a.K + 1), a.d, base, period)


def in_halves(table: Array) -> Array:
    """The even columns, then the odd ones."""
    return np.concatenate([table[:, 0::2], table[:, 1::2]], axis=1)


def bfloat16(x: Array) -> Array:
    """The nearest numbers of eight binary digits; of two as near, the even one."""
    fraction, exponent = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(fraction, 8)), exponent - 8)


def _other_table(table: Callable[[Array, AttentionFacts], Array]) -> Wrong:
    """The right rows of ``table(right table, a)``."""

    def relative(right, a, Lq, Lk):
        found = right.relative(a, Lq, Lk)
        return found._replace(table=table(found.table, a).astype(found.table.dtype))

    return relative


# fmt: off
for key, text, seen_in, table in (
    ("zero_table", "relative table all zeros", "MindNLP 0.3 to 0.4", lambda t, a: np.zeros_like(t)),
    ("unshifted_table", "the sinusoid is taken of j − i itself, so that distance 0 is [0, 1, 0, 1, …]",
     "readings of the paper", lambda t, a: sinusoid(np.arange(-a.K, a.K + 1), a.d)),
    ("halves_table", "sines in the first half of the columns, cosines in the second", "",
     lambda t, a: in_halves(t)),
    ("cosine_first_table", "cosines in the even columns, sines in the odd ones", "",
     lambda t, a: t.reshape(len(t), -1, 2)[..., ::-1].reshape(t.shape)),
    ("frequencies_table", "frequencies 10000^(−m/d) in place of 10000^(−2m/d)", "",
     lambda t, a: table_of(a, period=2 * a.d)),
    ("frequencies_hidden", "frequencies 10000^(−2m/D), of the hidden size, in place of 10000^(−2m/d)", "",
     lambda t, a: table_of(a, period=a.D)),
    ("frequencies_d_minus_2", "frequencies 10000^(−2m/(d − 2)) in place of 10000^(−2m/d)", "",
     lambda t, a: table_of(a, period=a.d - 2)),
    ("halves_table_d_minus_2", "frequencies 10000^(−2m/(d − 2)), sines in the first half of the columns",
     "tensor2tensor, fairseq", lambda t, a: in_halves(table_of(a, period=a.d - 2))),
    ("base_1000", "frequencies 1000^(−2m/d)", "", lambda t, a: table_of(a, 1000.0)),
    ("base_100000", "frequencies 100000^(−2m/d)", "", lambda t, a: table_of(a, 100000.0)),
    ("table_float32", "the table is rounded to float32", "Huawei's TensorFlow code",
     lambda t, a: np.float32(t)),
    ("table_float16", "the table is rounded to float16", "", lambda t, a: np.float16(t)),
    ("table_bfloat16", "the table is rounded to bfloat16", "", lambda t, a: bfloat16(t)),
    ("no_cross_relative", "no relative terms in cross-attention", "",
     lambda t, a: np.zeros_like(t) if a.is_cross else t),
):
    add(key, text, seen_in, relative=_other_table(table))
# fmt: on

# --- the row of a pair


def _other_rows(rows: Callable[[Array, int], Array]) -> Wrong:
    """The rows ``rows(j − i, K)`` of the right table."""

    return lambda right, a, Lq, Lk: right.relative(a, Lq, Lk)._replace(
        rows=rows(distances(Lq, Lk, a.offset), a.K)
    )


def _less(K: int) -> int:
    return max(K - 1, 0)


# fmt: off
for key, text, rows in (
    ("distance_sign", "i − j in place of j − i", lambda x, K: np.clip(-x, -K, K) + K),
    ("distance_absolute", "|j − i| in place of j − i", lambda x, K: np.clip(abs(x), -K, K) + K),
    ("clip_one_less", "clipped to K − 1 in place of K", lambda x, K: np.clip(x, -_less(K), _less(K)) + K),
    ("clip_upper_exclusive", "clipped to [−K, K − 1]: the last row is never read",
     lambda x, K: np.clip(x, -K, _less(K)) + K),
    ("clip_lower_exclusive", "clipped to [−K + 1, K]: the first row is never read",
     lambda x, K: np.clip(x, -_less(K), K) + K),
    ("distance_wraps", "not clipped: the index wraps around", lambda x, K: (x + K) % (2 * K + 1)),
    ("table_row_off", "the table is read one row too high",
     lambda x, K: np.minimum(np.clip(x, -K, K) + K + 1, 2 * K)),
):
    add(key, text, relative=_other_rows(rows))
# fmt: on


def _other_facts(change: Callable[[AttentionFacts, int, int], AttentionFacts]) -> Wrong:
    """The right table and rows of other facts."""
    return lambda right, a, Lq, Lk: right.relative(change(a, Lq, Lk), Lq, Lk)


# fmt: off
for key, text, seen_in, change in (
    ("clip_one_more", "made for K + 1 in place of K", "", lambda a, Lq, Lk: a._replace(K=a.K + 1)),
    ("clip_64", "K = 64 is hard-coded", "Huawei's TensorFlow code", lambda a, Lq, Lk: a._replace(K=64)),
    ("offset_forgotten", "with a past, query i is taken to stand at i, not at past + i", "",
     lambda a, Lq, Lk: a._replace(offset=0)),
    ("cross_offset_forgotten", "the same in cross-attention alone", "",
     lambda a, Lq, Lk: a._replace(offset=0) if a.is_cross else a),
    ("offset_from_the_end", "queries are counted such that the last one meets the last key", "",
     lambda a, Lq, Lk: a._replace(offset=Lk - Lq)),
):
    add(key, text, seen_in, relative=_other_facts(change))
# fmt: on


@mistake("relative", "not clipped: the sinusoid goes on beyond K")
def no_clip(right, a, Lq, Lk):
    distance, dtype = distances(Lq, Lk, a.offset), right.relative(a, Lq, Lk).table.dtype
    positions = np.arange(distance.min(), distance.max() + 1)
    return Relative(sinusoid(positions + a.K, a.d).astype(dtype), distance - distance.min())


# --- the scores


@mistake("scores", "1/√d missing", "bert4torch 0.6.2")
def no_scale(right, q, k, a):
    return right.scores(q, k, a) * math.sqrt(a.d)


# fmt: off
add("scale_d", "1/d in place of 1/√d",
    scores=lambda right, q, k, a: right.scores(q, k, a) / math.sqrt(a.d))
add("scale_hidden", "1/√D, of the hidden size, in place of 1/√d",
    scores=lambda right, q, k, a: right.scores(q, k, a) * math.sqrt(a.d / a.D))
add("no_relative_key", "the relative term of the keys is missing",
    scores=lambda right, q, k, a: q @ k.swapaxes(-1, -2) / math.sqrt(a.d))
# fmt: on


@mistake("scores", "the relative term of the keys is added after the scaling")
def relative_key_after_scaling(right, q, k, a):
    term = key_term(q, right.relative(a, q.shape[2], k.shape[2]))
    return q @ k.swapaxes(-1, -2) / math.sqrt(a.d) + term


@mistake("scores", "the relative term of the keys is divided by √d twice")
def relative_key_scaled_twice(right, q, k, a):
    term = key_term(q, right.relative(a, q.shape[2], k.shape[2]))
    return (q @ k.swapaxes(-1, -2) + term / math.sqrt(a.d)) / math.sqrt(a.d)


@mistake("scores", "k[j] · R[i, j] in place of q[i] · R[i, j]")
def relative_by_key(right, q, k, a):
    relative = right.relative(a, q.shape[2], k.shape[2])
    term = key_term(k, relative._replace(rows=relative.rows.T)).swapaxes(-1, -2)
    return (q @ k.swapaxes(-1, -2) + term) / math.sqrt(a.d)


# --- the contexts

# fmt: off
add("no_relative_value", "the relative term of the values is missing",
    context=lambda right, weights, probs, scores, v, a: weights @ v)
add("relative_value_undropped",
    "the relative term of the values has the probabilities before dropout and head mask",
    context=lambda right, weights, probs, scores, v, a: (
        weights @ v + value_term(probs, right.relative_of_values(a, *weights.shape[2:]))))
# fmt: on


@mistake("context", "the relative term of the values is divided by √d")
def relative_value_scaled(right, weights, probs, scores, v, a):
    term = value_term(weights, right.relative_of_values(a, *weights.shape[2:]))
    return weights @ v + term / math.sqrt(a.d)


@mistake("relative_of_values", "i − j in place of j − i, for the values alone")
def relative_value_distance_sign(right, a, Lq, Lk):
    found = right.relative_of_values(a, Lq, Lk)
    return found._replace(rows=2 * a.K - found.rows)


# --- the embeddings


@mistake("embedding_sum", "a sinusoid of the position is added to the embeddings", "BERT")
def absolute_positions(right, words, types, f):
    _, L, D = words.shape
    positions = sinusoid(np.arange(L), D + D % 2)[:, :D]
    return right.embedding_sum(words, types, f) + positions.astype(words.dtype)
