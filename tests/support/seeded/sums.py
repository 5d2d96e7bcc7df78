"""Mistakes in the backward pass where gradients add up: residuals, shared parameters, lookups, losses."""

import numpy as np

from minizha.nezha import attention as blocks
from minizha.nezha import embeddings, encoder, heads, losses
from minizha.nezha.parameters import Tree
from tests.support.patching import changed_gradient, replaced
from tests.support.seeded.gradients import EVERYWHERE, OF_ATTENTION
from tests.support.seeded.seeding import Seed

PAD = 0

# --- sums over paths ------------------------------------------------------------------------------


def residual_lost(name, module):
    def make(monkeypatch):
        changed_gradient(
            monkeypatch, module, "add_and_norm_backward", lambda d, *_: (d[0], 0.0 * d[1])
        )

    make.__name__ = name
    return make


def gradient_over_batch(monkeypatch):
    def wrong(right):
        return lambda g, **found: right(g, **{name: d / 3.0 for name, d in found.items()})

    replaced(monkeypatch, EVERYWHERE, "accumulate", wrong)
    change = another_lookup(
        "over_batch", lambda d, *_: d / 3.0
    )  # the one that adds without accumulate
    change(monkeypatch)


def gradients_of_the_last_use(monkeypatch):
    """``=`` in place of ``+=``: the word embeddings get the gradient of the lookup alone."""

    def wrong(right):
        return lambda dy, cache, dweight=None: right(dy, cache)

    replaced(monkeypatch, embeddings, "embedding_backward", wrong)


def tied_decoder_gradient_lost(monkeypatch):
    def wrong(right):
        def vocabulary_matrix(tree):
            matrix = right(tree)  # None at first, in a tree of gradients
            return Tree(weight=None) if matrix.weight is None else matrix

        return vocabulary_matrix

    replaced(monkeypatch, heads, "vocabulary_matrix", wrong)


def pad_row_zeroed(monkeypatch):
    def wrong(right):
        def predictions_backward(d, cache, g):
            dhidden, decoder = right(d, cache, g), heads.vocabulary_matrix(g)
            decoder["weight"] = decoder["weight"].copy()
            decoder["weight"][PAD] = 0.0
            return dhidden

        return predictions_backward

    replaced(monkeypatch, losses, "predictions_backward", wrong)


# --- embeddings -----------------------------------------------------------------------------------


def another_lookup(name, change, words=True):
    """The gradient of the word vectors, or of the token types, is ``change(d, dy, cache)``."""

    def wrong(right):
        def embedding_backward(dy, cache, dweight=None):
            d = right(dy, cache)
            d = change(d, dy, cache) if (cache.padding_idx is not None) == words else d
            return d if dweight is None else dweight + d

        return embedding_backward

    def make(monkeypatch):
        replaced(monkeypatch, embeddings, "embedding_backward", wrong)

    make.__name__ = name
    return make


def every_row(d, dy, cache):
    d = np.zeros_like(d)
    np.add.at(d, cache.ids, dy)
    return d


def last_row(d, dy, cache):
    d = 0.0 * d
    d[cache.ids] = dy
    d[cache.padding_idx] = 0.0
    return d


# --- losses ---------------------------------------------------------------------------------------


def another_loss(name, change):
    """The gradient of the logits is ``change(dlogits, dloss, cache)``."""

    def make(monkeypatch):
        changed_gradient(monkeypatch, losses, "cross_entropy_backward", change)

    make.__name__ = name
    return make


def no_label(d, dloss, cache):
    d = d.copy()
    d[np.arange(len(d)), cache.labels] += dloss / cache.count
    return d


WORDS, TYPES = (f"embeddings.{name}_embeddings.weight.grad" for name in ("word", "token_type"))
SEEDS = [
    Seed(residual_lost("around_feed_forward", encoder), OF_ATTENTION + "output.grad",
         "residual_gradient_lost", "bare"),
    Seed(residual_lost("around_attention", blocks), "encoder.layer.0.grad",
         "residual_gradient_lost", "bare"),
    Seed(gradient_over_batch, "cls.seq_relationship.weight.grad", "gradient_over_batch"),
    Seed(gradients_of_the_last_use, WORDS, "tied_decoder_gradient_lost", "masked words"),
    Seed(tied_decoder_gradient_lost, WORDS, "tied_decoder_gradient_lost", "masked words"),
    Seed(another_lookup("lookup_gradient_lost", lambda d, *_: 0.0 * d), WORDS,
         "lookup_gradient_lost", "masked words"),
    Seed(another_lookup("pad_row_not_zeroed", every_row), WORDS, "pad_row_not_zeroed", "masked"),
    Seed(pad_row_zeroed, WORDS, "pad_row_zeroed", "masked words"),
    Seed(another_lookup("repeated_ids_lost", last_row), WORDS, "repeated_ids_lost", "bare"),
    Seed(another_lookup("token_type_gradient_lost", lambda d, *_: 0.0 * d, False), TYPES,
         "token_type_gradient_lost"),
    Seed(another_loss("loss_gradient_sum", lambda d, dloss, c: d * c.count),
         "cls.predictions.grad", "loss_gradient_sum", "masked words"),
    Seed(another_loss("loss_gradient_all_tokens", lambda d, dloss, c: d * (c.count / 18)),
         "cls.predictions.grad", "loss_gradient_all_tokens"),
    Seed(another_loss("loss_gradient_no_label", no_label), "cls.predictions.grad",
         "loss_gradient_no_label", "masked words"),
]  # fmt: skip
