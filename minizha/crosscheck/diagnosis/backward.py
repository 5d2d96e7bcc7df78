"""The way back as steps: each gradient of a trace from those before it and from activations.

An array that was used several times collects the gradients of all its uses.
"""

from __future__ import annotations

import numpy as np

from minizha.crosscheck.diagnosis.backward_heads import heads_backward
from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.backward_sums import Sums, through_linear, through_norm
from minizha.crosscheck.diagnosis.facts import Facts, Place
from minizha.crosscheck.diagnosis.forward import Step, Steps
from minizha.crosscheck.diagnosis.rules import Array
from minizha.crosscheck.names import WORDS


def backward_steps(f: Facts, r: Rules) -> Steps:
    """The steps of the way back, in execution order."""
    steps, sums = {}, Sums()
    layers = f.config.num_hidden_layers
    last = f"encoder.layer.{layers - 1}" if layers else "embeddings"
    sums.given(last, f.upstream("last_hidden_state"))
    for i in range(layers + 1):
        name = f"encoder.layer.{i - 1}" if i else "embeddings"
        sums.given(name, f.upstream(f"hidden_states.{i}"))
    heads_backward(f, r, steps, sums, last)
    for i in reversed(range(layers)):
        below = f"encoder.layer.{i - 1}" if i else "embeddings"
        if sums.into(steps, f"encoder.layer.{i}"):
            _layer(f, r, steps, sums, i, below)
    if sums.into(steps, "embeddings"):
        _embeddings(f, r, steps)
    sums.into(steps, "encoder_hidden_states")
    return steps


def _layer(f: Facts, r: Rules, steps: Steps, sums: Sums, i: int, x: str) -> None:
    name = f"encoder.layer.{i}"
    inner, result = f"{name}.intermediate", f"{name}.output"
    first = f"{name}.attention.output"
    h = f"{name}.crossattention.output" if f.crosses() else first
    through_norm(f, r, steps, name, f"{result}.LayerNorm", f"{result}.sum")
    factor = f.factor(result)
    steps[f"{result}.dense.grad"] = Step(
        (f"{result}.sum.grad",), lambda d: r.dropout_backward(d, factor)
    )
    through_linear(f, r, steps, sums, f"{result}.dense", inner)
    sums.into(steps, inner)
    steps[f"{inner}.dense.grad"] = Step(
        (f"{inner}.grad", f"{inner}.dense"),
        lambda dy, x: r.activation_backward(dy, x, f.config.hidden_act),
    )
    sums.add(h, (f"{result}.sum.grad",), r.residual_backward)
    through_linear(f, r, steps, sums, f"{inner}.dense", h)
    sums.into(steps, h)
    if f.crosses():
        _attention(f, r, steps, sums, f.place(i, True), first)
        sums.into(steps, first)
    _attention(f, r, steps, sums, f.place(i, False), x)


def _attention(f: Facts, r: Rules, steps: Steps, sums: Sums, a: Place, x: str) -> None:
    p = a.prefix
    query, key, value = (f"{p}self.{part}" for part in ("query", "key", "value"))
    sum_, factor = f"{p}output.sum", f.factor(f"{p}output")
    through_norm(f, r, steps, f"{p}output", f"{p}output.LayerNorm", sum_)
    sums.add(x, (f"{sum_}.grad",), r.residual_backward)
    steps[f"{p}output.dense.grad"] = Step(
        (f"{sum_}.grad",), lambda d: r.dropout_backward(d, factor)
    )
    through_linear(f, r, steps, sums, f"{p}output.dense", f"{p}context")
    sums.into(steps, f"{p}context")
    _heads_apart(f, r, steps, a)
    through_linear(f, r, steps, sums, query, x)
    if a.fresh:
        source = "encoder_hidden_states" if a.crosses else x
        if a.crosses:
            steps.setdefault(source, Step((), lambda: f.input("encoder_hidden_states")))
        through_linear(f, r, steps, sums, key, source)
        through_linear(f, r, steps, sums, value, source)
    if a.past is not None:
        for which, whole in enumerate((f"{p}keys", f"{p}values")):
            steps[f"{a.past_name(which)}.grad"] = Step(
                (f"{whole}.grad",), lambda d: d[:, :, : a.past_length]
            )


def _heads_apart(f: Facts, r: Rules, steps: Steps, a: Place) -> None:
    """From the context to queries, keys and values; ``keys`` and ``values`` are all there are, those
    of the past and the new ones."""
    p, d = a.prefix, a.d
    for which, part in enumerate(("key", "value")):
        kept = [] if a.past is None else [a.past[which]]
        steps[f"{p}{part}s"] = Step(
            (f"{p}self.{part}",) if a.fresh else (),
            lambda *new, kept=kept: np.concatenate(
                kept + [r.split(array, d) for array in new], axis=2
            ),
        )
        asked = f.upstream(a.past_name(which))
        if a.fresh:
            steps[f"{p}self.{part}.grad"] = Step(
                (f"{p}{part}s.grad",), lambda whole: r.merge(whole[:, :, a.past_length :])
            )
        _whole(r, steps, a, part, 0.0 if asked is None else asked)
    asked = f.upstream(("cross_" if a.crosses else "") + f"attentions.{a.layer}")
    steps[f"{p}probs.grad"] = Step(
        (f"{p}context.grad", f"{p}values"),
        lambda dy, v: r.probs_backward(r.split(dy, d), 0.0 if asked is None else asked, v, a),
    )
    steps[f"{p}scores.grad"] = Step((f"{p}probs.grad", f"{p}probs"), r.softmax_backward)
    steps[f"{p}self.query.grad"] = Step(
        (f"{p}scores.grad", f"{p}keys"), lambda ds, k: r.merge(r.query_backward(ds, k, a))
    )


def _whole(r: Rules, steps: Steps, a: Place, part: str, asked: Array | float) -> None:
    """The gradient of all keys, or of all values; ``asked`` of them from outside."""
    p, d = a.prefix, a.d
    if part == "key":
        steps[f"{p}keys.grad"] = Step(
            (f"{p}scores.grad", f"{p}self.query"),
            lambda ds, q: r.key_backward(ds, r.split(q, d), a) + asked,
        )
    else:
        steps[f"{p}values.grad"] = Step(
            (f"{p}context.grad", f"{p}weights"),
            lambda dy, w: r.value_backward(r.split(dy, d), w) + asked,
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
        return r.lookup_backward(d, ids, c.vocab_size, c.pad_token_id)

    if tied in steps:
        steps[f"{WORDS}.grad"] = Step(
            (f"{words}.grad", tied), lambda d, dd: r.tied_backward(lookup(d), dd, c.pad_token_id)
        )
    else:
        steps[f"{WORDS}.grad"] = Step((f"{words}.grad",), lookup)
