"""The masked-language-model loss: only the labelled rows go through the vocabulary.

At 15 % masking that is a seventh of the largest product of the model. The logits of all rows are
another matter: a model's output computes them when somebody reads them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array, namespace, to_backend
from minizha.config import NezhaConfig
from minizha.errors import ArgumentError
from minizha.model.heads import PredictionsCache, predictions, predictions_backward
from minizha.model.parameters import Tree
from minizha.ops.cross_entropy import (
    CrossEntropyCache,
    cross_entropy,
    cross_entropy_backward,
    labelled_rows,
)


class ItemsInBatch(NamedTuple):
    """What the two sums of the loss are divided by; None: by the labels of this very call.

    For a call on a part of a batch: with the whole batch's counts, the parts' losses and
    gradients add up to the whole's. A mean of the parts' means would be something else, since
    the parts differ in how many tokens they have labelled.
    """

    labels: int | None = None
    next_sentence_label: int | None = None


def check_items(items: Any) -> ItemsInBatch:
    """``items``, for None the default; ArgumentError where it holds no counts."""
    items = ItemsInBatch() if items is None else items
    if not isinstance(items, ItemsInBatch) or not all(
        n is None or (isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n >= 1)
        for n in items
    ):
        raise ArgumentError(
            "num_items_in_batch: expected an ItemsInBatch of integers of at least 1 or None, "
            f"found {items!r}"
        )
    return items


class LabelledPredictionsCache(NamedTuple):
    """The labelled rows of the flattened hidden states, and the caches of what became of them."""

    rows: Array
    shape: tuple[int, int, int]
    predictions: PredictionsCache
    loss: CrossEntropyCache


def masked_lm_loss(
    p: Tree,
    config: NezhaConfig,
    hidden: Array,
    decoder_weight: Array,
    labels: np.ndarray,
    count: int | None = None,
) -> tuple[Array, LabelledPredictionsCache]:
    """``loss = cross_entropy(predictions(hidden[labelled]), labels[labelled])``

    Shapes: hidden (B, L, D), decoder_weight (V, D), labels (B, L) → loss ().

    Convention: labels are on the host, already checked; −100 asks for nothing, and where
    nothing is asked the loss is 0.
    """
    xp = namespace(hidden)
    rows, labels = labelled_rows(labels.reshape(-1))
    rows = to_backend(rows, xp)
    labelled = hidden.reshape(-1, hidden.shape[-1])[rows]
    logits, predictions_cache = predictions(p, config, labelled, decoder_weight)
    loss, loss_cache = cross_entropy(logits, labels, count)
    return loss, LabelledPredictionsCache(rows, hidden.shape, predictions_cache, loss_cache)


def masked_lm_loss_backward(
    dloss: Array | float,
    cache: LabelledPredictionsCache,
    config: NezhaConfig,
    g: Tree,
    g_decoder: Tree,
) -> Array:
    """Fill the gradients in g and g_decoder; return dhidden, 0 in the rows without a label

    Shapes: dloss () → dhidden (B, L, D).
    """
    dlogits = cross_entropy_backward(dloss, cache.loss)
    drows = predictions_backward(dlogits, cache.predictions, config, g, g_decoder)
    B, L, D = cache.shape
    dhidden = namespace(drows).zeros((B * L, D), dtype=drows.dtype)
    dhidden[cache.rows] = drows
    return dhidden.reshape(B, L, D)
