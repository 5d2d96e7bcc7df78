"""The classes for fine-tuning: classify texts or tokens, select one of several choices, find a span."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minizha.config import NezhaConfig
from minizha.errors import ArgumentError
from minizha.model.arguments import ArgumentChecker
from minizha.model.call import Call, Task, begin, checked_items, run, shared_arguments
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
    """Gives a text one of ``num_labels`` classes, any number of them, or ``num_labels`` numbers."""

    _pooled = True
    _head_shapes = staticmethod(lambda c: linear_shapes("classifier", c.num_labels, c.hidden_size))

    @shared_arguments
    def __call__(
        self,
        shared: SharedArguments,
        labels: Any = None,
        *,
        num_items_in_batch: int | None = None,
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

        If it is None: regression for C = 1, otherwise a single label for integers, several for floats.
        ``num_items_in_batch`` divides the sum of the loss, in place of the number that the mean is over.
        The other arguments are as for :class:`~minizha.model.nezha.NezhaModel`.

        Convention: a call does not change the configuration (Transformers sets problem_type from
        the first labels). num_items_in_batch counts rows for a single label, and otherwise numbers,
        B·C of them (Transformers ignores it there).

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        call = begin(self, shared, labelled=labels is not None)
        count = checked_items(num_items_in_batch)
        checked = None if labels is None else _sequence_labels(call, labels, count)
        task = Task(classes, classes_backward, checked, "pooler_output")
        return run(call, SequenceClassifierOutput, task)


class NezhaForMultipleChoice(NezhaPreTrainedModel):
    """Selects one of C choices: each is read as a separate text and gets one number."""

    _pooled = True
    _head_shapes = staticmethod(lambda c: linear_shapes("classifier", 1, c.hidden_size))

    @shared_arguments
    def __call__(
        self,
        shared: SharedArguments,
        labels: Any = None,
        *,
        num_items_in_batch: int | None = None,
    ) -> MultipleChoiceOutput | tuple:
        """``logits[b, c] = dropout(pooled of choice c) · weightᵀ + bias``, cross-entropy over c

        Shapes: input_ids, attention_mask, token_type_ids (B, C, L), inputs_embeds (B, C, L, D),
        labels (B,) in [0, C) or −100. hidden_states and attentions have B·C rows.
        ``num_items_in_batch`` divides the sum of the loss, in place of the number of labelled rows.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        checker = ArgumentChecker(self.config, self.xp, self.dtype)
        rows, batch = _rows_of_choices(checker, shared)
        call = begin(self, rows, labelled=labels is not None, batch=batch)
        count = checked_items(num_items_in_batch)
        checked = call.labels("labels", labels, batch[:1], batch[1], count)
        task = Task(choices, choices_backward, checked, "pooler_output")
        return run(call, MultipleChoiceOutput, task)


class NezhaForTokenClassification(NezhaPreTrainedModel):
    """Gives each token one of ``num_labels`` classes; the body has no pooler."""

    _pooled = False
    _head_shapes = staticmethod(lambda c: linear_shapes("classifier", c.num_labels, c.hidden_size))

    @shared_arguments
    def __call__(
        self,
        shared: SharedArguments,
        labels: Any = None,
        *,
        num_items_in_batch: int | None = None,
    ) -> TokenClassifierOutput | tuple:
        """``logits = dropout(hidden) · weightᵀ + bias``, cross-entropy over the labelled tokens

        Shapes: labels (B, L) in [0, num_labels) or −100. The others as for
        :class:`~minizha.model.nezha.NezhaModel`. ``num_items_in_batch`` divides the sum of the loss, in
        place of the number of labelled tokens.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        call = begin(self, shared, labelled=labels is not None)
        count = checked_items(num_items_in_batch)
        checked = call.labels("labels", labels, call.shape, self.config.num_labels, count)
        return run(call, TokenClassifierOutput, Task(classes, classes_backward, checked))


class NezhaForQuestionAnswering(NezhaPreTrainedModel):
    """Gives each token two numbers: column 0 says "starts here", column 1 "ends here". No pooler.

    Convention: there are always two columns; any other ``num_labels`` becomes 2.
    """

    @classmethod
    def resolve_config(cls, config: NezhaConfig) -> NezhaConfig:
        """With ``num_labels=2``, since Transformers makes that many columns."""
        return config if config.num_labels == 2 else config.replace(num_labels=2)

    _pooled = False
    _head_shapes = staticmethod(lambda c: linear_shapes("qa_outputs", 2, c.hidden_size))

    @shared_arguments
    def __call__(
        self,
        shared: SharedArguments,
        start_positions: Any = None,
        end_positions: Any = None,
        *,
        num_items_in_batch: int | None = None,
    ) -> QuestionAnsweringOutput | tuple:
        """``start_logits, end_logits = hidden · weightᵀ + bias``; the loss is the mean of two
        cross-entropies over the L tokens

        Shapes: start_positions (B,), end_positions (B,) integers. The others as for
        :class:`~minizha.model.nezha.NezhaModel`. ``num_items_in_batch`` divides both sums, in place of
        the numbers of starts and of ends inside the text.

        Convention: positions outside of [0, L) are ignored (Transformers takes a negative one as
        0); if all are, the loss is 0. Both arguments are given or neither.

        Raises:
            ArgumentError: an argument has a wrong shape or type, or only one of the two is given.
        """
        if (start_positions is None) != (end_positions is None):
            missing = "start_positions" if start_positions is None else "end_positions"
            raise ArgumentError(f"{missing}: expected both start and end, found None")
        call, labels = begin(self, shared, labelled=start_positions is not None), None
        count = checked_items(num_items_in_batch)
        if start_positions is not None:
            start = _positions(call, "start_positions", start_positions, count)
            labels = start, _positions(call, "end_positions", end_positions, count)
        task = Task(spans, spans_backward, labels, fields=("start_logits", "end_logits"))
        return run(call, QuestionAnsweringOutput, task)


def _sequence_labels(call: Call, labels: Any, count: int | None) -> Labels | None:
    """The labels of texts, as ``problem_type`` or, if that is None, their dtype says."""
    checker, B, C = call.checker, call.batch[0], call.model.config.num_labels
    labels = checker.array("labels", labels)
    problem_type = call.model.config.problem_type
    if problem_type is None:
        single = labels.dtype.kind in "iu"
        problem_type = "single_label_classification" if single else "multi_label_classification"
        problem_type = "regression" if C == 1 else problem_type
    if problem_type == "single_label_classification":
        return call.labels("labels", labels, (B,), C, count)
    low, high = 0.0, 1.0
    if problem_type == "regression":
        if C == 1 and labels.shape == (B,):
            labels = labels.reshape(B, 1)
        # the sum of the squares does not overflow
        high = math.sqrt(checker.largest / max(labels.size, 1))
        low = -high
    values = checker.targets("labels", labels, (B, C), low, high)
    return Labels(values, count, problem_type)


def _rows_of_choices(
    checker: ArgumentChecker, shared: SharedArguments
) -> tuple[SharedArguments, tuple[int, int]]:
    """The arguments reshaped to B·C rows, and (B, C)."""
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
            expected = f"(B, C, L) = {shape}" if C else "at least one choice"
            raise ArgumentError(f"{name}: expected {expected}, found shape {array.shape}")
        rows[name] = array.reshape(B * C, *array.shape[2:])
    return shared._replace(**rows), (shape or (0, 0))[:2]


def _positions(call: Call, name: str, value: Any, count: int | None) -> Labels:
    B, L = call.shape
    # any integer; the largest unsigned ones become negative, which is outside too
    positions = call.checker.host_integers(name, value, (B,), 2**64, low=-(2**63))
    return Labels(np.where((positions >= 0) & (positions < L), positions, IGNORED), count)
