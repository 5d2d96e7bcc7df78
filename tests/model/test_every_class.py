"""What every class does alike: tuples and dictionaries, optional fields, batches, word vectors,
head masks. (Transformers tests the same of its models, at 1e-3 to 1e-5; here it is 1e-10.)

Initialisation, pruning, the vocabulary, chunking and loading have files of their own beside it.
"""

import inspect

import numpy as np
import pytest

from minizha.backend import to_host
from minizha.model.auto import CLASSES
from tests.support.assertions import assert_close, assert_equal, differs
from tests.support.eight_models import (
    CHOICE,
    CLASS_NAMES,
    LABELS,
    TOLERANCE,
    B,
    C,
    D,
    L,
    N,
    V,
    body_prefix,
    fresh,
    inputs_and_labels_of,
    inputs_of,
    parameters_of,
    perturbed,
)
from tests.support.running import (
    ALL_FIELDS,
    backward,
    fields,
    forward,
    on_host,
    random_upstream,
    recorded,
    run_randomly,
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


def test_all_classes_are_here():
    assert [model_class.__name__ for model_class in CLASSES] == list(CLASS_NAMES)
    assert MAIN_FIELDS.keys() == set(CLASS_NAMES)


# --- tuples and dictionaries ----------------------------------------------------------------------


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_a_tuple_holds_what_the_dictionary_holds(class_name, backend):
    model = perturbed(class_name, backend)
    for inputs in (inputs_of(class_name), inputs_and_labels_of(class_name)):
        for more in ({}, {"output_hidden_states": True}, {"output_attentions": True}, ALL_FIELDS):
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


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_the_configuration_says_which_of_both_and_the_call_may_say_otherwise(class_name, backend):
    model = perturbed(class_name, backend, return_dict=False)
    assert type(model(**inputs_of(class_name))) is tuple
    assert list(model(**inputs_of(class_name), return_dict=True)) == [
        name for name in MAIN_FIELDS[class_name] if name != "loss"
    ]


# --- fields ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_the_main_fields_their_order_and_shapes(class_name, backend):
    out = perturbed(class_name, backend)(**inputs_and_labels_of(class_name))
    assert {name: value.shape for name, value in out.items()} == MAIN_FIELDS[class_name]
    assert list(out) == list(MAIN_FIELDS[class_name])


@pytest.mark.parametrize("switched", ["by the call", "by the configuration"])
@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_hidden_states_and_attentions(class_name, switched, backend):
    rows = B * C if class_name == CHOICE else B
    by_call = switched == "by the call"
    for names in (["hidden_states"], ["attentions"], ["hidden_states", "attentions"]):
        switches = {f"output_{name}": True for name in names}
        model = perturbed(class_name, backend, **({} if by_call else switches))
        out = model(**inputs_and_labels_of(class_name), **(switches if by_call else {}))
        assert list(out) == [*MAIN_FIELDS[class_name], *names]
        if "hidden_states" in names:
            assert [h.shape for h in out.hidden_states] == [(rows, L, D)] * 3
        if "attentions" in names:
            assert [a.shape for a in out.attentions] == [(rows, N, L, L)] * 2
            for weights in out.attentions:
                np.testing.assert_allclose(to_host(weights).sum(axis=-1), 1.0, atol=1e-14)
        without = model(**inputs_and_labels_of(class_name), **dict.fromkeys(switches, False))
        assert list(without) == list(MAIN_FIELDS[class_name])


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_optional_fields_change_none_of_the_others(class_name, backend):
    model, inputs = perturbed(class_name, backend), inputs_and_labels_of(class_name)
    """But for rounding: attention weights, or a record, are made by the plain operations."""
    plain, full = fields(model(**inputs)), forward(model, inputs)
    assert_close({name: full[name] for name in plain}, plain, 1e-14)


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_the_first_arguments_of_all_calls_are_the_same(class_name):
    """In the order of the documentation, so that positional arguments mean the same in every class."""
    names = list(inspect.signature(type(fresh(class_name, "numpy")).__call__).parameters)
    assert names[1:6] == [
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "head_mask",
        "inputs_embeds",
    ]


# --- a call changes nothing -----------------------------------------------------------------------


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_a_call_leaves_the_model_and_its_inputs_as_they_are(class_name, train, backend):
    model, inputs = perturbed(class_name, backend), inputs_and_labels_of(class_name)
    if train:
        model.train(seed=5)
    config, text, before = model.config, model.config.to_json(), parameters_of(model)
    given = {name: array.copy() for name, array in inputs.items()}
    out = recorded(model, inputs)
    assert all((to_host(d) == 0).all() for d in model.gradients().values())
    out.backward(**random_upstream(out))
    assert model.config is config
    assert config.to_json() == text
    assert model.training is train
    assert_equal(parameters_of(model), before)
    assert_equal(inputs, given)
    assert any(to_host(d).any() for d in model.gradients().values())


# --- batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_a_batch_is_its_rows_one_by_one(class_name, backend):
    """Outputs, and the gradients of the parameters, which add up over the rows."""
    model, inputs = perturbed(class_name, backend), inputs_of(class_name)
    out = recorded(model, inputs)
    upstream = random_upstream(out)
    whole, gradients = fields(out), backward(model, out, upstream)
    model.zero_grad()
    for row in range(B):
        part = recorded(model, {name: a[row : row + 1] for name, a in inputs.items()})
        found = fields(part)
        assert_close(
            found, {name: rows_of(class_name, name, a, row) for name, a in whole.items()}, TOLERANCE
        )
        part.backward(
            **{
                name: tuple(rows_of(class_name, f"{name}.", a, row) for a in d)
                if isinstance(d, tuple)
                else rows_of(class_name, name, d, row)
                for name, d in upstream.items()
            }
        )
    added = {f"∂{name}": d for name, d in on_host(model.gradients()).items()}
    assert_close(added, gradients, TOLERANCE)


def rows_of(class_name, name, array, row):
    """The rows of a field for one example: hidden states of choices have C rows."""
    n = C if class_name == CHOICE and name.startswith(("hidden_states.", "attentions.")) else 1
    return array[row * n : (row + 1) * n]


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_rows_do_not_mix(class_name, backend):
    """Negative control: changing one example changes its own row, and no other."""
    model, inputs = perturbed(class_name, backend), inputs_of(class_name)
    before = forward(model, inputs)
    inputs["input_ids"] = inputs["input_ids"].copy()
    inputs["input_ids"][1] = (inputs["input_ids"][1] + 1) % V
    after = forward(model, inputs)
    for name, array in before.items():
        for row in range(B):
            mine, other = (rows_of(class_name, name, a, row) for a in (array, after[name]))
            assert differs(mine, other) is (row == 1), name


# --- word vectors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_inputs_embeds_are_the_rows_that_ids_read(class_name, backend):
    """The outputs are equal; the gradients of the vectors, added up by id, are those of the rows."""
    model, inputs = perturbed(class_name, backend, tie_word_embeddings=False), inputs_of(class_name)
    expected = run_randomly(model, inputs)[0]
    ids = inputs.pop("input_ids")
    found = run_randomly(
        model, inputs | {"inputs_embeds": to_host(model.get_input_embeddings())[ids]}
    )[0]
    dvectors = found.pop("∂inputs_embeds")
    assert dvectors.shape == (*ids.shape, D)
    words = f"∂{body_prefix(model)}embeddings.word_embeddings.weight"
    assert (found[words] == 0).all()
    found[words] = np.zeros((V, D))
    np.add.at(found[words], ids, dvectors)
    assert_close(found, expected, TOLERANCE)


# --- head masks -----------------------------------------------------------------------------------

MASK = np.asarray([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
MASKED = [(0, 1), (1, 0)]


def places_of(model, layer, head):
    """Each parameter of a head, and its index there: rows, or columns of the output projection."""
    name, mine = (
        f"{body_prefix(model)}encoder.layer.{layer}.attention.",
        slice(4 * head, 4 * head + 4),
    )
    for projection in ("query", "key", "value"):
        yield f"{name}self.{projection}.weight", (mine,)
        yield f"{name}self.{projection}.bias", (mine,)
    yield f"{name}output.dense.weight", (slice(None), mine)


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_a_masked_head_gets_no_gradient_and_no_weight(class_name, backend):
    model, inputs = (
        perturbed(class_name, backend),
        inputs_and_labels_of(class_name) | {"head_mask": MASK},
    )
    found = run_randomly(model, inputs)[0]
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


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_a_masked_head_has_no_influence(class_name, backend):
    model, inputs = perturbed(class_name, backend), inputs_of(class_name) | {"head_mask": MASK}
    expected = forward(model, inputs)
    for layer in range(2):
        for head in range(N):
            arrays = parameters_of(model)
            for name, place in places_of(model, layer, head):
                arrays[name][place] += 1.0
            other = perturbed(class_name, backend)
            other.load_state_dict(arrays)
            found = forward(other, inputs)
            if (layer, head) in MASKED:
                assert_equal(found, expected)
            else:
                assert differs(found, expected, 1e-3)


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_a_mask_of_ones_masks_nothing_and_one_row_is_for_every_layer(class_name, backend):
    model, inputs = perturbed(class_name, backend), inputs_and_labels_of(class_name)
    expected = run_randomly(model, inputs)[0]
    for ones in (np.ones(N), np.ones((2, N)), [1] * N, [[True] * N] * 2):
        assert_equal(run_randomly(model, inputs | {"head_mask": ones})[0], expected)
    first = run_randomly(model, inputs | {"head_mask": MASK[0]})[0]
    assert_equal(first, run_randomly(model, inputs | {"head_mask": [MASK[0], MASK[0]]})[0])
    assert differs(first, expected)
