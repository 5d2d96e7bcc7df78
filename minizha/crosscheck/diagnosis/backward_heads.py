"""The way back through losses and heads, as steps."""

from __future__ import annotations

import numpy as np

from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.backward_sums import (
    Sums,
    through_linear,
    through_norm,
    through_parameters,
)
from minizha.crosscheck.diagnosis.facts import Facts
from minizha.crosscheck.diagnosis.forward import UNPOOLED, Step, Steps, problem_of
from minizha.crosscheck.diagnosis.rules import Array, labelled
from minizha.crosscheck.names import WORDS


def heads_backward(f: Facts, r: Rules, steps: Steps, sums: Sums, last: str) -> None:
    """From losses, and from what is asked of outputs, down to the last layer, called ``last``."""
    kind = f.model_class.removeprefix("NezhaFor")
    sums.given("pooler", f.upstream("pooler_output"))
    if f.begins_at_loss():
        _losses(f, r, sums, kind)
    for name, field in _logits(kind).items():
        sums.given(name, f.upstream(field))
    if kind == "MultipleChoice" and f.upstream("logits") is not None:
        sums.given("classifier", f.upstream("logits").reshape(-1, 1))
    if kind == "QuestionAnswering":
        _answer_columns(f, sums)
    if sums.into(steps, "cls.predictions"):
        _predictions(f, r, steps, sums, last)
    if sums.into(steps, "cls.seq_relationship"):
        through_linear(f, r, steps, sums, "cls.seq_relationship", "pooler")
    if sums.into(steps, "classifier"):
        vectors, factor = last if kind in UNPOOLED else "pooler", f.factor("classifier")
        through_parameters(r, steps, "classifier", vectors, lambda x: r.dropout(x, factor))
        sums.add(
            vectors, ("classifier.grad",),
            lambda dy: r.dropout_backward(r.linear_backward(dy, f.parameter("classifier.weight")), factor),
        )  # fmt: skip
    if sums.into(steps, "qa_outputs"):
        through_linear(f, r, steps, sums, "qa_outputs", last)
    if sums.into(steps, "pooler"):
        steps["pooler.dense.grad"] = Step(("pooler.grad", "pooler"), r.tanh_backward)
        through_parameters(r, steps, "pooler.dense", last, r.pooled)
        weight, L = "pooler.dense.weight", f.shape[1]
        sums.add(
            last, ("pooler.dense.grad",),
            lambda dy: r.pooled_backward(r.linear_backward(dy, f.parameter(weight)), L),
        )  # fmt: skip


def _logits(kind: str) -> dict[str, str]:
    """The arrays that are output fields of a class."""
    return {
        "PreTraining": {
            "cls.predictions": "prediction_logits",
            "cls.seq_relationship": "seq_relationship_logits",
        },
        "MaskedLM": {"cls.predictions": "logits"},
        "NextSentencePrediction": {"cls.seq_relationship": "logits"},
        "SequenceClassification": {"classifier": "logits"},
        "TokenClassification": {"classifier": "logits"},
    }.get(kind, {})


def _answer_columns(f: Facts, sums: Sums) -> None:
    for column, field in enumerate(("start_logits", "end_logits")):
        d = f.upstream(field)
        if d is not None:
            sums.given("qa_outputs", d[..., None] * (np.arange(2) == column))


def _losses(f: Facts, r: Rules, sums: Sums, kind: str) -> None:
    labels, given = f.input("labels"), f.upstream("loss")
    dloss = 1.0 if given is None else given.reshape(())
    following = f.input("next_sentence_label") if kind == "PreTraining" else labels
    if kind in ("PreTraining", "MaskedLM") and labels is not None:
        sums.add(
            "cls.predictions", ("cls.predictions",),
            lambda logits: dloss * r.masked_lm_backward(logits, labels),
        )  # fmt: skip
    if kind in ("PreTraining", "NextSentencePrediction") and following is not None:
        sums.add(
            "cls.seq_relationship", ("cls.seq_relationship",),
            lambda logits: dloss * r.nll_backward(logits, following, labelled(following)),
        )  # fmt: skip
    if kind == "QuestionAnswering" and f.input("start_positions") is not None:
        ends = f.input("start_positions"), f.input("end_positions")
        sums.add(
            "qa_outputs", ("qa_outputs",), lambda logits: dloss * r.answer_backward(logits, *ends)
        )
    classifies = kind in ("SequenceClassification", "MultipleChoice", "TokenClassification")
    if classifies and labels is not None:
        problem, choices = problem_of(f, kind, labels), kind == "MultipleChoice"

        def back(logits: Array) -> Array:
            shape = (labels.shape[0], -1) if choices else logits.shape
            dlogits = r.class_backward(logits.reshape(shape), labels, problem)
            return dloss * dlogits.reshape(logits.shape)

        sums.add("classifier", ("classifier",), back)


def _predictions(f: Facts, r: Rules, steps: Steps, sums: Sums, last: str) -> None:
    head, transform = "cls.predictions", "cls.predictions.transform"
    decoder = WORDS if f.config.tie_word_embeddings else f"{head}.decoder.weight"
    made = "cls.predictions.tied.grad" if decoder == WORDS else f"{decoder}.grad"
    steps[made] = Step((f"{head}.grad", transform), r.weight_backward)
    steps[f"{head}.bias.grad"] = Step((f"{head}.grad",), r.bias_backward)
    steps[f"{transform}.grad"] = Step(
        (f"{head}.grad",), lambda dy: r.linear_backward(dy, f.parameter(decoder))
    )
    activation = f"{transform}.activation"
    through_norm(f, r, steps, transform, f"{transform}.LayerNorm", activation)
    steps[f"{transform}.dense.grad"] = Step(
        (f"{activation}.grad", f"{transform}.dense"),
        lambda dy, x: r.activation_backward(dy, x, f.config.hidden_act),
    )
    through_linear(f, r, steps, sums, f"{transform}.dense", last)
