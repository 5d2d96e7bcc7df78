"""The tasks: logits, and the loss that compares them with the labels.

Each is a pair. It computes logits and a loss from x, the hidden states or the pooled [CLS]::

    scores, cache = task(p, config, x, labels, rng)    # scores.loss, scores.logits
    dx = task_backward(dscores, cache, g)              # dscores: the upstream gradients of both

p and g are trees of the whole model. One of the two upstream gradients may be None, for 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from minizha.backend import Array, namespace, to_backend
from minizha.config import NezhaConfig
from minizha.nezha.heads import (
    ClassifierCache,
    PredictionsCache,
    classifier,
    classifier_backward,
    predictions,
    predictions_backward,
)
from minizha.nezha.parameters import Tree, accumulate, add
from minizha.ops.binary_cross_entropy import binary_cross_entropy, binary_cross_entropy_backward
from minizha.ops.cross_entropy import (
    CrossEntropyCache,
    cross_entropy,
    cross_entropy_backward,
    labelled_rows,
)
from minizha.ops.dropout import Rng
from minizha.ops.linear import LinearCache, linear, linear_backward
from minizha.ops.squared_error import squared_error, squared_error_backward


class Scores(NamedTuple):
    """The loss, None without labels, and the logits; for masked words, a function that computes them.
    Also their upstream gradients: arrays, None standing for 0."""

    loss: Any = None
    logits: Any = None


class Labels(NamedTuple):
    """Class numbers or −100, for cross-entropy; or floats, for the loss that ``problem_type`` names.
    ``count`` is the divisor of the sum; None stands for the number of these labels."""

    values: Any
    count: int | None = None
    problem_type: str = "single_label_classification"


class Loss(NamedTuple):
    """A pair of :mod:`minizha.ops`."""

    forward: Callable[..., tuple[Array, Any]]
    backward: Callable[[Array | float, Any], Array]


LOSSES = {
    "single_label_classification": Loss(cross_entropy, cross_entropy_backward),
    "multi_label_classification": Loss(binary_cross_entropy, binary_cross_entropy_backward),
    "regression": Loss(squared_error, squared_error_backward),
}


class LossCache(NamedTuple):
    """The cache of a pair in :data:`LOSSES`, the key of the pair, and the shape of the logits."""

    loss: Any
    problem_type: str
    shape: tuple[int, ...]


def task_loss(logits: Array, labels: Labels | None) -> tuple[Array | None, LossCache | None]:
    """The loss that ``labels.problem_type`` names, over rows of logits; None without labels

    Shapes: logits (…, O) → loss () or None.
    """
    if labels is None:
        return None, None
    rows = logits.reshape(-1, logits.shape[-1])  # (T, O)
    # class numbers have one axis less than the logits, float labels have the same
    columns = labels.values.shape[logits.ndim - 1 :]
    forward = LOSSES[labels.problem_type].forward
    loss, cache = forward(rows, labels.values.reshape(-1, *columns), labels.count)  # ()
    return loss, LossCache(cache, labels.problem_type, logits.shape)


def task_loss_backward(dloss: Array | float | None, cache: LossCache) -> Array | None:
    """dlogits; None if the loss has no upstream gradient, but the logits have one

    Shapes: dloss () → dlogits (…, O) or None.
    """
    if dloss is None:
        return None
    return LOSSES[cache.problem_type].backward(dloss, cache.loss).reshape(cache.shape)


class MaskedWordsCache(NamedTuple):
    """The inputs for the logits that are an output; these logits and their cache, from their first use
    on; the indices of their tokens, None standing for all. Then the indices of the labelled rows and
    their caches, None without labels."""

    inputs: tuple[Tree, NezhaConfig, Array]
    all_tokens: list[tuple[Array, PredictionsCache]]
    wanted: Array | None = None
    rows: Array | None = None
    predictions: PredictionsCache | None = None
    loss: CrossEntropyCache | None = None


def all_predictions(cache: MaskedWordsCache) -> tuple[Array, PredictionsCache]:
    """The logits of all tokens, (B, L, V), or the wanted ones, (T, V), and their cache; computed once."""
    if not cache.all_tokens:
        p, config, hidden = cache.inputs
        if cache.wanted is not None:
            hidden = hidden.reshape(-1, hidden.shape[-1])[cache.wanted]
        cache.all_tokens.append(predictions(p, config, hidden))
    return cache.all_tokens[0]


def masked_words(
    p: Tree,
    config: NezhaConfig,
    hidden: Array,
    labels: Labels | None,
    rng: Rng,
    wanted: Array | None = None,
) -> tuple[Scores, MaskedWordsCache]:
    """``logits = predictions(hidden)``, ``loss = cross_entropy(logits[labelled], labels[labelled])``

    Shapes: hidden (B, L, D), labels.values (B, L), wanted (T) → scores.loss () or None.

    Convention: the labelled rows are gathered before the head, so the loss needs logits (M, V) only;
    (B, L, V) are computed when ``scores.logits()`` is called. With 15 % of the tokens labelled, that
    saves six sevenths of the model's largest product. If all labels are ignored, the loss is 0.
    ``wanted`` are the indices, among the B·L tokens, of those whose logits are an output, (T, V).

    Source: NezhaForMaskedLM.
    """
    loss, cache = None, MaskedWordsCache((p, config, hidden), [], wanted)
    if labels is not None:
        rows, values = labelled_rows(labels.values.reshape(-1))  # (M), (M)
        rows = to_backend(rows, namespace(hidden))
        vectors = hidden.reshape(-1, hidden.shape[-1])[rows]  # (M, D)
        logits, head_cache = predictions(p, config, vectors)  # (M, V)
        loss, loss_cache = cross_entropy(logits, values, labels.count)  # ()
        cache = cache._replace(rows=rows, predictions=head_cache, loss=loss_cache)
    return Scores(loss, lambda: all_predictions(cache)[0]), cache


def masked_words_backward(d: Scores, cache: MaskedWordsCache, g: Tree) -> Array:
    """Add the gradients of the parameters to g; return dhidden

    In the forward pass the loss used the labelled rows, and the logits used all rows, or the T wanted
    ones; d.logits is then (T, V). dhidden is the sum of both gradients, each 0 in the rows not used.

    Shapes: d.logits (B, L, V) → dhidden (B, L, D).
    """
    dhidden, shape = None, cache.inputs[-1].shape
    if d.loss is not None:
        dlogits = cross_entropy_backward(d.loss, cache.loss)  # (M, V)
        dvectors = predictions_backward(dlogits, cache.predictions, g)  # (M, D)
        dhidden = _scattered(dvectors, cache.rows, shape)  # (B, L, D)
    if d.logits is not None:
        _, head_cache = all_predictions(cache)
        dvectors = predictions_backward(d.logits, head_cache, g)
        dhidden = add(dhidden, _scattered(dvectors, cache.wanted, shape))  # (B, L, D)
    return dhidden


def _scattered(dvectors: Array, rows: Array | None, shape: tuple[int, int, int]) -> Array:
    """dhidden (B, L, D), 0 but for the rows that dvectors (M, D) has; None stands for all."""
    if rows is None:
        return dvectors
    B, L, D = shape
    dhidden = namespace(dvectors).zeros((B * L, D), dtype=dvectors.dtype)
    dhidden[rows] = dvectors
    return dhidden.reshape(B, L, D)


class NextSentenceCache(NamedTuple):
    """The caches of the matrix and of the loss, None without labels."""

    seq_relationship: LinearCache
    loss: LossCache | None


def next_sentence(
    p: Tree, config: NezhaConfig, pooled: Array, labels: Labels | None, rng: Rng
) -> tuple[Scores, NextSentenceCache]:
    """``logits = pooled · weightᵀ + bias``, ``loss = cross_entropy(logits, labels)``

    Shapes: pooled (B, D) → scores.loss () or None, scores.logits (B, 2).

    Convention: label 0 is "B follows A", label 1 is "B is random".

    Source: NezhaForNextSentencePrediction.
    """
    head = p.cls.seq_relationship
    logits, head_cache = linear(pooled, head.weight, head.bias)  # (B, 2)
    loss, loss_cache = task_loss(logits, labels)  # ()
    return Scores(loss, logits), NextSentenceCache(head_cache, loss_cache)


def next_sentence_backward(d: Scores, cache: NextSentenceCache, g: Tree) -> Array:
    """Add the gradients of the parameters to g; return dx

    Shapes: d.logits (B, 2) → dx (B, D).
    """
    dlogits = add(d.logits, task_loss_backward(d.loss, cache.loss))  # (B, 2)
    dx, dweight, dbias = linear_backward(dlogits, cache.seq_relationship)  # (B, D), (2, D), (2)
    accumulate(g.cls.seq_relationship, weight=dweight, bias=dbias)
    return dx


class ClassesCache(NamedTuple):
    """The caches of the classifier and of the loss, None without labels."""

    classifier: ClassifierCache
    loss: LossCache | None


def classes(
    p: Tree, config: NezhaConfig, x: Array, labels: Labels | None, rng: Rng
) -> tuple[Scores, ClassesCache]:
    """``logits = classifier(x)``, ``loss = task_loss(logits, labels)``, for each text or token

    Shapes: x (…, D) → scores.loss () or None, scores.logits (…, C).

    Source: NezhaForSequenceClassification, NezhaForTokenClassification.
    """
    logits, classifier_cache = classifier(p.classifier, config, x, rng)  # (…, C)
    loss, loss_cache = task_loss(logits, labels)  # ()
    return Scores(loss, logits), ClassesCache(classifier_cache, loss_cache)


def classes_backward(d: Scores, cache: ClassesCache, g: Tree) -> Array:
    """Add the gradients of the parameters to g; return dx

    Shapes: d.logits (…, C) → dx (…, D).
    """
    dlogits = add(d.logits, task_loss_backward(d.loss, cache.loss))  # (…, C)
    return classifier_backward(dlogits, cache.classifier, g.classifier)


def choices(
    p: Tree, config: NezhaConfig, pooled: Array, labels: Labels | None, rng: Rng
) -> tuple[Scores, ClassesCache]:
    """``logits[b, c] = classifier(pooled[b, c])``, one number; the loss is the cross-entropy over c

    Shapes: pooled (B, C, D) → scores.loss () or None, scores.logits (B, C).
    """
    B, C, D = pooled.shape
    rows = pooled.reshape(B * C, D)  # (B·C, D)
    column, classifier_cache = classifier(p.classifier, config, rows, rng)  # (B·C, 1)
    logits = column.reshape(B, C)  # (B, C)
    loss, loss_cache = task_loss(logits, labels)  # ()
    return Scores(loss, logits), ClassesCache(classifier_cache, loss_cache)


def choices_backward(d: Scores, cache: ClassesCache, g: Tree) -> Array:
    """Add the gradients of the parameters to g; return dpooled

    Shapes: d.logits (B, C) → dpooled (B, C, D).
    """
    dlogits = add(d.logits, task_loss_backward(d.loss, cache.loss))  # (B, C)
    dcolumn = dlogits.reshape(-1, 1)  # (B·C, 1)
    drows = classifier_backward(dcolumn, cache.classifier, g.classifier)  # (B·C, D)
    return drows.reshape(*dlogits.shape, drows.shape[-1])


class SpansCache(NamedTuple):
    """The caches of the matrix and of the losses of start and end, None without labels."""

    qa_outputs: LinearCache
    losses: tuple[LossCache | None, LossCache | None]


def spans(
    p: Tree, config: NezhaConfig, hidden: Array, labels: tuple[Labels, Labels] | None, rng: Rng
) -> tuple[Scores, SpansCache]:
    """``logits[t] = hidden[t] · weightᵀ + bias``: column 0 says "starts here", column 1 "ends here"

    ``loss = (cross_entropy(column 0, start) + cross_entropy(column 1, end)) / 2``, over the L tokens.

    Shapes: hidden (B, L, D) → scores.loss () or None, scores.logits (B, L, 2).

    Source: NezhaForQuestionAnswering.
    """
    logits, head_cache = linear(hidden, p.qa_outputs.weight, p.qa_outputs.bias)  # (B, L, 2)
    start, end = labels or (None, None)
    start_loss, start_cache = task_loss(logits[..., 0], start)  # ()
    end_loss, end_cache = task_loss(logits[..., 1], end)
    loss = None if labels is None else (start_loss + end_loss) * 0.5
    return Scores(loss, logits), SpansCache(head_cache, (start_cache, end_cache))


def spans_backward(d: Scores, cache: SpansCache, g: Tree) -> Array:
    """Add the gradients of the parameters to g; return dhidden

    In the forward pass the loss of each column had the factor ½; so each gets half of dloss.

    Shapes: d.logits (B, L, 2) → dhidden (B, L, D).
    """
    dlogits = d.logits
    if d.loss is not None:
        dcolumns = [task_loss_backward(d.loss * 0.5, loss) for loss in cache.losses]
        dlogits = add(dlogits, namespace(*dcolumns).stack(dcolumns, axis=-1))
    dhidden, dweight, dbias = linear_backward(dlogits, cache.qa_outputs)  # (B, L, D), (2, D), (2)
    accumulate(g.qa_outputs, weight=dweight, bias=dbias)
    return dhidden
