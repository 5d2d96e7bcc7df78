"""One step of training: the gradients of a batch, on as many threads as there are parts of it."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array
from minizha.model.masked_lm import ItemsInBatch
from minizha.model.pretraining import NezhaForPreTraining, PreTrainingCache
from minizha.ops.cross_entropy import IGNORED

Batch = dict[str, np.ndarray]


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


def count(record: PreTrainingCache) -> Counts:
    """The figures of one recorded pass that had both kinds of labels."""
    words, pairs = record.masked_lm.loss, record.next_sentence
    return Counts(
        record.masked_lm_loss,
        record.next_sentence_loss,
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
    model: NezhaForPreTraining, batch: Batch, threads: int = 1, pool: Executor | None = None
) -> tuple[Counts, dict[str, Array]]:
    """The figures of a batch and the gradient of its loss, the model's own gradients untouched.

    With ``threads`` above 1 the rows are dealt out to as many replicas of the model, which run
    side by side in ``pool``: NumPy lets go of the interpreter while it computes. Every part
    divides by the whole batch's counts, so the gradients just add up.
    """
    items = items_in(batch)

    def run(part: tuple[NezhaForPreTraining, Batch]) -> tuple[Counts, dict[str, Array]]:
        replica, rows = part
        out = replica(**rows, num_items_in_batch=items, record=True, return_dict=True)
        out.backward()
        return count(out.record), replica.gradients()

    size = len(batch["input_ids"])
    parts = [
        (model.replica(), {name: array[rows] for name, array in batch.items()})
        for rows in np.array_split(np.arange(size), min(threads, size))
    ]
    results = list(pool.map(run, parts) if pool and len(parts) > 1 else map(run, parts))
    counts = Counts(*(sum(column) for column in zip(*(c for c, _ in results), strict=True)))
    return counts, _sum_of([gradients for _, gradients in results])


def _sum_of(shares: list[dict[str, Any]]) -> dict[str, Any]:
    if len(shares) == 1:
        return shares[0]
    return {
        name: sum(share[name] for share in shares[1:]) + first for name, first in shares[0].items()
    }
