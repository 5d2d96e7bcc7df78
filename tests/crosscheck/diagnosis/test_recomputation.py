"""The diagnosis's own arithmetic is the model's: every array of a trace is computed again, at 1e-12."""

import functools

import numpy as np
import pytest

from minizha.crosscheck import trace
from minizha.crosscheck.diagnosis import mistaken
from minizha.crosscheck.diagnosis.backward import backward_steps
from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.facts import Facts
from minizha.crosscheck.diagnosis.forward import evaluate, forward_steps
from minizha.crosscheck.names import DROPOUT
from tests.support.tiny_heads import HEADS
from tests.support.tiny_models import CROSS, DECODER, TINY, TWO_LAYERS, Tiny

UPSTREAM = {
    "bare": Tiny("NezhaModel", labels=(), config=TWO_LAYERS),
    "bare, dropout": Tiny("NezhaModel", labels=(), train=True, head_mask="heads"),
    "bare, with a past": Tiny("NezhaModel", labels=(), config=CROSS, past=2, S=3, L=2),
    "logits of both heads": Tiny(labels=()),
}
CASES = TINY | HEADS | UPSTREAM


@functools.cache
def traced(name):
    return trace(CASES[name].model("numpy"), CASES[name].inputs())


def farthest(found, rules=None, near=False):
    """The array that is farthest off, computed from scratch or from the trace's arrays near it; and
    those that the second account has no step for."""
    facts, rules = Facts(found), rules or Rules()
    steps = forward_steps(facts, rules) | backward_steps(facts, rules)
    worst, missing, memory = ("", 0.0), [], {}
    for name, array in found.items():
        if name.endswith(DROPOUT):
            continue
        if name not in steps:
            missing.append(name)
            continue
        if name not in memory:
            computed = evaluate(steps, name, found if near else {}, {} if near else memory)
            memory |= {} if near else {name: computed}
        computed = computed if near else memory[name]
        assert computed.shape == array.shape, name
        scale = max(1.0, np.abs(array).max(initial=0.0))
        error = np.abs(computed - array).max(initial=0.0) / scale
        worst = max(worst, (name, error), key=lambda pair: pair[1])
    return *worst, missing


@pytest.mark.parametrize("near", [False, True], ids=["from scratch", "from its neighbours"])
@pytest.mark.parametrize("name", CASES)
def test_every_array_is_computed_again(name, near):
    found = traced(name)
    where, error, missing = farthest(found, near=near)
    assert error <= 1e-12, where
    for left_out in missing:  # nobody asks anything of them
        assert left_out.endswith(".grad")
        assert not found[left_out].any()


@pytest.mark.parametrize("near", [False, True])
def test_an_account_that_is_slightly_wrong_is_found(near):
    class Slightly(Rules):
        def scores(self, q, k, a):
            return super().scores(q, k, a) * (1.0 + 1e-10)

    class OnTheWayBack(Rules):
        def key_backward(self, dscores, q, a):
            return super().key_backward(dscores, q, a) * (1.0 + 1e-9)

    assert farthest(traced("plain"), Slightly(), near)[1] > 1e-12
    assert ".key" in farthest(traced("plain"), OnTheWayBack(), near=True)[0]


def random(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


UP = {"output_hidden_states": True, "output_attentions": True}


@pytest.mark.parametrize("loss", [{}, {"loss": 1.0}, {"loss": -2.5}])
def test_so_is_what_was_asked_of_every_layer(loss):
    case = Tiny(config=TWO_LAYERS, ignoring=True)
    model, inputs = case.model("numpy"), case.inputs() | UP
    out = model(**inputs)
    fields = loss | {
        "hidden_states": [random(h.shape, k) for k, h in enumerate(out.hidden_states)],
        "attentions": (random(out.attentions[0].shape, 7), None),
        "prediction_logits": random(out.prediction_logits.shape, 8),
    }
    where, error, missing = farthest(trace(model, inputs, upstream=fields))
    assert error <= 1e-12, where
    assert bool(missing) == (not loss)  # then nobody asks of the pooler


@pytest.mark.parametrize("loss", [1.0, 3.0])
@pytest.mark.parametrize(
    "name",
    [
        "single label",
        "multi label",
        "regression of three",
        "choice",
        "tokens",
        "answer",
        "next sentence",
    ],
)
def test_so_is_a_weighted_loss(name, loss):
    found = trace(CASES[name].model("numpy"), CASES[name].inputs(), upstream={"loss": loss})
    where, error, _ = farthest(found)
    assert error <= 1e-12, where
    found.inputs["upstream.loss"] = np.asarray(loss + 1.0)  # the control
    assert farthest(found)[1] > 1e-3


@pytest.mark.parametrize("config", [DECODER, CROSS])
def test_so_is_what_was_asked_of_keys_and_values(config):
    case = Tiny(
        "NezhaModel", labels=(), config=config | TWO_LAYERS, past=2, L=2, S=3 * (config is CROSS)
    )
    model, inputs = case.model("numpy"), case.inputs() | {"use_cache": True}
    inputs |= {"output_attentions": True}
    out = model(**inputs)
    fields = {
        "last_hidden_state": random(out.last_hidden_state.shape),
        "past_key_values": [
            [random(a.shape, 4 * i + j) for j, a in enumerate(layer)]
            for i, layer in enumerate(out.past_key_values)
        ],
    }
    if config is CROSS:
        fields["cross_attentions"] = [random(a.shape) for a in out.cross_attentions]
    where, error, _ = farthest(trace(model, inputs, upstream=fields))
    assert error <= 1e-12, where


def test_nested_lists_are_read_like_arrays():
    case = TINY["past of both, the encoder given again"]
    inputs = {
        name: np.asarray(value).tolist()
        for name, value in case.inputs().items()
        if name != "past_key_values"
    }
    inputs["past_key_values"] = [
        [a.tolist() for a in layer] for layer in case.inputs()["past_key_values"]
    ]
    assert farthest(trace(case.model("numpy"), inputs))[1] <= 1e-12


def test_a_float32_trace_is_computed_again_in_float64():
    found = trace(CASES["plain"].model("numpy", "float32"), CASES["plain"].inputs())
    assert 1e-9 < farthest(found)[1] < 1e-5


def test_a_mistake_that_can_not_act_changes_nothing():
    """Through ``mistaken``: the account under rules of which none applies here."""
    found = mistaken(traced("plain"), "causal_missing")
    for name, array in found.items():
        np.testing.assert_allclose(array, traced("plain")[name], rtol=0, atol=1e-12)
