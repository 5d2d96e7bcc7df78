"""Pruning heads is masking them permanently: by a call, by the configuration, after save and load."""

import json

import numpy as np
import pytest

from minizha.backend import to_host
from minizha.errors import ArgumentError, FileError, MinizhaError
from tests.support.assertions import assert_close, assert_equal, differs
from tests.support.eight_models import (
    TOLERANCE,
    N,
    body_prefix,
    class_of,
    fresh,
    inputs_and_labels_of,
    inputs_of,
    parameters_of,
    perturbed,
)
from tests.support.running import backward, fields, forward, on_host, random_upstream, recorded, run

PRUNED = {0: [1], 1: [0, 2]}
d = 4  # of a head


def heads_left(pruned, layer):
    return [head for head in range(N) if head not in pruned.get(layer, ())]


def mask_of(pruned, layers=2):
    return np.asarray(
        [[float(head in heads_left(pruned, i)) for head in range(N)] for i in range(layers)]
    )


def cut(name, array, pruned):
    """The entries of a parameter or its gradient for the heads that are left."""
    if ".attention." not in name or "LayerNorm" in name or name.endswith("dense.bias"):
        return array
    layer = int(name.split("encoder.layer.")[1].split(".")[0])
    places = [head * d + i for head in heads_left(pruned, layer) for i in range(d)]
    return array[:, places] if name.endswith("dense.weight") else array[places]


def cut_all(arrays, pruned):
    """The same for all results of a run, gradients and attention weights included."""
    found = {}
    for name, array in arrays.items():
        if name.startswith("attentions."):
            found[name] = array[:, heads_left(pruned, int(name[-1]))]
        else:
            found[name] = cut(name, array, pruned)
    return found


def masked_run(model, inputs, pruned):
    """The fields and gradients that the pruned model should give, by the whole model with a mask; and
    the upstream gradients for the pruned model."""
    out = recorded(model, inputs, head_mask=mask_of(pruned))
    upstream = random_upstream(out)
    expected = cut_all(fields(out) | backward(model, out, upstream), pruned)
    upstream["attentions"] = tuple(
        a[:, heads_left(pruned, i)] for i, a in enumerate(upstream["attentions"])
    )
    return expected, upstream


# --- pruning is masking ---------------------------------------------------------------------------


def test_pruning_is_masking(class_name, backend):
    """Fields, and the gradients of the heads that are left."""
    model, inputs = perturbed(class_name, backend), inputs_and_labels_of(class_name)
    expected, upstream = masked_run(model, inputs, PRUNED)
    model.prune_heads(PRUNED)
    assert_close(run(model, inputs, upstream), expected, TOLERANCE)


def test_other_heads_pruned_would_show(class_name, backend):
    """Negative control of the test above."""
    model, inputs = perturbed(class_name, backend), inputs_of(class_name)
    expected = forward(model, inputs | {"head_mask": mask_of({0: [1]})})
    model.prune_heads({0: [2]})
    found = forward(model, inputs)
    names = [name for name in expected if name != "attentions.0"]
    assert differs({n: found[n] for n in names}, {n: expected[n] for n in names}, 1e-3)


def test_what_is_left_are_the_rows_and_columns_of_the_other_heads(class_name, backend):
    model = perturbed(class_name, backend)
    before, numbers = parameters_of(model), model.num_parameters()
    model.prune_heads(PRUNED)
    assert_equal(parameters_of(model), {name: cut(name, a, PRUNED) for name, a in before.items()})
    D = 12
    assert numbers - model.num_parameters() == 3 * (3 * (D * d + d) + D * d)
    assert model.config.pruned_heads == PRUNED
    assert (model.config.num_attention_heads, model.config.head_size) == (N, d)


def test_a_head_mask_counts_the_heads_that_were_pruned(class_name, backend):
    model, inputs = perturbed(class_name, backend), inputs_of(class_name)
    factors = np.random.default_rng(0).random((2, N))
    expected = forward(model, inputs | {"head_mask": factors * mask_of(PRUNED)})
    model.prune_heads(PRUNED)
    found = forward(model, inputs | {"head_mask": factors})
    assert_close(found, cut_all(expected, PRUNED), TOLERANCE)


# --- more and more --------------------------------------------------------------------------------

STEPS = [{0: [1]}, {-1: [0]}, {1: [0, 2], 0: []}, {0: [1, 0]}, {}]


def saved_and_loaded(model, folder, backend):
    model.save_pretrained(folder)
    return type(model).from_pretrained(folder, backend=backend)


@pytest.mark.parametrize("saving", [False, True])
def test_numbers_stay_those_of_before_any_pruning(class_name, saving, backend, tmp_path):
    """Overlapping heads, a layer counted from the end, saved and loaded each time."""
    model, inputs, pruned = perturbed(class_name, backend), inputs_of(class_name), {}
    whole = perturbed(class_name, backend)
    for i, step in enumerate(STEPS):
        if saving:
            model = saved_and_loaded(model, tmp_path / str(i), backend)
        model.prune_heads(step)
        for layer, heads in step.items():
            pruned[layer % 2] = {*pruned.get(layer % 2, ()), *heads}
        assert model.config.pruned_heads == {n: sorted(h) for n, h in pruned.items() if h}
        expected = forward(whole, inputs | {"head_mask": mask_of(pruned)})
        assert_close(forward(model, inputs), cut_all(expected, pruned), TOLERANCE)
    assert {n: sorted(h) for n, h in pruned.items()} == {0: [0, 1], 1: [0, 2]}
    at_once = perturbed(class_name, backend)
    at_once.prune_heads(pruned)
    assert_equal(parameters_of(model), parameters_of(at_once))


def test_a_pruned_model_is_saved_as_it_is(class_name, backend, tmp_path):
    model = perturbed(class_name, backend)
    model.prune_heads(PRUNED)
    loaded = saved_and_loaded(model, tmp_path, backend)
    assert_equal(parameters_of(loaded), parameters_of(model))
    assert loaded.config.pruned_heads == PRUNED
    assert json.loads((tmp_path / "config.json").read_text())["pruned_heads"] == {
        "0": [1],
        "1": [0, 2],
    }
    inputs = inputs_and_labels_of(class_name)
    assert_equal(forward(loaded, inputs), forward(model, inputs))


def test_the_configuration_prunes_at_construction(class_name, backend, tmp_path):
    """JSON's keys are strings; a layer may be counted from the end there too."""
    model = perturbed(class_name, backend)
    model.prune_heads(PRUNED)
    for heads in (PRUNED, {"0": [1], "1": [2, 0]}, {-2: (1,), -1: {0, 2}}):
        built = perturbed(class_name, backend, pruned_heads=heads)
        assert built.config.pruned_heads == PRUNED
        shapes = {name: array.shape for name, array in built.state_dict().items()}
        assert shapes == {name: array.shape for name, array in model.state_dict().items()}
        built.load_state_dict(model.state_dict())
        assert_equal(forward(built, inputs_of(class_name)), forward(model, inputs_of(class_name)))
        built.prune_heads({0: [0, 1]})
        assert built.config.pruned_heads == {0: [0, 1], 1: [0, 2]}
    model.save_pretrained(tmp_path)
    assert (
        class_of(class_name).from_pretrained(tmp_path, backend=backend).config.pruned_heads
        == PRUNED
    )


def test_from_pretrained_does_not_cut_what_is_stored_whole(class_name, backend, tmp_path):
    """Files hold the unpruned heads only; the configuration of the folder says which."""
    perturbed(class_name, backend).save_pretrained(tmp_path)
    with pytest.raises(
        FileError, match=r"attention\.self\.query\.weight: expected shape \(8, 12\)"
    ):
        class_of(class_name).from_pretrained(tmp_path, pruned_heads={0: [1]}, backend=backend)


# --- gradients, and backward of before ------------------------------------------------------------


def test_gradients_of_before_are_forgotten(class_name, backend):
    model, inputs = perturbed(class_name, backend), inputs_and_labels_of(class_name)
    out = model(**inputs, record=True)
    out.backward(**random_upstream(out))
    model.prune_heads(PRUNED)
    gradients = on_host(model.gradients())
    assert {n: g.shape for n, g in gradients.items()} == {
        n: a.shape for n, a in model.state_dict().items()
    }
    assert all((gradient == 0).all() for gradient in gradients.values())


def test_an_output_of_before_has_no_way_back(class_name, backend):
    """Its gradients would have the shapes of the pruned heads."""
    model, inputs = perturbed(class_name, backend), inputs_and_labels_of(class_name)
    out = model(**inputs, record=True)
    model.prune_heads(PRUNED)
    with pytest.raises(MinizhaError, match="the model was changed since it was called"):
        out.backward(**random_upstream(out))
    assert all((to_host(gradient) == 0).all() for gradient in model.gradients().values())
    out = model(**inputs, record=True)
    out.backward(**random_upstream(out))


def test_dropout_and_training_go_on(class_name, backend):
    model, inputs = perturbed(class_name, backend).train(seed=1), inputs_and_labels_of(class_name)
    model.prune_heads(PRUNED)
    assert model.training
    first = fields(model(**inputs))
    assert differs(fields(model(**inputs)), first)
    assert_equal(fields(model.train(seed=1)(**inputs)), first)


# --- refused --------------------------------------------------------------------------------------

REFUSED = {
    "the last head": {1: [0, 1, 2]},
    "the last that is left": {0: [0, 2]},
    "an unknown layer": {2: [0]},
    "an unknown layer from the end": {-3: [0]},
    "an unknown head": {0: [3]},
    "a negative head": {0: [-1]},
    "a good and a bad layer": {0: [0], 7: [0]},
    "no layer": {"one": [0]},
    "half a layer": {0.5: [0]},
    "a head by name": {0: ["0"]},
    "half a head": {0: [0.5]},
    "a number of heads": {0: 2},
    "no heads": {0: None},
    "a list": [0, 1],
    "a pair": (0, [1]),
    "nothing": None,
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_and_nothing_is_changed(what, backend):
    model = perturbed("NezhaForSequenceClassification", backend)
    model.prune_heads({0: [1]})
    config, before = model.config, parameters_of(model)
    with pytest.raises(ArgumentError, match=r"^heads_to_prune: (pruned_heads: )?expected"):
        model.prune_heads(REFUSED[what])
    assert model.config is config
    assert_equal(parameters_of(model), before)


@pytest.mark.parametrize("heads", [{0: [0, 1, 2]}, {5: [0]}, {0: [9]}, {0: 1}, {"a": [0]}])
def test_the_configuration_refuses_the_same(heads, class_name, backend):
    with pytest.raises(ArgumentError, match="pruned_heads: expected"):
        fresh(class_name, backend, pruned_heads=heads)


def test_heads_of_any_kind_of_sequence(backend):
    for heads in ([1], (1,), {1}, range(1, 2), np.asarray([1]), iter([1]), [1, 1, np.int64(1)]):
        model = perturbed("NezhaModel", backend)
        model.prune_heads({np.int64(0): heads})
        assert model.config.pruned_heads == {0: [1]}


def test_cross_attention_keeps_its_heads(backend):
    """As in Transformers, only self-attention is pruned."""
    model = perturbed("NezhaModel", backend, is_decoder=True, add_cross_attention=True)
    before = parameters_of(model)
    model.prune_heads({0: [1]})
    after = parameters_of(model)
    assert after["encoder.layer.0.attention.self.query.weight"].shape == (8, 12)
    crossing = {n: a for n, a in before.items() if "crossattention" in n}
    assert crossing
    assert_equal({name: after[name] for name in crossing}, crossing)
    assert body_prefix(model) == ""
