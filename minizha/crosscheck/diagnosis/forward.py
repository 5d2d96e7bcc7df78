"""The forward pass as steps: each array of a trace from those before it, by the rules of a class.

An array can thus be computed from any earlier arrays that the other side has; those that it lacks
are computed first. (Some steps are in no trace, such as ``….sum``, the input of a LayerNorm.) The steps
are the rows of :mod:`minizha.crosscheck.table`, put in their places in a model.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.facts import AttentionFacts, Facts
from minizha.crosscheck.diagnosis.rules import Array
from minizha.crosscheck.names import DROPOUT, GRADIENT
from minizha.crosscheck.table import (
    ATTENTION_ROWS,
    EMBEDDING_ROWS,
    FEED_FORWARD_ROWS,
    HEAD_ROWS,
    LOSS_ROWS,
    WORDS,
    Row,
    Rule,
    is_parameter,
)


class Step(NamedTuple):
    """``compute`` makes an array from those named in ``needs``."""

    needs: tuple[str, ...]
    compute: Callable[..., Array]


Steps = dict[str, Step]
UNPOOLED = ("MaskedLM", "TokenClassification", "QuestionAnswering")


class PlacedRow(NamedTuple):
    """A row in its place: the full names of its array and of its needs, and the facts of its attention."""

    row: Row
    name: str
    needs: Mapping[str, str]
    a: AttentionFacts | None


def evaluate(
    steps: Mapping[str, Step],
    name: str,
    known: Mapping[str, Array],
    memory: dict[str, Array],
    dtype: str = "float64",
) -> Array:
    """Compute the array ``name``, even if it is known, from the ``known`` arrays, read as ``dtype``.

    ``memory`` collects the arrays that were read or computed.

    Raises:
        KeyError: an array that is needed is neither known nor a step.
    """
    step = steps[name]
    arguments = []
    for need in step.needs:
        if need not in memory:
            if need in known:
                memory[need] = np.asarray(known[need], dtype)
            else:
                memory[need] = evaluate(steps, need, known, memory, dtype)
        arguments.append(memory[need])
    return step.compute(*arguments)


def forward_steps(f: Facts, r: Rules) -> Steps:
    """The steps of the forward pass, in execution order."""
    rows = placed_rows(f)
    arrays = {placed.name for placed in rows}
    return {placed.name: step_of(placed, placed.row.rule, arrays, f, r) for placed in rows}


def step_of(placed: PlacedRow, rule: Rule, arrays: set[str], f: Facts, r: Rules) -> Step:
    """A rule of a row as a step: its arguments are chosen by their names. The needs that are not
    among the ``arrays`` are read when the step is computed."""
    names = {"y": placed.name, "dy": placed.name + GRADIENT, **placed.needs}
    constants = {"r": r, "f": f, "a": placed.a, "name": placed.name}
    arguments = _arguments(rule)
    needs = tuple(
        names[argument]
        for argument in arguments
        if argument in ("y", "dy") or names.get(argument) in arrays
    )

    def compute(*values: Array) -> Array:
        found, given = dict(zip(needs, values, strict=True)), []
        for argument in arguments:
            if argument in constants:
                given.append(constants[argument])
            elif names[argument] in found:
                given.append(found[names[argument]])
            else:
                given.append(_outside(f, r, names[argument]))
        return rule(*given)

    return Step(needs, compute)


@functools.cache
def _arguments(rule: Rule) -> tuple[str, ...]:
    return tuple(inspect.signature(rule).parameters)


def _outside(f: Facts, r: Rules, name: str) -> Any:
    """A parameter, a dropout factor or an input; None if there is no such input."""
    if is_parameter(name):
        module, _, leaf = name.rpartition(".")
        return f.parameter(f"{r.parameter(module, f)}.{leaf}")
    if name.endswith(DROPOUT):
        return f.factor(name.removesuffix(DROPOUT))
    return f.input(name)


# --- the rows in their places ---------------------------------------------------------------------


def placed_rows(f: Facts) -> list[PlacedRow]:
    """The rows of a model, in execution order."""
    rows = _placed(EMBEDDING_ROWS)
    x = "embeddings"
    for i in range(f.config.num_hidden_layers):
        name, h = f"encoder.layer.{i}", x
        for is_cross in (False, True)[: 1 + f.has_encoder()]:
            a = f.attention(i, is_cross)
            links = {
                "x": h,
                "source": "encoder_hidden_states" if is_cross else f"{a.prefix}self.input",
                "past_key": a.past_name(0),
                "past_value": a.past_name(1),
            }
            without = () if a.has_new_keys else ("self.key", "self.value")
            present = [row for row in ATTENTION_ROWS if row.name not in without]
            rows += _placed(present, a.prefix, links, a)
            h = f"{a.prefix}output"
        rows += _placed(FEED_FORWARD_ROWS, f"{name}.", {"x": x, "h": h})
        x = name
    vectors = x if f.task in UNPOOLED else "pooler"
    links = {"last": x, "vectors": vectors}
    if f.config.tie_word_embeddings:
        links["cls.predictions.decoder.weight"] = WORDS
    return rows + _placed(_heads(f), "", links)


def _placed(
    rows: Any, prefix: str = "", links: Mapping[str, str] = {}, a: AttentionFacts | None = None
) -> list[PlacedRow]:
    def full(name: str) -> str:
        return links.get(name, (prefix + name).removesuffix("."))

    return [
        PlacedRow(
            row,
            (prefix + row.name).removesuffix("."),
            {argument: full(need) for argument, need in row.needs.items()},
            a,
        )
        for row in rows
    ]


def _heads(f: Facts) -> list[Row]:
    """The rows of the pooler, the heads and the losses of a class."""
    names = ["pooler"] if f.task not in UNPOOLED and f.has_pooler else []
    names += {
        "PreTraining": ["cls.predictions", "cls.seq_relationship"],
        "MaskedLM": ["cls.predictions"],
        "NextSentencePrediction": ["cls.seq_relationship"],
        "QuestionAnswering": ["qa_outputs"],
        "NezhaModel": [],
    }.get(f.task, ["classifier"])
    losses = []
    if "cls.predictions" in names and f.was_given("labels"):
        losses.append("masked_lm_loss")
    if "cls.seq_relationship" in names and f.pair_labels is not None:
        losses.append("next_sentence_loss")
    if losses:
        losses.append("loss")
    rows = [row for row in HEAD_ROWS if row.name in losses or row.name.startswith(tuple(names))]
    labels = "start_positions" if "qa_outputs" in names else "labels"
    return rows + [
        loss for head, loss in LOSS_ROWS.items() if head in names and f.was_given(labels)
    ]
