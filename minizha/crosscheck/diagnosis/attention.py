"""Known mistakes of attention: masks, softmax, head masks, the split into heads, projections."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from minizha.crosscheck.diagnosis.catalogue import Wrong, add, mistake
from minizha.crosscheck.diagnosis.rules import Array, softmax, value_term

# --- what the mask does to the scores


def _by_mask(change: Callable[[Array, Array], Array]) -> Wrong:
    """``change(x, visible)``, or x itself without a mask."""

    def wrong(right, x, a):
        visible = right.visible(a)
        return x if visible is None else change(x, visible.astype(x.dtype))

    return wrong


# fmt: off
add("mask_minus_10000", "the mask adds −10000, which a fully masked row sees through",
    "PaddleNLP 2.8, Huawei's PyTorch code",
    masked=_by_mask(lambda scores, visible: scores + (1 - visible) * -10000.0))
add("mask_minus_1e9", "the mask adds −1e9, which a fully masked row sees through",
    masked=_by_mask(lambda scores, visible: scores + (1 - visible) * -1e9))
add("mask_infinite", "the mask adds −∞, and a fully masked row becomes NaN", "bert4keras",
    masked=_by_mask(lambda scores, visible: np.where(visible == 1, scores, -np.inf)))
add("mask_unscaled", "the mask itself, 0 and 1 or −1 and 0, is added to the scores",
    masked=_by_mask(lambda scores, visible: scores + visible))
add("mask_replaces_scores",
    "the mask takes the place of the scores, so a fully masked row gives them no gradient",
    "jnp.where, masked_fill", masked_backward=_by_mask(lambda d, visible: d * (visible == 1)))
# fmt: on


@mistake("probs", "a fully masked row gets the weights 0, not 1/L each")
def masked_row_zero(right, scores, a):
    visible, probs = right.visible(a), right.probs(scores, a)
    return probs if visible is None else probs * (visible.max(axis=-1, keepdims=True) == 1)


@mistake("probs", "the mask multiplies the probabilities, which then sum to less than 1")
def mask_after_softmax(right, scores, a):
    visible = right.visible(a)
    return softmax(scores) * (1 if visible is None else visible.astype(scores.dtype))


# --- which keys a query sees


def _other_mask(change: Callable[[Array], Array | None]) -> Wrong:
    """The caller's mask is ``change(mask)``."""

    def visible(right, a):
        return right.visible(a if a.visible is None else a._replace(visible=change(a.visible)))

    return visible


def _turned(mask: Array) -> Array:
    return mask.swapaxes(-1, -2)


# fmt: off
add("mask_ignored", "the mask is not added", visible=_other_mask(lambda m: None))
add("mask_inverted", "the mask means the opposite: 1 hides", visible=_other_mask(lambda m: 1 - m))
add("mask_on_queries", "the mask hides queries in place of keys",
    visible=_other_mask(lambda m: _turned(m) if m.shape[2] == 1 else m))
add("mask_transposed", "a mask of pairs is read as (key, query) in place of (query, key)",
    visible=_other_mask(lambda m: _turned(m) if m.shape[2] == m.shape[3] else m))
add("causal_missing", "a decoder without causality", visible=lambda right, a: a.visible)
# fmt: on


def _triangle(visible: Callable[[int, int], Array]) -> Wrong:
    """The causal mask is ``visible(L, J)``."""
    return lambda right, lower: visible(*lower.shape).astype(lower.dtype)


# fmt: off
add("causal_strict", "a decoder's token does not see itself",
    causal=_triangle(lambda L, J: np.tri(L, J, J - L - 1)))
add("causal_one_ahead", "a decoder's token sees the next one",
    causal=_triangle(lambda L, J: np.tri(L, J, J - L + 1)))
add("causal_transposed", "a decoder's token sees what comes, not what was",
    causal=_triangle(lambda L, J: 1.0 - np.tri(L, J, J - L - 1)))
add("causal_offset_forgotten", "with a past, causality counts the queries from 0",
    causal=_triangle(np.tri))

# --- from the scores to the weights

add("softmax_over_queries", "softmax over the queries in place of the keys",
    probs=lambda right, scores, a: softmax(right.masked(scores, a), axis=-2))
add("softmax_over_heads", "softmax over the heads in place of the keys",
    probs=lambda right, scores, a: softmax(right.masked(scores, a), axis=1))
add("no_softmax", "no softmax", probs=lambda right, scores, a: right.masked(scores, a))
add("softmax_temperature_2", "softmax(scores / 2)",
    probs=lambda right, scores, a: softmax(right.masked(scores, a) / 2.0))
add("dropout_on_scores", "dropout acts on the scores, before softmax",
    probs=lambda right, scores, a: right.probs(right.dropout(scores, a.factor), a))
add("attentions_are_scores", "`attentions` are the scores before softmax",
    "PaddleNLP 2.8, Huawei's PyTorch code", weights=lambda right, probs, scores, a: scores)
add("head_mask_ignored", "the head mask is not applied",
    weights=lambda right, probs, scores, a: right.weights(probs, scores, a._replace(head_mask=None)))
# fmt: on


@mistake("probs", "the head mask multiplies the scores")
def head_mask_before_softmax(right, scores, a):
    return right.probs(scores if a.head_mask is None else scores * a.head_mask, a)


@mistake("weights", "the head mask means the opposite: 1 switches off")
def head_mask_inverted(right, probs, scores, a):
    flipped = None if a.head_mask is None else 1 - a.head_mask
    return right.weights(probs, scores, a._replace(head_mask=flipped))


@mistake("weights", "the head mask of another layer is applied")
def head_mask_other_layer(right, probs, scores, a):
    masks = a.all_head_masks
    if masks is None or len(masks) < 2 or masks.shape[1] != probs.shape[1]:
        return right.weights(probs, scores, a)
    # layer 0 takes the mask of layer 1, every other layer that of the layer before it
    other = masks[a.layer - 1 if a.layer else 1].reshape(1, -1, 1, 1)
    return right.weights(probs, scores, a._replace(head_mask=other))


# --- the context, with weights that no mask has changed


@mistake("context", "the values are weighted by softmax without the mask: padded keys count")
def value_unmasked(right, weights, probs, scores, v, a):
    term = value_term(weights, right.relative_of_values(a, *weights.shape[2:]))
    return right.weights(softmax(scores), scores, a) @ v + term


@mistake("context", "the relative term of the values is weighted by softmax without the mask")
def relative_value_unmasked(right, weights, probs, scores, v, a):
    unmasked = right.weights(softmax(scores), scores, a)
    return weights @ v + value_term(unmasked, right.relative_of_values(a, *weights.shape[2:]))


# --- heads and projections

# fmt: off
add("split_not_transposed", "(B, L, N·d) is read as (B, N, L, d) without a transpose",
    split=lambda right, x, d: x.reshape(len(x), -1, x.shape[1], d))
add("merge_not_transposed", "(B, N, L, d) is read as (B, L, N·d) without a transpose",
    merge=lambda right, x: x.reshape(len(x), x.shape[2], -1))
add("heads_interleaved", "feature n·d + m is taken for head m: head and feature exchanged",
    split=lambda right, x, d: x.reshape(*x.shape[:2], d, -1).transpose(0, 3, 1, 2))
add("heads_reversed", "the heads in reverse order",
    split=lambda right, x, d: right.split(x, d)[:, ::-1])
# fmt: on


def _exchanged(*pair: str) -> Wrong:
    """Each projection of the pair reads the other's parameters."""
    other = dict(zip(pair, pair[::-1], strict=True))

    def parameter(right, name, f):
        *path, last = name.split(".")
        return ".".join([*path, other.get(last, last)])

    return parameter


for one, two in (("query", "key"), ("key", "value"), ("query", "value")):
    text = f"the parameters of {one} and {two} are exchanged"
    add(f"{one}_{two}_swapped", text, parameter=_exchanged(one, two))
