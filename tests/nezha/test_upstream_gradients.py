"""The backward pass from any upstream gradients, and its errors."""

import numpy as np
import pytest

from minizha import MinizhaError, NezhaModel
from minizha.backend import to_host
from minizha.errors import ArgumentError
from tests.support.assertions import assert_close
from tests.support.running import ALL_FIELDS, mapped, recorded
from tests.support.tiny_models import MLM, TINY, TWO_LAYERS, Tiny, gradients_of, host_gradients

FIELDS = ["loss", "prediction_logits", "seq_relationship_logits", "hidden_states", "attentions"]


def output(tiny, backend):
    model = tiny.model(backend)
    return model, recorded(model, tiny.inputs())


def upstream_of(out, name, seed):
    """A random upstream gradient of one field."""
    rng = np.random.default_rng(seed)
    return mapped(out[name], lambda _, array: np.asarray(rng.standard_normal(array.shape)))


def combination(a, x, y):
    if isinstance(x, tuple):
        return tuple(combination(a, *pair) for pair in zip(x, y, strict=True))
    return x + a * y


@pytest.mark.parametrize("name", FIELDS)
def test_backward_is_linear_in_what_comes_from_above(name, backend):
    model, out = output(Tiny(config=TWO_LAYERS), backend)
    x, y = (upstream_of(out, name, seed) for seed in (1, 2))
    found = []
    for upstream in (x, y, combination(-3.0, x, y)):
        model.zero_grad()
        out.backward(**{name: upstream})
        found.append(host_gradients(model))
    assert max(np.abs(d).max() for d in found[0].values()) > 1e-3
    assert_close(found[2], {n: found[0][n] - 3.0 * found[1][n] for n in found[0]}, 1e-12)


@pytest.mark.parametrize("labels", [("labels", "next_sentence_label"), ("labels",)])
def test_several_fields_at_once_add_up(labels, backend):
    model, out = output(Tiny(config=TWO_LAYERS, labels=labels), backend)
    upstream = {name: upstream_of(out, name, k) for k, name in enumerate(FIELDS)}
    total = dict.fromkeys(model.gradients(), 0.0)
    for name in FIELDS:
        model.zero_grad()
        out.backward(**{name: upstream[name]})
        total = {n: total[n] + d for n, d in host_gradients(model).items()}
    model.zero_grad()
    out.backward(**upstream)
    assert_close(host_gradients(model), total, 1e-12)


@pytest.mark.parametrize("name", FIELDS)
def test_upstream_gradients_against_the_complex_step(name, backend):
    """⟨u, field⟩ along one random direction of all parameters at once."""
    tiny, step, rng = Tiny(config=TWO_LAYERS, mask="3d"), 1e-30, np.random.default_rng(5)
    model, out = output(tiny, backend)
    u = upstream_of(out, name, 3)
    out.backward(**{name: u})
    stepped, along = model.astype("complex128"), {}
    for parameter, array in stepped.state_dict().items():
        along[parameter] = rng.standard_normal(array.shape)
        array += stepped.xp.asarray(1j * step * along[parameter])
    field = stepped(**tiny.inputs(), **ALL_FIELDS)[name]
    pairs = zip(u, field, strict=True) if isinstance(u, tuple) else [(u, field)]
    expected = sum((d * to_host(array).imag).sum() / step for d, array in pairs)
    found = sum((d * along[n]).sum() for n, d in host_gradients(model).items())
    assert found == pytest.approx(expected, rel=1e-11)


def test_a_loss_of_weight_2_counts_double(backend):
    tiny = TINY["plain"]
    model, out = output(tiny, backend)
    for upstream in (2.0, np.float32(2.0), np.array(2.0)):
        model.zero_grad()
        out.backward(loss=upstream)
        expected = {n: 2.0 * d for n, d in gradients_of(tiny, backend).items()}
        assert_close(host_gradients(model), expected, 1e-15)


def test_none_in_a_sequence_asks_for_nothing(backend):
    model, out = output(Tiny(config=TWO_LAYERS), backend)
    zeros = np.zeros(out.hidden_states[0].shape)
    u = upstream_of(out, "hidden_states", 1)[1]
    found = []
    for sequence in ([None, u, None], [zeros, u, zeros]):
        model.zero_grad()
        out.backward(hidden_states=sequence)
        found.append(host_gradients(model))
    assert_close(*found, 0.0)
    # the layer above gets no gradient, the one below does
    above, below = (
        [np.abs(d).max() for n, d in found[0].items() if f"layer.{i}." in n] for i in (1, 0)
    )
    assert max(above) == 0.0
    assert max(below) > 1e-3


def test_the_bare_model_has_the_way_back_of_its_own_fields(backend):
    bare = NezhaModel(Tiny().model("numpy").config, dtype="float64", backend=backend)
    out = bare(input_ids=[[1, 2, 3]], record=True)
    out.backward(pooler_output=np.ones((1, 4)))
    with_pooler = host_gradients(bare)
    assert (with_pooler["pooler.dense.bias"] != 0.0).all()
    bare.zero_grad()
    out.backward(last_hidden_state=np.random.default_rng(0).standard_normal((1, 3, 4)))
    assert (host_gradients(bare)["pooler.dense.bias"] == 0.0).all()
    assert (host_gradients(bare)["embeddings.LayerNorm.bias"] != 0.0).all()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "call", "upstream", "text"),
    [
        (("labels",), {"record": False}, {}, "nothing was recorded"),
        ((), {}, {}, "nothing was recorded"),
        ((), {"record": True}, {}, "no loss"),
        (("labels",), {}, {"logits": 1.0}, "'logits' is no field"),
        ((), {"record": True}, {"loss": 1.0}, "'loss' is no field"),
        (("labels",), {}, {"loss": [1.0, 2.0]}, r"loss: expected shape \(\), found \(2,\)"),
        (("labels",), {}, {"prediction_logits": np.ones((2, 4, 10))}, r"\(2, 4, 11\)"),
        (("labels",), {}, {"loss": "1"}, "loss: expected numbers"),
        (
            ("labels",),
            {"output_hidden_states": True},
            {"hidden_states": [None]},
            "hidden_states: expected a sequence of 2",
        ),
    ],
)
def test_backward_refuses(labels, call, upstream, text, backend):
    tiny = Tiny(labels=labels)
    model = tiny.model(backend)
    out = model(**tiny.inputs(), **call)
    with pytest.raises(MinizhaError, match=text) as caught:
        out.backward(**upstream)
    assert isinstance(caught.value, ArgumentError) == bool(upstream)
    assert all((d == 0.0).all() for d in host_gradients(model).values())


def test_train_mode_records_without_labels(backend):
    tiny = Tiny(MLM, train=True)
    inputs = {"input_ids": tiny.inputs()["input_ids"]}
    model = tiny.model(backend)
    out = model(**inputs)
    out.backward(logits=np.ones(out.logits.shape))
    assert np.abs(host_gradients(model)["cls.predictions.bias"]).max() > 0.0
    model.eval()
    assert model(**inputs).record is None
