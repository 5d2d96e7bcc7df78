"""Mistakes around attention: activations, LayerNorm, residuals, dropout."""

import numpy as np

from minizha.nezha import attention as blocks
from minizha.nezha import body, embeddings, encoder
from minizha.nezha.attention import AddAndNormCache, AttentionBlockCache
from minizha.ops import attention as ops
from minizha.ops.activation import (
    ACTIVATIONS,
    ReluCache,
    gelu_new,
    gelu_new_backward,
    relu,
    relu_backward,
    silu,
    silu_backward,
)
from minizha.ops.dropout import DropoutCache, dropout
from minizha.ops.layer_norm import LayerNormCache, layer_norm
from minizha.ops.linear import linear
from tests.support.patching import (
    changed_arguments,
    changed_pair,
    changed_y,
    remembering,
    replaced,
)
from tests.support.seeded.seeding import ATTENTION, NORMS, QUERY, Seed

# --- activations ----------------------------------------------------------------------------------


def another_activation(name, forward, backward, act="gelu"):
    def make(monkeypatch):
        pair = changed_pair(ACTIVATIONS[act], forward=forward, backward=backward)
        monkeypatch.setitem(ACTIVATIONS, act, pair)

    make.__name__ = name
    return make


def quick(slope):
    def forward(x):
        y, cache = silu(slope * x)
        return y / slope, cache

    return forward


def identity(x):
    return x, ReluCache(np.ones_like(x))


# --- LayerNorm ------------------------------------------------------------------------------------


def another_norm(name, formula, modules=NORMS):
    """``formula(c, v, x, eps)`` gives the normalised x; c is x − μ, and v the variance."""

    def make(monkeypatch):
        def norm(x, weight, bias, eps):
            c = x - x.mean(axis=-1, keepdims=True)
            v = (c * c).mean(axis=-1, keepdims=True)
            n = formula(c, v, x, eps)
            _, cache = layer_norm(x, weight, bias, eps)
            return n * weight + bias, LayerNormCache(n, cache.inverse_std, weight)

        replaced(monkeypatch, modules, "layer_norm", lambda right: norm)

    make.__name__ = name
    return make


def _unbiased(v, x):
    return v * x.shape[-1] / (x.shape[-1] - 1)


FORMULAS = {
    "layer_norm_eps_1e_3": lambda c, v, x, eps: c / np.sqrt(v + 1e-3),
    "layer_norm_eps_1e_5": lambda c, v, x, eps: c / np.sqrt(v + 1e-5),
    "layer_norm_eps_1e_6": lambda c, v, x, eps: c / np.sqrt(v + 1e-6),
    "layer_norm_eps_1e_7": lambda c, v, x, eps: c / np.sqrt(v + 1e-7),
    "layer_norm_unbiased": lambda c, v, x, eps: c / np.sqrt(_unbiased(v, x) + eps),
    "layer_norm_no_mean": lambda c, v, x, eps: (
        x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    ),
    "layer_norm_over_tokens": lambda c, v, x, eps: (
        (x - x.mean((-2, -1), keepdims=True)) / np.sqrt(x.var((-2, -1), keepdims=True) + eps)
    ),
}
OF_LARGE_EPS = {
    "layer_norm_eps_1e_12": lambda c, v, x, eps: c / np.sqrt(v + 1e-12),
    "layer_norm_eps_outside": lambda c, v, x, eps: c / (np.sqrt(v) + eps),
    "layer_norm_unbiased_eps_outside": lambda c, v, x, eps: c / (np.sqrt(_unbiased(v, x)) + eps),
}


def layer_norm_no_weight(monkeypatch):
    changed_arguments(
        monkeypatch, NORMS, "layer_norm", lambda x, w, b, eps: (x, 0.0 * w + 1.0, b, eps)
    )


def layer_norm_no_bias(monkeypatch):
    changed_arguments(monkeypatch, NORMS, "layer_norm", lambda x, w, b, eps: (x, w, 0.0 * b, eps))


# --- residuals ------------------------------------------------------------------------------------


def no_residual(monkeypatch):
    changed_arguments(
        monkeypatch,
        (blocks, encoder),
        "add_and_norm",
        lambda p, config, y, residual, rng: (p, config, y, 0.0 * residual, rng),
    )


def residual_of_input(monkeypatch):
    """The residual of the feed-forward network is the layer's input, not attention's output."""
    read = {}
    replaced(monkeypatch, encoder, "layer", remembering(read, "x", 2))
    changed_arguments(
        monkeypatch, encoder, "add_and_norm", lambda p, c, y, h, rng: (p, c, y, read["x"], rng)
    )


def no_output_norm(monkeypatch):
    changed_y(monkeypatch, blocks, "layer_norm", lambda y, x, *_: x)


def pre_norm(monkeypatch):
    def attention_block(p, config, x, source, *rest):
        norm = p.output.LayerNorm
        n, norm_cache = layer_norm(x, norm.weight, norm.bias, config.layer_norm_eps)
        context, self_cache = blocks.multi_head_attention(p.self, config, n, n, *rest)
        y, dense_cache = linear(context, p.output.dense.weight, p.output.dense.bias)
        output_cache = AddAndNormCache(DropoutCache(None), norm_cache)
        return x + y, AttentionBlockCache(self_cache, dense_cache, output_cache)

    monkeypatch.setattr(encoder, "attention_block", attention_block)


# --- dropout --------------------------------------------------------------------------------------


def dropout_after_residual(monkeypatch):
    def add_and_norm(p, config, y, residual, rng):
        dropped, dropout_cache = dropout(y + residual, config.hidden_dropout_prob, rng)
        norm = p.LayerNorm
        z, norm_cache = layer_norm(dropped, norm.weight, norm.bias, config.layer_norm_eps)
        return z, AddAndNormCache(dropout_cache, norm_cache)

    for module in (blocks, encoder):
        monkeypatch.setattr(module, "add_and_norm", add_and_norm)


def dropout_before_norm(monkeypatch):
    drawn = {}

    def wrong(right):
        def embed(p, config, ids, embeds, types, rng):
            drawn.update(rate=config.hidden_dropout_prob, rng=rng)
            return right(p, config, ids, embeds, types, rng)

        return embed

    def dropped(x, *rest):
        x, drawn["cache"] = dropout(x, drawn["rate"], drawn["rng"])
        return (x, *rest)

    replaced(monkeypatch, body, "embeddings", wrong)
    changed_arguments(monkeypatch, embeddings, "layer_norm", dropped)
    replaced(monkeypatch, embeddings, "dropout", lambda right: lambda x, *_: (x, drawn["cache"]))


def dropout_unscaled(monkeypatch):
    def wrong(right):
        def forward(x, rate, rng):
            _, cache = right(x, rate, rng)
            factor = (cache.factor > 0).astype(x.dtype)
            return x * factor, DropoutCache(factor)

        return forward

    replaced(monkeypatch, (*NORMS, ops), "dropout", wrong)


def dropout_unscaled_with_right_factors(monkeypatch):
    """The factors in the trace are right, but x was multiplied with others."""
    changed_y(
        monkeypatch,
        (*NORMS, ops),
        "dropout",
        lambda y, x, rate, rng: y * (1.0 - rate),
    )


def dropout_ignored(monkeypatch):
    replaced(
        monkeypatch, (*NORMS, ops), "dropout", lambda right: lambda x, *_: (x, DropoutCache(None))
    )


NORM, INNER = "embeddings.LayerNorm", "encoder.layer.0.intermediate"
OUTPUT = ATTENTION + "output"
SEEDS = [
    Seed(another_activation("gelu_tanh", gelu_new, gelu_new_backward), INNER, "gelu_tanh"),
    Seed(another_activation("gelu_erf", *ACTIVATIONS["gelu"], "gelu_new"), INNER, "gelu_erf",
         "gelu_new"),
    Seed(another_activation("gelu_quick", quick(1.702), silu_backward), INNER, "gelu_quick"),
    Seed(another_activation("gelu_quick_1_7", quick(1.7), silu_backward), INNER, "gelu_quick_1_7"),
    Seed(another_activation("gelu_relu", relu, relu_backward), INNER, "gelu_relu"),
    Seed(another_activation("gelu_silu", silu, silu_backward), INNER, "gelu_silu"),
    Seed(another_activation("no_activation", identity, relu_backward), INNER, "no_activation"),
    *(Seed(another_norm(key, formula), NORM, key) for key, formula in FORMULAS.items()),
    *(Seed(another_norm(key, f), NORM, key, "large eps") for key, f in OF_LARGE_EPS.items()),
    Seed(
        another_norm("unbiased_in_the_layers", FORMULAS["layer_norm_unbiased"], (blocks,)),
        OUTPUT, "layer_norm_unbiased",
    ),
    Seed(layer_norm_no_weight, NORM, "layer_norm_no_weight"),
    Seed(layer_norm_no_bias, NORM, "layer_norm_no_bias"),
    Seed(no_residual, OUTPUT, "no_residual"),
    Seed(residual_of_input, "encoder.layer.0", "residual_of_input"),
    Seed(no_output_norm, OUTPUT, "no_output_norm"),
    Seed(pre_norm, QUERY, "pre_norm"),
    Seed(dropout_after_residual, OUTPUT, "dropout_after_residual", "dropout"),
    Seed(dropout_before_norm, NORM, "dropout_before_norm", "dropout"),
    Seed(dropout_unscaled, "embeddings.dropout", "dropout_factor_unscaled", "dropout"),
    Seed(dropout_unscaled_with_right_factors, "embeddings", "dropout_unscaled", "dropout"),
    Seed(dropout_ignored, "embeddings", "dropout_ignored", "dropout"),
]  # fmt: skip
