"""The backward pass as steps: each gradient of a trace from those before it and from activations.

The gradient of an array that is used several times is the sum over all its uses.
"""

from __future__ import annotations

import numpy as np

from minizha.crosscheck.diagnosis.backward_heads import heads_backward
from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.backward_sums import Sums, through_linear, through_norm
from minizha.crosscheck.diagnosis.facts import AttentionFacts, Facts
from minizha.crosscheck.diagnosis.forward import Step, Steps
from minizha.crosscheck.diagnosis.rules import Array
from minizha.crosscheck.names import WORDS


def backward_steps(f: Facts, r: Rules) -> Steps:
    """The steps of the backward pass, in execution order."""
    steps, sums = {}, Sums()
    layers = f.config.num_hidden_layers
    last = f"encoder.layer.{layers - 1}" if layers else "embeddings"
    sums.add_upstream(last, f.upstream("last_hidden_state"))
    for i in range(layers + 1):
        name = f"encoder.layer.{i - 1}" if i else "embeddings"
        sums.add_upstream(name, f.upstream(f"hidden_states.{i}"))
    heads_backward(f, r, steps, sums, last)
    for i in reversed(range(layers)):
        below = f"encoder.layer.{i - 1}" if i else "embeddings"
        if sums.add_step(steps, f"encoder.layer.{i}"):
            _layer(f, r, steps, sums, i, below)
    if sums.add_step(steps, "embeddings"):
        _embeddings(f, r, steps)
    sums.add_step(steps, "encoder_hidden_states")
    return steps


def _layer(f: Facts, r: Rules, steps: Steps, sums: Sums, i: int, x: str) -> None:
    name = f"encoder.layer.{i}"
    inner, result = f"{name}.intermediate", f"{name}.output"
    first = f"{name}.attention.output"
    h = f"{name}.crossattention.output" if f.has_encoder() else first
    through_norm(f, r, steps, name, f"{result}.LayerNorm", f"{result}.sum")
    factor = f.factor(result)
    steps[f"{result}.dense.grad"] = Step(
        (f"{result}.sum.grad",), lambda d: r.dropout_backward(d, factor)
    )
    through_linear(f, r, steps, sums, f"{result}.dense", inner)
    sums.add_step(steps, inner)
    steps[f"{inner}.dense.grad"] = Step(
        (f"{inner}.grad", f"{inner}.dense"),
        lambda dy, x: r.activation_backward(dy, x, f.config.hidden_act),
    )
    sums.add(h, (f"{result}.sum.grad",), r.residual_backward)
    through_linear(f, r, steps, sums, f"{inner}.dense", h)
    sums.add_step(steps, h)
    if f.has_encoder():
        _attention(f, r, steps, sums, f.attention(i, True), first)
        sums.add_step(steps, first)
    _attention(f, r, steps, sums, f.attention(i, False), x)


def _attention(f: Facts, r: Rules, steps: Steps, sums: Sums, a: AttentionFacts, x: str) -> None:
    p = a.prefix
    query, key, value = (f"{p}self.{name}" for name in ("query", "key", "value"))
    sum_, factor = f"{p}output.sum", f.factor(f"{p}output")
    through_norm(f, r, steps, f"{p}output", f"{p}output.LayerNorm", sum_)
    sums.add(x, (f"{sum_}.grad",), r.residual_backward)
    steps[f"{p}output.dense.grad"] = Step(
        (f"{sum_}.grad",), lambda d: r.dropout_backward(d, factor)
    )
    through_linear(f, r, steps, sums, f"{p}output.dense", f"{p}context")
    sums.add_step(steps, f"{p}context")
    _inside_heads(f, r, steps, a)
    through_linear(f, r, steps, sums, query, x)
    if a.has_new_keys:
        source = "encoder_hidden_states" if a.is_cross else x
        if a.is_cross:
            steps.setdefault(source, Step((), lambda: f.input("encoder_hidden_states")))
        through_linear(f, r, steps, sums, key, source)
        through_linear(f, r, steps, sums, value, source)
    if a.past is not None:
        for which, name in enumerate((f"{p}keys", f"{p}values")):
            steps[f"{a.past_name(which)}.grad"] = Step(
                (f"{name}.grad",), lambda d: d[:, :, : a.past_length]
            )


def _inside_heads(f: Facts, r: Rules, steps: Steps, a: AttentionFacts) -> None:
    """From the context to queries, keys and values. ``keys`` and ``values`` hold those of the past,
    then the new ones."""
    p, d = a.prefix, a.d
    for which, projection in enumerate(("key", "value")):
        past = [] if a.past is None else [a.past[which]]
        steps[f"{p}{projection}s"] = Step(
            (f"{p}self.{projection}",) if a.has_new_keys else (),
            lambda *new, past=past: np.concatenate(
                past + [r.split(array, d) for array in new], axis=2
            ),
        )
        if a.has_new_keys:
            steps[f"{p}self.{projection}.grad"] = Step(
                (f"{p}{projection}s.grad",), lambda d: r.merge(d[:, :, a.past_length :])
            )
        upstream = f.upstream(a.past_name(which))
        _keys_or_values(r, steps, a, projection, 0.0 if upstream is None else upstream)
    dattentions = f.upstream(("cross_" if a.is_cross else "") + f"attentions.{a.layer}")
    dweights = 0.0 if dattentions is None else dattentions
    steps[f"{p}probs.grad"] = Step(
        (f"{p}context.grad", f"{p}values"),
        lambda dy, v: r.probs_backward(r.split(dy, d), dweights, v, a),
    )
    steps[f"{p}scores.grad"] = Step((f"{p}probs.grad", f"{p}probs"), r.softmax_backward)
    steps[f"{p}self.query.grad"] = Step(
        (f"{p}scores.grad", f"{p}keys"), lambda ds, k: r.merge(r.query_backward(ds, k, a))
    )


def _keys_or_values(
    r: Rules, steps: Steps, a: AttentionFacts, projection: str, upstream: Array | float
) -> None:
    """The gradient of all keys, or of all values, past and new; ``upstream`` is added to it."""
    p, d = a.prefix, a.d
    if projection == "key":
        steps[f"{p}keys.grad"] = Step(
            (f"{p}scores.grad", f"{p}self.query"),
            lambda ds, q: r.key_backward(ds, r.split(q, d), a) + upstream,
        )
    else:
        steps[f"{p}values.grad"] = Step(
            (f"{p}context.grad", f"{p}weights"),
            lambda dy, w: r.value_backward(r.split(dy, d), w) + upstream,
        )


def _embeddings(f: Facts, r: Rules, steps: Steps) -> None:
    c, factor, words = f.config, f.factor("embeddings"), "embeddings.word_embeddings"
    types = "embeddings.token_type_embeddings"
    steps["embeddings.LayerNorm.grad"] = Step(
        ("embeddings.grad",), lambda dy: r.dropout_backward(dy, factor)
    )
    through_norm(f, r, steps, "embeddings.LayerNorm", "embeddings.LayerNorm", "embeddings.sum")
    for name in (words, types):
        steps[f"{name}.grad"] = Step(("embeddings.sum.grad",), lambda d: d)
    steps[f"{types}.weight.grad"] = Step(
        (f"{types}.grad",), lambda d: r.types_backward(d, f.token_types, c.type_vocab_size)
    )
    ids, tied = f.input("input_ids"), "cls.predictions.tied.grad"

    def lookup(d: Array) -> Array:
        if ids is None:
            return np.zeros((c.vocab_size, c.hidden_size))
        return r.lookup_backward(d, ids, c.vocab_size, c.padding_row)

    if tied in steps:
        steps[f"{WORDS}.grad"] = Step(
            (f"{words}.grad", tied), lambda d, dd: r.tied_backward(lookup(d), dd, c.padding_row)
        )
    else:
        steps[f"{WORDS}.grad"] = Step((f"{words}.grad",), lookup)
