"""Known mistakes of the pooler, the prediction heads and the losses."""

from __future__ import annotations

import math

import numpy as np

from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.catalogue import mistake
from minizha.crosscheck.diagnosis.rules import Array, labelled, log_softmax, mean_nll


@mistake("pooler_no_tanh", "the pooler without tanh")
class PoolerNoTanh(Rules):
    def tanh(self, x: Array) -> Array:
        return x


@mistake("pooler_last_token", "the pooler reads the last token")
class PoolerLastToken(Rules):
    def pooled(self, hidden: Array) -> Array:
        return hidden[:, -1]


@mistake("pooler_mean", "the pooler reads the mean over all tokens")
class PoolerMean(Rules):
    def pooled(self, hidden: Array) -> Array:
        return hidden.mean(axis=1)


@mistake("mlm_no_norm", "the masked-word head without LayerNorm")
class MlmNoNorm(Rules):
    def norm(self, x: Array, weight: Array, bias: Array, eps: float, module: str) -> Array:
        return x if module == "predictions" else super().norm(x, weight, bias, eps, module)


@mistake("mlm_no_activation", "the masked-word head without its activation function")
class MlmNoActivation(Rules):
    def activation(self, x: Array, name: str, module: str) -> Array:
        return x if module == "predictions" else super().activation(x, name, module)


@mistake("decoder_no_bias", "the vocabulary's bias is not added")
class DecoderNoBias(Rules):
    def decoder(self, x: Array, weight: Array, bias: Array) -> Array:
        return super().decoder(x, weight, 0.0 * bias)


# --- the masked-word loss


@mistake(
    "loss_mean_all_tokens",
    "the masked-word loss is divided by the number of all tokens",
    "PaddleNLP 2.8 (Paddle's mean where ignore_index is negative)",
)
class LossMeanAllTokens(Rules):
    def masked_lm_loss(self, logits: Array, labels: Array) -> Array:
        share = labelled(labels).sum() / max(labels.size, 1)
        return super().masked_lm_loss(logits, labels) * share

    def masked_lm_backward(self, logits: Array, labels: Array) -> Array:
        share = labelled(labels).sum() / max(labels.size, 1)
        return super().masked_lm_backward(logits, labels) * share


@mistake("loss_sum", "the masked-word loss is a sum, not a mean")
class LossSum(Rules):
    def masked_lm_loss(self, logits: Array, labels: Array) -> Array:
        return super().masked_lm_loss(logits, labels) * labelled(labels).sum()

    def masked_lm_backward(self, logits: Array, labels: Array) -> Array:
        return super().masked_lm_backward(logits, labels) * labelled(labels).sum()


@mistake(
    "loss_count_epsilon", "the masked-word loss is divided by n + 1e-5", "Huawei's TensorFlow code"
)
class LossCountEpsilon(Rules):
    def masked_lm_loss(self, logits: Array, labels: Array) -> Array:
        n = labelled(labels).sum()
        return super().masked_lm_loss(logits, labels) * (n / (n + 1e-5))


@mistake("loss_mean_of_rows", "the masked-word loss is a mean over examples of their means")
class LossMeanOfRows(Rules):
    def masked_lm_loss(self, logits: Array, labels: Array) -> Array:
        rows = [(z, y) for z, y in zip(logits, labels, strict=True) if labelled(y).any()]
        means = [mean_nll(z, y, labelled(y)) for z, y in rows]
        return np.asarray(np.mean(means) if means else 0.0)


@mistake("loss_ignore_zero", "label 0 asks for nothing, as −100 does", "BERT-pytorch")
class LossIgnoreZero(Rules):
    def masked_lm_loss(self, logits: Array, labels: Array) -> Array:
        return mean_nll(logits, labels, labelled(labels) & (labels != 0))


@mistake("ignored_label_wraps", "−100 is not ignored, and counts from the end of the vocabulary")
class IgnoredLabelWraps(Rules):
    def masked_lm_loss(self, logits: Array, labels: Array) -> Array:
        everywhere = np.ones(labels.shape, bool)
        return mean_nll(logits, labels % logits.shape[-1], everywhere)


@mistake("ignored_label_zero", "−100 is not ignored, and counts as label 0", "one-hot losses")
class IgnoredLabelZero(Rules):
    def masked_lm_loss(self, logits: Array, labels: Array) -> Array:
        everywhere = np.ones(labels.shape, bool)
        return mean_nll(logits, np.maximum(labels, 0), everywhere)


@mistake("labels_shifted", "logits of token t are compared with the label of token t + 1")
class LabelsShifted(Rules):
    def masked_lm_loss(self, logits: Array, labels: Array) -> Array:
        return super().masked_lm_loss(logits[:, :-1], labels[:, 1:])


@mistake("loss_base_2", "the loss is in bits, not nats")
class LossBase2(Rules):
    def masked_lm_loss(self, logits: Array, labels: Array) -> Array:
        return super().masked_lm_loss(logits, labels) / math.log(2.0)


@mistake("loss_log_epsilon", "the loss is −log(p + 1e-8), not by log Σ exp")
class LossLogEpsilon(Rules):
    def masked_lm_loss(self, logits: Array, labels: Array) -> Array:
        where = labelled(labels)
        probs = np.exp(log_softmax(logits[where]))
        right = np.take_along_axis(probs, labels[where][:, None], -1)
        return np.asarray(-np.log(right + 1e-8).sum() / max(right.size, 1))


# --- the other losses


@mistake("nsp_labels_flipped", "label 0 means random and 1 means that B follows A")
class NspLabelsFlipped(Rules):
    def next_sentence_loss(self, logits: Array, labels: Array) -> Array:
        flipped = np.where(labelled(labels), 1 - labels, labels)
        return super().next_sentence_loss(logits, flipped)


@mistake("nsp_ignore_zero", "next-sentence label 0 asks for nothing", "BERT-pytorch")
class NspIgnoreZero(Rules):
    def next_sentence_loss(self, logits: Array, labels: Array) -> Array:
        return mean_nll(logits, labels, labelled(labels) & (labels != 0))


@mistake("loss_mlm_alone", "the loss is that of the masked words alone")
class LossMlmAlone(Rules):
    def total_loss(self, losses: dict[str, Array]) -> Array:
        return losses.get("masked_lm_loss", np.zeros(()))


@mistake("loss_nsp_alone", "the loss is that of the next sentence alone")
class LossNspAlone(Rules):
    def total_loss(self, losses: dict[str, Array]) -> Array:
        return losses.get("next_sentence_loss", np.zeros(()))


@mistake("loss_mean_of_both", "the loss is the mean of both losses, not their sum")
class LossMeanOfBoth(Rules):
    def total_loss(self, losses: dict[str, Array]) -> Array:
        return super().total_loss(losses) / len(losses)


@mistake("qa_columns_swapped", "start and end of the answer are exchanged")
class QaColumnsSwapped(Rules):
    def answer_loss(self, logits: Array, start: Array, end: Array) -> Array:
        return super().answer_loss(logits, end, start)


@mistake("qa_loss_sum", "the losses of start and end are added, not averaged")
class QaLossSum(Rules):
    def answer_loss(self, logits: Array, start: Array, end: Array) -> Array:
        return 2.0 * super().answer_loss(logits, start, end)


@mistake("multi_label_softmax", "several labels at once, with softmax in place of σ")
class MultiLabelSoftmax(Rules):
    def class_loss(self, logits: Array, labels: Array, problem: str) -> Array:
        if problem != "multi_label_classification":
            return super().class_loss(logits, labels, problem)
        return np.asarray(-(labels * log_softmax(logits)).sum(axis=-1).mean())


@mistake("multi_label_sum", "several labels at once: a sum over labels, a mean over rows alone")
class MultiLabelSum(Rules):
    def class_loss(self, logits: Array, labels: Array, problem: str) -> Array:
        several = problem == "multi_label_classification"
        value = super().class_loss(logits, labels, problem)
        return value * logits.shape[-1] if several else value


@mistake("regression_half", "half of the squared error")
class RegressionHalf(Rules):
    def class_loss(self, logits: Array, labels: Array, problem: str) -> Array:
        value = super().class_loss(logits, labels, problem)
        return 0.5 * value if problem == "regression" else value
