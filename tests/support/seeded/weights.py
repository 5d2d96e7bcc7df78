"""Mistakes between scores and contexts: masks, softmax, dropout, head masks, the value term."""

import math
from types import SimpleNamespace

import numpy as np

from minizha.crosscheck import trace_entries
from minizha.model import inputs
from minizha.nezha import attention as blocks
from minizha.ops import attention as ops
from minizha.ops.dropout import DropoutCache
from minizha.ops.relative_position import relative_value
from minizha.ops.softmax import SoftmaxCache
from tests.support.patching import (
    changed_arguments,
    changed_options,
    changed_y,
    remembering,
    replaced,
)
from tests.support.seeded.seeding import CONTEXT, PROBS, WEIGHTS, Seed

# --- from scores to weights -----------------------------------------------------------------------


def another_mask(name, change):
    """The mask of visible keys is ``change(visible)``."""

    def make(monkeypatch):
        changed_arguments(
            monkeypatch,
            inputs.ArgumentChecker,
            "additive_mask",
            lambda checker, visible: (checker, change(visible)),
        )

    make.__name__ = name
    return make


def another_addend(name, addend):
    """``addend`` is added to the scores of masked keys."""

    def make(monkeypatch):
        def wrong(right):
            def added(checker, visible):
                mask = right(checker, visible)
                return None if mask is None else np.where(mask < 0, addend, mask)

            return added

        replaced(monkeypatch, inputs.ArgumentChecker, "additive_mask", wrong)

    make.__name__ = name
    return make


def mask_infinite(monkeypatch):
    another_addend("", -np.inf)(monkeypatch)

    def wrong(right):
        def softmax(scores, mask):
            with np.errstate(invalid="ignore"):
                return right(scores, mask)

        return softmax

    replaced(monkeypatch, ops, "softmax", wrong)


def turned(visible):
    return visible if visible is None or visible.ndim < 4 else visible.swapaxes(-1, -2)


def mask_after_softmax(monkeypatch):
    memory = {}
    changed_options(monkeypatch, blocks, "attention", mask=None)
    replaced(monkeypatch, blocks, "attention", remembering(memory, "mask", "mask"))
    changed_probs(monkeypatch, lambda probs: probs * (memory["mask"] >= 0))


def masked_row_zero(monkeypatch):
    memory = {}
    replaced(monkeypatch, blocks, "attention", remembering(memory, "mask", "mask"))
    changed_probs(
        monkeypatch, lambda probs: probs * (memory["mask"] >= 0).any(axis=-1, keepdims=True)
    )


def no_softmax(monkeypatch):
    replaced(monkeypatch, ops, "softmax", lambda right: lambda x, _: (x, SoftmaxCache(x)))


def softmax_temperature_2(monkeypatch):
    changed_arguments(monkeypatch, ops, "softmax", lambda scores, mask: (scores / 2.0, mask))


def changed_probs(monkeypatch, change):
    """The probabilities are ``change(softmax(…))``, in the cache too."""

    def wrong(right):
        def softmax(scores, mask):
            probs = change(right(scores, mask)[0])
            return probs, SoftmaxCache(probs)

        return softmax

    replaced(monkeypatch, ops, "softmax", wrong)


def softmax_over(axis):
    def make(monkeypatch):
        def wrong(right):
            def softmax(scores, _):
                probs = right(scores.swapaxes(axis, -1))[0].swapaxes(axis, -1)
                return probs, SoftmaxCache(probs)

            return softmax

        replaced(monkeypatch, ops, "softmax", wrong)

    make.__name__ = {-2: "softmax_over_queries", 1: "softmax_over_heads"}[axis]
    return make


def triangle(name, tri):
    def make(monkeypatch):
        monkeypatch.setattr(inputs, "np", SimpleNamespace(**(vars(np) | {"tri": tri})))

    make.__name__ = name
    return make


def head_mask_ignored(monkeypatch):
    changed_options(monkeypatch, blocks, "attention", head_mask=None)


def head_mask_inverted(monkeypatch):
    changed_arguments(
        monkeypatch,
        inputs.ArgumentChecker,
        "head_masks",
        lambda checker, value: (checker, 1.0 - value),
    )


def head_mask_before_softmax(monkeypatch):
    memory = {}
    head_mask_ignored(monkeypatch)
    replaced(monkeypatch, blocks, "attention", remembering(memory, "heads", "head_mask"))
    changed_arguments(
        monkeypatch, ops, "softmax", lambda scores, mask: (scores * memory["heads"], mask)
    )


def head_mask_other_layer(monkeypatch):
    replaced(
        monkeypatch,
        inputs.ArgumentChecker,
        "head_masks",
        lambda right: lambda checker, value: right(checker, value)[::-1],
    )


def dropout_on_scores(monkeypatch):
    drawn = {}
    drop = ops.dropout

    def wrong(right):
        def softmax(scores, mask):
            rate, rng = drawn["rate"], drawn["rng"]
            scores, cache = drop(scores, rate, rng)
            drawn["factor"] = cache.factor
            return right(scores, mask)

        return softmax

    def attention(right):
        def forward(*arguments, **options):
            drawn.update(rate=options["dropout_rate"], rng=options["rng"])
            return right(*arguments, **options)

        return forward

    replaced(monkeypatch, blocks, "attention", attention)
    replaced(monkeypatch, ops, "softmax", wrong)
    monkeypatch.setattr(ops, "dropout", lambda x, *_: (x, DropoutCache(drawn["factor"])))


def attentions_are_scores(monkeypatch):
    """The weights of the cache are wrong; those that make the context are right."""
    memory = {}
    replaced(monkeypatch, ops, "softmax", remembering(memory, "scores", 0))

    def wrong(right):
        def attention(*arguments, **options):
            context, cache = right(*arguments, **options)
            return context, cache._replace(weights=memory["scores"])

        return attention

    replaced(monkeypatch, blocks, "attention", wrong)


# --- contexts -------------------------------------------------------------------------------------


def no_relative_value(monkeypatch):
    changed_y(monkeypatch, ops, "relative_value", lambda y, *_: 0.0 * y)


def relative_value_scaled(monkeypatch):
    changed_y(monkeypatch, ops, "relative_value", lambda y, *_: y / math.sqrt(y.shape[-1]))


def relative_value_undropped(monkeypatch):
    memory = {}
    replaced(monkeypatch, ops, "dropout", remembering(memory, "probs", 0))
    changed_arguments(
        monkeypatch, ops, "relative_value", lambda weights, *rest: (memory["probs"], *rest)
    )


def relative_value_distance_sign(monkeypatch):
    changed_arguments(
        monkeypatch, ops, "relative_value", lambda w, table, *rest: (w, table[::-1], *rest)
    )


def unmasked(name, term):
    """The context has one more term, of the weights by which softmax without the mask exceeds the right
    ones."""

    def make(monkeypatch):
        def wrong(right):
            def attention(*arguments, **options):
                context, cache = right(*arguments, **options)
                other = right(*arguments, **(options | {"mask": None}))[1]
                excess = other.weights - cache.weights
                return context + term(excess, *arguments[2:], options["offset"]), cache

            return attention

        replaced(monkeypatch, blocks, "attention", wrong)

    make.__name__ = name
    return make


def merge_not_transposed(monkeypatch):
    for module in (blocks, trace_entries):
        monkeypatch.setattr(module, "merge_heads", lambda x: x.reshape(len(x), x.shape[2], -1))


TRIANGLES = {
    "causal_missing": lambda L, keys, past: np.ones((L, keys)),
    "causal_strict": lambda L, keys, past: np.tri(L, keys, past - 1),
    "causal_transposed": lambda L, keys, past: np.tri(keys, L)[:, ::1].T,
}
SEEDS = [
    Seed(another_mask("mask_ignored", lambda v: None), PROBS, "mask_ignored", "masked"),
    Seed(another_mask("mask_inverted", lambda v: 1.0 - v), PROBS, "mask_inverted", "masked"),
    Seed(another_mask("mask_on_queries", turned), PROBS, "mask_on_queries", "masked"),
    Seed(another_mask("mask_on_queries", turned), PROBS, "mask_transposed", "mask 3-D"),
    Seed(another_addend("mask_minus_10000", -1e4), PROBS, "mask_minus_10000", "hidden row"),
    Seed(another_addend("mask_minus_1e9", -1e9), PROBS, "mask_minus_1e9", "hidden row"),
    Seed(masked_row_zero, PROBS, "masked_row_zero", "hidden row"),
    Seed(no_softmax, PROBS, "no_softmax"),
    Seed(softmax_temperature_2, PROBS, "softmax_temperature_2", "masked"),
    Seed(another_addend("mask_minus_1", -1.0), PROBS, "mask_unscaled", "masked"),
    Seed(mask_infinite, PROBS, "mask_infinite", "hidden row"),
    Seed(mask_after_softmax, PROBS, "mask_after_softmax", "masked"),
    *(Seed(triangle(key, tri), PROBS, key, "decoder") for key, tri in TRIANGLES.items()),
    Seed(softmax_over(-2), PROBS, "softmax_over_queries"),
    Seed(softmax_over(1), PROBS, "softmax_over_heads"),
    Seed(dropout_on_scores, PROBS, "dropout_on_scores", "dropout"),
    Seed(head_mask_before_softmax, PROBS, "head_mask_before_softmax", "head mask"),
    Seed(head_mask_ignored, WEIGHTS, "head_mask_ignored", "head mask"),
    Seed(head_mask_inverted, WEIGHTS, "head_mask_inverted", "head mask"),
    Seed(head_mask_other_layer, WEIGHTS, "head_mask_other_layer", "head mask"),
    Seed(attentions_are_scores, WEIGHTS, "attentions_are_scores"),
    Seed(no_relative_value, CONTEXT, "no_relative_value"),
    Seed(relative_value_scaled, CONTEXT, "relative_value_scaled"),
    Seed(relative_value_undropped, CONTEXT, "relative_value_undropped", "dropout"),
    Seed(relative_value_undropped, CONTEXT, "relative_value_undropped", "head mask"),
    Seed(relative_value_distance_sign, CONTEXT, "relative_value_distance_sign"),
    Seed(unmasked("value_unmasked", lambda w, value, *_: w @ value), CONTEXT, "value_unmasked",
         "masked"),
    Seed(unmasked("relative_value_unmasked",
                  lambda w, value, table, offset: relative_value(w, table, offset)[0]),
         CONTEXT, "relative_value_unmasked", "masked"),
    Seed(merge_not_transposed, CONTEXT, "merge_not_transposed"),
]  # fmt: skip
