"""Known mistakes of the pooler, the prediction heads and the losses."""

from __future__ import annotations

import math

import numpy as np

from minizha.crosscheck.diagnosis.catalogue import add, mistake, skipped, times
from minizha.crosscheck.diagnosis.rules import Array, labelled, log_softmax, mean_nll, softmax

# fmt: off
add("pooler_no_tanh", "the pooler without tanh", tanh=lambda right, x: x)
add("pooler_last_token", "the pooler reads the last token", pooled=lambda right, x, f: x[:, -1])
add("pooler_second_token", "the pooler reads the second token", pooled=lambda right, x, f: x[:, 1])
add("pooler_mean", "the pooler reads the mean over all tokens", pooled=lambda right, x, f: x.mean(axis=1))
add("mlm_no_norm", "the masked-word head without LayerNorm", **skipped("norm", "predictions"))
add("mlm_no_activation", "the masked-word head without its activation function",
    **skipped("activation", "predictions"))
add("decoder_no_bias", "the vocabulary's bias is not added",
    decoder=lambda right, x, weight, bias: right.decoder(x, weight, 0.0 * bias))
# fmt: on


@mistake("pooled", "the pooler reads the mean over the tokens that the mask shows")
def pooler_masked_mean(right, hidden, f):
    mask = f.input("attention_mask")
    if mask is None or mask.ndim != 2:  # without one it is pooler_mean
        return right.pooled(hidden, f)
    visible = (mask[:, -hidden.shape[1] :, None] == 1).astype(hidden.dtype)
    return (hidden * visible).sum(axis=1) / np.maximum(visible.sum(axis=1), 1.0)


# --- the masked-word loss


def _count(labels: Array) -> int:
    return int(labelled(labels).sum())


BOTH_PASSES = "masked_lm_loss", "masked_lm_backward"
# fmt: off
add("loss_mean_all_tokens", "the masked-word loss is divided by the number of all tokens",
    "PaddleNLP 2.8 (Paddle's mean where ignore_index is negative)",
    **times(lambda logits, labels: _count(labels) / max(labels.size, 1), *BOTH_PASSES))
add("loss_sum", "the masked-word loss is a sum, not a mean",
    **times(lambda logits, labels: _count(labels), *BOTH_PASSES))
add("loss_count_epsilon", "the masked-word loss is divided by n + 1e-5", "Huawei's TensorFlow code",
    **times(lambda _, labels: _count(labels) / (_count(labels) + 1e-5), "masked_lm_loss"))
add("loss_base_2", "the loss is in bits, not nats",
    masked_lm_loss=lambda right, logits, labels: right.masked_lm_loss(logits, labels) / math.log(2.0))
add("loss_ignore_zero", "label 0 asks for nothing, as −100 does", "BERT-pytorch",
    masked_lm_loss=lambda right, z, y: mean_nll(z, y, labelled(y) & (y != 0)))
add("ignored_label_wraps", "−100 is not ignored, and counts from the end of the vocabulary",
    masked_lm_loss=lambda right, z, y: right.masked_lm_loss(z, y % z.shape[-1]))
add("ignored_label_zero", "−100 is not ignored, and counts as label 0", "one-hot losses",
    masked_lm_loss=lambda right, z, y: right.masked_lm_loss(z, np.maximum(y, 0)))
add("labels_shifted", "logits of token t are compared with the label of token t + 1",
    masked_lm_loss=lambda right, z, y: right.masked_lm_loss(z[:, :-1], y[:, 1:]))
# fmt: on


@mistake("masked_lm_loss", "the masked-word loss is a mean over examples of their means")
def loss_mean_of_rows(right, logits, labels):
    rows = [(z, y) for z, y in zip(logits, labels, strict=True) if labelled(y).any()]
    means = [mean_nll(z, y, labelled(y)) for z, y in rows]
    return np.asarray(np.mean(means) if means else 0.0, logits.dtype)


def _empty_slots(labels: Array) -> Array:
    """How many more tokens the fullest example has labelled than each one."""
    counts = labelled(labels).sum(axis=-1)
    return counts.max() - counts


def _loss_of_slots(right, logits, labels):
    n, empty = _count(labels), _empty_slots(labels)
    nll = n * right.masked_lm_loss(logits, labels)
    nll = nll - (empty.astype(logits.dtype) * log_softmax(logits[:, 0])[:, 0]).sum()
    return np.asarray(nll / max(n + int(empty.sum()), 1))


def _gradient_of_slots(right, logits, labels):
    n, empty = _count(labels), _empty_slots(labels)
    dlogits, first = n * right.masked_lm_backward(logits, labels), softmax(logits[:, 0])
    first[:, 0] -= 1.0
    dlogits[:, 0] += empty[:, None].astype(first.dtype) * first
    return dlogits / max(n + int(empty.sum()), 1)


add(
    "loss_counts_empty_slots",
    "the mean counts an example's empty slots, read as label 0 at its first token",
    "d2l.ai",
    masked_lm_loss=_loss_of_slots,
    masked_lm_backward=_gradient_of_slots,
)


@mistake("masked_lm_loss", "the loss is −log(p + 1e-8), not by log Σ exp")
def loss_log_epsilon(right, logits, labels):
    where = labelled(labels)
    probs = np.exp(log_softmax(logits[where]))
    chosen = np.take_along_axis(probs, labels[where][:, None], -1)
    return np.asarray(-np.log(chosen + 1e-8).sum() / max(chosen.size, 1))


# --- the other losses


# fmt: off
add("nsp_labels_flipped", "label 0 means random and 1 means that B follows A",
    next_sentence_loss=lambda right, z, y: right.next_sentence_loss(z, np.where(labelled(y), 1 - y, y)))
add("nsp_ignore_zero", "next-sentence label 0 asks for nothing", "BERT-pytorch",
    next_sentence_loss=lambda right, z, y: mean_nll(z, y, labelled(y) & (y != 0)))
add("nsp_loss_halved", "half of the next-sentence loss", **times(lambda *_: 0.5, "next_sentence_loss"))
add("loss_mlm_alone", "the loss is that of the masked words alone",
    total_loss=lambda right, losses: losses.get("masked_lm_loss", 0.0 * right.total_loss(losses)))
add("loss_nsp_alone", "the loss is that of the next sentence alone",
    total_loss=lambda right, losses: losses.get("next_sentence_loss", 0.0 * right.total_loss(losses)))
add("loss_mean_of_both", "the loss is the mean of both losses, not their sum",
    total_loss=lambda right, losses: right.total_loss(losses) / len(losses))
add("loss_nsp_half", "the loss is that of the masked words and half of that of the next sentence",
    total_loss=lambda right, losses: right.total_loss(
        {name: loss * (0.5 if name == "next_sentence_loss" else 1.0) for name, loss in losses.items()}))
add("qa_columns_swapped", "start and end of the answer are exchanged",
    answer_loss=lambda right, logits, start, end: right.answer_loss(logits, end, start))
add("qa_loss_sum", "the losses of start and end are added, not averaged",
    **times(lambda *_: 2.0, "answer_loss"))
add("multi_label_sum", "several labels at once: a sum over labels, a mean over rows alone",
    **times(lambda z, y, problem: z.shape[-1] if problem == "multi_label_classification" else 1,
            "class_loss"))
add("regression_half", "half of the squared error",
    **times(lambda z, y, problem: 0.5 if problem == "regression" else 1.0, "class_loss"))
# fmt: on


@mistake("class_loss", "several labels at once, with softmax in place of σ")
def multi_label_softmax(right, logits, labels, problem):
    if problem != "multi_label_classification":
        return right.class_loss(logits, labels, problem)
    return np.asarray(-(labels * log_softmax(logits)).sum(axis=-1).mean())
