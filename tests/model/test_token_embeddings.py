"""Another vocabulary, and other embeddings: resize, get and set, tied and untied."""

import numpy as np
import pytest

from minizha.backend import to_backend, to_host
from minizha.errors import ArgumentError, MinizhaError
from tests.support.assertions import assert_close, assert_equal, differs
from tests.support.eight_models import (
    CLASS_NAMES,
    TOLERANCE,
    WITH_DECODER,
    D,
    V,
    body_prefix,
    inputs_and_labels_of,
    inputs_of,
    parameters_of,
    perturbed,
)
from tests.support.running import backward, fields, forward, on_host, random_upstream, run_randomly

DECODER, BIAS = "cls.predictions.decoder.weight", "cls.predictions.bias"
TIES = [(class_name, True) for class_name in CLASS_NAMES] + [
    (class_name, False) for class_name in WITH_DECODER
]
BY_VOCABULARY = ("logits", "prediction_logits")


@pytest.fixture(params=TIES, ids=lambda case: f"{case[0]}-{'tied' if case[1] else 'untied'}")
def case(request):
    return request.param


def model_of(case, backend, **changes):
    return perturbed(case[0], backend, tie_word_embeddings=case[1], **changes)


def sized(model):
    """The parameters with a row for each token of the vocabulary."""
    names = {f"{body_prefix(model)}embeddings.word_embeddings.weight", DECODER, BIAS}
    return [name for name in model.state_dict() if name in names]


# --- resize ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [V + 10, V - 4, V + 1, V])
def test_old_rows_are_kept_exactly_and_the_others_go(case, size, backend):
    model = model_of(case, backend)
    before = parameters_of(model)
    found = model.resize_token_embeddings(size)
    after, names = parameters_of(model), sized(model)
    assert len(names) == (1 if case[0] not in WITH_DECODER else 2 if case[1] else 3)
    for name, array in before.items():
        if name in names:
            n = min(size, V)
            assert after[name].shape == (size, *array.shape[1:])
            assert_equal(after[name][:n], array[:n])
        else:
            assert_equal(after[name], array)
    assert model.config.vocab_size == size
    assert found is model.get_input_embeddings()
    assert found.shape == (size, D)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_new_rows_are_drawn_like_those_of_a_new_model(case, dtype, backend):
    """Deviation ``initializer_range``, mean 0; new biases are 0."""
    model = model_of(case, backend, initializer_range=0.05).astype(dtype)
    model.resize_token_embeddings(V + 2000)
    for name in sized(model):
        new = to_host(model.state_dict()[name])[V:]
        assert new.dtype == dtype
        if name == BIAS:
            assert (new == 0).all()
            continue
        assert abs(new.std() / 0.05 - 1.0) <= 5.0 / np.sqrt(2.0 * new.size)
        assert abs(new.mean() / 0.05) <= 5.0 / np.sqrt(new.size)
        assert len(np.unique(new[:, 0])) == 2000
    if DECODER in model.state_dict():  # not the same draw twice
        words, decoder = (to_host(model.state_dict()[n])[V:] for n in (sized(model)[0], DECODER))
        assert np.abs(np.corrcoef(words.ravel(), decoder.ravel())[0, 1]) < 0.05


def test_new_rows_come_from_the_seed(case, backend):
    def resized(seed):
        model = model_of(case, backend)
        model.resize_token_embeddings(V + 3, **({} if seed is None else {"seed": seed}))
        return parameters_of(model)

    assert_equal(resized(0), resized(None))
    assert_equal(resized(7), resized(7))
    assert differs(resized(7), resized(0))


def test_more_words_change_nothing_for_the_old_ones(case, backend):
    """Fields and gradients; of logits over the vocabulary, those of the old words."""
    class_name, _ = case
    model, inputs = model_of(case, backend), inputs_of(class_name)
    out = model(**inputs, record=True)
    upstream = random_upstream(out)
    expected = fields(out) | backward(model, out, upstream)
    model.resize_token_embeddings(V + 4)
    wide = model(**inputs, record=True)
    if class_name in WITH_DECODER:
        for name in BY_VOCABULARY:
            if name in upstream:
                upstream[name] = np.pad(upstream[name], ((0, 0), (0, 0), (0, 4)))
    found = fields(wide) | backward(model, wide, upstream)
    for name, array in found.items():
        if array.shape != expected[name].shape:
            axis = 0 if name.startswith("∂") else -1
            array, new = np.split(array, [V], axis=axis)
            found[name] = array
            assert not name.startswith("∂") or (new == 0).all(), name
    assert_close(found, expected, TOLERANCE)


@pytest.mark.parametrize("size", [V + 6, V - 5])
def test_after_it_the_model_runs_learns_saves_and_loads(case, size, backend, tmp_path):
    class_name, _ = case
    model, inputs = model_of(case, backend), inputs_and_labels_of(class_name)
    model.resize_token_embeddings(size)
    for name in ("input_ids", *(["labels"] if class_name in WITH_DECODER else [])):
        inputs[name] = inputs[name] % size
        inputs[name].flat[0] = size - 1
    found = run_randomly(model, inputs)[0]
    assert {n: f"∂{n}" in found and found[f"∂{n}"].shape for n in model.state_dict()} == {
        n: a.shape for n, a in model.state_dict().items()
    }
    assert found[f"∂{body_prefix(model)}embeddings.word_embeddings.weight"][size - 1].any()
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, backend=backend)
    assert loaded.config == type(model.config).from_pretrained(tmp_path)
    assert loaded.config.vocab_size == size
    assert_equal(parameters_of(loaded), parameters_of(model))
    assert_equal(run_randomly(loaded, inputs)[0], found)


def test_an_id_beyond_the_new_end_is_refused(case, backend):
    model, inputs = model_of(case, backend), inputs_of(case[0])
    model.resize_token_embeddings(V - 4)
    inputs["input_ids"] = np.full_like(inputs["input_ids"], V - 4)
    with pytest.raises(ArgumentError, match=rf"input_ids: expected values in \[0, {V - 4}\)"):
        model(**inputs)


def test_none_changes_nothing(case, backend):
    model = model_of(case, backend)
    config, before = model.config, parameters_of(model)
    assert model.resize_token_embeddings() is model.get_input_embeddings()
    assert model.config is config
    assert_equal(parameters_of(model), before)


def test_gradients_of_before_are_forgotten_and_outputs_have_no_way_back(case, backend):
    model, inputs = model_of(case, backend), inputs_and_labels_of(case[0])
    out = model(**inputs, record=True)
    out.backward(**random_upstream(out))
    model.resize_token_embeddings(V + 2)
    gradients = on_host(model.gradients())
    assert {n: d.shape for n, d in gradients.items()} == {
        n: a.shape for n, a in model.state_dict().items()
    }
    assert all((d == 0).all() for d in gradients.values())
    with pytest.raises(MinizhaError, match="the model was changed since it was called"):
        out.backward(**random_upstream(out))


@pytest.mark.parametrize("size", [0, -1, 2.0, 20.5, True, "20", [20], 2**40, float("nan")])
def test_a_size_that_is_none_is_refused_and_nothing_is_changed(size, case, backend):
    model = model_of(case, backend)
    config, before = model.config, parameters_of(model)
    with pytest.raises(ArgumentError, match=r"^new_num_tokens: vocab_size: expected an integer in"):
        model.resize_token_embeddings(size)
    assert model.config is config
    assert_equal(parameters_of(model), before)


def test_the_padding_token_is_not_cut_off(case, backend):
    model = model_of(case, backend, pad_token_id=9)
    before = parameters_of(model)
    with pytest.raises(ArgumentError, match="pad_token_id: expected less than vocab_size = 9"):
        model.resize_token_embeddings(9)
    assert_equal(parameters_of(model), before)
    assert model.resize_token_embeddings(10).shape == (10, D)


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [
        (V + 1, 8, 16),
        (16, 8, 16),
        (None, 8, 16),
        (None, V, V),
        (5, 1, 5),
        (3, 7, 7),
        (17, None, 17),
    ],
)
def test_a_size_is_rounded_up_to_a_multiple(size, multiple, expected, case, backend):
    model, exact = model_of(case, backend), model_of(case, backend)
    found = model.resize_token_embeddings(size, pad_to_multiple_of=multiple)
    assert found.shape == (expected, D)
    assert model.config.vocab_size == expected
    exact.resize_token_embeddings(expected)
    assert_equal(parameters_of(model), parameters_of(exact))


@pytest.mark.parametrize("multiple", [0, -8, 2.0, "8", True, [8]])
def test_a_multiple_that_is_none_is_refused(multiple, case, backend):
    model = model_of(case, backend)
    with pytest.raises(
        ArgumentError, match=r"^pad_to_multiple_of: expected an integer of at least"
    ):
        model.resize_token_embeddings(V + 1, pad_to_multiple_of=multiple)
    with pytest.raises(ArgumentError, match=r"^new_num_tokens: expected an integer of at least 1"):
        model.resize_token_embeddings("20", pad_to_multiple_of=8)
    assert model.config.vocab_size == V


def test_a_seed_that_is_none_is_refused(case, backend):
    model = model_of(case, backend)
    with pytest.raises(ArgumentError, match="seed: expected an integer of at least 0, found -1"):
        model.resize_token_embeddings(V + 1, seed=-1)
    assert model.config.vocab_size == V


# --- get and set ----------------------------------------------------------------------------------


def test_get(case, backend):
    """The model's own arrays; a tied decoder is the word embeddings; most have no decoder."""
    class_name, tied = case
    model = model_of(case, backend)
    words, decoder = model.get_input_embeddings(), model.get_output_embeddings()
    assert words is model.state_dict()[sized(model)[0]]
    if class_name not in WITH_DECODER:
        assert decoder is None
    elif tied:
        assert decoder is words
    else:
        assert decoder is model.state_dict()[DECODER]


def test_set_input_embeddings(case, backend):
    class_name, tied = case
    model, new = model_of(case, backend), np.random.default_rng(0).standard_normal((V, D))
    before, given = parameters_of(model), new.copy()
    model.set_input_embeddings(new)
    new[...] = 0.0  # a copy was taken
    assert_equal(to_host(model.get_input_embeddings()), given)
    others = {n: a for n, a in parameters_of(model).items() if n != sized(model)[0]}
    assert_equal(others, {n: before[n] for n in others})
    if class_name in WITH_DECODER and tied:
        assert_equal(to_host(model.get_output_embeddings()), given)
    ids = inputs_of(class_name)["input_ids"]
    assert_close(
        forward(model, {"input_ids": ids}), forward(model, {"inputs_embeds": given[ids]}), TOLERANCE
    )


def test_set_output_embeddings(case, backend):
    class_name, tied = case
    model, new = model_of(case, backend), np.random.default_rng(0).standard_normal((V, D))
    if class_name not in WITH_DECODER:
        with pytest.raises(ArgumentError, match=f"output embeddings: {class_name} has no decoder"):
            model.set_output_embeddings(new)
        return
    words = to_host(model.get_input_embeddings()).copy()
    model.set_output_embeddings(new.tolist())
    assert_equal(to_host(model.get_output_embeddings()), new)
    assert_equal(to_host(model.get_input_embeddings()), new if tied else words)
    run_randomly(model, inputs_and_labels_of(class_name))


def test_embeddings_may_lie_on_the_device(case, backend):
    model = model_of(case, backend)
    new = to_backend(np.ones((V, D)), model.xp)
    model.set_input_embeddings(new)
    assert isinstance(model.get_input_embeddings(), model.xp.ndarray)
    assert model.get_input_embeddings() is not new
    model.astype("float32").set_input_embeddings(np.ones((V, D)))


def test_set_forgets_gradients(case, backend):
    model = model_of(case, backend)
    run_randomly(model, inputs_and_labels_of(case[0]))
    model.set_input_embeddings(np.ones((V, D)))
    assert all((to_host(d) == 0).all() for d in model.gradients().values())


@pytest.mark.parametrize(
    "value",
    [np.ones((V + 1, D)), np.ones((V, D - 1)), np.ones(V), None, "words", [[1.0], [2.0, 3.0]]],
)
def test_set_refuses_another_shape_and_changes_nothing(value, case, backend):
    model = model_of(case, backend)
    before = parameters_of(model)
    with pytest.raises(ArgumentError, match=r"^input embeddings: expected"):
        model.set_input_embeddings(value)
    if case[0] in WITH_DECODER:
        with pytest.raises(ArgumentError, match=r"^output embeddings: expected"):
            model.set_output_embeddings(value)
    assert_equal(parameters_of(model), before)
