"""One step of training: the figures and the gradients of a batch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minizha.backend import Array
from minizha.model.call import ModelCache
from minizha.model.pretraining import ItemsInBatch, NezhaForPreTraining
from minizha.ops.cross_entropy import IGNORED

Batch = dict[str, np.ndarray]
Gradients = dict[str, Array]


class Counts(NamedTuple):
    """Figures of a batch: the two terms of the loss, and right answers out of all, for masked
    words and for sentence pairs.

    Losses and right answers may still be on the GPU; to read them is to wait for it.
    """

    word_loss: Array | float
    pair_loss: Array | float
    right_words: Array | int
    words: int
    right_pairs: Array | int
    pairs: int


def count(record: ModelCache) -> Counts:
    """The figures of one recorded pass that had both kinds of labels."""
    masked_words, next_sentence = record.tasks
    words, pairs = masked_words.loss, next_sentence.loss.loss
    word_loss, pair_loss = record.losses
    return Counts(
        word_loss,
        pair_loss,
        (words.probs.argmax(axis=-1) == words.labels).sum(),
        words.labels.shape[0],
        (pairs.probs.argmax(axis=-1) == pairs.labels).sum(),
        pairs.labels.shape[0],
    )


def items_in(batch: Batch) -> ItemsInBatch:
    """How many labels of each kind a batch has, at least 1."""
    return ItemsInBatch(
        *(max(1, int((batch[name] != IGNORED).sum())) for name in ("labels", "next_sentence_label"))
    )


def loss_and_gradients(
    model: NezhaForPreTraining, batch: Batch, items: ItemsInBatch | None = None
) -> tuple[Counts, Gradients]:
    """The figures of a batch and the gradient of its loss; the model's own gradients stay as they are.

    ``items``: the counts of the whole batch, where this is a part of it.
    """
    replica = model.replica()
    out = replica(
        **batch, num_items_in_batch=items or items_in(batch), record=True, return_dict=True
    )
    out.backward()
    return count(out.record), replica.gradients()


def add_up(parts: list[tuple[Counts, Gradients]]) -> tuple[Counts, Gradients]:
    """The figures and gradients of a batch from those of its parts.

    Every part divided by the whole batch's counts, so everything just adds up.
    """
    (counts, gradients), *others = parts
    for more_counts, more in others:
        counts = Counts._make(a + b for a, b in zip(counts, more_counts, strict=True))
        gradients = {name: g + more[name] for name, g in gradients.items()}
    return counts, gradients
