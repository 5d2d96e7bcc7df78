"""Known mistakes about relative positions: the table, the row that a pair reads, the two terms."""

from __future__ import annotations

import math

import numpy as np

from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.catalogue import mistake
from minizha.crosscheck.diagnosis.facts import AttentionFacts
from minizha.crosscheck.diagnosis.rules import Array, Relative, distances, key_term, value_term


def sinusoid(positions: Array, d: int, step: float = 2.0) -> Array:
    """Sine and cosine of ``p · 10000^(−step · m / d)``, alternating, (len(positions), d)."""
    angles = positions[:, None] * 10000.0 ** (-step * np.arange(d // 2) / d)
    table = np.empty((len(positions), d))
    table[:, 0::2], table[:, 1::2] = np.sin(angles), np.cos(angles)
    return table


class OtherTable(Rules):
    """Rules with a wrong table, of which the right rows are read."""

    def table(self, right: Array, a: AttentionFacts) -> Array:
        """The table in place of the right one."""
        return right

    def relative(self, a: AttentionFacts, Lq: int, Lk: int) -> Relative:
        """The right rows of :meth:`table`."""
        right = super().relative(a, Lq, Lk)
        return right._replace(table=self.table(right.table, a))


class OtherRows(Rules):
    """Rules that read wrong rows of the right table."""

    def rows(self, distance: Array, a: AttentionFacts) -> Array:
        """The rows in place of ``clip(distance, −K, K) + K``; ``distance`` is j − i."""
        return np.clip(distance, -a.K, a.K) + a.K

    def relative(self, a: AttentionFacts, Lq: int, Lk: int) -> Relative:
        """The rows of :meth:`rows` in the right table."""
        right, rows = super().relative(a, Lq, Lk), self.rows(distances(Lq, Lk, a.offset), a)
        return right._replace(rows=rows)


@mistake("zero_table", "relative table all zeros", "MindNLP 0.3 to 0.4")
class ZeroTable(OtherTable):
    def table(self, right: Array, a: AttentionFacts) -> Array:
        return np.zeros_like(right)


@mistake(
    "unshifted_table",
    "the sinusoid is taken of j − i itself, so that distance 0 is [0, 1, 0, 1, …]",
    "readings of the paper",
)
class UnshiftedTable(OtherTable):
    def table(self, right: Array, a: AttentionFacts) -> Array:
        return sinusoid(np.arange(-a.K, a.K + 1), a.d)


@mistake("halves_table", "sines in the first half of the columns, cosines in the second")
class HalvesTable(OtherTable):
    def table(self, right: Array, a: AttentionFacts) -> Array:
        return np.concatenate([right[:, 0::2], right[:, 1::2]], axis=1)


@mistake("cosine_first_table", "cosines in the even columns, sines in the odd ones")
class CosineFirstTable(OtherTable):
    def table(self, right: Array, a: AttentionFacts) -> Array:
        return right.reshape(len(right), -1, 2)[..., ::-1].reshape(right.shape)


@mistake("frequencies_table", "frequencies 10000^(−m/d) in place of 10000^(−2m/d)")
class FrequenciesTable(OtherTable):
    def table(self, right: Array, a: AttentionFacts) -> Array:
        return sinusoid(np.arange(2 * a.K + 1), a.d, 1.0)


@mistake("distance_sign", "i − j in place of j − i")
class DistanceSign(OtherRows):
    def rows(self, distance: Array, a: AttentionFacts) -> Array:
        return super().rows(-distance, a)


@mistake("distance_absolute", "|j − i| in place of j − i")
class DistanceAbsolute(OtherRows):
    def rows(self, distance: Array, a: AttentionFacts) -> Array:
        return super().rows(np.abs(distance), a)


@mistake("clip_one_less", "clipped to K − 1 in place of K")
class ClipOneLess(OtherRows):
    def rows(self, distance: Array, a: AttentionFacts) -> Array:
        return np.clip(distance, -max(a.K - 1, 0), max(a.K - 1, 0)) + a.K


@mistake("clip_upper_exclusive", "clipped to [−K, K − 1]: the last row is never read")
class ClipUpperExclusive(OtherRows):
    def rows(self, distance: Array, a: AttentionFacts) -> Array:
        return np.clip(distance, -a.K, max(a.K - 1, 0)) + a.K


@mistake("clip_lower_exclusive", "clipped to [−K + 1, K]: the first row is never read")
class ClipLowerExclusive(OtherRows):
    def rows(self, distance: Array, a: AttentionFacts) -> Array:
        return np.clip(distance, -max(a.K - 1, 0), a.K) + a.K


@mistake("clip_one_more", "made for K + 1 in place of K")
class ClipOneMore(Rules):
    def relative(self, a: AttentionFacts, Lq: int, Lk: int) -> Relative:
        return super().relative(a._replace(K=a.K + 1), Lq, Lk)


@mistake("distance_wraps", "not clipped: the index wraps around")
class DistanceWraps(OtherRows):
    def rows(self, distance: Array, a: AttentionFacts) -> Array:
        return (distance + a.K) % (2 * a.K + 1)


@mistake("no_clip", "not clipped: the sinusoid goes on beyond K")
class NoClip(Rules):
    def relative(self, a: AttentionFacts, Lq: int, Lk: int) -> Relative:
        distance = distances(Lq, Lk, a.offset)
        positions = np.arange(distance.min(), distance.max() + 1)
        return Relative(sinusoid(positions + a.K, a.d), distance - distance.min())


@mistake("clip_64", "K = 64 is hard-coded", "Huawei's TensorFlow code")
class Clip64(Rules):
    def relative(self, a: AttentionFacts, Lq: int, Lk: int) -> Relative:
        return super().relative(a._replace(K=64), Lq, Lk)


@mistake("table_row_off", "the table is read one row too high")
class TableRowOff(OtherRows):
    def rows(self, distance: Array, a: AttentionFacts) -> Array:
        return np.minimum(super().rows(distance, a) + 1, 2 * a.K)


@mistake("offset_forgotten", "with a past, query i is taken to stand at i, not at past + i")
class OffsetForgotten(Rules):
    def relative(self, a: AttentionFacts, Lq: int, Lk: int) -> Relative:
        return super().relative(a._replace(offset=0), Lq, Lk)


@mistake("cross_offset_forgotten", "the same in cross-attention alone")
class CrossOffsetForgotten(Rules):
    def relative(self, a: AttentionFacts, Lq: int, Lk: int) -> Relative:
        return super().relative(a._replace(offset=0) if a.is_cross else a, Lq, Lk)


@mistake("offset_from_the_end", "queries are counted such that the last one meets the last key")
class OffsetFromTheEnd(Rules):
    def relative(self, a: AttentionFacts, Lq: int, Lk: int) -> Relative:
        return super().relative(a._replace(offset=Lk - Lq), Lq, Lk)


@mistake("no_cross_relative", "no relative terms in cross-attention")
class NoCrossRelative(OtherTable):
    def table(self, right: Array, a: AttentionFacts) -> Array:
        return np.zeros_like(right) if a.is_cross else right


@mistake("no_scale", "1/√d missing", "bert4torch 0.6.2")
class NoScale(Rules):
    def scores(self, q: Array, k: Array, a: AttentionFacts) -> Array:
        return super().scores(q, k, a) * math.sqrt(a.d)


@mistake("scale_d", "1/d in place of 1/√d")
class ScaleD(Rules):
    def scores(self, q: Array, k: Array, a: AttentionFacts) -> Array:
        return super().scores(q, k, a) / math.sqrt(a.d)


@mistake("scale_hidden", "1/√D, of the hidden size, in place of 1/√d")
class ScaleHidden(Rules):
    def scores(self, q: Array, k: Array, a: AttentionFacts) -> Array:
        return super().scores(q, k, a) * math.sqrt(a.d / a.D)


@mistake("relative_key_after_scaling", "the relative term of the keys is added after the scaling")
class RelativeKeyAfterScaling(Rules):
    def scores(self, q: Array, k: Array, a: AttentionFacts) -> Array:
        term = key_term(q, self.relative(a, q.shape[2], k.shape[2]))
        return q @ k.swapaxes(-1, -2) / math.sqrt(a.d) + term


@mistake("relative_key_scaled_twice", "the relative term of the keys is divided by √d twice")
class RelativeKeyScaledTwice(Rules):
    def scores(self, q: Array, k: Array, a: AttentionFacts) -> Array:
        term = key_term(q, self.relative(a, q.shape[2], k.shape[2]))
        return (q @ k.swapaxes(-1, -2) + term / math.sqrt(a.d)) / math.sqrt(a.d)


@mistake("no_relative_key", "the relative term of the keys is missing")
class NoRelativeKey(Rules):
    def scores(self, q: Array, k: Array, a: AttentionFacts) -> Array:
        return q @ k.swapaxes(-1, -2) / math.sqrt(a.d)


@mistake("relative_by_key", "k[j] · R[i, j] in place of q[i] · R[i, j]")
class RelativeByKey(Rules):
    def scores(self, q: Array, k: Array, a: AttentionFacts) -> Array:
        relative = self.relative(a, q.shape[2], k.shape[2])
        turned = relative._replace(rows=relative.rows.T)
        term = key_term(k, turned).swapaxes(-1, -2)
        return (q @ k.swapaxes(-1, -2) + term) / math.sqrt(a.d)


@mistake("no_relative_value", "the relative term of the values is missing")
class NoRelativeValue(Rules):
    def context(self, weights: Array, probs: Array, v: Array, a: AttentionFacts) -> Array:
        return weights @ v


@mistake(
    "relative_value_undropped",
    "the relative term of the values has the probabilities before dropout and head mask",
)
class RelativeValueUndropped(Rules):
    def context(self, weights: Array, probs: Array, v: Array, a: AttentionFacts) -> Array:
        return weights @ v + value_term(probs, self.relative_of_values(a, *weights.shape[2:]))


@mistake("relative_value_scaled", "the relative term of the values is divided by √d")
class RelativeValueScaled(Rules):
    def context(self, weights: Array, probs: Array, v: Array, a: AttentionFacts) -> Array:
        term = value_term(weights, self.relative_of_values(a, *weights.shape[2:]))
        return weights @ v + term / math.sqrt(a.d)


@mistake("relative_value_distance_sign", "i − j in place of j − i, for the values alone")
class RelativeValueDistanceSign(Rules):
    def relative_of_values(self, a: AttentionFacts, Lq: int, Lk: int) -> Relative:
        right = super().relative_of_values(a, Lq, Lk)
        return right._replace(rows=2 * a.K - right.rows)


@mistake("absolute_positions", "a sinusoid of the position is added to the embeddings", "BERT")
class AbsolutePositions(Rules):
    def embedding_sum(self, words: Array, types: Array, f: object) -> Array:
        _, L, D = words.shape
        positions = sinusoid(np.arange(L), D + D % 2)[:, :D]
        return super().embedding_sum(words, types, f) + positions
