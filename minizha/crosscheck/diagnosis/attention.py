"""Known mistakes of attention: masks, softmax, head masks, the split into heads, projections."""

from __future__ import annotations

import numpy as np

from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.catalogue import mistake
from minizha.crosscheck.diagnosis.facts import AttentionFacts, Facts
from minizha.crosscheck.diagnosis.rules import Array, softmax


@mistake(
    "mask_minus_10000",
    "the mask adds −10000, which a fully masked row sees through",
    "PaddleNLP 2.8, Huawei's PyTorch code",
)
class MaskMinus10000(Rules):
    def masked(self, scores: Array, a: AttentionFacts) -> Array:
        visible = self.visible(a)
        return scores if visible is None else scores + (1 - visible) * -10000.0


@mistake("mask_minus_1e9", "the mask adds −1e9, which a fully masked row sees through")
class MaskMinus1e9(Rules):
    def masked(self, scores: Array, a: AttentionFacts) -> Array:
        visible = self.visible(a)
        return scores if visible is None else scores + (1 - visible) * -1e9


@mistake("mask_infinite", "the mask adds −∞, and a fully masked row becomes NaN", "bert4keras")
class MaskInfinite(Rules):
    def masked(self, scores: Array, a: AttentionFacts) -> Array:
        visible = self.visible(a)
        return scores if visible is None else np.where(visible == 1, scores, -np.inf)


@mistake("masked_row_zero", "a fully masked row gets the weights 0, not 1/L each")
class MaskedRowZero(Rules):
    def probs(self, scores: Array, a: AttentionFacts) -> Array:
        visible = self.visible(a)
        probs = super().probs(scores, a)
        return probs if visible is None else probs * (visible.max(axis=-1, keepdims=True) == 1)


@mistake("mask_ignored", "the mask is not added")
class MaskIgnored(Rules):
    def visible(self, a: AttentionFacts) -> Array | None:
        return super().visible(a._replace(visible=None))


@mistake("mask_inverted", "the mask means the opposite: 1 hides")
class MaskInverted(Rules):
    def visible(self, a: AttentionFacts) -> Array | None:
        return super().visible(a if a.visible is None else a._replace(visible=1 - a.visible))


@mistake("mask_on_queries", "the mask hides queries in place of keys")
class MaskOnQueries(Rules):
    def visible(self, a: AttentionFacts) -> Array | None:
        if a.visible is None or a.visible.shape[2] != 1:
            return super().visible(a)
        return super().visible(a._replace(visible=a.visible.swapaxes(-1, -2)))


@mistake("mask_transposed", "a mask of pairs is read as (key, query) in place of (query, key)")
class MaskTransposed(Rules):
    def visible(self, a: AttentionFacts) -> Array | None:
        if a.visible is None or a.visible.shape[2] != a.visible.shape[3]:
            return super().visible(a)
        return super().visible(a._replace(visible=a.visible.swapaxes(-1, -2)))


@mistake("mask_unscaled", "the mask itself, 0 and 1 or −1 and 0, is added to the scores")
class MaskUnscaled(Rules):
    def masked(self, scores: Array, a: AttentionFacts) -> Array:
        visible = self.visible(a)
        return scores if visible is None else scores + visible


@mistake(
    "mask_after_softmax", "the mask multiplies the probabilities, which then sum to less than 1"
)
class MaskAfterSoftmax(Rules):
    def probs(self, scores: Array, a: AttentionFacts) -> Array:
        visible = self.visible(a)
        return softmax(scores) * (1 if visible is None else visible)


@mistake("causal_missing", "a decoder without causality")
class CausalMissing(Rules):
    def visible(self, a: AttentionFacts) -> Array | None:
        return a.visible


@mistake("causal_strict", "a decoder's token does not see itself")
class CausalStrict(Rules):
    def causal(self, lower: Array) -> Array:
        L, J = lower.shape
        return np.tri(L, J, J - L - 1)


@mistake("causal_one_ahead", "a decoder's token sees the next one")
class CausalOneAhead(Rules):
    def causal(self, lower: Array) -> Array:
        L, J = lower.shape
        return np.tri(L, J, J - L + 1)


@mistake("causal_transposed", "a decoder's token sees what comes, not what was")
class CausalTransposed(Rules):
    def causal(self, lower: Array) -> Array:
        L, J = lower.shape
        return 1.0 - np.tri(L, J, J - L - 1)


@mistake("causal_offset_forgotten", "with a past, causality counts the queries from 0")
class CausalOffsetForgotten(Rules):
    def causal(self, lower: Array) -> Array:
        return np.tri(*lower.shape)


@mistake("softmax_over_queries", "softmax over the queries in place of the keys")
class SoftmaxOverQueries(Rules):
    def probs(self, scores: Array, a: AttentionFacts) -> Array:
        return softmax(self.masked(scores, a), axis=-2)


@mistake("softmax_over_heads", "softmax over the heads in place of the keys")
class SoftmaxOverHeads(Rules):
    def probs(self, scores: Array, a: AttentionFacts) -> Array:
        return softmax(self.masked(scores, a), axis=1)


@mistake("no_softmax", "no softmax")
class NoSoftmax(Rules):
    def probs(self, scores: Array, a: AttentionFacts) -> Array:
        return self.masked(scores, a)


@mistake(
    "attentions_are_scores",
    "`attentions` are the scores before softmax",
    "PaddleNLP 2.8, Huawei's PyTorch code",
)
class AttentionsAreScores(Rules):
    def weights(self, probs: Array, scores: Array, a: AttentionFacts) -> Array:
        return scores


@mistake("dropout_on_scores", "dropout acts on the scores, before softmax")
class DropoutOnScores(Rules):
    def probs(self, scores: Array, a: AttentionFacts) -> Array:
        return super().probs(scores if a.factor is None else scores * a.factor, a)


@mistake("head_mask_ignored", "the head mask is not applied")
class HeadMaskIgnored(Rules):
    def weights(self, probs: Array, scores: Array, a: AttentionFacts) -> Array:
        return super().weights(probs, scores, a._replace(head_mask=None))


@mistake("head_mask_before_softmax", "the head mask multiplies the scores")
class HeadMaskBeforeSoftmax(Rules):
    def probs(self, scores: Array, a: AttentionFacts) -> Array:
        return super().probs(scores if a.head_mask is None else scores * a.head_mask, a)


@mistake("head_mask_inverted", "the head mask means the opposite: 1 switches off")
class HeadMaskInverted(Rules):
    def weights(self, probs: Array, scores: Array, a: AttentionFacts) -> Array:
        flipped = None if a.head_mask is None else 1 - a.head_mask
        return super().weights(probs, scores, a._replace(head_mask=flipped))


@mistake("head_mask_other_layer", "the head mask of another layer is applied")
class HeadMaskOtherLayer(Rules):
    def weights(self, probs: Array, scores: Array, a: AttentionFacts) -> Array:
        masks = a.all_head_masks
        if masks is None or len(masks) < 2 or masks.shape[1] != probs.shape[1]:
            return super().weights(probs, scores, a)
        # layer 0 takes the mask of layer 1, every other layer that of the layer before it
        other = masks[a.layer - 1 if a.layer else 1].reshape(1, -1, 1, 1)
        return super().weights(probs, scores, a._replace(head_mask=other))


@mistake("split_not_transposed", "(B, L, N·d) is read as (B, N, L, d) without a transpose")
class SplitNotTransposed(Rules):
    def split(self, x: Array, d: int) -> Array:
        B, L, width = x.shape
        return x.reshape(B, width // d, L, d)


@mistake("merge_not_transposed", "(B, N, L, d) is read as (B, L, N·d) without a transpose")
class MergeNotTransposed(Rules):
    def merge(self, x: Array) -> Array:
        B, N, L, d = x.shape
        return x.reshape(B, L, N * d)


@mistake("heads_interleaved", "feature n·d + m is taken for head m: head and feature exchanged")
class HeadsInterleaved(Rules):
    def split(self, x: Array, d: int) -> Array:
        B, L, width = x.shape
        return x.reshape(B, L, d, width // d).transpose(0, 3, 1, 2)


class Swapped(Rules):
    """Rules in which the two projections of ``pair`` read each other's parameters."""

    pair = ("", "")

    def parameter(self, name: str, f: Facts) -> str:
        """The name of the other projection of the pair; any other name as it is."""
        *path, last = name.split(".")
        for projection, other in (self.pair, self.pair[::-1]):
            if last == projection:
                return ".".join([*path, other])
        return name


@mistake("query_key_swapped", "the parameters of query and key are exchanged")
class QueryKeySwapped(Swapped):
    pair = ("query", "key")


@mistake("key_value_swapped", "the parameters of key and value are exchanged")
class KeyValueSwapped(Swapped):
    pair = ("key", "value")


@mistake("query_value_swapped", "the parameters of query and value are exchanged")
class QueryValueSwapped(Swapped):
    pair = ("query", "value")
