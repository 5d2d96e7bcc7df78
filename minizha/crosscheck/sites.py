"""From the record to the names: which cache belongs to which array of a trace.

The record is a tree of caches that is built like the model. This file walks it in execution order
and says, for each array of :mod:`~minizha.crosscheck.names`, of which operation it is the result.
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
    Entry,
)
from minizha.crosscheck.overhear import Heard
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


class Site(NamedTuple):
    """One array: its name, its value, its gradient (None: there is none, or none was asked for),
    and the parameters of the step that made it."""

    name: str
    value: Array
    gradient: Array | None
    parameters: tuple[str, ...]


def sites(record: ModelCache, values: dict[str, Any], heard: Heard) -> Iterator[Site]:
    """The arrays of one forward pass, in execution order.

    ``values`` are those that no cache has: ``inputs_embeds`` and the losses.
    """
    body = record.nezha
    yield from _embeddings(body.embeddings, values.get("inputs_embeds"), heard)
    for i, layer in enumerate(body.encoder):
        yield from _layer(f"encoder.layer.{i}", layer, heard)
    table = {entry.name: entry for entry in HEADS}
    if body.pooler is not None:
        dense, activation, _ = body.pooler
        yield _result(table["pooler.dense"], dense, heard)
        yield _result(table["pooler"], activation, heard)
    for task in record.tasks:
        if isinstance(task, MaskedWordsCache):
            yield from _predictions(table, task, heard)
        elif isinstance(task, NextSentenceCache):
            yield _result(table["cls.seq_relationship"], task.seq_relationship, heard)
        elif isinstance(task, ClassesCache):
            yield from _factor("classifier", task.classifier.dropout)
            yield _result(table["classifier"], task.classifier.dense, heard)
        elif isinstance(task, SpansCache):
            yield _result(table["qa_outputs"], task.qa_outputs, heard)
    for name in ("masked_lm_loss", "next_sentence_loss", "loss"):
        if values.get(name) is not None:
            yield Site(name, values[name], None, ())


def _result(entry: Entry, cache: Any, heard: Heard, prefix: str = "") -> Site:
    """The result of the operation that made ``cache``."""
    return _site(entry, heard.y(cache), heard.dy(cache), prefix)


def _site(entry: Entry, value: Array, gradient: Array | None, prefix: str = "") -> Site:
    name = (prefix + entry.name).removesuffix(".")
    return Site(name, value, gradient, tuple(prefix + p for p in entry.parameters))


def _factor(name: str, cache: Any) -> Iterator[Site]:
    if cache.factor is not None:
        yield Site(name + DROPOUT, cache.factor, None, ())


def _embeddings(cache: EmbeddingsCache, given: Array | None, heard: Heard) -> Iterator[Site]:
    words, types, norm, after = EMBEDDINGS
    dsum = heard.dx(cache.LayerNorm)  # a sum hands its gradient to both terms
    vectors = given if cache.word_embeddings is None else heard.y(cache.word_embeddings)
    yield _site(words, vectors, dsum)
    yield _site(types, heard.y(cache.token_type_embeddings), dsum)
    yield _result(norm, cache.LayerNorm, heard)
    yield from _factor("embeddings", cache.dropout)
    yield _result(after, cache.dropout, heard)


def _layer(name: str, cache: LayerCache, heard: Heard) -> Iterator[Site]:
    yield from _attention(f"{name}.attention.", cache.attention, heard)
    if cache.crossattention is not None:
        yield from _attention(f"{name}.crossattention.", cache.crossattention, heard)
    dense, activated, projected, result = FEED_FORWARD
    steps = cache.feed_forward
    yield _result(dense, steps.intermediate, heard, f"{name}.")
    yield _result(activated, steps.activation, heard, f"{name}.")
    yield _result(projected, steps.dense, heard, f"{name}.")
    yield from _factor(f"{name}.output", cache.output.dropout)
    yield _result(result, cache.output.LayerNorm, heard, f"{name}.")


def _attention(prefix: str, cache: AttentionBlockCache, heard: Heard) -> Iterator[Site]:
    query, key, value, scores, probs, weights, context, dense, output = ATTENTION
    heads, inner = cache.self, cache.self.attention
    yield _result(query, heads.query, heard, prefix)
    if heads.key is not None:  # with an encoder's keys of an earlier call there are no new ones
        yield _result(key, heads.key, heard, prefix)
        yield _result(value, heads.value, heard, prefix)
    yield _site(scores, inner.scores, heard.dx(inner.softmax), prefix)
    yield _result(probs, inner.softmax, heard, prefix)
    yield from _factor(prefix.removesuffix("."), inner.dropout)
    yield _site(weights, inner.weights, None, prefix)
    merged = (None if a is None else merge_heads(a) for a in (heard.y(inner), heard.dy(inner)))
    yield _site(context, *merged, prefix)
    yield _result(dense, cache.dense, heard, prefix)
    yield from _factor(prefix + "output", cache.output.dropout)
    yield _result(output, cache.output.LayerNorm, heard, prefix)


def _predictions(table: dict[str, Entry], cache: MaskedWordsCache, heard: Heard) -> Iterator[Site]:
    """The values of all tokens; the gradients of those that are labelled, or have one from upstream."""
    _, everything = all_predictions(cache)
    for step, name in enumerate(("dense", "activation", "", "")):
        path = "cls.predictions" + (".transform" if step < 3 else "")
        entry = table[f"{path}.{name}".removesuffix(".")]
        gradient = heard.dy(everything[step])
        rows = None if cache.predictions is None else heard.dy(cache.predictions[step])
        if rows is not None:
            full = _in_their_places(rows, cache)
            gradient = full if gradient is None else gradient + full
        yield _site(entry, heard.y(everything[step]), gradient)


def _in_their_places(rows: Array, cache: MaskedWordsCache) -> Array:
    B, L, _ = cache.inputs[-1].shape
    full = namespace(rows).zeros((B * L, rows.shape[-1]), dtype=rows.dtype)
    full[cache.rows] = rows
    return full.reshape(B, L, -1)
