"""From the record to the names: which cache belongs to which array of a trace.

The record is a tree of caches with the structure of the model. This module goes through it in execution
order and finds, for each array of :mod:`~minizha.crosscheck.names`, the operation that computed it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from minizha.backend import Array, namespace
from minizha.crosscheck.names import (
    ATTENTION,
    DROPOUT,
    EMBEDDINGS,
    FEED_FORWARD,
    HEADS,
    Row,
)
from minizha.crosscheck.recorder import Recorder
from minizha.model.call import ModelCache
from minizha.nezha.attention import AttentionBlockCache, merge_heads
from minizha.nezha.embeddings import EmbeddingsCache
from minizha.nezha.encoder import LayerCache
from minizha.nezha.losses import (
    ClassesCache,
    MaskedWordsCache,
    NextSentenceCache,
    SpansCache,
    all_predictions,
)


class TraceEntry(NamedTuple):
    """One array: its name, its value, its gradient (or None), and the names of the parameters of the
    step that computed it."""

    name: str
    value: Array
    gradient: Array | None
    parameters: tuple[str, ...]


def trace_entries(
    record: ModelCache, values: dict[str, Any], recorder: Recorder
) -> Iterator[TraceEntry]:
    """The arrays of one forward pass, in execution order.

    ``values`` are the arrays that are in no cache: ``inputs_embeds`` and the losses.
    """
    body = record.nezha
    yield from _embeddings(body.embeddings, values.get("inputs_embeds"), recorder)
    for i, layer in enumerate(body.encoder):
        yield from _layer(f"encoder.layer.{i}", layer, recorder)
    table = {entry.name: entry for entry in HEADS}
    if body.pooler is not None:
        dense, activation, _ = body.pooler
        yield _result(table["pooler.dense"], dense, recorder)
        yield _result(table["pooler"], activation, recorder)
    for task in record.tasks:
        if isinstance(task, MaskedWordsCache):
            yield from _predictions(table, task, recorder)
        elif isinstance(task, NextSentenceCache):
            yield _result(table["cls.seq_relationship"], task.seq_relationship, recorder)
        elif isinstance(task, ClassesCache):
            yield from _factor("classifier", task.classifier.dropout)
            yield _result(table["classifier"], task.classifier.dense, recorder)
        elif isinstance(task, SpansCache):
            yield _result(table["qa_outputs"], task.qa_outputs, recorder)
    for name in ("masked_lm_loss", "next_sentence_loss", "loss"):
        if values.get(name) is not None:
            yield TraceEntry(name, values[name], None, ())


def _result(entry: Row, cache: Any, recorder: Recorder, prefix: str = "") -> TraceEntry:
    """The result of the operation that made ``cache``."""
    return _entry_of(entry, recorder.y(cache), recorder.dy(cache), prefix)


def _entry_of(entry: Row, value: Array, gradient: Array | None, prefix: str = "") -> TraceEntry:
    name = (prefix + entry.name).removesuffix(".")
    return TraceEntry(name, value, gradient, tuple(prefix + p for p in entry.parameters))


def _factor(name: str, cache: Any) -> Iterator[TraceEntry]:
    if cache.factor is not None:
        yield TraceEntry(name + DROPOUT, cache.factor, None, ())


def _embeddings(
    cache: EmbeddingsCache, inputs_embeds: Array | None, recorder: Recorder
) -> Iterator[TraceEntry]:
    words, types, norm, dropped = EMBEDDINGS
    dsum = recorder.dx(cache.LayerNorm)  # also the gradient of both terms of the sum
    vectors = inputs_embeds if cache.word_embeddings is None else recorder.y(cache.word_embeddings)
    yield _entry_of(words, vectors, dsum)
    yield _entry_of(types, recorder.y(cache.token_type_embeddings), dsum)
    yield _result(norm, cache.LayerNorm, recorder)
    yield from _factor("embeddings", cache.dropout)
    yield _result(dropped, cache.dropout, recorder)


def _layer(name: str, cache: LayerCache, recorder: Recorder) -> Iterator[TraceEntry]:
    yield from _attention(f"{name}.attention.", cache.attention, recorder)
    if cache.crossattention is not None:
        yield from _attention(f"{name}.crossattention.", cache.crossattention, recorder)
    dense, activated, projected, result = FEED_FORWARD
    steps = cache.feed_forward
    yield _result(dense, steps.intermediate, recorder, f"{name}.")
    yield _result(activated, steps.activation, recorder, f"{name}.")
    yield _result(projected, steps.dense, recorder, f"{name}.")
    yield from _factor(f"{name}.output", cache.output.dropout)
    yield _result(result, cache.output.LayerNorm, recorder, f"{name}.")


def _attention(prefix: str, cache: AttentionBlockCache, recorder: Recorder) -> Iterator[TraceEntry]:
    query, key, value, scores, probs, weights, context, dense, output = ATTENTION
    heads, inner = cache.self, cache.self.attention
    yield _result(query, heads.query, recorder, prefix)
    if heads.key is not None:  # None if the keys of the encoder come from an earlier call
        yield _result(key, heads.key, recorder, prefix)
        yield _result(value, heads.value, recorder, prefix)
    yield _entry_of(scores, recorder.x(inner.softmax), recorder.dx(inner.softmax), prefix)
    yield _result(probs, inner.softmax, recorder, prefix)
    yield from _factor(prefix.removesuffix("."), inner.dropout)
    yield _entry_of(weights, inner.weights, None, prefix)
    merged = (
        None if a is None else merge_heads(a) for a in (recorder.y(inner), recorder.dy(inner))
    )
    yield _entry_of(context, *merged, prefix)
    yield _result(dense, cache.dense, recorder, prefix)
    yield from _factor(prefix + "output", cache.output.dropout)
    yield _result(output, cache.output.LayerNorm, recorder, prefix)


def _predictions(
    table: dict[str, Row], cache: MaskedWordsCache, recorder: Recorder
) -> Iterator[TraceEntry]:
    """The values of all tokens; gradients of labelled tokens and of those with an upstream gradient."""
    _, steps = all_predictions(cache)
    for i, name in enumerate(("dense", "activation", "", "")):
        path = "cls.predictions" + (".transform" if i < 3 else "")
        entry = table[f"{path}.{name}".removesuffix(".")]
        gradient = recorder.dy(steps[i])
        rows = None if cache.predictions is None else recorder.dy(cache.predictions[i])
        if rows is not None:
            labelled = _scatter(rows, cache)
            gradient = labelled if gradient is None else gradient + labelled
        yield _entry_of(entry, recorder.y(steps[i]), gradient)


def _scatter(rows: Array, cache: MaskedWordsCache) -> Array:
    """The rows of labelled tokens as an array (B, L, …), 0 elsewhere."""
    B, L, _ = cache.inputs[-1].shape
    full = namespace(rows).zeros((B * L, rows.shape[-1]), dtype=rows.dtype)
    full[cache.rows] = rows
    return full.reshape(B, L, -1)
