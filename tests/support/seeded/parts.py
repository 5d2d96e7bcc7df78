"""Mistakes in the embeddings, in the parameters of the layers, and in the pooler."""

import math

import numpy as np

from minizha.model import inputs
from minizha.nezha import body, embeddings, encoder, heads
from minizha.nezha.parameters import Tree
from tests.support.patching import changed_arguments, changed_y, remembering, replaced
from tests.support.seeded.scores import sinusoid
from tests.support.seeded.seeding import ATTENTION, KEY, QUERY, VALUE, Seed, at, grafted

# --- embeddings -----------------------------------------------------------------------------------


def token_types_zero(monkeypatch):
    changed_arguments(
        monkeypatch, embeddings, "embedding", lambda ids, *r: (ids if r[1:] else 0 * ids, *r)
    )


def token_types_default_one(monkeypatch):
    changed_arguments(
        monkeypatch, embeddings, "embedding", lambda ids, *r: (ids if r[1:] else 0 * ids + 1, *r)
    )


def no_token_types(monkeypatch):
    vectors = {}

    def wrong(right):
        def embedding(ids, weight, *padding):
            y, cache = right(ids, weight, *padding)
            vectors["types"] = y
            return y, cache

        return embedding

    replaced(monkeypatch, embeddings, "embedding", wrong)
    changed_arguments(
        monkeypatch, embeddings, "layer_norm", lambda x, *rest: (x - vectors["types"], *rest)
    )


def embeddings_scaled(monkeypatch):
    changed_y(
        monkeypatch,
        embeddings,
        "embedding",
        lambda y, *a: y * math.sqrt(y.shape[-1]) if a[2:] else y,
    )


def pad_row_zero(monkeypatch):
    changed_y(
        monkeypatch,
        embeddings,
        "embedding",
        lambda y, ids, *rest: y * (ids != 0)[..., None] if rest[1:] else y,
    )


def absolute_positions(monkeypatch):
    def added(x, *rest):
        table = [sinusoid(p, x.shape[-1]) for p in range(x.shape[1])]
        return (x + np.array(table, dtype=x.dtype), *rest)

    changed_arguments(monkeypatch, embeddings, "layer_norm", added)


def no_embedding_norm(monkeypatch):
    changed_y(monkeypatch, embeddings, "layer_norm", lambda y, x, *_: x)


# --- projections ----------------------------------------------------------------------------------


def in_layers(name, change):
    """Each layer gets the parameters ``change(p)``."""

    def make(monkeypatch):
        changed_arguments(monkeypatch, encoder, "layer", lambda p, *rest: (change(p), *rest))

    make.__name__ = name
    return make


def exchanged(one, other):
    def change(p):
        inner = p.attention.self
        p = grafted(p, f"attention.self.{one}", inner[other])
        return grafted(p, f"attention.self.{other}", inner[one])

    return in_layers(f"{one}_{other}_exchanged", change)


def transposed(name):
    weight = name + ".weight"
    return in_layers(f"{name}_transposed", lambda p: grafted(p, weight, at(p, weight).T))


def layers_in_reverse(monkeypatch):
    def reversed_(p, *rest):
        names = list(p.layer)
        layers = Tree(zip(names, [p.layer[n] for n in reversed(names)], strict=True))
        return (Tree(p, layer=layers), *rest)

    changed_arguments(monkeypatch, body, "encoder", reversed_)


def one_layer_for_all(monkeypatch):
    """As in ALBERT."""

    def shared(p, *rest):
        return (Tree(p, layer=Tree(dict.fromkeys(p.layer, p.layer["0"]))), *rest)

    changed_arguments(monkeypatch, body, "encoder", shared)


def without_bias(name):
    bias = name + ".bias"
    return in_layers(f"{name}_without_bias", lambda p: grafted(p, bias, 0.0 * at(p, bias)))


def without_feed_forward_biases(p):
    for bias in ("intermediate.dense.bias", "output.dense.bias"):
        p = grafted(p, bias, 0.0 * at(p, bias))
    return p


# --- pooler ---------------------------------------------------------------------------------------


def pooler_no_tanh(monkeypatch):
    changed_y(monkeypatch, heads, "tanh", lambda y, x: x)


def pooler_last_token(monkeypatch):
    changed_arguments(monkeypatch, body, "pooler", lambda p, hidden: (p, hidden[:, ::-1]))


def pooler_second_token(monkeypatch):
    changed_arguments(monkeypatch, body, "pooler", lambda p, hidden: (p, np.roll(hidden, -1, 1)))


def pooler_masked_mean(monkeypatch):
    memory = {}

    def mean(p, hidden):
        visible = memory["visible"].reshape(*hidden.shape[:2], 1)
        total = (hidden * visible).sum(axis=1, keepdims=True)
        return p, np.broadcast_to(total / visible.sum(axis=1, keepdims=True), hidden.shape)

    replaced(
        monkeypatch, inputs.ArgumentChecker, "additive_mask", remembering(memory, "visible", 1)
    )
    changed_arguments(monkeypatch, body, "pooler", mean)


def pooler_mean(monkeypatch):
    def mean(p, hidden):
        return p, np.broadcast_to(hidden.mean(axis=1, keepdims=True), hidden.shape)

    changed_arguments(monkeypatch, body, "pooler", mean)


NORM, INNER = "embeddings.LayerNorm", "encoder.layer.0.intermediate"
OUTPUT = ATTENTION + "output"
SEEDS = [
    Seed(token_types_zero, "embeddings.token_type_embeddings", "token_types_zero"),
    Seed(token_types_default_one, "embeddings.token_type_embeddings", "token_types_default_one",
         "many words"),
    Seed(no_token_types, NORM, "no_token_types"),
    Seed(embeddings_scaled, "embeddings.word_embeddings", "embeddings_scaled"),
    Seed(pad_row_zero, "embeddings.word_embeddings", "pad_row_zero", "masked"),
    Seed(absolute_positions, NORM, "absolute_positions"),
    Seed(no_embedding_norm, NORM, "no_embedding_norm"),
    Seed(exchanged("query", "key"), QUERY, "query_key_swapped"),
    Seed(exchanged("key", "value"), KEY, "key_value_swapped"),
    Seed(exchanged("query", "value"), QUERY, "query_value_swapped"),
    Seed(transposed("attention.self.query"), QUERY, "weight_transposed"),
    Seed(transposed("attention.self.value"), VALUE, "weight_transposed"),
    Seed(transposed("attention.output.dense"), OUTPUT + ".dense", "weight_transposed"),
    Seed(layers_in_reverse, QUERY, "layers_reversed"),
    Seed(one_layer_for_all, QUERY.replace("layer.0", "layer.1"), "layer_0_for_all"),
    Seed(without_bias("attention.self.key"), KEY, "bias_missing"),
    Seed(without_bias("attention.output.dense"), OUTPUT + ".dense", "bias_missing"),
    Seed(without_bias("intermediate.dense"), INNER + ".dense", "intermediate_no_bias"),
    Seed(without_bias("output.dense"), "encoder.layer.0.output.dense", "output_no_bias"),
    Seed(in_layers("feed_forward_no_bias", without_feed_forward_biases), INNER + ".dense",
         "feed_forward_no_bias"),
    Seed(pooler_no_tanh, "pooler", "pooler_no_tanh"),
    Seed(pooler_last_token, "pooler.dense", "pooler_last_token"),
    Seed(pooler_second_token, "pooler.dense", "pooler_second_token"),
    Seed(pooler_masked_mean, "pooler.dense", "pooler_masked_mean", "masked"),
    Seed(pooler_mean, "pooler.dense", "pooler_mean"),
]  # fmt: skip
