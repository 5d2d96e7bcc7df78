"""Bad arguments: one MinizhaError that names the argument, what was found and what was expected.

After each, the model is unchanged. Each case differs in one argument from ``GOOD``, which passes.
"""

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaForPreTraining, NezhaModel
from minizha.backend import to_host
from minizha.errors import ArgumentError, BackendError, MinizhaError
from tests.support.bad_input_cases import CASES, CONFIG, EMBEDS, GOOD, IDS, L, V


@pytest.fixture
def model(backend):
    return NezhaForPreTraining(CONFIG, dtype="float64", backend=backend, seed=1)


def works_as_before(model, expected):
    out = model(**GOOD)
    out.backward()
    return float(out.loss) == expected


def test_the_good_arguments_are_good(model):
    assert works_as_before(model, float(model(**GOOD).loss))


@pytest.mark.parametrize("name", CASES)
def test_bad_arguments_are_refused(name, model):
    change, message = CASES[name]
    expected = float(model(**GOOD).loss)
    with pytest.raises(ArgumentError, match=message) as caught:
        model(**(GOOD | change))
    assert isinstance(caught.value, MinizhaError)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)
    assert not any(to_host(g).any() for g in model.gradients().values())
    assert works_as_before(model, expected)


def test_unknown_keywords_are_pythons_type_error(model):
    for call in (model, NezhaModel(CONFIG)):
        with pytest.raises(TypeError, match="unexpected keyword argument 'position_ids'"):
            call(IDS, position_ids=IDS)
    with pytest.raises(TypeError, match="unexpected keyword argument 'device'"):
        NezhaModel(CONFIG, device="cuda")
    with pytest.raises(TypeError, match="unexpected keyword argument 'labels'"):
        NezhaModel(CONFIG)(IDS, labels=IDS)


def test_a_float32_model_refuses_what_it_can_not_hold(backend):
    model = NezhaModel(CONFIG, backend=backend)
    with pytest.raises(ArgumentError, match="head_mask: expected finite numbers"):
        model(IDS, head_mask=[1e39, 1.0])
    with pytest.raises(ArgumentError, match="inputs_embeds: expected real numbers in a float32"):
        model(inputs_embeds=EMBEDS + 1j)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        *(
            ({"dtype": value}, ArgumentError, "dtype: expected one of float32, float64, complex128")
            for value in ("float16", "int64", "single precision", None, 4, [], {})
        ),
        *(
            ({"seed": value}, ArgumentError, "seed: expected an integer of at least 0, found")
            for value in (-1, 1.5, "1", None, True, [1])
        ),
        *(
            ({"backend": value}, BackendError, "backend: expected one of numpy, cupy, found")
            for value in ("torch", "", None, [], np)
        ),
        ({"add_pooling_layer": "no"}, ArgumentError, "add_pooling_layer: expected True, False"),
    ],
)
def test_bad_options_of_construction(options, error, message):
    with pytest.raises(error, match=message):
        NezhaModel(CONFIG, **options)


@pytest.mark.parametrize("config", [None, {}, "base", CONFIG.to_dict(), NezhaConfig])
def test_a_config_of_another_type(config):
    with pytest.raises(ArgumentError, match="config: expected a NezhaConfig, found"):
        NezhaModel(config)


@pytest.mark.parametrize(
    "sizes", [{"hidden_size": 2**30}, {"vocab_size": 2**31 - 1, "hidden_size": 2**30}]
)
def test_a_model_that_no_memory_holds(sizes):
    with pytest.raises(MinizhaError, match="config: too large a model for this memory: "):
        NezhaModel(CONFIG.replace(**sizes))


def test_bad_modes_and_copies(model):
    for seed in (-1, "1", None, 0.5):
        with pytest.raises(ArgumentError, match="seed: expected an integer of at least 0"):
            model.train(seed)
    assert model.training is False
    for dtype in ("float16", None):
        with pytest.raises(ArgumentError, match="dtype: expected one of"):
            model.astype(dtype)


def test_no_example_is_no_error(model):
    """B = 0 is an empty batch; the loss over no labels is 0, as where all are −100."""
    empty = {name: np.array(GOOD[name])[:0] for name in GOOD if name != "head_mask"}
    out = model(**empty)
    out.backward()
    assert out.prediction_logits.shape == (0, L, V)
    assert float(out.loss) == 0.0
    assert not any(to_host(g).any() for g in model.gradients().values())
