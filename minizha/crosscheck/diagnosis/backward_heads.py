"""The backward pass through losses and heads, as steps."""

from __future__ import annotations

from collections.abc import Callable

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
    """From the losses and the upstream gradients down to ``last``, the name of the last layer."""
    task = f.model_class.removeprefix("NezhaFor")
    sums.add_upstream("pooler", f.upstream("pooler_output"))
    if f.starts_from_loss():
        _losses(f, r, sums, task)
    for name, field in _logits(task).items():
        sums.add_upstream(name, f.upstream(field))
    if task == "MultipleChoice" and f.upstream("logits") is not None:
        sums.add_upstream("classifier", f.upstream("logits").reshape(-1, 1))
    if task == "QuestionAnswering":
        _answer_columns(f, sums)
    if sums.add_step(steps, "cls.predictions"):
        _predictions(f, r, steps, sums, last)
    if sums.add_step(steps, "cls.seq_relationship"):
        through_linear(f, r, steps, sums, "cls.seq_relationship", "pooler")
    if sums.add_step(steps, "classifier"):
        _classifier(f, r, steps, sums, last if task in UNPOOLED else "pooler")
    if sums.add_step(steps, "qa_outputs"):
        through_linear(f, r, steps, sums, "qa_outputs", last)
    if sums.add_step(steps, "pooler"):
        _pooler(f, r, steps, sums, last)


def _classifier(f: Facts, r: Rules, steps: Steps, sums: Sums, x: str) -> None:
    factor = f.factor("classifier")
    through_parameters(r, steps, "classifier", x, lambda x: r.dropout(x, factor))

    def dx(dy: Array) -> Array:
        return r.dropout_backward(r.linear_backward(dy, f.parameter("classifier.weight")), factor)

    sums.add(x, ("classifier.grad",), dx)


def _pooler(f: Facts, r: Rules, steps: Steps, sums: Sums, last: str) -> None:
    steps["pooler.dense.grad"] = Step(("pooler.grad", "pooler"), r.tanh_backward)
    through_parameters(r, steps, "pooler.dense", last, lambda h: r.pooled(h, f))
    _, L = f.shape

    def dhidden(dy: Array) -> Array:
        return r.pooled_backward(r.linear_backward(dy, f.parameter("pooler.dense.weight")), L)

    sums.add(last, ("pooler.dense.grad",), dhidden)


def _logits(task: str) -> dict[str, str]:
    """``{name of the array: output field}`` for the logits of a class."""
    return {
        "PreTraining": {
            "cls.predictions": "prediction_logits",
            "cls.seq_relationship": "seq_relationship_logits",
        },
        "MaskedLM": {"cls.predictions": "logits"},
        "NextSentencePrediction": {"cls.seq_relationship": "logits"},
        "SequenceClassification": {"classifier": "logits"},
        "TokenClassification": {"classifier": "logits"},
    }.get(task, {})


def _answer_columns(f: Facts, sums: Sums) -> None:
    for column, field in enumerate(("start_logits", "end_logits")):
        d = f.upstream(field)
        if d is not None:
            sums.add_upstream("qa_outputs", d[..., None] * (np.arange(2) == column))


def _losses(f: Facts, r: Rules, sums: Sums, task: str) -> None:
    labels, upstream = f.input("labels"), f.upstream("loss")
    dloss = 1.0 if upstream is None else upstream.reshape(())

    def add(name: str, dlogits: Callable[[Array], Array]) -> None:
        sums.add(name, (name,), lambda logits: dloss * dlogits(logits))

    pair_labels = f.input("next_sentence_label") if task == "PreTraining" else labels
    if task in ("PreTraining", "MaskedLM") and labels is not None:
        add("cls.predictions", lambda logits: r.masked_lm_backward(logits, labels))
    if task in ("PreTraining", "NextSentencePrediction") and pair_labels is not None:
        where = labelled(pair_labels)
        add("cls.seq_relationship", lambda logits: r.nll_backward(logits, pair_labels, where))
    if task == "QuestionAnswering" and f.input("start_positions") is not None:
        ends = f.input("start_positions"), f.input("end_positions")
        add("qa_outputs", lambda logits: r.answer_backward(logits, *ends))
    classifies = task in ("SequenceClassification", "MultipleChoice", "TokenClassification")
    if classifies and labels is not None:
        problem, choices = problem_of(f, task, labels), task == "MultipleChoice"

        def class_gradient(logits: Array) -> Array:
            shape = (labels.shape[0], -1) if choices else logits.shape
            dlogits = r.class_backward(logits.reshape(shape), labels, problem)
            return dlogits.reshape(logits.shape)

        add("classifier", class_gradient)


def _predictions(f: Facts, r: Rules, steps: Steps, sums: Sums, last: str) -> None:
    head, transform = "cls.predictions", "cls.predictions.transform"
    decoder = WORDS if f.config.tie_word_embeddings else f"{head}.decoder.weight"
    gradient = "cls.predictions.tied.grad" if decoder == WORDS else f"{decoder}.grad"
    steps[gradient] = Step((f"{head}.grad", transform), r.weight_backward)
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
