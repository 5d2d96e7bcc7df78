"""Calls of trace: what they don't change, what they draw, where the backward pass starts, errors."""

import numpy as np
import pytest

from minizha.backend import to_host
from minizha.crosscheck import trace
from minizha.errors import ArgumentError, MinizhaError
from tests.support.tiny_heads import HEADS
from tests.support.tiny_models import DECODER, MLM, TINY, TWO_LAYERS, Tiny
from tests.support.traces import assert_same_bits, model_and_inputs, normal

BARE = Tiny("NezhaModel", labels=(), config=TWO_LAYERS)


def copied(arrays):
    return {name: to_host(array).copy() for name, array in arrays.items()}


# --- the model is unchanged -----------------------------------------------------------------------


@pytest.mark.parametrize("case", [TINY["dropout"], TINY["past, chunked"], HEADS["answer, dropout"]])
def test_the_model_is_not_touched(case, backend):
    model, inputs = model_and_inputs(case, backend)
    model(**inputs).backward()
    before = vars(model) | {
        "parameters": copied(model.state_dict()),
        "gradients": copied(model.gradients()),
        "rng": model._rng.bit_generator.state,
        "record": sorted(vars(model)),
    }
    given = {name: np.array(value) for name, value in inputs.items() if name != "past_key_values"}
    trace(model, inputs)
    assert before["record"] == sorted(vars(model))
    assert_same_bits(copied(model.state_dict()), before["parameters"])
    assert_same_bits(copied(model.gradients()), before["gradients"])
    assert model._rng.bit_generator.state == before["rng"]
    assert (model.training, model.config) == (before["training"], before["config"])
    for name, value in given.items():
        np.testing.assert_array_equal(inputs[name], value)
    model(**inputs).backward()  # the control: a call changes it
    assert model._rng.bit_generator.state != before["rng"]
    doubled = copied(model.gradients())
    assert any((doubled[n] != d).any() for n, d in before["gradients"].items())


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_it_says_what_it_was_made_from(mode, backend):
    model, inputs = model_and_inputs(Tiny(MLM, config=DECODER, past=2, L=2, ignoring=True), backend)
    found = trace(getattr(model, mode)(), inputs)
    assert (found.model_class, found.dtype, found.training) == (MLM, "float64", mode == "train")
    assert found.config == model.config
    assert_same_bits(found.parameters, copied(model.state_dict()))
    past = inputs["past_key_values"][0]
    for name, expected in (
        ("input_ids", inputs["input_ids"]),
        ("labels", inputs["labels"]),
        ("past_key_values.0.0", past[0]),
        ("past_key_values.0.1", past[1]),
    ):
        np.testing.assert_array_equal(found.inputs[name], expected)
    assert len(found.inputs) == 4
    assert any(name.endswith(".dropout") for name in found) == (mode == "train")


def test_nested_lists_are_the_same_inputs(backend):
    model, inputs = model_and_inputs(TINY["past"], backend)
    lists = {name: np.asarray(value).tolist() for name, value in inputs.items()}
    expected, found = trace(model, inputs), trace(model, lists)
    assert_same_bits(found, expected)
    assert_same_bits(found.inputs, expected.inputs)


# --- dropout and chunks ---------------------------------------------------------------------------


@pytest.mark.parametrize("case", [TINY["dropout"], TINY["past, dropout"], HEADS["tokens, dropout"]])
def test_the_dropout_is_that_of_the_next_call(case, backend):
    model, inputs = model_and_inputs(case, backend)
    for _ in range(2):
        found = trace(model, inputs)
        assert_same_bits(trace(model, inputs), found)
        assert found["loss"] == to_host(model(**inputs).loss)
        assert found["loss"] != to_host(model(**inputs).loss), "the call after it draws others"


def test_the_factors_are_those_that_acted(backend):
    found = trace(*model_and_inputs(TINY["dropout"], backend))
    for x, factor, y in (
        ("embeddings.LayerNorm", "embeddings.dropout", "embeddings"),
        *((f"{p}.probs", f"{p}.dropout", f"{p}.weights") for p in ["encoder.layer.0.attention"]),
    ):
        np.testing.assert_array_equal(found[x] * found[factor], found[y])
        assert {0.0} < set(found[factor].flat)


def test_chunks_change_nothing_but_rounding(backend):
    case = TINY["past, chunked"]
    whole = Tiny(**vars(case) | {"config": case.config | {"chunk_size_feed_forward": 0}})
    found, expected = (
        trace(*model_and_inputs(case, backend)),
        trace(*model_and_inputs(whole, backend)),
    )
    assert_same_bits(found, expected)
    assert found.config.chunk_size_feed_forward == 2
    model, inputs = model_and_inputs(case, backend)  # this call uses chunks
    assert found["loss"] == pytest.approx(to_host(model(**inputs).loss), rel=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_dtype_is_the_models(dtype, backend):
    found = trace(TINY["plain"].model(backend, dtype), TINY["plain"].inputs())
    assert {array.dtype for array in found.values()} == {np.dtype(dtype)}


# --- where the backward pass starts ---------------------------------------------------------------


def test_without_a_loss_it_starts_from_cosines(backend):
    model, inputs = model_and_inputs(BARE, backend)
    found, out = trace(model, inputs), model(**inputs, record=True)
    fields = {}
    for field in ("last_hidden_state", "pooler_output"):
        array = out[field]
        fields[field] = np.cos(np.arange(array.size)).reshape(array.shape)
        np.testing.assert_array_equal(found.inputs[f"upstream.{field}"], fields[field])
    assert_same_bits(trace(model, inputs, upstream=fields), found)
    np.testing.assert_array_equal(found["pooler.grad"], fields["pooler_output"])
    others = {field: 2.0 * d for field, d in fields.items()}
    assert (trace(model, inputs, upstream=others)["pooler.grad"] != found["pooler.grad"]).any()


@pytest.mark.parametrize(
    ("case", "fields"),
    [
        (Tiny(labels=()), {"prediction_logits", "seq_relationship_logits"}),
        (Tiny(MLM), {"logits"}),
        (HEADS["answer"], {"start_logits", "end_logits"}),
        (HEADS["choice"], {"logits"}),
    ],
)
def test_heads_without_labels_start_from_their_logits(case, fields, backend):
    model, inputs = model_and_inputs(case, backend)
    inputs = {name: value for name, value in inputs.items() if name in ("input_ids",)}
    found = trace(model, inputs)
    assert {n for n in found.inputs if n.startswith("upstream")} == {
        f"upstream.{f}" for f in fields
    }
    assert "loss" not in found
    assert np.abs(found["embeddings.grad"]).max() > 1e-3


def test_a_loss_may_be_weighted(backend):
    model, inputs = model_and_inputs(TINY["plain"], backend)
    once, twice = trace(model, inputs), trace(model, inputs, upstream={"loss": 2.0})
    assert twice.inputs["upstream.loss"] == 2.0
    assert not any(name.startswith("upstream") for name in once.inputs)
    for name in once:
        expected = once[name] * (2.0 if name.endswith(".grad") else 1.0)
        np.testing.assert_array_equal(twice[name], expected)


def test_from_every_layer_at_once(backend):
    """``attentions`` of one layer, ``hidden_states`` of all, against the model's own backward."""
    model, inputs = model_and_inputs(Tiny(config=TWO_LAYERS), backend)
    inputs |= {"output_hidden_states": True, "output_attentions": True}
    out = model(**inputs)
    fields = {
        "hidden_states": [normal(h.shape, k) for k, h in enumerate(out.hidden_states)],
        "attentions": (None, normal(out.attentions[1].shape, 7)),
        "prediction_logits": normal(out.prediction_logits.shape, 8),
    }
    found = trace(model, inputs, upstream=fields)
    out.backward(**fields)
    for name, gradient in model.gradients().items():
        key = f"{name.removeprefix('nezha.')}.grad"
        np.testing.assert_array_equal(found[key], to_host(gradient), err_msg=key)
    assert {n for n in found.inputs if n.startswith("upstream")} == {
        "upstream.hidden_states.0",
        "upstream.hidden_states.1",
        "upstream.hidden_states.2",
        "upstream.attentions.1",
        "upstream.prediction_logits",
    }
    assert not any("output" in name for name in found.inputs)


def test_from_keys_and_values(backend):
    model, inputs = model_and_inputs(TINY["past"], backend)
    inputs["use_cache"] = True
    out = model(**inputs, record=True)
    upstream = [[normal(a.shape, k) for a in layer] for k, layer in enumerate(out.past_key_values)]
    found = trace(model, inputs, upstream={"past_key_values": upstream})
    gradients = out.backward(past_key_values=upstream)["past_key_values"]
    for i in range(2):
        for j in range(2):
            expected = to_host(gradients[i][j])
            np.testing.assert_array_equal(found[f"past_key_values.{i}.{j}.grad"], expected)
            assert f"upstream.past_key_values.{i}.{j}" in found.inputs


@pytest.mark.parametrize(
    "case", [TINY["two layers"], TINY["past of both"], HEADS["multi label"], BARE]
)
def test_without_gradients_the_way_there_is_the_same(case, backend):
    both, forward = (
        trace(*model_and_inputs(case, backend)),
        trace(*model_and_inputs(case, backend), gradients=False),
    )
    assert_same_bits(forward, {n: a for n, a in both.items() if not n.endswith(".grad")})
    assert not any(name.startswith("upstream") for name in forward.inputs)
    assert len(both) > len(forward) + 20


# --- what is refused --------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "inputs", "options", "words"),
    [
        ("no model", {}, {}, "model: expected one of the Nezha classes, found str"),
        (None, [[5, 6]], {}, "inputs: expected keyword arguments, found list"),
        (None, {"input_ids": [[99]]}, {}, "input_ids"),
        (None, {}, {}, "input_ids"),
        (None, None, {"upstream": {"foo": 1.0}}, "'foo' is no field"),
        (None, None, {"upstream": np.ones(3)}, "upstream: expected .*, found ndarray"),
        (None, None, {"upstream": {"prediction_logits": np.ones((2, 3))}}, "prediction_logits"),
        (None, None, {"upstream": {"hidden_states": (None,)}}, "hidden_states"),
    ],
)
def test_what_it_refuses(model, inputs, options, words, backend):
    case = TINY["plain"]
    with pytest.raises(ArgumentError, match=words):
        trace(model or case.model(backend), case.inputs() if inputs is None else inputs, **options)


def test_nothing_to_walk_back_from(backend):
    model, inputs = model_and_inputs(BARE, backend)
    with pytest.raises(MinizhaError, match="no loss"):
        trace(model, inputs, upstream={})


def test_an_unknown_argument_is_pythons_error(backend):
    with pytest.raises(TypeError, match="tokens"):
        trace(TINY["plain"].model(backend), {"tokens": [[5]]})


def test_a_trace_is_of_a_whole_batch(backend):
    from minizha.model.pretraining import ItemsInBatch

    model, inputs = model_and_inputs(TINY["plain"], backend)
    with pytest.raises(ArgumentError, match="num_items_in_batch"):
        trace(model, inputs | {"num_items_in_batch": ItemsInBatch(labels=20)})
