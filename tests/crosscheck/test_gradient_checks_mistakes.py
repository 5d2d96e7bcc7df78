"""Negative controls of gradcheck: one wrong backward function of the model at a time."""

import importlib
import math
import re
from dataclasses import replace
from typing import NamedTuple

import pytest

from minizha import crosscheck
from minizha.backend import namespace
from minizha.nezha.parameters import Tree
from minizha.ops.activation import ACTIVATIONS, Activation
from minizha.ops.gelu import gelu
from tests.support.tiny_models import TWO_LAYERS, Tiny
from tests.support.wrong_backwards import WRONG

# uses every feature, so that it runs every function below
EVERYTHING = Tiny(train=True, head_mask="layers", types=True, ignoring=True)


class Mistake(NamedTuple):
    """``wrong(right)`` replaces ``right``, the function named ``target``; ``blames`` is a pattern of the
    parameters that the report may name: that of the mistake, and those below it."""

    target: str
    wrong: object
    blames: str = ".*"
    tiny: Tiny = EVERYTHING


def result(change):
    """The right function, its results changed."""
    return lambda right: lambda *arguments: change(*right(*arguments))


def of_op(op, mistake):
    """A wrong backward function of the table WRONG."""
    return lambda right: WRONG[op][mistake]


def of_lookup(mistake):
    """A wrong backward function of embedding, which adds to the gradient of the tied decoder."""

    def embedding_backward(dy, cache, dweight=None):
        d = WRONG["embedding"][mistake](dy, cache)
        return d if dweight is None else dweight + d

    return lambda right: embedding_backward


def of_classes(mistake):
    """The table of losses with a wrong cross-entropy."""
    wrong = WRONG["cross_entropy"][mistake]
    single = "single_label_classification"
    return lambda table: table | {single: table[single]._replace(backward=wrong)}


def layer_without_its_residual(right):
    def add_and_norm_backward(dy, cache, g):
        dx, dresidual = right(dy, cache, g)
        return dx, 0.0 * dresidual

    return add_and_norm_backward


def tied_decoder_dropped(right):
    def vocabulary_matrix(tree):
        found = right(tree)  # None in a tree of gradients
        return Tree(weight=None) if found.weight is None else found

    return vocabulary_matrix


def overwriting(right):
    return lambda dy, cache, dweight=None: right(dy, cache)


def pooler_of_the_last_token(right):
    def pooler_backward(dy, cache, g):
        return right(dy, cache, g)[:, ::-1]

    return pooler_backward


def labelled_rows_one_off(right):
    def masked_words_backward(d, cache, g):
        B, L, _ = cache.inputs[-1].shape
        return right(d, cache._replace(rows=(cache.rows + 1) % (B * L)), g)

    return masked_words_backward


def layers_from_the_bottom(right):
    def encoder_backward(d, caches, g):
        swapped = Tree(layer=Tree({"0": g.layer["1"], "1": g.layer["0"]}))
        return right(d, caches, swapped)

    return encoder_backward


def heads_in_another_order(right):
    def attention_backward(dcontext, cache, dweights=None):
        return tuple(d[:, ::-1] for d in right(dcontext, cache, dweights))

    return attention_backward


def query_scaled_twice(right):
    def attention_backward(dcontext, cache, dweights=None):
        dquery, dkey, dvalue = right(dcontext, cache, dweights)
        return dquery / math.sqrt(dquery.shape[-1]), dkey, dvalue

    return attention_backward


def constant_added_to_dkey(right):
    def attention_backward(dcontext, cache, dweights=None):
        dquery, dkey, dvalue = right(dcontext, cache, dweights)
        return dquery, dkey + 0.01 * namespace(dkey).ones_like(dkey), dvalue

    return attention_backward


def zero_gradient(right):
    return lambda dy, cache: 0.0 * right(dy, cache)


TWO = replace(EVERYTHING, config=TWO_LAYERS)
BELOW = r"embeddings|layer\.\d"
MISTAKES = {
    "residual dropped": Mistake(
        "nezha.encoder.add_and_norm_backward", layer_without_its_residual, BELOW
    ),
    "layer normalised without the mean": Mistake(
        "nezha.attention.layer_norm_backward", of_op("layer_norm", "mean not subtracted"), BELOW
    ),
    "unbiased variance in the embeddings": Mistake(
        "nezha.embeddings.layer_norm_backward",
        of_op("layer_norm", "unbiased variance"),
        "embeddings",
    ),
    "repeated words lost": Mistake(
        "nezha.embeddings.embedding_backward",
        of_lookup("repeated ids lost"),
        r"(word|token_type)_embeddings\.weight",
    ),
    "dropout forgotten": Mistake(
        "nezha.attention.dropout_backward", of_op("dropout", "not applied"), BELOW
    ),
    "dropout of the probabilities not scaled": Mistake(
        "ops.attention.dropout_backward", of_op("dropout", "not scaled"), BELOW
    ),
    "softmax without the mean": Mistake(
        "ops.attention.softmax_backward", of_op("softmax", "without the mean"), BELOW
    ),
    "relative key term dropped": Mistake(
        "ops.attention.relative_key_backward", zero_gradient, BELOW
    ),
    "relative value term dropped": Mistake(
        "ops.attention.relative_value_backward", zero_gradient, BELOW
    ),
    "distance i − j": Mistake(
        "ops.attention.relative_key_backward", of_op("relative_key", "distance i − j"), BELOW
    ),
    "heads exchanged": Mistake("nezha.attention.attention_backward", heads_in_another_order, BELOW),
    "query scaled twice": Mistake("nezha.attention.attention_backward", query_scaled_twice, BELOW),
    "key bias learns": Mistake("nezha.attention.attention_backward", constant_added_to_dkey, BELOW),
    "layers exchanged": Mistake("nezha.body.encoder_backward", layers_from_the_bottom, BELOW, TWO),
    "tied decoder dropped": Mistake(
        "nezha.heads.vocabulary_matrix", tied_decoder_dropped, r"word_embeddings\.weight$"
    ),
    "gradients overwritten": Mistake(
        "nezha.embeddings.embedding_backward", overwriting, r"word_embeddings\.weight$"
    ),
    "pooler reads the last token": Mistake(
        "nezha.body.pooler_backward", pooler_of_the_last_token, BELOW
    ),
    "bias averaged in the heads": Mistake(
        "nezha.heads.linear_backward",
        of_op("linear", "bias averaged over the rows"),
        r"(pooler\.dense|predictions(\.transform\.dense)?)\.bias$",
    ),
    "labelled rows one off": Mistake(
        "model.pretraining.masked_words_backward", labelled_rows_one_off, BELOW
    ),
    "labels summed, not averaged": Mistake(
        "nezha.losses.cross_entropy_backward", of_op("cross_entropy", "summed")
    ),
    "mean over all rows": Mistake("nezha.losses.LOSSES", of_classes("mean over all rows")),
    "rows of the next sentence's weight exchanged": Mistake(
        "nezha.losses.linear_backward",
        result(lambda dx, dweight, dbias: (dx, dweight[::-1], dbias)),
        r"^cls\.seq_relationship\.weight$",
    ),
}


def run(backend, tiny=EVERYTHING):
    return crosscheck.gradcheck(tiny.model(backend), tiny.inputs(), entries=4)


@pytest.mark.parametrize("tiny", [EVERYTHING, TWO])
def test_without_a_mistake_the_check_passes(tiny, backend):
    report = run(backend, tiny)
    assert report.ok, report


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_found_and_named(name, backend, monkeypatch):
    mistake = MISTAKES[name]
    module, _, function = f"minizha.{mistake.target}".rpartition(".")
    module = importlib.import_module(module)
    monkeypatch.setattr(module, function, mistake.wrong(getattr(module, function)))
    report = run(backend, mistake.tiny)
    assert not report.ok
    assert report.error > 1e-6, "only by a hair"
    assert re.search(mistake.blames, report.name), report
    assert report.name in str(report)


def test_the_slope_of_the_other_gelu_is_found(backend, monkeypatch):
    """The smallest mistake: 1e-3 of one slope. With weights of std 0.02 it would not be visible."""
    # the wrong backward function reads the plain cache
    wrong = Activation(gelu.plain, WRONG["gelu"]["slope of the tanh form"])
    monkeypatch.setitem(ACTIVATIONS, "gelu", wrong)
    report = run(backend)
    assert not report.ok
    assert report.error > 1e-6
