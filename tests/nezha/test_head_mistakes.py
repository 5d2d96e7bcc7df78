"""Negative controls of the heads' gradients: one mistake at a time, which gradcheck must find and name."""

import importlib
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest

from minizha import crosscheck
from minizha.nezha.losses import LOSSES
from tests.support.tiny_heads import HEADS
from tests.support.wrong_backwards import WRONG


class Mistake(NamedTuple):
    """``wrong(right)`` replaces the function ``target``, or the backward function of the loss of
    that problem type, in a case of HEADS; ``blames`` is a pattern for the parameter that the report
    must name."""

    target: str
    wrong: Callable
    head: str
    blames: str = ".*"


def of_op(op, mistake):
    """The wrong backward function from the table."""
    return lambda right: WRONG[op][mistake]


def upstream(change):
    return lambda right: lambda d, *rest: right(change(d), *rest)


def result(change):
    return lambda right: lambda *arguments: change(right(*arguments))


def dropout_forgotten(right):
    def classifier_backward(dlogits, cache, g):
        return right(dlogits, cache._replace(dropout=cache.dropout._replace(factor=None)), g)

    return classifier_backward


def weight_learns_from_what_was_dropped(right):
    def classifier(p, config, x, rng):
        logits, cache = right(p, config, x, rng)
        return logits, cache._replace(dense=cache.dense._replace(x=x))

    return classifier


def choices_before_examples(dx):
    """Rows in the order (C, B) in place of (B, C)."""
    B, C, D = 2, 3, dx.shape[-1]
    return dx.reshape(B, C, D).swapaxes(0, 1).reshape(B * C, D)


def softmax_over_the_examples(right):
    def cross_entropy_backward(dloss, cache):
        probs = cache.probs / cache.probs.sum(axis=0, keepdims=True)
        return right(dloss, cache._replace(probs=probs))

    return cross_entropy_backward


def end_learns_from_the_start(right):
    caches = []

    def cross_entropy_backward(dloss, cache):
        caches.append(cache)
        return right(dloss, caches[0])

    return cross_entropy_backward


def end_forgotten(dlogits):
    start_alone = dlogits.copy()
    start_alone[..., 1] = 0.0
    return start_alone


CROSS_ENTROPY = POSITIONS = "single_label_classification"
SEVERAL = "multi_label_classification"
SQUARES = "regression"
BELOW = r"^nezha\."
MISTAKES = {
    "loss scaled": Mistake(CROSS_ENTROPY, upstream(lambda d: 1.1 * d), "single label"),
    "ignored rows learn": Mistake(
        CROSS_ENTROPY, of_op("cross_entropy", "ignored rows learn"), "single label, partly ignored"
    ),
    "mean over ignored tokens too": Mistake(
        CROSS_ENTROPY, of_op("cross_entropy", "mean over all rows"), "tokens, partly ignored"
    ),
    "label one off": Mistake(CROSS_ENTROPY, of_op("cross_entropy", "label one off"), "tokens"),
    "several labels: targets forgotten": Mistake(
        SEVERAL, of_op("binary_cross_entropy", "targets forgotten"), "multi label"
    ),
    "several labels: mean over the rows alone": Mistake(
        SEVERAL, of_op("binary_cross_entropy", "mean over the rows alone"), "multi label"
    ),
    "several labels compete": Mistake(
        SEVERAL, of_op("binary_cross_entropy", "columns compete"), "multi label, dropout"
    ),
    "2 of the square left out": Mistake(
        SQUARES, of_op("squared_error", "2 of the square left out"), "regression of one"
    ),
    "squares summed": Mistake(SQUARES, of_op("squared_error", "summed"), "regression of three"),
    "dropout forgotten": Mistake(
        "losses.classifier_backward", dropout_forgotten, "tokens, dropout", BELOW
    ),
    "weight learns from what was dropped": Mistake(
        "losses.classifier",
        weight_learns_from_what_was_dropped,
        "single label, dropout",
        r"^classifier\.weight$",
    ),
    "bias averaged over the rows": Mistake(
        "heads.linear_backward",
        of_op("linear", "bias averaged over the rows"),
        "single label",
        r"^(classifier|nezha\.pooler\.dense)\.bias$",
    ),
    "columns of the classifier exchanged": Mistake(
        "losses.classifier_backward", upstream(lambda d: d[:, ::-1]), "multi label"
    ),
    "choices not reshaped": Mistake(
        "losses.classifier_backward", result(choices_before_examples), "choice", BELOW
    ),
    "softmax over the examples, not the choices": Mistake(
        CROSS_ENTROPY, softmax_over_the_examples, "choice"
    ),
    "pooler of the last token": Mistake(
        "body.pooler_backward", result(lambda d: d[:, ::-1]), "choice, inputs_embeds", BELOW
    ),
    "half forgotten": Mistake(POSITIONS, upstream(lambda d: 2.0 * d), "answer"),
    "end forgotten": Mistake("losses.linear_backward", upstream(end_forgotten), "answer"),
    "end learns from the start": Mistake(POSITIONS, end_learns_from_the_start, "answer"),
    "start and end exchanged": Mistake(
        "losses.linear_backward", upstream(lambda d: d[..., ::-1]), "answer, dropout"
    ),
    "positions outside learn": Mistake(
        POSITIONS, of_op("cross_entropy", "ignored rows learn"), "answer, partly outside"
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_and_named(name, backend, monkeypatch):
    mistake = MISTAKES[name]
    if mistake.target in LOSSES:
        pair = LOSSES[mistake.target]
        pair = pair._replace(backward=mistake.wrong(pair.backward))
        monkeypatch.setitem(LOSSES, mistake.target, pair)
    else:
        module, function = mistake.target.split(".")
        module = importlib.import_module(f"minizha.nezha.{module}")
        monkeypatch.setattr(module, function, mistake.wrong(getattr(module, function)))
    head = HEADS[mistake.head]
    report = crosscheck.gradcheck(head.model(backend), head.inputs(), entries=3)
    assert not report.ok
    assert report.error > 1e-6, "only by a hair"
    assert re.search(mistake.blames, report.name), report
