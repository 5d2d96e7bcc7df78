"""The formulas of NEZHA, written down directly: R is an array (L, L, d), every sum an einsum.

An independent reference for the properties. It shares no code with the package, and takes its
parameters by their checkpoint names.
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


def relations(L, K, d, clip=True, S=None, P=0):
    """R (L, S, d): the sinusoid of the distance from query i, at position P + i, to key j, clipped to
    ±K or not, and shifted by K. S is P + L where it is None."""
    S = P + L if S is None else S

    def distance(i, j):
        return max(-K, min(K, j - (P + i))) if clip else j - (P + i)

    return np.array([[sinusoid(distance(i, j) + K, d) for j in range(S)] for i in range(L)])


def hidden_states(p, config, inputs, clip=True):
    """The embeddings and the output of each layer; ``p`` maps names to arrays, as in NezhaModel."""
    return continued(p, config, inputs, clip=clip)[0]


def continued(p, config, inputs, past=None, clip=True):
    """The same of tokens that follow ``past``, and the past for the next call: for each layer the
    keys and values of all tokens so far, a list with one array (B, L, N, d) for each call."""
    x = inputs.get("inputs_embeds")
    x = p["embeddings.word_embeddings.weight"][inputs["input_ids"]] if x is None else x
    x = x + p["embeddings.token_type_embeddings.weight"][inputs["token_type_ids"]]
    x = _norm(p, "embeddings.", config, x)
    B, L, _ = x.shape
    N, layers = config.num_attention_heads, config.num_hidden_layers
    past = [([], [])] * layers if past is None else past
    P = sum(keys.shape[1] for keys in past[0][0])
    K, d = config.max_relative_position, config.hidden_size // N
    mask = _mask(config, inputs.get("attention_mask"), B, P, L)
    heads = np.broadcast_to(inputs.get("head_mask", 1.0), (layers, N))
    source = inputs.get("encoder_hidden_states")
    states, read = [x], []
    for i in range(layers):
        name, pruned = f"encoder.layer.{i}.", config.pruned_heads.get(i, [])
        own = name + "attention.self."
        keys = [*past[i][0], _heads(p, own + "key", x, d)]
        values = [*past[i][1], _heads(p, own + "value", x, d)]
        read.append((keys, values))
        context = _attention(
            _heads(p, own + "query", x, d),
            np.concatenate(keys, 1),
            np.concatenate(values, 1),
            relations(L, K, d, clip, P=P),
            mask,
            np.delete(heads[i], pruned),
        )
        h = _norm(
            p,
            name + "attention.output.",
            config,
            _dense(p, name + "attention.output.dense", context) + x,
        )
        if source is not None:
            own, S = name + "crossattention.self.", source.shape[1]
            seen = inputs.get("encoder_attention_mask", np.ones((B, S)))
            context = _attention(
                _heads(p, own + "query", h, d),
                _heads(p, own + "key", source, d),
                _heads(p, own + "value", source, d),
                relations(L, K, d, clip, S, P),
                np.broadcast_to(seen if seen.ndim == 3 else seen[:, None], (B, L, S)),
                heads[i],
            )
            h = _norm(
                p,
                name + "crossattention.output.",
                config,
                _dense(p, name + "crossattention.output.dense", context) + h,
            )
        inner = ACTIVATIONS[config.hidden_act](_dense(p, name + "intermediate.dense", h))
        x = _norm(p, name + "output.", config, _dense(p, name + "output.dense", inner) + h)
        states.append(x)
    return states, read


def _mask(config, mask, B, P, L):
    """The mask (B, L, P + L); in a decoder, a flat mask hides what comes after each query too."""
    if mask is not None and mask.ndim == 3:
        return mask
    seen = np.ones((B, L, P + L)) if mask is None else np.repeat(mask[:, None], L, axis=1)
    if config.is_decoder:
        for i in range(L):
            seen[:, i, P + i + 1 :] = 0
    return seen


def _heads(p, name, x, d):
    y = _dense(p, name, x)
    return y.reshape(*y.shape[:2], -1, d)


def _attention(q, k, v, R, mask, head_mask):
    B, L, N, d = q.shape
    scores = np.einsum("bind,bjnd->bnij", q, k) + np.einsum("bind,ijd->bnij", q, R)
    scores = scores / math.sqrt(d)
    probs = np.exp(scores - scores.max(axis=-1, keepdims=True)) * mask.astype(bool)[:, None]
    seen = probs.sum(axis=-1, keepdims=True)
    probs = np.where(seen > 0, probs / np.where(seen > 0, seen, 1.0), 1.0 / k.shape[1])
    probs = probs * head_mask[:, None, None]
    context = np.einsum("bnij,bjnd->bind", probs, v) + np.einsum("bnij,ijd->bind", probs, R)
    return context.reshape(B, L, N * d)


def _dense(p, name, x):
    return np.einsum("oi,bli->blo", p[name + ".weight"], x) + p[name + ".bias"]


def _norm(p, name, config, x):
    mean = x.mean(axis=-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)
    normal = (x - mean) / np.sqrt(variance + config.layer_norm_eps)
    return normal * p[name + "LayerNorm.weight"] + p[name + "LayerNorm.bias"]
