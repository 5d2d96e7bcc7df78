"""Mistakes in the backward function of one operation; the forward pass and the loss are right."""

import math

import numpy as np

from minizha.nezha import attention as blocks
from minizha.nezha import body, embeddings, encoder, feed_forward, heads, losses
from minizha.nezha.parameters import Tree
from minizha.ops import attention as ops
from minizha.ops.activation import ACTIVATIONS
from minizha.ops.gelu import GeluCache, gelu_new, gelu_new_backward
from minizha.ops.layer_norm import layer_norm_backward
from tests.support.patching import (
    changed_arguments,
    changed_gradient,
    changed_pair,
    remembering,
    replaced,
)
from tests.support.seeded.seeding import NORMS, Seed

EVERYWHERE = (embeddings, blocks, feed_forward, encoder, body, heads, losses)


def root(d):
    return math.sqrt(d.shape[-1])


# --- operations -----------------------------------------------------------------------------------


def softmax_backward_no_mean(monkeypatch):
    changed_gradient(monkeypatch, ops, "softmax_backward", lambda d, dy, cache: dy * cache.probs)


def mask_replaces_scores(monkeypatch):
    """As where(mask, scores, lowest number) does; every layer has the same mask."""
    memory = {}
    replaced(monkeypatch, blocks, "attention", remembering(memory, "mask", "mask"))
    changed_gradient(
        monkeypatch, ops, "softmax_backward", lambda d, *_: d * (memory["mask"] == 0.0)
    )


def another_norm(name, formula, modules=NORMS):
    """dx is ``formula(dn, n)`` divided by σ."""

    def make(monkeypatch):
        def norm_backward(d, dy, cache):
            n, dn = cache.normalised, dy * cache.weight
            return formula(dn, n) * cache.inverse_std, *d[1:]

        changed_gradient(monkeypatch, modules, "layer_norm_backward", norm_backward)

    make.__name__ = name
    return make


def weight_left_out(monkeypatch):
    changed_gradient(
        monkeypatch,
        blocks,
        "layer_norm_backward",
        lambda d, dy, c: (layer_norm_backward(dy / c.weight, c)[0], *d[1:]),
    )


def mean(x):
    return x.mean(axis=-1, keepdims=True)


def another_gelu_backward(monkeypatch, backward):
    """The backward function finds x in the cache."""
    right = ACTIVATIONS["gelu"]
    pair = changed_pair(
        right, forward=lambda x: (right.forward(x)[0], GeluCache(x, None)), backward=backward
    )
    monkeypatch.setitem(ACTIVATIONS, "gelu", pair)


def gelu_slope_tanh(monkeypatch):
    def backward(dy, cache):
        return gelu_new_backward(dy, gelu_new(cache.x)[1])

    another_gelu_backward(monkeypatch, backward)


def gelu_slope_without_density(monkeypatch):
    """dy · Φ(x), as if Φ were constant."""

    def backward(dy, cache):
        x = np.where(cache.x == 0.0, 1.0, cache.x)
        return dy * ACTIVATIONS["gelu"].forward(x)[0] / x

    another_gelu_backward(monkeypatch, backward)


def another_linear(name, change):
    """The gradients are ``change(dx, dweight, dbias, dy)``."""

    def make(monkeypatch):
        changed_gradient(
            monkeypatch, EVERYWHERE, "linear_backward", lambda d, dy, cache: change(*d, dy)
        )

    make.__name__ = name
    return make


def linear_backward_transposed(monkeypatch):
    def turned(d, dy, cache):
        square = cache.weight.shape[0] == cache.weight.shape[1]
        return dy @ cache.weight.T if square else d[0], *d[1:]

    changed_gradient(monkeypatch, blocks, "linear_backward", turned)


def tanh_gradient_lost(monkeypatch):
    changed_gradient(monkeypatch, heads, "tanh_backward", lambda d, dy, cache: dy)


def bias_mean(dx, dweight, dbias, dy):
    return dx, dweight, dbias / (dy.size // dy.shape[-1])


def square_weight_turned(dx, dweight, dbias, dy):
    square = dweight.shape[0] == dweight.shape[1]
    return dx, dweight.T if square else dweight, dbias


def bias_lost(dx, dweight, dbias, dy):
    return dx, dweight, 0.0 * dbias


# --- attention ------------------------------------------------------------------------------------


def no_relative_key_gradient(monkeypatch):
    changed_gradient(monkeypatch, ops, "relative_key_backward", lambda d, *_: 0.0 * d)


def no_relative_value_gradient(monkeypatch):
    changed_gradient(monkeypatch, ops, "relative_value_backward", lambda d, *_: 0.0 * d)


def no_scale_gradient(monkeypatch):
    changed_gradient(
        monkeypatch, blocks, "attention_backward", lambda d, *_: (d[0] * root(d[0]), *d[1:])
    )


def no_scale_key_gradient(monkeypatch):
    changed_gradient(
        monkeypatch, blocks, "attention_backward", lambda d, *_: (d[0], d[1] * root(d[1]), d[2])
    )


def key_value_gradients_swapped(monkeypatch):
    changed_gradient(monkeypatch, blocks, "attention_backward", lambda d, *_: (d[0], d[2], d[1]))


def query_key_gradients_swapped(monkeypatch):
    """Of the parameters; dx is right."""

    def exchanged(dy, cache, g, *rest):
        return dy, cache, Tree(g, query=g.key, key=g.query), *rest

    changed_arguments(monkeypatch, blocks, "multi_head_attention_backward", exchanged)


def head_mask_gradient_lost(monkeypatch):
    def wrong(right):
        def attention_backward(dcontext, cache, dweights=None):
            return right(dcontext, cache._replace(head_mask=None), dweights)

        return attention_backward

    replaced(monkeypatch, blocks, "attention_backward", wrong)


def dropout_lost(name, modules):
    def make(monkeypatch):
        changed_gradient(monkeypatch, modules, "dropout_backward", lambda d, dy, cache: dy)

    make.__name__ = name
    return make


LAYER = "encoder.layer.1."  # the first layer of the backward pass
OF_ATTENTION = LAYER + "attention."
QUERY, KEY = (f"{OF_ATTENTION}self.{name}" for name in ("query", "key"))
SEEDS = [
    Seed(mask_replaces_scores, OF_ATTENTION + "scores.grad", "mask_replaces_scores", "hidden row"),
    Seed(softmax_backward_no_mean, OF_ATTENTION + "scores.grad", "softmax_backward_no_mean"),
    Seed(
        another_norm("no_mean", lambda dn, n: dn - n * mean(dn * n), (blocks,)),
        LAYER + "output.dense.grad", "layer_norm_backward_no_mean", "next sentence",
    ),
    Seed(
        another_norm("no_variance", lambda dn, n: dn - mean(dn), (blocks,)),
        LAYER + "output.dense.grad", "layer_norm_backward_no_variance", "next sentence",
    ),
    Seed(
        another_norm("no_mean_terms", lambda dn, n: dn, (blocks,)),
        LAYER + "output.dense.grad", "layer_norm_backward_no_means", "bare",
    ),
    Seed(weight_left_out, LAYER + "output.dense.grad", "layer_norm_backward_no_weight", "bare"),
    Seed(gelu_slope_tanh, LAYER + "intermediate.dense.grad", "gelu_slope_tanh", "next sentence"),
    Seed(gelu_slope_tanh, "cls.predictions.transform.dense.grad", "gelu_slope_tanh"),
    Seed(
        gelu_slope_without_density, LAYER + "intermediate.dense.grad",
        "gelu_slope_cdf", "bare",
    ),
    Seed(
        another_linear("bias_gradient_mean", bias_mean), "cls.seq_relationship.bias.grad",
        "bias_gradient_mean", "next sentence",
    ),
    Seed(another_linear("bias_gradient_lost", bias_lost), "pooler.dense.bias.grad",
         "bias_gradient_lost", "bare"),
    Seed(
        another_linear("weight_gradient_transposed", square_weight_turned),
        "pooler.dense.weight.grad", "weight_gradient_transposed", "bare",
    ),
    Seed(linear_backward_transposed, OF_ATTENTION + "context.grad", "linear_backward_transposed",
         "bare"),
    Seed(tanh_gradient_lost, "pooler.dense.grad", "tanh_gradient_lost", "bare"),
    Seed(no_relative_key_gradient, QUERY + ".grad", "no_relative_key_gradient"),
    Seed(no_relative_value_gradient, OF_ATTENTION + "probs.grad", "no_relative_value_gradient"),
    Seed(no_scale_gradient, QUERY + ".grad", "no_scale_gradient"),
    Seed(no_scale_key_gradient, KEY + ".grad", "no_scale_key_gradient"),
    Seed(key_value_gradients_swapped, OF_ATTENTION + "self.value.grad",
         "key_value_gradients_swapped"),
    Seed(query_key_gradients_swapped, KEY + ".weight.grad", "query_key_gradients_swapped"),
    Seed(head_mask_gradient_lost, OF_ATTENTION + "probs.grad", "head_mask_gradient_lost",
         "head mask"),
    Seed(dropout_lost("of_the_probs", ops), OF_ATTENTION + "probs.grad", "dropout_gradient_lost",
         "bare, dropout"),
    Seed(dropout_lost("of_the_blocks", blocks), LAYER + "output.dense.grad",
         "dropout_gradient_lost", "bare, dropout"),
    Seed(dropout_lost("of_the_embeddings", embeddings), "embeddings.LayerNorm.grad",
         "dropout_gradient_lost", "bare, dropout"),
]  # fmt: skip
