"""The gradients of the head mask and of the hidden states: complex step, zeros, and what has none."""

import numpy as np
import pytest

from minizha import NezhaForMaskedLM, NezhaModel, crosscheck
from minizha.backend import get_backend, to_backend, to_host
from minizha.errors import ArgumentError
from minizha.nezha import attention as blocks
from minizha.ops.attention import head_mask_gradient
from tests.support.assertions import assert_close, assert_equal
from tests.support.eight_models import (
    CLASS_NAMES,
    B,
    D,
    L,
    N,
    configuration,
    inputs_and_labels_of,
    inputs_of,
    perturbed,
)
from tests.support.op_cases import typical_case, upstream
from tests.support.running import recorded
from tests.support.tiny_models import DECODERS, MLM, Tiny, copied

STEP = 1e-30
MASKS = {
    "heads": np.array([0.7, 0.0, -1.3]),
    "layers": np.array([[0.7, 0.0, -1.3], [1.0, 2.0, 0.4]]),
}


def by_complex_step(model, inputs):
    """∂loss/∂head_mask, one entry a call."""
    stepped, mask = model.astype("complex128"), inputs["head_mask"]
    expected = np.zeros(mask.shape)
    for index in np.ndindex(mask.shape):
        moved = mask.astype(complex)
        moved[index] += 1j * STEP
        if model.training:
            stepped.train(seed=0)
        loss = stepped(**(inputs | {"head_mask": moved})).loss
        expected[index] = complex(to_host(loss)).imag / STEP
    return expected


def by_backward(model, inputs):
    if model.training:
        model.train(seed=0)
    return to_host(model(**inputs).backward()["head_mask"])


# --- the head mask --------------------------------------------------------------------------------


@pytest.mark.parametrize("upstream_weights", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_the_operation_against_the_complex_step(rate, upstream_weights, backend):
    case = typical_case("attention", head_masked=True, rate=rate).on(get_backend(backend))
    y, cache = case.run()
    dy, dweights = upstream(y), upstream(cache.weights, seed=3) if upstream_weights else None
    found = to_host(head_mask_gradient(dy, cache, dweights))
    assert found.shape == case.constants["head_mask"].shape
    for n in range(found.shape[1]):
        moved = to_host(case.constants["head_mask"]).astype(complex)
        moved[0, n] += 1j * STEP
        mask = {"head_mask": to_backend(moved, get_backend(backend))}
        y, cache = case._replace(constants=case.constants | mask).run()
        expected = (to_host(dy) * to_host(y).imag).sum()
        if dweights is not None:
            expected += (to_host(dweights) * to_host(cache.weights).imag).sum()
        assert_close(found[0, n, 0, 0], expected / STEP)


@pytest.mark.parametrize("name", [name for name in CLASS_NAMES if name != "NezhaModel"])
@pytest.mark.parametrize("shape", MASKS)
def test_the_head_mask_of_every_class(name, shape, backend):
    """Of the mask's shape; a head that is switched off has a gradient too."""
    model = perturbed(name, backend)
    inputs = inputs_and_labels_of(name) | {"head_mask": MASKS[shape]}
    found = by_backward(model, inputs)
    assert_close(found, by_complex_step(model, inputs))
    assert (np.abs(found) > 1e-6).all()


@pytest.mark.parametrize("name", [n for n, tiny in DECODERS.items() if tiny.head_mask])
def test_the_head_mask_of_decoders(name, backend):
    """Self-attention and cross-attention have one mask, with pruned heads in the first; dropout too."""
    tiny = DECODERS[name]
    model, inputs = tiny.model(backend), tiny.inputs()
    inputs["head_mask"] = np.asarray(inputs["head_mask"], float)
    found = by_backward(model, inputs)
    assert_close(found, by_complex_step(model, inputs))
    assert np.abs(found).max() > 1e-6


def test_a_pruned_head_has_gradient_0(backend):
    pruned = {0: [1], 1: [0, 2]}
    model = perturbed("NezhaForMaskedLM", backend, pruned_heads=pruned)
    inputs = inputs_and_labels_of("NezhaForMaskedLM") | {"head_mask": MASKS["layers"]}
    found = by_backward(model, inputs)
    assert_close(found, by_complex_step(model, inputs))
    assert (found == 0.0).tolist() == [[False, True, False], [True, False, True]]


def test_a_layer_that_nothing_reaches_has_gradient_0(backend):
    model = perturbed("NezhaModel", backend)
    out = recorded(model, inputs_of("NezhaModel"), head_mask=MASKS["layers"])
    d = to_host(out.backward(hidden_states=[None, np.ones((B, L, D)), None])["head_mask"])
    assert (d[1] == 0.0).all()
    d = to_host(out.backward(attentions=[None, np.ones((B, N, L, L))])["head_mask"])
    assert (np.abs(d[1]) > 0.0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_and_library(dtype, backend):
    model = perturbed("NezhaModel", backend, dtype=dtype)
    out = recorded(model, inputs_of("NezhaModel"), head_mask=MASKS["heads"])
    d = out.backward(pooler_output=np.ones((B, D)))
    for array in (d["head_mask"], *d.hidden_states):
        assert array.dtype == dtype
        assert isinstance(array, model.xp.ndarray)


def test_complex_masks_are_for_complex_models_alone(backend):
    mask, inputs = MASKS["heads"] + 0j, inputs_of("NezhaModel")
    for dtype in ("float32", "float64"):
        with pytest.raises(ArgumentError, match="head_mask: expected numbers, found complex128"):
            perturbed("NezhaModel", backend, dtype=dtype)(**inputs, head_mask=mask)
    stepped = perturbed("NezhaModel", backend, dtype="complex128")
    stepped(**inputs, head_mask=mask)
    for bad in (np.nan, 1j * np.inf):
        with pytest.raises(ArgumentError, match="head_mask: expected finite numbers"):
            stepped(**inputs, head_mask=mask + bad)


def test_a_wrong_gradient_is_seen(backend, monkeypatch):
    """Negative control: dropout's factor forgotten, and the upstream gradient of the weights."""
    model = perturbed("NezhaForMaskedLM", backend, attention_probs_dropout_prob=0.4).train()
    inputs = inputs_and_labels_of("NezhaForMaskedLM") | {"head_mask": MASKS["layers"]}
    expected = by_complex_step(model, inputs)
    assert_close(by_backward(model, inputs), expected)

    def without_dropout(dcontext, cache, dweights=None):
        return head_mask_gradient(
            dcontext, cache._replace(dropout=cache.dropout._replace(factor=None)), dweights
        )

    monkeypatch.setattr(blocks, "head_mask_gradient", without_dropout)
    with pytest.raises(AssertionError, match="differs by"):
        assert_close(by_backward(model, inputs), expected)


# --- the hidden states ----------------------------------------------------------------------------


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_hidden_states_of_every_class(class_name, backend):
    """The first hidden state is what LayerNorm's bias is added to, after dropout of rate 0: its
    gradient, summed over the tokens, is that of the bias. So is a layer's."""
    model = perturbed(class_name, backend)
    out = recorded(model, inputs_of(class_name))
    rng = np.random.default_rng(3)
    fields = [n for n in out.keys() if n not in ("hidden_states", "attentions")]  # noqa: SIM118
    d = out.backward(**{name: rng.standard_normal(out[name].shape) for name in fields})
    assert d["hidden_states"] is d.hidden_states
    assert [a.shape for a in d.hidden_states] == [h.shape for h in out.hidden_states]
    gradients = model.gradients()
    places = ["embeddings", *(f"encoder.layer.{i}.output" for i in range(2))]
    for place, array in zip(places, d.hidden_states, strict=True):
        (bias,) = (
            x
            for n, x in gradients.items()
            if n.endswith(f"{place}.LayerNorm.bias") and f"attention.{place}" not in n
        )
        assert_close(array.sum(axis=(0, 1)), to_host(bias))
        assert np.abs(to_host(bias)).max() > 1e-6


def test_hidden_states_that_are_outputs_too(backend):
    """Above the place of the upstream gradient all is 0, at the place it is that gradient."""
    model = perturbed("NezhaModel", backend)
    out = recorded(model, inputs_of("NezhaModel"))
    u = np.random.default_rng(5).standard_normal((B, L, D))
    d = out.backward(hidden_states=[None, u, None]).hidden_states
    assert_equal(d[1], u)
    assert (to_host(d[2]) == 0.0).all()
    assert np.abs(to_host(d[0])).max() > 1e-3
    both = out.backward(hidden_states=[u, u, None]).hidden_states
    assert_close(both[0], to_host(d[0]) + u)


def test_the_hidden_states_are_no_inputs(backend):
    """The dictionary has the inputs alone; without hidden states in the output there are none."""
    tiny = Tiny(MLM)
    model, inputs = tiny.model(backend), tiny.inputs()
    d = model(**inputs, output_hidden_states=True).backward()
    assert (dict(d), list(d), len(d), "hidden_states" in d) == ({}, [], 0, False)
    assert len(d.hidden_states) == 2
    d = model(**inputs).backward()
    assert d.hidden_states is None
    for name in ("hidden_states", "inputs_embeds", "head_mask"):
        with pytest.raises(KeyError, match=name):
            d[name]


# --- what stays as it was -------------------------------------------------------------------------


def test_gradcheck_and_trace_have_no_head_mask(backend):
    model = NezhaForMaskedLM(configuration(), backend=backend, dtype="float64")
    inputs = inputs_and_labels_of("NezhaForMaskedLM")
    masked = inputs | {"head_mask": MASKS["heads"]}
    counts = [crosscheck.gradcheck(model, x, entries=1).checked for x in (inputs, masked)]
    assert counts[0] == counts[1] == len(model.state_dict())
    names = [list(crosscheck.trace(model, x)) for x in (inputs, masked)]
    assert not [name for name in names[1] if "head_mask" in name]
    assert set(names[1]) - set(names[0]) == {
        f"encoder.layer.{i}.attention.weights" for i in range(2)
    } - set(names[0])


def test_a_mask_changes_no_other_gradient(backend):
    model = NezhaModel(configuration(), backend=backend, dtype="float64")
    inputs, u = inputs_of("NezhaModel"), np.random.default_rng(6).standard_normal((B, L, D))
    found = []
    for options in ({}, {"head_mask": np.ones(N)}):
        model.zero_grad()
        recorded(model, inputs, **options).backward(last_hidden_state=u)
        found.append(copied(model.gradients()))
    assert_equal(*found)
