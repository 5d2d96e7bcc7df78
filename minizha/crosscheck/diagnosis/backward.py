"""The backward pass as steps: each gradient of a trace from those before it and from activations.

It follows from the rows of the forward pass: the gradient of an array, a parameter or an input is the
sum over its uses, of what the use's backward rule makes of the gradient of its result. The upstream
gradient of an array that is an output of the model is one more term.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable

import numpy as np

from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.facts import Facts
from minizha.crosscheck.diagnosis.forward import (
    PlacedRow,
    Step,
    Steps,
    forward_steps,
    placed_rows,
    step_of,
)
from minizha.crosscheck.diagnosis.rules import Array
from minizha.crosscheck.names import GRADIENT, UPSTREAM, WORDS
from minizha.crosscheck.table import is_parameter

Terms = dict[str, list[Step]]


def all_steps(f: Facts, r: Rules) -> Steps:
    """The steps of the forward pass, then those of the backward pass, in execution order."""
    return forward_steps(f, r) | backward_steps(f, r)


def backward_steps(f: Facts, r: Rules) -> Steps:
    """The steps of the backward pass, in execution order: each gradient of an array is followed by those
    of the parameters that no earlier step uses. Those of inputs come last."""
    rows = placed_rows(f)
    arrays = {placed.name for placed in rows}
    first_use: dict[str, str] = {}
    for placed in rows:
        for need in placed.needs.values():
            first_use.setdefault(need, placed.name)
    steps: Steps = {}
    terms = _upstream(f, rows)
    for placed in reversed(rows):
        if placed.name not in terms:  # the loss does not depend on it
            continue
        steps[placed.name + GRADIENT] = _sum(placed.name, terms, f, r)
        for argument, back in placed.row.backward.items():
            need = placed.needs[argument]
            if need in arrays or is_parameter(need) or f.was_given(need):
                terms.setdefault(need, []).append(step_of(placed, back, arrays, f, r))
            if is_parameter(need) and first_use[need] == placed.name:
                steps[need + GRADIENT] = _sum(need, terms, f, r)
    inputs = [name for name in first_use if name in terms and name + GRADIENT not in steps]
    inputs.sort(key=lambda name: name != "encoder_hidden_states")  # the order of a trace
    return steps | {name + GRADIENT: _sum(name, terms, f, r) for name in inputs}


def _sum(name: str, terms: Terms, f: Facts, r: Rules) -> Step:
    """The sum of the terms of a gradient."""
    needs = tuple(need for term in terms[name] for need in term.needs)

    def compute(*arrays: Array) -> Array:
        remaining = list(arrays)
        values = [t.compute(*(remaining.pop(0) for _ in t.needs)) for t in terms[name]]
        if name == WORDS and len(values) == 2:  # a mistake may replace this sum
            decoder, lookup = values
            return r.tied_backward(lookup, decoder, f.config.padding_row)
        return functools.reduce(operator.add, values)

    return Step(needs, compute)


# --- upstream gradients ---------------------------------------------------------------------------

_FIELDS = {
    "pooler": ["pooler_output"],
    "cls.predictions": ["prediction_logits", "logits"],
    "cls.seq_relationship": ["seq_relationship_logits", "logits"],
    "classifier": ["logits"],
    "qa_outputs": ["start_logits", "end_logits"],
}
"""The output fields that hold an array, in one class or another."""


def _upstream(f: Facts, rows: list[PlacedRow]) -> Terms:
    """The upstream gradients that the call gives, each as a term of its array's gradient."""
    fields, terms = dict(_FIELDS), {}
    for i in range(f.config.num_hidden_layers + 1):
        hidden = f"encoder.layer.{i - 1}" if i else "embeddings"
        fields[hidden] = [f"hidden_states.{i}"]
    fields[hidden].insert(0, "last_hidden_state")
    for row, name, _, a in rows:
        if a is not None:
            fields |= {a.prefix + n: [a.past_name(k)] for k, n in enumerate(("keys", "values"))}
            if row.name == "context" and np.ndim(f.upstream_of_weights(a)):
                terms[name] = [Step((name,), np.zeros_like)]  # reached by way of the weights
        given = [field for field in fields.get(name, []) if f.was_given(UPSTREAM + field)]
        for field in given:
            terms.setdefault(name, []).append(Step((), _reader(f, name, field)))
    if rows[-1].name == "loss" and f.starts_from_loss():
        given_loss = f.was_given(f"{UPSTREAM}loss")
        terms["loss"] = [Step((), _reader(f, "loss", "loss") if given_loss else lambda: 1.0)]
    return terms


def _reader(f: Facts, name: str, field: str) -> Callable[[], Array]:
    """Reads the upstream gradient of a field, as one of the array ``name``."""

    def read() -> Array:
        d = f.upstream(field)
        if name == "qa_outputs":  # each field is a column
            return d[..., None] * (np.arange(2) == _FIELDS[name].index(field))
        if name == "classifier" and f.task == "MultipleChoice":
            return d.reshape(-1, 1)
        return d.reshape(()) if name == "loss" else d

    return read
