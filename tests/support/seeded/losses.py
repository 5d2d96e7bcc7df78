"""Mistakes in the heads of pre-training and of fine-tuning, and in their losses."""

import math

import numpy as np

from minizha.model import call, fine_tuning, pretraining
from minizha.nezha import heads, losses
from minizha.ops.activation import relu_backward
from minizha.ops.cross_entropy import IGNORED
from tests.support.patching import changed_arguments, changed_pair, changed_y, replaced
from tests.support.seeded.blocks import identity
from tests.support.seeded.seeding import Seed, at, changed_loss, grafted

HEAD, SINGLE = "cls.predictions.", "single_label_classification"

# --- masked words ---------------------------------------------------------------------------------


def mlm_no_norm(monkeypatch):
    changed_y(monkeypatch, heads, "layer_norm", lambda y, x, *_: x)


def mlm_no_activation(monkeypatch):
    right = heads.ACTIVATIONS["gelu"]
    pair = changed_pair(right, forward=identity, backward=relu_backward)
    monkeypatch.setattr(heads, "ACTIVATIONS", {"gelu": pair})


def in_predictions(name, change):
    def make(monkeypatch):
        changed_arguments(monkeypatch, losses, "predictions", lambda p, *rest: (change(p), *rest))

    make.__name__ = name
    return make


def without(name):
    return lambda p: grafted(p, HEAD + name, 0.0 * at(p, HEAD + name))


def turned(name):
    return lambda p: grafted(p, HEAD + name, at(p, HEAD + name).T)


def another_loss(name, change):
    """``change(labels, V)`` gives the labels, and the count that divides the sum."""

    def make(monkeypatch):
        def arguments(p, config, hidden, labels, rng):
            wrong = losses.Labels(*change(labels.values, config.vocab_size))
            return p, config, hidden, wrong, rng

        changed_arguments(monkeypatch, pretraining, "masked_words", arguments)

    make.__name__ = name
    return make


def labelled(labels):
    return int((labels != IGNORED).sum())


def ignoring_zero(labels):
    return np.where(labels == 0, IGNORED, labels)


def shifted(labels):
    return np.concatenate([labels[:, 1:], np.full_like(labels[:, :1], IGNORED)], axis=1)


LOSSES = {
    "loss_mean_all_tokens": lambda y, V: (y, y.size),
    "loss_sum": lambda y, V: (y, 1),
    "loss_count_epsilon": lambda y, V: (y, labelled(y) + 1e-5),
    "ignored_label_zero": lambda y, V: (np.maximum(y, 0), None),
    "ignored_label_wraps": lambda y, V: (y % V, None),
    "labels_shifted": lambda y, V: (shifted(y), None),
}


def loss_mean_of_rows(monkeypatch):
    """The mean over the examples of the means over their tokens, whose counts differ."""

    def wrong(right):
        def masked_words(p, config, hidden, labels, rng):
            scores, cache = right(p, config, hidden, labels, rng)
            rows = zip(hidden, labels.values, strict=True)
            each = [right(p, config, h[None], losses.Labels(y[None]), rng)[0] for h, y in rows]
            return scores._replace(loss=np.mean([one.loss for one in each])), cache

        return masked_words

    replaced(monkeypatch, pretraining, "masked_words", wrong)


def loss_counts_empty_slots(monkeypatch):
    """Every example has as many slots as the fullest one; an empty one has label 0 at token 0."""

    def wrong(right):
        def masked_words(p, config, hidden, labels, rng):
            scores, cache = right(p, config, hidden, labels, rng)
            tokens = [np.flatnonzero(y != IGNORED) for y in labels.values]
            slots, nll = max(map(len, tokens)), []
            for z, y, filled in zip(scores.logits(), labels.values, tokens, strict=True):
                logs = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
                nll += [-logs[t, y[t]] for t in filled] + [-logs[0, 0]] * (slots - len(filled))
            return scores._replace(loss=np.mean(nll)), cache

        return masked_words

    replaced(monkeypatch, pretraining, "masked_words", wrong)


def loss_log_epsilon(monkeypatch):
    def nll(loss, logits, labels, *_):
        probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
        return -np.log(probs[np.arange(len(labels)), labels] + 1e-8).mean()

    changed_y(monkeypatch, losses, "cross_entropy", nll)


def loss_base_2(monkeypatch):
    changed_y(monkeypatch, losses, "cross_entropy", lambda loss, *_: loss / math.log(2.0))
    changed_loss(monkeypatch, SINGLE, lambda loss, *_: loss / math.log(2.0))


# --- next sentences -------------------------------------------------------------------------------


def another_next_sentence(name, change):
    def make(monkeypatch):
        def arguments(p, config, pooled, labels, rng):
            return p, config, pooled, labels._replace(values=change(labels.values)), rng

        changed_arguments(monkeypatch, pretraining, "next_sentence", arguments)

    make.__name__ = name
    return make


def flipped(labels):
    return np.where(labels == IGNORED, labels, 1 - labels)


def nsp_loss_halved(monkeypatch):
    changed_y(
        monkeypatch, pretraining, "next_sentence", lambda y, *_: y._replace(loss=0.5 * y.loss)
    )


def another_sum(name, sum_):
    """``sum_(masked_lm_loss, next_sentence_loss)``"""

    def make(monkeypatch):
        def wrong(right):
            def add(a, b):
                return right(a, b) if a is None or b is None or a.ndim else sum_(a, b)

            return add

        replaced(monkeypatch, call, "add", wrong)

    make.__name__ = name
    return make


# --- fine-tuning ----------------------------------------------------------------------------------


def qa_columns_swapped(monkeypatch):
    changed_y(monkeypatch, losses, "linear", lambda logits, *_: logits[..., ::-1])


def qa_positions_swapped(monkeypatch):
    """The logits of the start are compared with the labels of the end, and vice versa."""

    def wrong(right):
        def swapped(self, *arguments, start_positions, end_positions, **options):
            positions = {"start_positions": end_positions, "end_positions": start_positions}
            return right(self, *arguments, **positions, **options)

        return swapped

    replaced(monkeypatch, fine_tuning.NezhaForQuestionAnswering, "__call__", wrong)


def qa_loss_sum(monkeypatch):
    changed_loss(monkeypatch, SINGLE, lambda loss, *_: 2.0 * loss)


def multi_label_softmax(monkeypatch):
    def nll(loss, logits, targets, *_):
        logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return -(targets * logs).sum() / logits.shape[0]

    changed_loss(monkeypatch, "multi_label_classification", nll)


def multi_label_sum(monkeypatch):
    changed_loss(
        monkeypatch, "multi_label_classification", lambda loss, logits, *_: loss * logits.shape[1]
    )


def regression_half(monkeypatch):
    changed_loss(monkeypatch, "regression", lambda loss, *_: 0.5 * loss)


LM, NEXT = "masked_lm_loss", "next_sentence_loss"
TRANSFORM = "cls.predictions.transform"
SEEDS = [
    Seed(in_predictions("transform_transposed", turned("transform.dense.weight")),
         TRANSFORM + ".dense", "weight_transposed"),
    Seed(mlm_no_activation, TRANSFORM + ".activation", "mlm_no_activation"),
    Seed(mlm_no_norm, TRANSFORM, "mlm_no_norm"),
    Seed(in_predictions("decoder_no_bias", without("bias")), "cls.predictions", "decoder_no_bias"),
    *(Seed(another_loss(key, change), LM, key, "many words") for key, change in LOSSES.items()),
    Seed(another_loss("loss_ignore_zero", lambda y, V: (ignoring_zero(y), None)), LM,
         "loss_ignore_zero"),
    Seed(loss_mean_of_rows, LM, "loss_mean_of_rows", "uneven"),
    Seed(loss_counts_empty_slots, LM, "loss_counts_empty_slots", "uneven"),
    Seed(loss_log_epsilon, LM, "loss_log_epsilon"),
    Seed(loss_base_2, LM, "loss_base_2"),
    Seed(another_next_sentence("nsp_labels_flipped", flipped), NEXT, "nsp_labels_flipped"),
    Seed(another_next_sentence("nsp_ignore_zero", ignoring_zero), NEXT, "nsp_ignore_zero"),
    Seed(another_next_sentence("nsp_labels_flipped", flipped), NEXT, "nsp_labels_flipped",
         "next sentence"),
    Seed(nsp_loss_halved, NEXT, "nsp_loss_halved"),
    Seed(another_sum("loss_nsp_half", lambda a, b: a + 0.5 * b), "loss", "loss_nsp_half"),
    Seed(another_sum("loss_mlm_alone", lambda a, b: a), "loss", "loss_mlm_alone"),
    Seed(another_sum("loss_nsp_alone", lambda a, b: b), "loss", "loss_nsp_alone"),
    Seed(another_sum("loss_mean_of_both", lambda a, b: 0.5 * (a + b)), "loss", "loss_mean_of_both"),
    Seed(qa_columns_swapped, "qa_outputs", "qa_outputs_swapped", "answer"),
    Seed(qa_positions_swapped, "loss", "qa_columns_swapped", "answer"),
    Seed(qa_loss_sum, "loss", "qa_loss_sum", "answer"),
    Seed(multi_label_softmax, "loss", "multi_label_softmax", "multi label"),
    Seed(multi_label_sum, "loss", "multi_label_sum", "multi label"),
    Seed(regression_half, "loss", "regression_half", "regression"),
]  # fmt: skip
