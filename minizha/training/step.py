"""One step of training: the metrics and the gradients of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array, to_host
from minizha.errors import ArgumentError, listed
from minizha.model.call import ModelCache
from minizha.model.pretraining import ItemsInBatch, NezhaForPreTraining
from minizha.ops.cross_entropy import IGNORED
from minizha.training.row_generators import RowGenerators, row_generators

Batch = dict[str, np.ndarray]
Gradients = dict[str, Array]
_BY_ROW = (
    "input_ids",
    "attention_mask",
    "token_type_ids",
    "inputs_embeds",
    "labels",
    "next_sentence_label",
)


class BatchMetrics(NamedTuple):
    """The two terms of a batch's loss, and the right answers and the labels of each.

    Losses and right answers may be on a GPU; reading them waits for it.
    """

    word_loss: Array | float
    pair_loss: Array | float
    right_words: Array | int
    words: int
    right_pairs: Array | int
    pairs: int


def batch_metrics(record: ModelCache) -> BatchMetrics:
    """The metrics of a recorded forward pass with labels for both tasks."""
    masked_words, next_sentence = record.tasks
    words, pairs = masked_words.loss, next_sentence.loss.loss
    word_loss, pair_loss = record.losses
    return BatchMetrics(
        word_loss,
        pair_loss,
        (words.probs.argmax(axis=-1) == words.labels).sum(),
        words.labels.shape[0],
        (pairs.probs.argmax(axis=-1) == pairs.labels).sum(),
        pairs.labels.shape[0],
    )


def items_in(batch: Batch) -> ItemsInBatch:
    """The number of labels of each task in a batch, at least 1."""
    return ItemsInBatch(
        *(
            max(1, int((to_host(batch[name]) != IGNORED).sum()))
            for name in ("labels", "next_sentence_label")
        )
    )


def loss_and_gradients(
    model: NezhaForPreTraining,
    batch: Batch,
    items: ItemsInBatch | None = None,
    rows: RowGenerators | None = None,
) -> tuple[BatchMetrics, Gradients]:
    """The metrics of a batch and the gradient of its loss; the model's ``gradients()`` don't change.

    Args:
        items: the numbers of labels of the whole batch, if ``batch`` is a part of it.
        rows: the generators of dropout for the rows of this part. None in train mode: new ones.

    Raises:
        ArgumentError: not a NezhaForPreTraining, or ``batch`` is not a dictionary of the arguments of
            its call, labels for both tasks among them.
    """
    check_pretraining_model(model)
    check_batch(batch)
    replica = model.replica(row_generators(model) if rows is None else rows)
    items = items_in(batch) if items is None else items
    options = {"num_items_in_batch": items, "record": None, "return_dict": True}
    out = replica(**{**batch, **options})  # with labels, it records what the backward pass needs
    out.backward()
    return batch_metrics(out.record), replica.gradients()


def accumulate(
    model: NezhaForPreTraining,
    batch: Batch,
    parts: int,
    items: ItemsInBatch | None = None,
    rows: RowGenerators | None = None,
) -> tuple[BatchMetrics, Gradients]:
    """:func:`loss_and_gradients`, computed for ``parts`` equal parts of the rows one after the other.

    Convention: the result is that of the whole batch, a mean over all its labels, however unequally
    the parts share them. Only the activations of one part are in memory.
    """
    items = items_in(batch) if items is None else items
    rows = row_generators(model) if rows is None else rows
    size = len(batch["labels"])
    total = None
    for numbers in np.array_split(np.arange(size), min(parts, size)):
        part = {name: array[numbers] for name, array in batch.items()}
        result = loss_and_gradients(model, part, items, rows and rows.part(int(numbers[0])))
        total = result if total is None else sum_parts([total, result])
    assert total is not None  # a batch has rows
    return total


def check_pretraining_model(model: Any) -> None:
    """Raise an ArgumentError unless ``model`` is a NezhaForPreTraining."""
    if not isinstance(model, NezhaForPreTraining):
        raise ArgumentError(f"model: expected a NezhaForPreTraining, found {type(model).__name__}")


def check_batch(batch: Any) -> None:
    """Raise an ArgumentError unless ``batch`` is a dictionary of arrays, labels for both tasks among
    them. The model's call checks the arrays."""
    if not isinstance(batch, Mapping):
        raise ArgumentError(f"batch: expected {{name: array}}, found {type(batch).__name__}")
    if not all(isinstance(name, str) for name in batch):
        raise ArgumentError("batch: expected strings as its keys")
    missing = [n for n in ("labels", "next_sentence_label") if batch.get(n) is None]
    if missing:
        raise ArgumentError(f"batch: expected labels for both tasks, found no {listed(missing)}")


def batch_rows(batch: Batch) -> Batch:
    """``batch`` as arrays whose first axis is that of the labels, so that it can be cut into parts."""
    check_batch(batch)
    arrays = {name: to_host(value) for name, value in batch.items() if value is not None}
    size = np.shape(arrays["labels"])[:1]
    for name, array in arrays.items():
        if name not in _BY_ROW or not size or array.shape[:1] != size:
            raise ArgumentError(
                f"batch: expected {', '.join(_BY_ROW)} with as many rows as labels, found {name} of "
                f"shape {array.shape}"
            )
    return arrays


def sum_parts(parts: list[tuple[BatchMetrics, Gradients]]) -> tuple[BatchMetrics, Gradients]:
    """The metrics and gradients of a batch: the sums of those of its parts.

    Convention: the losses of the parts are divided by the numbers of labels of the whole batch. The
    gradients of the first part become the sums.
    """
    (metrics, gradients), *others = parts
    for part_metrics, part_gradients in others:
        metrics = BatchMetrics._make(a + b for a, b in zip(metrics, part_metrics, strict=True))
        for name, g in gradients.items():
            g += part_gradients[name]
    return metrics, gradients
