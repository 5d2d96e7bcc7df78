"""Names, shapes, counts; state dictionaries; saving and loading."""

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest

from minizha import (
    NezhaConfig,
    NezhaForMaskedLM,
    NezhaForNextSentencePrediction,
    NezhaForPreTraining,
    NezhaModel,
)
from minizha.backend import to_host
from minizha.model.initialisation import body_shapes, linear_shapes, prediction_shapes
from minizha.nezha.parameters import unflatten
from tests.support.assertions import assert_close, assert_equal
from tests.support.running import forward, on_host, run
from tests.support.strategies import CLASSES, cases, holds_for

WRITTEN_BY_SAVE = ("architectures", "torch_dtype")


def kind_of(case):
    return case.pick("class", CLASSES)


def documented(model_class, config):
    """Names and shapes of the checkpoint, by the documentation."""
    D, F, V = config.hidden_size, config.intermediate_size, config.vocab_size
    body = {
        "embeddings.word_embeddings.weight": (V, D),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, D),
    }
    modules = {"embeddings.LayerNorm": (D,)}
    for i in range(config.num_hidden_layers):
        modules |= {
            f"encoder.layer.{i}.attention.self.query": (D, D),
            f"encoder.layer.{i}.attention.self.key": (D, D),
            f"encoder.layer.{i}.attention.self.value": (D, D),
            f"encoder.layer.{i}.attention.output.dense": (D, D),
            f"encoder.layer.{i}.attention.output.LayerNorm": (D,),
            f"encoder.layer.{i}.intermediate.dense": (F, D),
            f"encoder.layer.{i}.output.dense": (D, F),
            f"encoder.layer.{i}.output.LayerNorm": (D,),
        }
    if model_class is not NezhaForMaskedLM:
        modules["pooler.dense"] = (D, D)
    for name, shape in modules.items():
        body |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    if model_class is NezhaModel:
        return body
    names = {f"nezha.{name}": shape for name, shape in body.items()}
    if model_class is not NezhaForNextSentencePrediction:
        head = "cls.predictions."
        names |= {head + "bias": (V,)}
        names |= {head + "transform.dense.weight": (D, D), head + "transform.dense.bias": (D,)}
        names |= {head + f"transform.LayerNorm.{leaf}": (D,) for leaf in ("weight", "bias")}
        if not config.tie_word_embeddings:
            names[head + "decoder.weight"] = (V, D)
    if model_class is not NezhaForMaskedLM:
        names |= {"cls.seq_relationship.weight": (2, D), "cls.seq_relationship.bias": (2,)}
    return names


@holds_for(cases())
def test_names_and_shapes_are_those_of_the_checkpoints(case, backend):
    for model_class in CLASSES:
        model = model_class(case.config, backend=backend)
        expected = documented(model_class, case.config)
        assert {n: tuple(a.shape) for n, a in model.state_dict().items()} == expected
        assert model.num_parameters() == sum(map(math.prod, expected.values()))
        assert {n: tuple(a.shape) for n, a in model.gradients().items()} == expected


BASE = NezhaConfig()
PREFIXED = body_shapes(BASE, pooler=True)
WITHOUT_POOLER = body_shapes(BASE, pooler=False)
NEXT = linear_shapes("cls.seq_relationship", 2, 768)
COUNTS = {
    "NezhaModel": (101_874_432, 198, body_shapes(BASE, pooler=True, prefix=""), NezhaModel),
    "NezhaForPreTraining": (
        102_489_226,
        205,
        PREFIXED | prediction_shapes(BASE) | NEXT,
        NezhaForPreTraining,
    ),
    "NezhaForMaskedLM": (
        101_897_096,
        201,
        WITHOUT_POOLER | prediction_shapes(BASE),
        NezhaForMaskedLM,
    ),
    "NezhaForNextSentencePrediction": (
        101_875_970,
        200,
        PREFIXED | NEXT,
        NezhaForNextSentencePrediction,
    ),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_base_model_has_as_many_parameters_as_published(name):
    """Computed from the shapes, without allocating the arrays."""
    numbers, tensors, shapes, model_class = COUNTS[name]
    assert sum(map(math.prod, shapes.values())) == numbers
    assert len(shapes) == tensors
    assert shapes == documented(model_class, BASE)


@holds_for(cases())
def test_a_state_dict_loads_into_the_same_model(case, backend):
    model_class = kind_of(case)
    model, inputs = case.model(model_class, backend), case.inputs() | case.labels(model_class)
    other = model_class(case.config, seed=1, dtype="float64", backend=backend)
    info = other.load_state_dict(model.state_dict())
    assert info.missing == info.unexpected == ()
    assert_equal(on_host(other.state_dict()), on_host(model.state_dict()))
    assert_equal(forward(other, inputs), forward(model, inputs))


@holds_for(cases())
def test_loading_copies_so_that_no_two_models_share_an_array(case, backend):
    model_class = kind_of(case)
    model, inputs = case.model(model_class, backend), case.inputs()
    arrays = {name: array.copy() for name, array in model.state_dict().items()}
    other = model_class(case.config, dtype="float64", backend=backend)
    other.load_state_dict(arrays)
    expected = forward(other, inputs)
    for array in arrays.values():
        array[...] = 1.0
    assert_equal(forward(other, inputs), expected)


def layouts(arrays, rng):
    """The same values, each array in another memory layout than the plain one."""

    def laid_out(a):
        wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), dtype=a.dtype)
        wide[..., ::2] = a
        return (np.asfortranarray(a), a[::-1].copy()[::-1], wide[..., ::2])[rng.integers(3)]

    return {name: laid_out(to_host(array)) for name, array in arrays.items()}


@holds_for(cases(layer_norm_eps=1e-5))
def test_the_layout_of_the_parameters_does_not_matter(case, backend):
    """Up to rounding: a matrix product may sum in another order."""
    model_class = kind_of(case)
    model, inputs = case.model(model_class, backend), case.inputs() | case.labels(model_class)
    expected = run(model, inputs) if model_class is not NezhaModel else forward(model, inputs)
    model.load_state_dict(layouts(model.state_dict(), case.rng("layout")))
    found = run(model, inputs) if model_class is not NezhaModel else forward(model, inputs)
    assert_close(found, expected)


def save_and_load(model, backend):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return type(model).from_pretrained(folder, backend=backend)


@holds_for(
    cases(owner="somebody", use_relative_position=True, sizes=[1, 2], nested={"a": None}),
)
def test_saving_and_loading_is_the_identity(case, backend):
    """Arrays bit by bit, in their dtype, from any memory layout; unknown keys of the configuration;
    and therefore the outputs."""
    model_class, dtype = kind_of(case), case.pick("dtype", ("float32", "float64"))
    model, inputs = (
        case.model(model_class, backend, dtype),
        case.inputs() | case.labels(model_class),
    )
    odd = layouts(model.state_dict(), case.rng("layout"))
    model.load_state_dict(odd)
    assert_equal(on_host(model.state_dict()), on_host(odd))
    model.parameters = unflatten(odd)  # load_state_dict stores copies in plain layout
    loaded = save_and_load(model, backend)
    assert loaded.dtype == dtype
    assert_equal(on_host(loaded.state_dict()), on_host(model.state_dict()))
    values = loaded.config.to_dict()
    assert [values.pop(name) for name in WRITTEN_BY_SAVE] == [[model_class.__name__], dtype]
    assert NezhaConfig.from_dict(values) == case.config
    assert loaded.config.nested == {"a": None}
    again = case.model(model_class, backend, dtype)
    assert_equal(forward(loaded, inputs), forward(again, inputs))


@holds_for(cases())
def test_saving_again_writes_the_same_bytes(case, backend):
    def saved(model):
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
            return files, type(model).from_pretrained(folder, backend=backend)

    first, loaded = saved(case.model(kind_of(case), backend))
    second, _ = saved(loaded)
    assert sorted(first) == ["config.json", "model.safetensors"]
    assert second == first
