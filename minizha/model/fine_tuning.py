"""The classes that classify: whole texts, one of several choices, each token.

Each puts dropout and one matrix on the pooled [CLS] or on every token. What differs is how the
labels are read, and which loss compares them with the logits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from minizha.backend import Array
from minizha.config import NezhaConfig
from minizha.errors import ArgumentError
from minizha.model.encoder import add
from minizha.model.heads import ClassifierCache, classifier, classifier_backward
from minizha.model.inputs import Inputs
from minizha.model.nezha import NezhaCache, nezha, nezha_backward
from minizha.model.outputs import (
    ModelOutput,
    MultipleChoiceOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from minizha.model.parameters import Shapes, body_shapes, linear_head_shapes
from minizha.model.pretrained import NezhaPreTrainedModel, Wanted
from minizha.ops.binary_cross_entropy import binary_cross_entropy, binary_cross_entropy_backward
from minizha.ops.cross_entropy import cross_entropy, cross_entropy_backward
from minizha.ops.squared_error import squared_error, squared_error_backward


class Loss(NamedTuple):
    """A pair of operations, and the labels that the first of them takes beside the logits."""

    forward: Callable[[Array, Array], tuple[Array, Any]]
    backward: Callable[[Array | float, Any], Array]
    labels: Array


class ClassificationCache(NamedTuple):
    """The record of a model that classifies; ``loss`` is None where there were no labels."""

    nezha: NezhaCache
    classifier: ClassifierCache
    loss: Any


class ClassificationHeads(NezhaPreTrainedModel):
    """Body, dropout, one matrix; the classes below say of what and how wide."""

    _output_class: ClassVar[type[ModelOutput]]
    _pooled: ClassVar[bool] = True

    @classmethod
    def _columns(cls, config: NezhaConfig) -> int:
        return config.num_labels

    @classmethod
    def shapes(cls, config: NezhaConfig) -> Shapes:
        """Names and shapes of the parameters of a model of this class, in checkpoint order."""
        shapes = {f"nezha.{name}": s for name, s in body_shapes(config, cls._pooled).items()}
        return shapes | linear_head_shapes(config, "classifier", cls._columns(config))

    def _call(
        self,
        inputs: Inputs,
        wanted: Wanted,
        loss: Loss | None,
        shape: tuple[int, ...],
        batch: tuple[int, ...],
    ) -> ModelOutput | tuple:
        """``logits = classifier(pooled or every token)`` in ``shape``, ``loss`` of their rows;
        ``batch`` are the axes that the caller gave the B rows of the body."""
        p = self.parameters
        body = nezha(p.nezha, self.config, inputs, self.table, self._rng, wanted)
        vectors = body.pooler_output if self._pooled else body.last_hidden_state
        columns, classifier_cache = classifier(p.classifier, self.config, vectors, self._rng)
        logits, value, loss_cache = columns.reshape(shape), None, None
        if loss is not None:
            value, loss_cache = loss.forward(logits.reshape(-1, shape[-1]), loss.labels)
        record = None
        if wanted.record:
            record = ClassificationCache(body.cache, classifier_cache, loss_cache)

        def backward(upstream: dict[str, Any]) -> dict[str, Any]:
            g, dlogits = self._gradient_tree(), upstream.get("logits")
            if upstream.get("loss") is not None:
                from_loss = loss.backward(upstream["loss"], record.loss)
                dlogits = add(dlogits, from_loss.reshape(shape))
            asked = dict(upstream)
            if dlogits is not None:
                field = "pooler_output" if self._pooled else "last_hidden_state"
                dcolumns = dlogits.reshape(columns.shape)
                asked[field] = classifier_backward(dcolumns, record.classifier, g.classifier)
            gradients = nezha_backward(asked, record.nezha, self.config, g.nezha)
            found = self._input_gradients(inputs, gradients)
            return {name: d.reshape(*batch, *d.shape[1:]) for name, d in found.items()}

        values = {"loss": value, "logits": logits, **wanted.pick(body)}
        return self._output(self._output_class, values, wanted, record, backward)

    def _entropy(self, labels: Any, shape: tuple[int, ...], below: int) -> Loss:
        labels = self._door.host_integers("labels", labels, shape, below, ignored=True)
        return Loss(cross_entropy, cross_entropy_backward, labels.reshape(-1))


class NezhaForSequenceClassification(ClassificationHeads):
    """A text gets one of ``num_labels`` classes, any number of them, or ``num_labels`` numbers."""

    _output_class = SequenceClassifierOutput

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        record: bool | None = None,
    ) -> SequenceClassifierOutput | tuple:
        """``logits = dropout(pooled) · weightᵀ + bias``, C = num_labels columns

        ==============================  ==========================  ==============================
        ``config.problem_type``         labels                      loss
        ==============================  ==========================  ==============================
        "regression"                    (B, C), for C = 1 also      mean squared error
                                        (B,): finite numbers
        "single_label_classification"   (B,) integers in [0, C),    cross-entropy, mean over the
                                        or −100 for "not asked"     rows that are asked
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
        wanted = self._wanted(
            output_attentions, output_hidden_states, return_dict, record, labels is not None
        )
        inputs = self._inputs(input_ids, attention_mask, token_type_ids, head_mask, inputs_embeds)
        shape = (inputs.shape[0], self.config.num_labels)
        loss = None if labels is None else self._loss(labels, shape)
        return self._call(inputs, wanted, loss, shape, shape[:1])

    def _loss(self, labels: Any, shape: tuple[int, int]) -> Loss:
        door, (B, C) = self._door, shape
        labels = door.array("labels", labels)
        problem = self.config.problem_type
        if problem is None:
            whole = labels.dtype.kind in "iu"
            problem = "single_label_classification" if whole else "multi_label_classification"
            problem = "regression" if C == 1 else problem
        if problem == "single_label_classification":
            return self._entropy(labels, (B,), C)
        if problem == "multi_label_classification":
            labels = door.targets("labels", labels, shape, 0.0, 1.0)
            return Loss(binary_cross_entropy, binary_cross_entropy_backward, labels)
        if C == 1 and labels.shape == (B,):
            labels = labels.reshape(B, 1)
        # the sum of the squares is still a number
        largest = math.sqrt(door.largest / max(labels.size, 1))
        labels = door.targets("labels", labels, shape, -largest, largest)
        return Loss(squared_error, squared_error_backward, labels)


class NezhaForMultipleChoice(ClassificationHeads):
    """One of C choices: each is read as a text of its own and gets one number."""

    _output_class = MultipleChoiceOutput

    @classmethod
    def _columns(cls, config: NezhaConfig) -> int:
        return 1

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        record: bool | None = None,
    ) -> MultipleChoiceOutput | tuple:
        """``logits[b, c] = dropout(pooled of choice c) · weightᵀ + bias``, cross-entropy over c

        Shapes: input_ids, attention_mask, token_type_ids (B, C, L), inputs_embeds (B, C, L, D),
        labels (B,) in [0, C) or −100. hidden_states and attentions have B·C rows.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        wanted = self._wanted(
            output_attentions, output_hidden_states, return_dict, record, labels is not None
        )
        given = {
            "input_ids": input_ids,
            "inputs_embeds": inputs_embeds,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
        }
        rows, shape = self._rows({name: a for name, a in given.items() if a is not None})
        inputs = self._inputs(head_mask=head_mask, **rows)
        loss = None if labels is None else self._entropy(labels, shape[:1], shape[1])
        return self._call(inputs, wanted, loss, shape, shape)

    def _rows(self, given: dict[str, Any]) -> tuple[dict[str, Array], tuple[int, int]]:
        """The arguments with B·C rows, and (B, C)."""
        rows, shape = {}, None
        for name, value in given.items():
            array, axes = self._door.array(name, value), 4 if name == "inputs_embeds" else 3
            if array.ndim != axes:
                expected = "(B, C, L)" if axes == 3 else "(B, C, L, D)"
                raise ArgumentError(f"{name}: expected shape {expected}, found {array.shape}")
            shape = shape or array.shape[:3]
            B, C = shape[:2]
            if array.shape[:3] != shape or C == 0:
                least = f"(B, C, L) = {shape}" if C else "at least one choice"
                raise ArgumentError(f"{name}: expected {least}, found shape {array.shape}")
            rows[name] = array.reshape(B * C, *array.shape[2:])
        return rows, (shape or (0, 0))[:2]


class NezhaForTokenClassification(ClassificationHeads):
    """Each token gets one of ``num_labels`` classes; the body has no pooler."""

    _output_class = TokenClassifierOutput
    _pooled = False

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        record: bool | None = None,
    ) -> TokenClassifierOutput | tuple:
        """``logits = dropout(hidden) · weightᵀ + bias``, cross-entropy over the labelled tokens

        Shapes: labels (B, L) in [0, num_labels) or −100. The others as for
        :class:`~minizha.model.nezha.NezhaModel`.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        wanted = self._wanted(
            output_attentions, output_hidden_states, return_dict, record, labels is not None
        )
        inputs = self._inputs(input_ids, attention_mask, token_type_ids, head_mask, inputs_embeds)
        C = self.config.num_labels
        loss = None if labels is None else self._entropy(labels, inputs.shape, C)
        return self._call(inputs, wanted, loss, (*inputs.shape, C), inputs.shape[:1])
