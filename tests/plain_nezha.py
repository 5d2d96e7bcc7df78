"""NEZHA a second time, as slowly as the formulas read: R is an array (L, L, d), every sum an einsum.

An independent reference for the properties: it shares no code with the package, knows no blocks
and no shifts, and takes its parameters by their checkpoint names.
"""

import math

import numpy as np

_ERF = np.vectorize(math.erf, otypes=[float])
ACTIVATIONS = {
    "gelu": lambda x: 0.5 * x * (1.0 + _ERF(x / math.sqrt(2.0))),
    "gelu_new": lambda x: (
        0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "relu": lambda x: np.maximum(x, 0.0),
    "silu": lambda x: x / (1.0 + np.exp(-x)),
    "swish": lambda x: x / (1.0 + np.exp(-x)),
    "tanh": np.tanh,
}


def sinusoid(position, d):
    """``[sin(p ω_0), cos(p ω_0), sin(p ω_1), …]`` of one position, inside a table or not."""
    values = []
    for m in range(d // 2):
        angle = position / 10000.0 ** (2 * m / d)
        values += [math.sin(angle), math.cos(angle)]
    return values


def relations(L, K, d, clip=True):
    """R (L, L, d): the sinusoid of the distance, clipped to ±K or not, and shifted by K."""

    def distance(i, j):
        return max(-K, min(K, j - i)) if clip else j - i

    return np.array([[sinusoid(distance(i, j) + K, d) for j in range(L)] for i in range(L)])


def hidden_states(p, config, inputs, clip=True):
    """The embeddings and the output of each layer; ``p`` maps names to arrays, as in NezhaModel."""
    ids, N = inputs["input_ids"], config.num_attention_heads
    B, L = ids.shape
    R = relations(L, config.max_relative_position, config.hidden_size // N, clip)
    mask = inputs.get("attention_mask", np.ones((B, L)))
    mask = (mask if mask.ndim == 3 else np.repeat(mask[:, None], L, axis=1)).astype(bool)
    heads = np.broadcast_to(inputs.get("head_mask", 1.0), (config.num_hidden_layers, N))
    x = p["embeddings.word_embeddings.weight"][ids]
    x = x + p["embeddings.token_type_embeddings.weight"][inputs["token_type_ids"]]
    x = _norm(p, "embeddings.", config, x)
    states = [x]
    for i in range(config.num_hidden_layers):
        name = f"encoder.layer.{i}."
        context = _attention(p, name + "attention.self.", x, R, mask, heads[i])
        h = _dense(p, name + "attention.output.dense", context) + x
        h = _norm(p, name + "attention.output.", config, h)
        inner = ACTIVATIONS[config.hidden_act](_dense(p, name + "intermediate.dense", h))
        x = _norm(p, name + "output.", config, _dense(p, name + "output.dense", inner) + h)
        states.append(x)
    return states


def _attention(p, name, x, R, mask, head_mask):
    N = len(head_mask)
    B, L, D = x.shape
    q, k, v = (
        _dense(p, name + projection, x).reshape(B, L, N, D // N)
        for projection in ("query", "key", "value")
    )
    scores = np.einsum("bind,bjnd->bnij", q, k) + np.einsum("bind,ijd->bnij", q, R)
    scores = scores / math.sqrt(D // N)
    probs = np.exp(scores - scores.max(axis=-1, keepdims=True)) * mask[:, None]
    seen = probs.sum(axis=-1, keepdims=True)
    probs = np.where(seen > 0, probs / np.where(seen > 0, seen, 1.0), 1.0 / L)
    probs = probs * head_mask[:, None, None]
    context = np.einsum("bnij,bjnd->bind", probs, v) + np.einsum("bnij,ijd->bind", probs, R)
    return context.reshape(B, L, D)


def _dense(p, name, x):
    return np.einsum("oi,bli->blo", p[name + ".weight"], x) + p[name + ".bias"]


def _norm(p, name, config, x):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    normal = (x - mean) / np.sqrt(variance + config.layer_norm_eps)
    return normal * p[name + "LayerNorm.weight"] + p[name + "LayerNorm.bias"]
