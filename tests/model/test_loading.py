"""Save and load: what is stored, what is missing, what has another shape, what the caller changes."""

import json
import warnings

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaModel
from minizha.checkpoint.safetensors_file import to_safetensors
from minizha.errors import CheckpointWarning, FileError
from tests.support.eight_models import (
    KINDS,
    WITH_POOLER,
    arrays_of,
    body_of,
    class_of,
    everything_of,
    inputs_of,
    make,
    upstream_of,
)
from tests.support.running import assert_equal, backward, differs, fields, forward, on_host

HEADED = tuple(kind for kind in KINDS if kind != "NezhaModel")
CLASSIFIERS = ("NezhaForSequenceClassification", "NezhaForTokenClassification")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def load(kind, folder, backend, **options):
    return class_of(kind).from_pretrained(folder, backend=backend, **options)


def both_ways(model, inputs):
    out = model(**inputs, record=True)
    return on_host(fields(out)) | backward(model, out, upstream_of(out))


def rewrite(folder, change):
    """Change the stored arrays, behind the model's back."""
    from safetensors.numpy import load_file

    arrays = change(load_file(folder / "model.safetensors"))
    (folder / "model.safetensors").write_bytes(to_safetensors(arrays))


# --- save and load --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tied", [True, False])
def test_a_loaded_model_is_the_saved_one(kind, dtype, tied, backend, tmp_path):
    """Every number of parameters, fields and gradients, without a warning."""
    model = make(kind, backend, dtype, tie_word_embeddings=tied)
    model.save_pretrained(tmp_path)
    loaded = load(kind, tmp_path, backend)
    assert type(loaded) is type(model)
    assert (loaded.dtype, loaded.training) == (dtype, False)
    assert_equal(arrays_of(loaded), arrays_of(model))
    inputs = everything_of(kind)
    assert_equal(both_ways(loaded, inputs), both_ways(model, inputs))
    again, info = load(kind, str(tmp_path), backend, output_loading_info=True)
    assert info == ((), ())
    assert_equal(arrays_of(again), arrays_of(model))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_says_in_what_it_is_loaded(kind, dtype, backend, tmp_path):
    model = make(kind, backend, "float32")
    model.save_pretrained(tmp_path)
    loaded = load(kind, tmp_path, backend, dtype=dtype)
    assert loaded.dtype == dtype
    expected = {name: array.astype(dtype) for name, array in arrays_of(model).items()}
    assert_equal(arrays_of(loaded), expected)


def test_the_configuration_is_saved_with_it(kind, backend, tmp_path):
    model = make(kind, backend, note="mine", problem_type="regression", classifier_dropout=None)
    model.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["architectures"] == [kind]
    loaded = load(kind, tmp_path, backend)
    values = loaded.config.to_dict()
    assert (values.pop("architectures"), values.pop("torch_dtype")) == ([kind], "float64")
    assert NezhaConfig.from_dict(values) == model.config


# --- with and without a head ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", HEADED)
def test_a_bare_model_loads_into_one_with_a_head(kind, backend, tmp_path):
    """The body is the bare model's, the head is new and named."""
    bare = make("NezhaModel", backend)
    bare.save_pretrained(tmp_path)
    with pytest.warns(
        CheckpointWarning, match="missing, so initialised at random: (c|qa)"
    ) as caught:
        model = load(kind, tmp_path, backend)
    assert len(caught) == 1
    before, arrays = arrays_of(bare), arrays_of(model)
    head = [name for name in arrays if not name.startswith("nezha.")]
    body = {name.removeprefix("nezha."): a for name, a in arrays.items() if name not in head}
    assert_equal(body, {name: before[name] for name in body})
    left = [f"nezha.{name}" for name in before if name not in body]
    assert [n.startswith("nezha.pooler.") for n in left] == [True, True] * (kind not in WITH_POOLER)
    assert all(name in str(caught[0].message) for name in (*head, *left))
    other, info = load(kind, tmp_path, backend, output_loading_info=True, seed=1)
    assert info.missing == tuple(head)
    assert info.unexpected == tuple(sorted(left))
    matrices = [name for name in head if arrays[name].ndim == 2]
    assert all(differs(arrays[name], arrays_of(other)[name]) for name in matrices)


@pytest.mark.parametrize("kind", HEADED)
def test_one_with_a_head_loads_into_a_bare_model(kind, backend, tmp_path):
    model, inputs = make(kind, backend), inputs_of("NezhaModel")
    model.save_pretrained(tmp_path)
    pooled = kind in WITH_POOLER
    with pytest.warns(CheckpointWarning, match=r"NezhaModel: .*left over: (c|qa)") as caught:
        bare = load("NezhaModel", tmp_path, backend, add_pooling_layer=pooled)
    assert len(caught) == 1
    assert "missing" not in str(caught[0].message)
    arrays = arrays_of(model)
    assert_equal(arrays_of(bare), {n: arrays[f"nezha.{n}"] for n in bare.state_dict()})
    if kind != "NezhaForMultipleChoice":
        found, expected = forward(bare, inputs), forward(model, inputs)
        for name in ("hidden_states.2", "attentions.1"):
            assert_equal(found[name], expected[name])
    _, info = load(
        "NezhaModel", tmp_path, backend, add_pooling_layer=pooled, output_loading_info=True
    )
    assert info.missing == ()
    assert info.unexpected == tuple(sorted(n for n in arrays if not n.startswith("nezha.")))


def test_there_and_back_again(kind, backend, tmp_path):
    """Over the bare model's folder and its names without a prefix."""
    model = make(kind, backend)
    model.save_pretrained(tmp_path / "whole")
    options = {"output_loading_info": True, "add_pooling_layer": kind in WITH_POOLER}
    bare, _ = load("NezhaModel", tmp_path / "whole", backend, **options)
    bare.save_pretrained(tmp_path / "bare")
    back, _ = load(kind, tmp_path / "bare", backend, output_loading_info=True)
    body = body_of(model) + "e", body_of(model) + "p"
    before, after = arrays_of(model), arrays_of(back)
    names = [name for name in before if name.startswith(body)]
    assert len(names) >= 36
    assert_equal({n: after[n] for n in names}, {n: before[n] for n in names})


def test_a_folder_of_something_else_is_refused(kind, backend, tmp_path):
    make(kind, backend).save_pretrained(tmp_path)
    rewrite(tmp_path, lambda arrays: {f"x.{name}": a for name, a in arrays.items()})
    with pytest.raises(FileError, match=r"none of its \d+ tensors belongs to a Nezha"):
        load(kind, tmp_path, backend)


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


def test_what_is_missing_is_initialised_and_the_rest_is_read(kind, backend, tmp_path):
    model = make(kind, backend, **WIDE, initializer_range=0.1)
    model.save_pretrained(tmp_path)
    lost = [body_of(model) + name for name in LOST]
    rewrite(tmp_path, lambda arrays: {n: a for n, a in arrays.items() if n not in lost})
    with pytest.warns(CheckpointWarning, match="missing, so initialised at random: ") as caught:
        loaded = load(kind, tmp_path, backend)
    assert len(caught) == 1
    assert str(caught[0].message).split("random: ")[1].split(", ") == lost
    _, info = load(kind, tmp_path, backend, output_loading_info=True)
    assert info == (tuple(lost), ())
    before, arrays = arrays_of(model), arrays_of(loaded)
    kept = [name for name in arrays if name not in lost]
    assert_equal({n: arrays[n] for n in kept}, {n: before[n] for n in kept})
    for name in lost:
        array = arrays[name]
        if array.ndim == 1:
            assert (array == (1.0 if name.endswith("LayerNorm.weight") else 0.0)).all(), name
            continue
        if name.endswith("word_embeddings.weight"):
            assert (array[0] == 0).all(), "the padding row"
            array = array[1:]
        assert abs(array.mean()) <= 0.5 / np.sqrt(array.size), name
        assert abs(array.std() / 0.1 - 1.0) <= 5.0 / np.sqrt(2.0 * array.size), name


def test_only_what_is_missing_depends_on_the_seed(kind, backend, tmp_path):
    model = make(kind, backend)
    model.save_pretrained(tmp_path)
    lost = f"{body_of(model)}encoder.layer.1.output.dense.weight"
    rewrite(tmp_path, lambda arrays: {n: a for n, a in arrays.items() if n != lost})
    first, again, other = (
        arrays_of(load(kind, tmp_path, backend, seed=seed, output_loading_info=True)[0])
        for seed in (0, 0, 1)
    )
    assert_equal(first, again)
    assert differs(first.pop(lost), other.pop(lost))
    assert_equal(first, other)


# --- other shapes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_another_number_of_labels_does_not_fit(kind, backend, tmp_path):
    model = make(kind, backend)
    model.save_pretrained(tmp_path)
    match = r"classifier\.weight: expected shape \(4, 12\), found \(5, 12\); classifier\.bias: "
    with pytest.raises(FileError, match=match + ".*ignore_mismatched_sizes=True"):
        load(kind, tmp_path, backend, num_labels=4)
    text = r"of another shape, so initialised at random: classifier\.weight, classifier\.bias$"
    with pytest.warns(CheckpointWarning, match=text) as caught:
        loaded = load(kind, tmp_path, backend, num_labels=4, ignore_mismatched_sizes=True)
    assert len(caught) == 1
    assert loaded.config.num_labels == 4
    assert loaded(**inputs_of(kind)).logits.shape[-1] == 4
    before, arrays = arrays_of(model), arrays_of(loaded)
    assert (arrays.pop("classifier.bias") == 0).all()
    assert arrays.pop("classifier.weight").shape == (4, 12)
    assert_equal(arrays, {name: before[name] for name in arrays})


def test_another_vocabulary_does_not_fit(kind, backend, tmp_path):
    model = make(kind, backend)
    model.save_pretrained(tmp_path)
    with pytest.raises(FileError, match=r"word_embeddings\.weight: expected shape \(10, 12\)"):
        load(kind, tmp_path, backend, vocab_size=10)
    options = {"vocab_size": 10, "ignore_mismatched_sizes": True}
    with pytest.warns(CheckpointWarning, match="of another shape, so initialised at random"):
        loaded = load(kind, tmp_path, backend, **options)
    assert loaded.get_input_embeddings().shape == (10, 12)
    _, info = load(kind, tmp_path, backend, **options, output_loading_info=True)
    assert f"{body_of(model)}embeddings.word_embeddings.weight" in info.missing
    assert info.unexpected == ()


def test_shapes_that_fit_are_ignored_by_nobody(kind, backend, tmp_path):
    """Negative control: the option alone changes and warns of nothing."""
    model = make(kind, backend)
    model.save_pretrained(tmp_path)
    loaded = load(kind, tmp_path, backend, ignore_mismatched_sizes=True)
    assert_equal(arrays_of(loaded), arrays_of(model))


def test_a_warning_is_all_that_a_difference_costs(backend, tmp_path):
    """Negative control of the tests of warnings: made an error, it stops the loading."""
    make("NezhaForMaskedLM", backend).save_pretrained(tmp_path)
    text = r"NezhaModel: missing, .*: pooler.*; left over: cls"
    with warnings.catch_warnings():
        warnings.simplefilter("error", CheckpointWarning)
        with pytest.raises(CheckpointWarning, match=text):
            load("NezhaModel", tmp_path, backend)
        warnings.simplefilter("ignore", CheckpointWarning)
        assert isinstance(load("NezhaModel", tmp_path, backend), NezhaModel)
