"""Batches, lengths, and the many forms in which the same inputs can be passed."""

import copy
import warnings

import numpy as np
import pytest
from hypothesis import given, settings

from minizha import NezhaConfig, NezhaForPreTraining, NezhaModel
from minizha.backend import to_host
from tests.support.assertions import assert_close, assert_equal
from tests.support.running import (
    backward,
    fields,
    forward,
    mapped,
    on_host,
    recorded,
    run,
    run_randomly,
)
from tests.support.strategies import CLASSES, SEED, Case, cases, holds_for

BATCHED = ("input_ids", "token_type_ids", "attention_mask")


def rows_of(inputs, rows):
    """The inputs of some examples of the batch."""
    return {
        name: array if name == "head_mask" else np.ascontiguousarray(array[rows])
        for name, array in inputs.items()
    }


def outputs_of(found):
    return {name: array for name, array in found.items() if not name.startswith("∂")}


def gradients_of(found):
    return {name: array for name, array in found.items() if name.startswith("∂")}


@holds_for(cases(batches=range(2, 5)))
def test_permuting_the_batch_permutes_the_outputs_and_keeps_the_gradients(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    order = case.rng("order").permutation(case.B)
    found, upstream = run_randomly(model, inputs, case.rng("upstream"))
    upstream = mapped(upstream, lambda _, array: array[order])
    permuted = run(model, rows_of(inputs, order), upstream)
    assert_close(gradients_of(permuted), gradients_of(found))
    expected = {name: array[order] for name, array in outputs_of(found).items()}
    assert_close(outputs_of(permuted), expected)


@holds_for(cases(batches=range(2, 5)))
def test_a_row_of_the_batch_is_the_batch_of_that_row(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    whole = forward(model, inputs)
    row = [case.pick("row", range(case.B))]
    alone = forward(model, rows_of(inputs, row))
    assert_close(alone, {name: array[row] for name, array in whole.items()})


@holds_for(cases(batches=range(2, 4)))
def test_gradients_of_the_rows_add_up_to_those_of_the_batch(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    found, upstream = run_randomly(model, inputs, case.rng("upstream"))
    model.zero_grad()
    for row in range(case.B):
        out = recorded(model, rows_of(inputs, [row]))
        out.backward(**mapped(upstream, lambda _, array, row=row: array[[row]]))
    added = {f"∂{name}": array for name, array in on_host(model.gradients()).items()}
    assert_close(added, gradients_of(found))


@holds_for(cases())
def test_a_second_backward_adds_the_same_gradients_again(case, backend):
    model = case.model(NezhaForPreTraining, backend)
    out = recorded(model, case.inputs() | case.labels(NezhaForPreTraining))
    once = backward(model, out)
    out.backward()
    twice = on_host(model.gradients())
    assert_close({f"∂{name}": array for name, array in twice.items()}, twofold(once))


def twofold(gradients):
    return {name: 2.0 * array for name, array in gradients.items()}


@holds_for(cases(lengths=(1,), head_masks=("none",)))
def test_one_token_attends_to_itself(case, backend):
    found = forward(case.model(NezhaModel, backend), case.inputs())
    config = case.config
    for i in range(config.num_hidden_layers):
        weights = found[f"attentions.{i}"]
        assert weights.shape == (case.B, config.num_attention_heads, 1, 1)
        assert (weights == 1.0).all()


@holds_for(cases(max_position_embeddings=4, lengths=range(1, 10)))
def test_any_length_runs_and_the_first_beyond_the_trained_one_warns(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first = forward(model, inputs)
        again = forward(model, inputs)
    assert len(caught) == (case.L > 4)
    assert all("max_position_embeddings = 4" in str(w.message) for w in caught)
    assert_equal(again, first)


@settings(max_examples=2)
@given(SEED)
def test_more_than_512_tokens_run_with_one_warning(backend, seed):
    case = long_case(seed)
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    with pytest.warns(UserWarning, match="513 tokens are more than max_position_embeddings = 512"):
        found = forward(model, inputs)
    assert found["last_hidden_state"].shape == (1, 513, case.config.hidden_size)
    assert all(np.isfinite(array).all() for array in found.values())
    assert_equal(forward(model, inputs), found)  # a second warning would be an error


def long_case(seed):
    config = NezhaConfig(
        vocab_size=7,
        hidden_size=4,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=3,
    )
    return Case(config, 1, 513, "holes", "none", seed)


def complete(case, model_class=NezhaForPreTraining):
    """Every argument that the class takes."""
    return case.inputs() | case.labels(model_class)


@holds_for(cases())
def test_inputs_are_not_changed(case, backend):
    model = case.model(NezhaForPreTraining, backend)
    inputs = complete(case)
    before = copy.deepcopy(inputs)
    run(model, inputs)
    assert_equal(inputs, before)


@holds_for(cases())
def test_changing_an_input_after_the_call_does_not_change_the_gradients(case, backend):
    model = case.model(NezhaForPreTraining, backend)
    inputs = complete(case)
    expected = run(model, inputs)
    # arrays of the backend, which could be used without a copy
    given = {name: model.xp.asarray(array) for name, array in inputs.items()}
    out = recorded(model, given)
    for array in given.values():
        array[...] = 0
    assert_equal(fields(out) | backward(model, out), expected)


def strided(array):
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), dtype=array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


FORMS = {
    "lists": lambda a: a.tolist(),
    "strided": strided,
    "read-only": read_only,
    "Fortran": np.asfortranarray,
    "reversed": lambda a: a[::-1].copy()[::-1],
}


@holds_for(cases())
def test_the_layout_of_the_inputs_does_not_matter(case, backend):
    model, inputs = case.model(NezhaForPreTraining, backend), complete(case)
    expected = run(model, inputs)
    form = case.pick("form", list(FORMS.values()))
    assert_equal(run(model, {name: form(a) for name, a in inputs.items()}), expected)
    on_device = {name: model.xp.asarray(a) for name, a in inputs.items()}
    assert_equal(run(model, on_device), expected)


@holds_for(cases())
def test_integers_of_any_width_are_the_same(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    expected = forward(model, inputs)
    dtype = case.pick("dtype", (np.int32, np.uint8, np.int8, np.uint64))
    other = {n: a if n == "head_mask" else a.astype(dtype) for n, a in inputs.items()}
    assert_equal(forward(model, other), expected)


@holds_for(cases())
def test_no_token_types_are_types_of_zero(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    inputs["token_type_ids"] = np.zeros((case.B, case.L), dtype=np.int64)
    expected = forward(model, inputs)
    del inputs["token_type_ids"]
    assert_equal(forward(model, inputs), expected)


@holds_for(cases())
def test_embeddings_may_come_in_place_of_ids(case, backend):
    """The rows that the ids read give the same outputs. The gradient of each row is the sum over the
    positions where it was read, and 0 for the padding row."""
    model, inputs = case.model(case.pick("class", CLASSES), backend), case.inputs()
    by_ids, upstream = run_randomly(model, inputs, case.rng("upstream"))
    ids = inputs.pop("input_ids")
    body = getattr(model.parameters, "nezha", model.parameters)
    inputs["inputs_embeds"] = to_host(body.embeddings.word_embeddings.weight)[ids]
    by_embeds = run(model, inputs, upstream)
    assert_equal(outputs_of(by_embeds), outputs_of(by_ids))

    returned = by_embeds.pop("∂inputs_embeds")
    words = next(name for name in by_ids if name.endswith("word_embeddings.weight"))
    rows = np.zeros_like(by_ids[words])
    np.add.at(rows, ids, returned)
    if case.config.pad_token_id is not None:
        rows[case.config.pad_token_id] = 0.0
    by_embeds[words] = by_embeds[words] + rows  # the part from a tied decoder is included already
    assert_close(gradients_of(by_embeds), gradients_of(by_ids))
