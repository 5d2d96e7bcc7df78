"""The functional relative positions, seen in the outputs of a model."""

import numpy as np
from hypothesis import settings

from minizha import NezhaModel
from minizha.backend import to_host
from tests.support import plain_nezha
from tests.support.assertions import assert_close, assert_equal, differs
from tests.support.running import forward, on_host
from tests.support.strategies import HEAD_MASKS, cases, holds_for

PLAIN = {"masks": ("none",), "head_masks": ("none",)}


def states_of(model, inputs):
    found = forward(model, inputs)
    return {name: a for name, a in found.items() if name.startswith("hidden_states")}


def reference(model, inputs, clip=True):
    states = plain_nezha.hidden_states(on_host(model.state_dict()), model.config, inputs, clip)
    return {f"hidden_states.{i}": state for i, state in enumerate(states)}


@holds_for(cases(lengths=range(1, 13)))
def test_every_hidden_state_is_that_of_the_plain_reference(case, backend):
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    assert_close(states_of(model, inputs), reference(model, inputs))


@holds_for(cases(lengths=range(1, 10)))
def test_a_distance_that_is_not_beyond_k_is_not_clipped(case, backend):
    case = case.with_config(max_relative_position=case.pick("K", range(case.L - 1, case.L + 2)))
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    assert_close(states_of(model, inputs), reference(model, inputs, clip=False))


@holds_for(cases(lengths=range(4, 10), **PLAIN))
def test_a_distance_beyond_k_is_clipped(case, backend):
    case = case.with_config(max_relative_position=case.pick("K", range(case.L - 2)))
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    states = states_of(model, inputs)
    assert differs(states, reference(model, inputs, clip=False), least=1e-6)
    assert_close(states, reference(model, inputs))


@settings(max_examples=20)
@holds_for(cases(lengths=range(40, 71), batches=(1,), num_hidden_layers=1))
def test_long_rows_too_are_those_of_the_plain_reference(case, backend):
    case = case.with_config(max_relative_position=case.pick("K", (2, 16, 39, 64)))
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    assert_close(states_of(model, inputs), reference(model, inputs))


@holds_for(cases(max_relative_position=0, lengths=range(2, 8), masks=("none", "holes")))
def test_where_k_is_0_permuted_tokens_give_permuted_outputs(case, backend):
    """All distances are clipped to 0, and nothing else depends on positions."""
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    order = case.rng("order").permutation(case.L)
    moved = {n: a if n == "head_mask" else a[:, order] for n, a in inputs.items()}
    expected = {name: state[:, order] for name, state in states_of(model, inputs).items()}
    assert_close(states_of(model, moved), expected)


@holds_for(cases(lengths=(3,), **PLAIN))
def test_where_k_is_not_0_order_matters(case, backend):
    case = case.with_config(max_relative_position=case.pick("K", (1, 2, 3, 4)))
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    rng = case.rng("ids")
    ids = [rng.permutation(case.config.vocab_size)[:3] for _ in range(case.B)]
    inputs["input_ids"] = np.stack(ids)
    inputs["token_type_ids"] = np.zeros((case.B, 3), dtype=np.int64)
    backwards = inputs | {"input_ids": inputs["input_ids"][:, ::-1]}
    turned = {name: state[:, ::-1] for name, state in states_of(model, backwards).items()}
    assert differs(turned, states_of(model, inputs))


@holds_for(cases(lengths=range(4, 10), head_masks=HEAD_MASKS, masks=("none",)))
def test_keys_beyond_k_on_one_side_can_change_places(case, backend):
    """The last two tokens swapped: the first layer is the same for queries more than K before both."""
    case = case.with_config(max_relative_position=case.pick("K", range(case.L - 2)))
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    order = np.array([*range(case.L - 2), case.L - 1, case.L - 2])
    moved = {n: a if n == "head_mask" else a[:, order] for n, a in inputs.items()}
    last = case.L - 2 - case.config.max_relative_position
    first, second = states_of(model, inputs), states_of(model, moved)
    assert last >= 1
    here = slice(0, last)
    assert_close(second["hidden_states.1"][:, here], first["hidden_states.1"][:, here])


@holds_for(cases(masks=("none",)))
def test_before_attention_no_token_knows_its_place(case, backend):
    """With one id everywhere all the first hidden states are equal; where K is 0, the others too."""
    model, inputs = case.model(NezhaModel, backend), case.inputs()
    inputs["input_ids"] = np.full((case.B, case.L), case.pick("id", range(case.config.vocab_size)))
    inputs["token_type_ids"] = np.zeros((case.B, case.L), dtype=np.int64)
    states = states_of(model, inputs)
    known_before = states["hidden_states.0"]
    assert_equal(known_before, np.repeat(known_before[:, :1], case.L, axis=1))
    if case.config.max_relative_position == 0:
        for state in states.values():
            assert_close(state, np.repeat(state[:, :1], case.L, axis=1))


@holds_for(cases())
def test_the_table_is_the_sinusoid_of_the_shifted_distance(case, backend):
    K, d = case.config.max_relative_position, case.config.head_size
    for dtype, tolerance in (("float64", 1e-14), ("float32", 1e-7)):
        table = NezhaModel(case.config, dtype=dtype, backend=backend).table
        assert str(table.dtype) == dtype
        rows = np.array([plain_nezha.sinusoid(p, d) for p in range(2 * K + 1)])
        assert_close(to_host(table).astype("float64"), rows, tolerance)
