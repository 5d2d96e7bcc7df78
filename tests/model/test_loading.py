"""Save and load: stored tensors, missing tensors, other shapes, options."""

import json
import warnings

import pytest

from minizha import NezhaConfig, NezhaModel
from minizha.checkpoint.safetensors_file import to_safetensors
from minizha.errors import CheckpointWarning, FileError
from tests.support.assertions import assert_equal, differs
from tests.support.eight_models import (
    CLASS_NAMES,
    WITH_POOLER,
    assert_initialised,
    body_prefix,
    inputs_and_labels_of,
    inputs_of,
    load,
    parameters_of,
    perturbed,
)
from tests.support.running import forward, run_randomly

HEADED = tuple(class_name for class_name in CLASS_NAMES if class_name != "NezhaModel")
CLASSIFIERS = ("NezhaForSequenceClassification", "NezhaForTokenClassification")


def rewrite(folder, change):
    """Change the arrays in the file."""
    from safetensors.numpy import load_file

    arrays = change(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").write_bytes(to_safetensors(arrays))


# --- save and load --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_loaded_model_is_the_saved_one(class_name, dtype, tied, backend, tmp_path):
    """Every number of parameters, fields and gradients, without a warning."""
    model = perturbed(class_name, backend, dtype, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    loaded = load(class_name, tmp_path, backend)
    assert type(loaded) is type(model)
    assert (loaded.dtype, loaded.training) == (dtype, False)
    assert_equal(parameters_of(loaded), parameters_of(model))
    inputs = inputs_and_labels_of(class_name)
    assert_equal(run_randomly(loaded, inputs)[0], run_randomly(model, inputs)[0])
    again, info = load(class_name, str(tmp_path), backend, output_loading_info=True)
    assert info == ((), ())
    assert_equal(parameters_of(again), parameters_of(model))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_says_in_what_it_is_loaded(class_name, dtype, backend, tmp_path):
    model = perturbed(class_name, backend, "float32")
    model.save_pretrained(tmp_path)
    loaded = load(class_name, tmp_path, backend, dtype=dtype)
    assert loaded.dtype == dtype
    expected = {name: array.astype(dtype) for name, array in parameters_of(model).items()}
    assert_equal(parameters_of(loaded), expected)


def test_the_configuration_is_saved_with_it(class_name, backend, tmp_path):
    with pytest.warns(UserWarning, match="'note' is no field"):
        model = perturbed(
            class_name, backend, note="mine", problem_type="regression", classifier_dropout=None
        )
    model.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["architectures"] == [class_name]
    loaded = load(class_name, tmp_path, backend)
    values = loaded.config.to_dict()
    assert (values.pop("architectures"), values.pop("torch_dtype")) == ([class_name], "float64")
    assert NezhaConfig.from_dict(values) == model.config


# --- with and without a head ----------------------------------------------------------------------


@pytest.mark.parametrize("class_name", HEADED)
def test_a_bare_model_loads_into_one_with_a_head(class_name, backend, tmp_path):
    """The body is the bare model's; the head is new, and the warning names it."""
    bare = perturbed("NezhaModel", backend)
    bare.save_pretrained(tmp_path)
    with pytest.warns(
        CheckpointWarning, match="missing, so initialised at random: (c|qa)"
    ) as caught:
        model = load(class_name, tmp_path, backend)
    assert len(caught) == 1
    before, arrays = parameters_of(bare), parameters_of(model)
    head = [name for name in arrays if not name.startswith("nezha.")]
    body = {name.removeprefix("nezha."): a for name, a in arrays.items() if name not in head}
    assert_equal(body, {name: before[name] for name in body})
    left = [f"nezha.{name}" for name in before if name not in body]
    assert [n.startswith("nezha.pooler.") for n in left] == [True, True] * (
        class_name not in WITH_POOLER
    )
    assert all(name in str(caught[0].message) for name in (*head, *left))
    other, info = load(class_name, tmp_path, backend, output_loading_info=True, seed=1)
    assert info.missing == tuple(head)
    assert info.unexpected == tuple(sorted(left))
    matrices = [name for name in head if arrays[name].ndim == 2]
    assert all(differs(arrays[name], parameters_of(other)[name]) for name in matrices)


@pytest.mark.parametrize("class_name", HEADED)
def test_one_with_a_head_loads_into_a_bare_model(class_name, backend, tmp_path):
    model, inputs = perturbed(class_name, backend), inputs_of("NezhaModel")
    model.save_pretrained(tmp_path)
    pooled = class_name in WITH_POOLER
    with pytest.warns(CheckpointWarning, match=r"NezhaModel: .*left over: (c|qa)") as caught:
        bare = load("NezhaModel", tmp_path, backend, add_pooling_layer=pooled)
    assert len(caught) == 1
    assert "missing" not in str(caught[0].message)
    arrays = parameters_of(model)
    assert_equal(parameters_of(bare), {n: arrays[f"nezha.{n}"] for n in bare.state_dict()})
    if class_name != "NezhaForMultipleChoice":
        found, expected = forward(bare, inputs), forward(model, inputs)
        for name in ("hidden_states.2", "attentions.1"):
            assert_equal(found[name], expected[name])
    _, info = load(
        "NezhaModel", tmp_path, backend, add_pooling_layer=pooled, output_loading_info=True
    )
    assert info.missing == ()
    assert info.unexpected == tuple(sorted(n for n in arrays if not n.startswith("nezha.")))


def test_there_and_back_again(class_name, backend, tmp_path):
    """By the folder of a bare model, whose names have no prefix."""
    model = perturbed(class_name, backend)
    model.save_pretrained(tmp_path / "whole")
    options = {"output_loading_info": True, "add_pooling_layer": class_name in WITH_POOLER}
    bare, _ = load("NezhaModel", tmp_path / "whole", backend, **options)
    bare.save_pretrained(tmp_path / "bare")
    back, _ = load(class_name, tmp_path / "bare", backend, output_loading_info=True)
    body = body_prefix(model) + "e", body_prefix(model) + "p"
    before, after = parameters_of(model), parameters_of(back)
    names = [name for name in before if name.startswith(body)]
    assert len(names) >= 36
    assert_equal({n: after[n] for n in names}, {n: before[n] for n in names})


def test_a_folder_of_something_else_is_refused(class_name, backend, tmp_path):
    perturbed(class_name, backend).save_pretrained(tmp_path)
    rewrite(tmp_path, lambda arrays: {f"x.{name}": a for name, a in arrays.items()})
    with pytest.raises(FileError, match=r"none of its \d+ tensors belongs to a Nezha"):
        load(class_name, tmp_path, backend)


# --- missing tensors ------------------------------------------------------------------------------

LOST = (
    "embeddings.word_embeddings.weight",
    "encoder.layer.0.attention.self.query.weight",
    "encoder.layer.0.attention.self.value.bias",
    "encoder.layer.1.attention.output.LayerNorm.weight",
    "encoder.layer.1.output.dense.weight",
    "encoder.layer.1.output.LayerNorm.bias",
)
WIDE = {"hidden_size": 48, "num_attention_heads": 3, "intermediate_size": 64, "vocab_size": 60}


def test_what_is_missing_is_initialised_and_the_rest_is_read(class_name, backend, tmp_path):
    model = perturbed(class_name, backend, **WIDE, initializer_range=0.1)
    model.save_pretrained(tmp_path)
    lost = [body_prefix(model) + name for name in LOST]
    rewrite(tmp_path, lambda arrays: {n: a for n, a in arrays.items() if n not in lost})
    with pytest.warns(CheckpointWarning, match="missing, so initialised at random: ") as caught:
        loaded = load(class_name, tmp_path, backend)
    assert len(caught) == 1
    assert str(caught[0].message).split("random: ")[1].split(", ") == lost
    _, info = load(class_name, tmp_path, backend, output_loading_info=True)
    assert info == (tuple(lost), ())
    before, arrays = parameters_of(model), parameters_of(loaded)
    stored = [name for name in arrays if name not in lost]
    assert_equal({n: arrays[n] for n in stored}, {n: before[n] for n in stored})
    assert_initialised({name: arrays[name] for name in lost}, 0.1)


def test_only_what_is_missing_depends_on_the_seed(class_name, backend, tmp_path):
    model = perturbed(class_name, backend)
    model.save_pretrained(tmp_path)
    lost = f"{body_prefix(model)}encoder.layer.1.output.dense.weight"
    rewrite(tmp_path, lambda arrays: {n: a for n, a in arrays.items() if n != lost})
    first, again, other = (
        parameters_of(load(class_name, tmp_path, backend, seed=seed, output_loading_info=True)[0])
        for seed in (0, 0, 1)
    )
    assert_equal(first, again)
    assert differs(first.pop(lost), other.pop(lost))
    assert_equal(first, other)


# --- other shapes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("class_name", CLASSIFIERS)
def test_another_number_of_labels_does_not_fit(class_name, backend, tmp_path):
    model = perturbed(class_name, backend)
    model.save_pretrained(tmp_path)
    match = r"classifier\.weight: expected shape \(4, 12\), found \(5, 12\); classifier\.bias: "
    with pytest.raises(FileError, match=match + ".*ignore_mismatched_sizes=True"):
        load(class_name, tmp_path, backend, num_labels=4)
    text = r"of another shape, so initialised at random: classifier\.weight, classifier\.bias$"
    with pytest.warns(CheckpointWarning, match=text) as caught:
        loaded = load(class_name, tmp_path, backend, num_labels=4, ignore_mismatched_sizes=True)
    assert len(caught) == 1
    assert loaded.config.num_labels == 4
    assert loaded(**inputs_of(class_name)).logits.shape[-1] == 4
    before, arrays = parameters_of(model), parameters_of(loaded)
    assert (arrays.pop("classifier.bias") == 0).all()
    assert arrays.pop("classifier.weight").shape == (4, 12)
    assert_equal(arrays, {name: before[name] for name in arrays})


def test_another_vocabulary_does_not_fit(class_name, backend, tmp_path):
    model = perturbed(class_name, backend)
    model.save_pretrained(tmp_path)
    with pytest.raises(FileError, match=r"word_embeddings\.weight: expected shape \(10, 12\)"):
        load(class_name, tmp_path, backend, vocab_size=10)
    options = {"vocab_size": 10, "ignore_mismatched_sizes": True}
    with pytest.warns(CheckpointWarning, match="of another shape, so initialised at random"):
        loaded = load(class_name, tmp_path, backend, **options)
    assert loaded.get_input_embeddings().shape == (10, 12)
    _, info = load(class_name, tmp_path, backend, **options, output_loading_info=True)
    assert f"{body_prefix(model)}embeddings.word_embeddings.weight" in info.missing
    assert info.unexpected == ()


def test_shapes_that_fit_are_ignored_by_nobody(class_name, backend, tmp_path):
    """Negative control: the option alone changes nothing and gives no warning."""
    model = perturbed(class_name, backend)
    model.save_pretrained(tmp_path)
    loaded = load(class_name, tmp_path, backend, ignore_mismatched_sizes=True)
    assert_equal(parameters_of(loaded), parameters_of(model))


def test_a_warning_is_all_that_a_difference_costs(backend, tmp_path):
    """Negative control of the tests of warnings: as an error, the warning stops the loading."""
    perturbed("NezhaForMaskedLM", backend).save_pretrained(tmp_path)
    text = r"NezhaModel: missing, .*: pooler.*; left over: cls"
    with warnings.catch_warnings():
        warnings.simplefilter("error", CheckpointWarning)
        with pytest.raises(CheckpointWarning, match=text):
            load("NezhaModel", tmp_path, backend)
        warnings.simplefilter("ignore", CheckpointWarning)
        assert isinstance(load("NezhaModel", tmp_path, backend), NezhaModel)
