"""The classes of fine-tuning: classes of texts and tokens, one of several choices, spans of a text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minizha.config import NezhaConfig
from minizha.errors import ArgumentError
from minizha.model.arguments import ArgumentChecker
from minizha.model.call import Call, Task, begin, run, shared_arguments
from minizha.model.initialisation import linear_shapes
from minizha.model.inputs import SharedArguments
from minizha.model.outputs import (
    MultipleChoiceOutput,
    QuestionAnsweringOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from minizha.model.pretrained import NezhaPreTrainedModel
from minizha.nezha.losses import (
    Labels,
    choices,
    choices_backward,
    classes,
    classes_backward,
    spans,
    spans_backward,
)
from minizha.ops.cross_entropy import IGNORED


class NezhaForSequenceClassification(NezhaPreTrainedModel):
    """A text gets one of ``num_labels`` classes, any number of them, or ``num_labels`` numbers."""

    _pooled = True
    _head_shapes = staticmethod(lambda c: linear_shapes("classifier", c.num_labels, c.hidden_size))

    @shared_arguments
    def __call__(
        self, shared: SharedArguments, labels: Any = None
    ) -> SequenceClassifierOutput | tuple:
        """``logits = dropout(pooled) · weightᵀ + bias``, C = num_labels columns

        ==============================  ==========================  ==============================
        ``config.problem_type``         labels                      loss
        ==============================  ==========================  ==============================
        "regression"                    (B, C), for C = 1 also      mean squared error
                                        (B,): finite numbers
        "single_label_classification"   (B,) integers in [0, C),    cross-entropy, mean over the
                                        or −100 for "ignored"       labelled rows
        "multi_label_classification"    (B, C) numbers in [0, 1]    binary cross-entropy, mean
                                                                    over all
        ==============================  ==========================  ==============================

        Where it is None: regression for C = 1, a single label for integers, several for floats.
        The other arguments are as for :class:`~minizha.model.nezha.NezhaModel`.

        Convention: the configuration is not changed by a call (Transformers keeps what the first
        labels looked like).

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        call = begin(self, shared, labelled=labels is not None)
        found = None if labels is None else _sequence_labels(call, labels)
        task = Task(classes, classes_backward, found, "pooler_output")
        return run(call, SequenceClassifierOutput, task)


class NezhaForMultipleChoice(NezhaPreTrainedModel):
    """One of C choices: each is read as a text of its own and gets one number."""

    _pooled = True
    _head_shapes = staticmethod(lambda c: linear_shapes("classifier", 1, c.hidden_size))

    @shared_arguments
    def __call__(self, shared: SharedArguments, labels: Any = None) -> MultipleChoiceOutput | tuple:
        """``logits[b, c] = dropout(pooled of choice c) · weightᵀ + bias``, cross-entropy over c

        Shapes: input_ids, attention_mask, token_type_ids (B, C, L), inputs_embeds (B, C, L, D),
        labels (B,) in [0, C) or −100. hidden_states and attentions have B·C rows.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        checker = ArgumentChecker(self.config, self.xp, self.dtype)
        rows, batch = _rows_of_choices(checker, shared)
        call = begin(self, rows, labelled=labels is not None, batch=batch)
        found = call.labels("labels", labels, batch[:1], batch[1])
        task = Task(choices, choices_backward, found, "pooler_output")
        return run(call, MultipleChoiceOutput, task)


class NezhaForTokenClassification(NezhaPreTrainedModel):
    """Each token gets one of ``num_labels`` classes; the body has no pooler."""

    _pooled = False
    _head_shapes = staticmethod(lambda c: linear_shapes("classifier", c.num_labels, c.hidden_size))

    @shared_arguments
    def __call__(
        self, shared: SharedArguments, labels: Any = None
    ) -> TokenClassifierOutput | tuple:
        """``logits = dropout(hidden) · weightᵀ + bias``, cross-entropy over the labelled tokens

        Shapes: labels (B, L) in [0, num_labels) or −100. The others as for
        :class:`~minizha.model.nezha.NezhaModel`.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        call = begin(self, shared, labelled=labels is not None)
        found = call.labels("labels", labels, call.shape, self.config.num_labels)
        return run(call, TokenClassifierOutput, Task(classes, classes_backward, found))


class NezhaForQuestionAnswering(NezhaPreTrainedModel):
    """Two numbers for each token: column 0 says "starts here", column 1 "ends here". No pooler.

    Convention: always two columns; a configuration with another ``num_labels`` gets 2.
    """

    @classmethod
    def settle(cls, config: NezhaConfig) -> NezhaConfig:
        """With two labels: Transformers makes as many columns as there are."""
        return config if config.num_labels == 2 else config.replace(num_labels=2)

    _pooled = False
    _head_shapes = staticmethod(lambda c: linear_shapes("qa_outputs", 2, c.hidden_size))

    @shared_arguments
    def __call__(
        self, shared: SharedArguments, start_positions: Any = None, end_positions: Any = None
    ) -> QuestionAnsweringOutput | tuple:
        """``start_logits, end_logits = hidden · weightᵀ + bias``; the loss is the mean of two
        cross-entropies over the L tokens

        Shapes: start_positions (B,), end_positions (B,) integers. The others as for
        :class:`~minizha.model.nezha.NezhaModel`.

        Convention: a position outside of [0, L) is ignored (Transformers counts a negative one as
        0); where none is left the loss is 0. Both are given or neither.

        Raises:
            ArgumentError: an argument has a wrong shape or type, or one of the two is missing.
        """
        if (start_positions is None) != (end_positions is None):
            missing = "start_positions" if start_positions is None else "end_positions"
            raise ArgumentError(f"{missing}: expected both start and end, found None")
        call, labels = begin(self, shared, labelled=start_positions is not None), None
        if start_positions is not None:
            start = _positions(call, "start_positions", start_positions)
            labels = start, _positions(call, "end_positions", end_positions)
        task = Task(spans, spans_backward, labels, fields=("start_logits", "end_logits"))
        return run(call, QuestionAnsweringOutput, task)


def _sequence_labels(call: Call, labels: Any) -> Labels | None:
    """The labels of texts, read as the configuration's ``problem_type`` says, or as they look."""
    checker, B, C = call.checker, call.batch[0], call.model.config.num_labels
    labels = checker.array("labels", labels)
    problem = call.model.config.problem_type
    if problem is None:
        whole = labels.dtype.kind in "iu"
        problem = "single_label_classification" if whole else "multi_label_classification"
        problem = "regression" if C == 1 else problem
    if problem == "single_label_classification":
        return call.labels("labels", labels, (B,), C)
    low, high = 0.0, 1.0
    if problem == "regression":
        if C == 1 and labels.shape == (B,):
            labels = labels.reshape(B, 1)
        # the sum of the squares is still a number
        high = math.sqrt(checker.largest / max(labels.size, 1))
        low = -high
    values = checker.targets("labels", labels, (B, C), low, high)
    return Labels(values, problem_type=problem)


def _rows_of_choices(
    checker: ArgumentChecker, shared: SharedArguments
) -> tuple[SharedArguments, tuple[int, int]]:
    """The arguments with B·C rows, and (B, C)."""
    rows, shape = {}, None
    for name in ("input_ids", "inputs_embeds", "attention_mask", "token_type_ids"):
        value = getattr(shared, name)
        if value is None:
            continue
        array, axes = checker.array(name, value), 4 if name == "inputs_embeds" else 3
        if array.ndim != axes:
            expected = "(B, C, L)" if axes == 3 else "(B, C, L, D)"
            raise ArgumentError(f"{name}: expected shape {expected}, found {array.shape}")
        shape = shape or array.shape[:3]
        B, C = shape[:2]
        if array.shape[:3] != shape or C == 0:
            least = f"(B, C, L) = {shape}" if C else "at least one choice"
            raise ArgumentError(f"{name}: expected {least}, found shape {array.shape}")
        rows[name] = array.reshape(B * C, *array.shape[2:])
    return shared._replace(**rows), (shape or (0, 0))[:2]


def _positions(call: Call, name: str, value: Any) -> Labels:
    B, L = call.shape
    # any integer; the largest unsigned ones become negative, which is as far outside
    positions = call.checker.host_integers(name, value, (B,), 2**64, low=-(2**63))
    return Labels(np.where((positions >= 0) & (positions < L), positions, IGNORED))
