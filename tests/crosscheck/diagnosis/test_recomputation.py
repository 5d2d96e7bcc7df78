"""The diagnosis's arithmetic is the model's: it computes every array of a trace again, to 1e-12."""

import functools

import numpy as np
import pytest

from minizha.crosscheck import trace
from minizha.crosscheck.diagnosis import mistaken
from minizha.crosscheck.diagnosis.backward import all_steps
from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.facts import Facts
from minizha.crosscheck.diagnosis.forward import evaluate
from minizha.crosscheck.names import DROPOUT
from tests.support.tiny_heads import HEADS
from tests.support.tiny_models import CROSS, DECODER, TINY, TWO_LAYERS, Tiny
from tests.support.traces import model_and_inputs, normal

UPSTREAM = {
    "bare": Tiny("NezhaModel", labels=(), config=TWO_LAYERS),
    "bare, dropout": Tiny("NezhaModel", labels=(), train=True, head_mask="heads"),
    "bare, with a past": Tiny("NezhaModel", labels=(), config=CROSS, past=2, S=3, L=2),
    "logits of both heads": Tiny(labels=()),
}
CASES = TINY | HEADS | UPSTREAM


@functools.cache
def traced(name):
    return trace(*model_and_inputs(CASES[name]))


def largest_error(found, rules=None, near=False):
    """The name of the array with the largest error, this error, and the arrays for which the
    diagnosis has no step. Each array is computed from the inputs, or from the trace's arrays near it."""
    facts, rules = Facts(found), rules or Rules()
    steps = all_steps(facts, rules)
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
    where, error, missing = largest_error(found, near=near)
    assert error <= 1e-12, where
    for left_out in missing:  # the loss does not depend on these arrays
        assert left_out.endswith(".grad")
        assert not found[left_out].any()


@pytest.mark.parametrize("near", [False, True])
def test_an_account_that_is_slightly_wrong_is_found(near):
    class ScoresOff(Rules):
        def scores(self, q, k, a):
            return super().scores(q, k, a) * (1.0 + 1e-10)

    class KeyGradientOff(Rules):
        def key_backward(self, dscores, q, a):
            return super().key_backward(dscores, q, a) * (1.0 + 1e-9)

    assert largest_error(traced("plain"), ScoresOff(), near)[1] > 1e-12
    assert ".key" in largest_error(traced("plain"), KeyGradientOff(), near=True)[0]


OPTIONS = {"output_hidden_states": True, "output_attentions": True}


@pytest.mark.parametrize("loss", [{}, {"loss": 1.0}, {"loss": -2.5}])
def test_so_is_what_was_asked_of_every_layer(loss):
    case = Tiny(config=TWO_LAYERS, ignoring=True)
    model, inputs = case.model("numpy"), case.inputs() | OPTIONS
    out = model(**inputs)
    fields = loss | {
        "hidden_states": [normal(h.shape, k) for k, h in enumerate(out.hidden_states)],
        "attentions": (normal(out.attentions[0].shape, 7), None),
        "prediction_logits": normal(out.prediction_logits.shape, 8),
    }
    where, error, missing = largest_error(trace(model, inputs, upstream=fields))
    assert error <= 1e-12, where
    assert bool(missing) == (not loss)  # without a loss the pooler gets no gradient


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
    where, error, _ = largest_error(found)
    assert error <= 1e-12, where
    found.inputs["upstream.loss"] = np.asarray(loss + 1.0)  # the control
    assert largest_error(found)[1] > 1e-3


@pytest.mark.parametrize("config", [DECODER, CROSS])
def test_so_is_what_was_asked_of_keys_and_values(config):
    case = Tiny(
        "NezhaModel", labels=(), config=config | TWO_LAYERS, past=2, L=2, S=3 * (config is CROSS)
    )
    model, inputs = case.model("numpy"), case.inputs() | {"use_cache": True}
    inputs |= {"output_attentions": True}
    out = model(**inputs)
    fields = {
        "last_hidden_state": normal(out.last_hidden_state.shape),
        "past_key_values": [
            [normal(a.shape, 4 * i + j) for j, a in enumerate(layer)]
            for i, layer in enumerate(out.past_key_values)
        ],
    }
    if config is CROSS:
        fields["cross_attentions"] = [normal(a.shape) for a in out.cross_attentions]
    where, error, _ = largest_error(trace(model, inputs, upstream=fields))
    assert error <= 1e-12, where


@pytest.mark.parametrize("field", ["attentions", "hidden_states"])
def test_so_is_a_single_upstream_gradient(field):
    """In the last layer alone: what comes after it has gradient 0."""
    case = Tiny(config=TWO_LAYERS, labels=())
    model, inputs = case.model("numpy"), case.inputs() | OPTIONS
    arrays = getattr(model(**inputs), field)
    fields = {field: [None] * (len(arrays) - 1) + [normal(arrays[-1].shape, 3)]}
    where, error, missing = largest_error(trace(model, inputs, upstream=fields))
    assert error <= 1e-12, where
    assert all(not name.startswith("encoder.layer.0") for name in missing)


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
    assert largest_error(trace(case.model("numpy"), inputs))[1] <= 1e-12


def test_a_float32_trace_is_computed_again_in_float64():
    found = trace(CASES["plain"].model("numpy", "float32"), CASES["plain"].inputs())
    assert 1e-9 < largest_error(found)[1] < 1e-5


class Float32(Facts):
    """Facts whose floats are float32."""

    def parameter(self, name):
        return np.float32(super().parameter(name))

    def input(self, name):
        value = super().input(name)
        return np.float32(value) if value is not None and value.dtype.kind == "f" else value

    def factor(self, name):
        value = super().factor(name)
        return value if value is None else np.float32(value)

    def attention(self, layer, is_cross):
        a = super().attention(layer, is_cross)
        masks = {n: getattr(a, n) for n in ("visible", "causal", "head_mask", "all_head_masks")}
        return a._replace(**{n: np.float32(m) for n, m in masks.items() if m is not None})


@pytest.mark.parametrize("name", CASES)
def test_the_rules_keep_float32(name):
    found, memory, worst = traced(name), {}, 0.0
    for step_name, step in all_steps(Float32(found), Rules()).items():
        array = memory[step_name] = step.compute(*(memory[need] for need in step.needs))
        assert not isinstance(array, np.ndarray) or array.dtype == np.float32, step_name
        if step_name in found:
            error = np.abs(array - found[step_name]).max(initial=0)
            worst = max(worst, error / max(1.0, np.abs(found[step_name]).max(initial=0)))
    assert 0 < worst < 2e-5


def test_a_mistake_that_can_not_act_changes_nothing():
    """``mistaken`` replaces a rule that this case does not use."""
    found = mistaken(traced("plain"), "causal_missing")
    for name, array in found.items():
        np.testing.assert_allclose(array, traced("plain")[name], rtol=0, atol=1e-12)
