"""What every class does alike: tuples and dictionaries, optional fields, batches, word vectors,
head masks. (Transformers tests the same of its models, at 1e-3 to 1e-5; here it is 1e-10.)

The other files test_common_….py go on with initialisation, pruning, the vocabulary, chunking, save
and load.
"""

import inspect

import numpy as np
import pytest

from minizha.backend import to_host
from minizha.model.auto import CLASSES
from tests.support.eight_models import (
    CHOICE,
    KINDS,
    LABELS,
    TOLERANCE,
    B,
    C,
    D,
    L,
    N,
    V,
    arrays_of,
    body_of,
    everything_of,
    fresh,
    inputs_of,
    make,
    upstream_of,
)
from tests.support.running import (
    assert_close,
    assert_equal,
    backward,
    differs,
    fields,
    forward,
    on_host,
)

MAIN_FIELDS = {
    "NezhaModel": {"last_hidden_state": (B, L, D), "pooler_output": (B, D)},
    "NezhaForPreTraining": {
        "loss": (),
        "prediction_logits": (B, L, V),
        "seq_relationship_logits": (B, 2),
    },
    "NezhaForMaskedLM": {"loss": (), "logits": (B, L, V)},
    "NezhaForNextSentencePrediction": {"loss": (), "logits": (B, 2)},
    "NezhaForSequenceClassification": {"loss": (), "logits": (B, LABELS)},
    "NezhaForMultipleChoice": {"loss": (), "logits": (B, C)},
    "NezhaForTokenClassification": {"loss": (), "logits": (B, L, LABELS)},
    "NezhaForQuestionAnswering": {"loss": (), "start_logits": (B, L), "end_logits": (B, L)},
}
ALL = {"output_hidden_states": True, "output_attentions": True}


def recorded(model, inputs, **more):
    return model(**inputs, **ALL, record=True, **more)


def both_ways(model, inputs, seed=4):
    """Every field, and the gradients from a random upstream and the loss."""
    out = recorded(model, inputs)
    return on_host(fields(out)) | backward(model, out, upstream_of(out, seed))


def test_all_classes_are_here():
    assert [kind.__name__ for kind in CLASSES] == list(KINDS)
    assert MAIN_FIELDS.keys() == set(KINDS)


# --- tuples and dictionaries ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_tuple_holds_what_the_dictionary_holds(kind, backend):
    model = make(kind, backend)
    for inputs in (inputs_of(kind), everything_of(kind)):
        for more in ({}, {"output_hidden_states": True}, {"output_attentions": True}, ALL):
            out, found = model(**inputs, **more), model(**inputs, **more, return_dict=False)
            assert type(found) is tuple
            assert len(found) == len(out) == len(out.to_tuple())
            for field, value, again in zip(out, found, out.to_tuple(), strict=True):
                assert_same_nest(value, out[field])
                assert_same_nest(again, getattr(out, field))


def assert_same_nest(a, b):
    """The same tuples of the same arrays."""
    assert type(a) is type(b)
    if type(a) is tuple:
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same_nest(x, y)
    else:
        np.testing.assert_array_equal(to_host(a), to_host(b))


@pytest.mark.parametrize("kind", KINDS)
def test_the_configuration_says_which_of_both_and_the_call_may_say_otherwise(kind, backend):
    model = make(kind, backend, return_dict=False)
    assert type(model(**inputs_of(kind))) is tuple
    assert list(model(**inputs_of(kind), return_dict=True)) == [
        name for name in MAIN_FIELDS[kind] if name != "loss"
    ]


# --- fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_main_fields_their_order_and_shapes(kind, backend):
    out = make(kind, backend)(**everything_of(kind))
    assert {name: value.shape for name, value in out.items()} == MAIN_FIELDS[kind]
    assert list(out) == list(MAIN_FIELDS[kind])


@pytest.mark.parametrize("switched", ["by the call", "by the configuration"])
@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_and_attentions(kind, switched, backend):
    rows = B * C if kind == CHOICE else B
    by_call = switched == "by the call"
    for names in (["hidden_states"], ["attentions"], ["hidden_states", "attentions"]):
        switches = {f"output_{name}": True for name in names}
        model = make(kind, backend, **({} if by_call else switches))
        out = model(**everything_of(kind), **(switches if by_call else {}))
        assert list(out) == [*MAIN_FIELDS[kind], *names]
        if "hidden_states" in names:
            assert [h.shape for h in out.hidden_states] == [(rows, L, D)] * 3
        if "attentions" in names:
            assert [a.shape for a in out.attentions] == [(rows, N, L, L)] * 2
            for weights in out.attentions:
                np.testing.assert_allclose(to_host(weights).sum(axis=-1), 1.0, atol=1e-14)
        without = model(**everything_of(kind), **dict.fromkeys(switches, False))
        assert list(without) == list(MAIN_FIELDS[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_optional_fields_change_none_of_the_others(kind, backend):
    model, inputs = make(kind, backend), everything_of(kind)
    plain, full = on_host(fields(model(**inputs))), forward(model, inputs)
    assert_equal({name: full[name] for name in plain}, plain)


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_arguments_of_all_calls_are_the_same(kind):
    """In the order of the documentation: whoever gives them by place gets the same everywhere."""
    names = list(inspect.signature(type(fresh(kind, "numpy")).__call__).parameters)
    assert names[1:6] == [
        "input_ids", "attention_mask", "token_type_ids", "head_mask", "inputs_embeds"
    ]  # fmt: skip


# --- a call changes nothing -----------------------------------------------------------------------


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_call_leaves_the_model_and_its_inputs_as_they_are(kind, train, backend):
    model, inputs = make(kind, backend), everything_of(kind)
    if train:
        model.train(seed=5)
    config, text, before = model.config, model.config.to_json(), arrays_of(model)
    given = {name: array.copy() for name, array in inputs.items()}
    out = recorded(model, inputs)
    assert all((to_host(d) == 0).all() for d in model.gradients().values())
    out.backward(**upstream_of(out))
    assert model.config is config
    assert config.to_json() == text
    assert model.training is train
    assert_equal(arrays_of(model), before)
    assert_equal(inputs, given)
    assert any(to_host(d).any() for d in model.gradients().values())


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_its_rows_one_by_one(kind, backend):
    """Outputs, and the gradients of the parameters, which the rows add up to."""
    model, inputs = make(kind, backend), inputs_of(kind)
    out = recorded(model, inputs)
    upstream = upstream_of(out)
    whole, gradients = on_host(fields(out)), backward(model, out, upstream)
    model.zero_grad()
    for row in range(B):
        part = recorded(model, {name: a[row : row + 1] for name, a in inputs.items()})
        found = on_host(fields(part))
        assert_close(
            found, {name: rows_of(kind, name, a, row) for name, a in whole.items()}, TOLERANCE
        )
        part.backward(
            **{
                name: tuple(rows_of(kind, f"{name}.", a, row) for a in d)
                if isinstance(d, tuple)
                else rows_of(kind, name, d, row)
                for name, d in upstream.items()
            }
        )
    added = {f"∂{name}": d for name, d in on_host(model.gradients()).items()}
    assert_close(added, gradients, TOLERANCE)


def rows_of(kind, name, array, row):
    """The part of a field that belongs to an example: hidden states of choices have C rows for it."""
    n = C if kind == CHOICE and name.startswith(("hidden_states.", "attentions.")) else 1
    return array[row * n : (row + 1) * n]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_not_mix(kind, backend):
    """Negative control: another neighbour changes its own row, and only that."""
    model, inputs = make(kind, backend), inputs_of(kind)
    before = forward(model, inputs)
    inputs["input_ids"] = inputs["input_ids"].copy()
    inputs["input_ids"][1] = (inputs["input_ids"][1] + 1) % V
    after = forward(model, inputs)
    for name, array in before.items():
        for row in range(B):
            mine, other = (rows_of(kind, name, a, row) for a in (array, after[name]))
            assert differs(mine, other) is (row == 1), name


# --- word vectors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_embeds_are_the_rows_that_ids_read(kind, backend):
    """Outputs are equal; of the gradients, those of the vectors, added up by id, are the rows'."""
    model, inputs = make(kind, backend, tie_word_embeddings=False), inputs_of(kind)
    expected = both_ways(model, inputs)
    ids = inputs.pop("input_ids")
    found = both_ways(model, inputs | {"inputs_embeds": to_host(model.get_input_embeddings())[ids]})
    dvectors = found.pop("∂inputs_embeds")
    assert dvectors.shape == (*ids.shape, D)
    words = f"∂{body_of(model)}embeddings.word_embeddings.weight"
    assert (found[words] == 0).all()
    found[words] = np.zeros((V, D))
    np.add.at(found[words], ids, dvectors)
    assert_close(found, expected, TOLERANCE)


# --- head masks -----------------------------------------------------------------------------------

MASK = np.asarray([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
MASKED = [(0, 1), (1, 0)]


def places_of(model, layer, head):
    """Each parameter that belongs to one head, and where in it: rows, or columns of the last."""
    name, mine = f"{body_of(model)}encoder.layer.{layer}.attention.", slice(4 * head, 4 * head + 4)
    for projection in ("query", "key", "value"):
        yield f"{name}self.{projection}.weight", (mine,)
        yield f"{name}self.{projection}.bias", (mine,)
    yield f"{name}output.dense.weight", (slice(None), mine)


@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_head_gets_no_gradient_and_no_weight(kind, backend):
    model, inputs = make(kind, backend), everything_of(kind) | {"head_mask": MASK}
    found = both_ways(model, inputs)
    for layer in range(2):
        for head in range(N):
            masked = (layer, head) in MASKED
            assert (found[f"attentions.{layer}"][:, head] == 0).all() == masked
            for name, place in places_of(model, layer, head):
                d = found[f"∂{name}"][place]
                if masked:
                    assert (d == 0).all(), name
                elif not name.endswith("key.bias"):
                    assert np.abs(d).max() > 1e-6, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_masked_head_has_no_influence(kind, backend):
    model, inputs = make(kind, backend), inputs_of(kind) | {"head_mask": MASK}
    expected = forward(model, inputs)
    for layer in range(2):
        for head in range(N):
            arrays = arrays_of(model)
            for name, place in places_of(model, layer, head):
                arrays[name][place] += 1.0
            other = make(kind, backend)
            other.load_state_dict(arrays)
            found = forward(other, inputs)
            if (layer, head) in MASKED:
                assert_equal(found, expected)
            else:
                assert differs(found, expected, 1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_of_ones_masks_nothing_and_one_row_is_for_every_layer(kind, backend):
    model, inputs = make(kind, backend), everything_of(kind)
    expected = both_ways(model, inputs)
    for ones in (np.ones(N), np.ones((2, N)), [1] * N, [[True] * N] * 2):
        assert_equal(both_ways(model, inputs | {"head_mask": ones}), expected)
    first = both_ways(model, inputs | {"head_mask": MASK[0]})
    assert_equal(first, both_ways(model, inputs | {"head_mask": [MASK[0], MASK[0]]}))
    assert differs(first, expected)
