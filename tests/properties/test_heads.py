"""What a head mask does, and that heads have no order."""

import numpy as np

from minizha import NezhaForPreTraining, NezhaModel
from minizha.backend import to_host
from tests.support.assertions import assert_close, assert_equal
from tests.support.running import (
    backward,
    fields,
    forward,
    on_host,
    random_upstream,
    recorded,
    run,
    run_randomly,
)
from tests.support.strategies import cases, holds_for

OUTPUT = "encoder.layer.{}.attention.output.dense.weight"
UNMASKED = {"head_masks": ("none",)}


def without_attentions(found):
    return {name: array for name, array in found.items() if not name.startswith("attentions")}


def columns_scaled(model, factors):
    """A copy of the parameters that multiplies each head's output by its factor."""
    d = model.config.head_size
    arrays = {name: array.copy() for name, array in on_host(model.state_dict()).items()}
    for i, of_layer in enumerate(factors):
        arrays[OUTPUT.format(i)] *= np.repeat(of_layer, d)
    return arrays


def check_head_mask(case, backend, factors):
    """The outputs are those of an output projection whose columns are multiplied by the factors; by the
    chain rule, the gradient of those columns is multiplied by them too."""
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    plain = forward(model, inputs)
    out = recorded(model, inputs | {"head_mask": factors})
    upstream = random_upstream(out, case.rng("upstream"))
    del upstream["attentions"]
    masked = fields(out) | backward(model, out, upstream)
    # in later layers the probabilities differ
    first = np.broadcast_to(factors[0][:, None, None], plain["attentions.0"].shape)
    assert_close(masked["attentions.0"], plain["attentions.0"] * first)
    model.load_state_dict(columns_scaled(model, factors))
    scaled = run(model, inputs, upstream)
    for i, of_layer in enumerate(factors):
        scaled["∂" + OUTPUT.format(i)] *= np.repeat(of_layer, case.config.head_size)
    assert_close(without_attentions(masked), without_attentions(scaled))


def shape_of(case):
    return case.config.num_hidden_layers, case.config.num_attention_heads


@holds_for(cases(**UNMASKED))
def test_a_head_mask_of_ones_changes_nothing(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    expected, upstream = run_randomly(model, inputs, case.rng("upstream"))
    found = run(model, inputs | {"head_mask": np.ones(shape_of(case))}, upstream)
    assert_equal(found, expected)


@holds_for(cases(**UNMASKED))
def test_a_masked_head_is_one_whose_output_columns_are_zero(case, backend):
    factors = case.rng("factors").integers(0, 2, shape_of(case)).astype(float)
    factors.flat[case.pick("off", range(factors.size))] = 0.0
    check_head_mask(case, backend, factors)


@holds_for(cases(**UNMASKED))
def test_a_fractional_head_mask_scales_what_the_head_says(case, backend):
    check_head_mask(case, backend, case.rng("factors").uniform(-2.0, 2.0, shape_of(case)))


@holds_for(cases(head_masks=("heads",)))
def test_one_head_mask_is_the_same_for_all_layers(case, backend):
    model, inputs = case.model(NezhaForPreTraining, backend), case.inputs()
    inputs |= case.labels(NezhaForPreTraining)
    expected = run(model, inputs)
    layers = np.tile(inputs["head_mask"], (case.config.num_hidden_layers, 1))
    assert_equal(run(model, inputs | {"head_mask": layers}), expected)
    assert_equal(run(model, inputs | {"head_mask": inputs["head_mask"].tolist()}), expected)


@holds_for(cases(head_masks=("none",)))
def test_a_head_that_is_masked_gets_no_gradient(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    layers, N = shape_of(case)
    layer, head = case.pick("layer", range(layers)), case.pick("head", range(N))
    inputs["head_mask"] = np.ones((layers, N))
    inputs["head_mask"][layer, head] = 0.0
    found, _ = run_randomly(model, inputs, case.rng("upstream"))
    d = case.config.head_size
    own = slice(head * d, (head + 1) * d)
    for name in ("query", "key", "value"):
        for leaf in ("weight", "bias"):
            gradient = found[f"∂encoder.layer.{layer}.attention.self.{name}.{leaf}"]
            assert (gradient[own] == 0).all(), name
    assert (found["∂" + OUTPUT.format(layer)][:, own] == 0).all()


@holds_for(cases(head_masks=("none",)))
def test_the_order_of_the_heads_does_not_matter(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    config, d = case.config, case.config.head_size
    order = case.rng("order").permutation(config.num_attention_heads)
    features = np.concatenate([np.arange(n * d, (n + 1) * d) for n in order])
    expected = forward(model, inputs)
    arrays = {name: to_host(array) for name, array in model.state_dict().items()}
    for name, array in arrays.items():
        if ".attention.self." in name:
            arrays[name] = array[features]
        elif name.endswith("attention.output.dense.weight"):
            arrays[name] = array[:, features]
    model.load_state_dict(arrays)
    found = forward(model, inputs)
    for i in range(config.num_hidden_layers):
        expected[f"attentions.{i}"] = expected[f"attentions.{i}"][:, order]
    assert_close(found, expected)
