"""New parameters: their means, their spread, their seed, their number; in all eight classes."""

import numpy as np
import pytest

from tests.support.assertions import assert_equal, differs
from tests.support.eight_models import (
    CLASS_NAMES,
    LABELS,
    WITH_DECODER,
    WITH_POOLER,
    D,
    V,
    assert_initialised,
    configuration,
    fresh,
    inputs_and_labels_of,
    labels_of,
    parameters_of,
    perturbed,
)
from tests.support.running import run_randomly


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_without_a_spread_parameters_are_their_means(class_name, backend):
    for name, array in parameters_of(fresh(class_name, backend, initializer_range=0.0)).items():
        assert (array == (1.0 if name.endswith("LayerNorm.weight") else 0.0)).all(), name


@pytest.mark.parametrize("spread", [0.02, 0.5])
@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_matrices_are_normal_around_0(class_name, spread, backend):
    """Mean, deviation and the share beyond two deviations, each within five standard errors."""
    config = {"hidden_size": 48, "intermediate_size": 64, "vocab_size": 60}
    arrays = parameters_of(fresh(class_name, backend, initializer_range=spread, **config))
    x = assert_initialised(arrays, spread)
    assert abs(np.mean(np.abs(x) > 2.0) - 0.0455) <= 5.0 * np.sqrt(0.0455 / x.size)


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_the_seed_is_the_whole_difference(class_name, backend):
    first, again, other = (
        parameters_of(fresh(class_name, backend, seed=seed)) for seed in (0, 0, 1)
    )
    assert_equal(first, again)
    matrices = [name for name, array in first.items() if array.ndim == 2]
    assert all(differs(first[name], other[name]) for name in matrices)


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_num_parameters(class_name, backend):
    """Words and token types; a tied decoder is the word embeddings."""
    for tied in (True, False):
        model = perturbed(class_name, backend, tie_word_embeddings=tied)
        layer = 4 * (D * D + D) + 2 * D * 10 + 10 + D + 4 * D
        expected = (V + 2) * D + 2 * D + 2 * layer + (D * D + D) * (class_name in WITH_POOLER)
        if class_name in WITH_DECODER:
            expected += D * D + D + 2 * D + V + (0 if tied else V * D)
        columns = {
            "NezhaModel": 0,
            "NezhaForMaskedLM": 0,
            "NezhaForPreTraining": 2,
            "NezhaForNextSentencePrediction": 2,
            "NezhaForMultipleChoice": 1,
            "NezhaForQuestionAnswering": 2,
        }.get(class_name, LABELS)
        expected += columns * (D + 1)
        assert model.num_parameters() == expected
        assert model.num_parameters(exclude_embeddings=True) == expected - (V + 2) * D
        assert sum(a.size for a in model.state_dict().values()) == expected


def test_labels_and_configuration_are_in_step():
    """Negative control: the sizes are what the configuration says."""
    config = configuration()
    assert (config.vocab_size, config.hidden_size, config.num_labels) == (V, D, LABELS)
    assert config.head_size == 4
    assert labels_of("NezhaForTokenClassification")["labels"].max() < LABELS


@pytest.mark.parametrize("class_name", CLASS_NAMES)
def test_minus_1_is_no_padding_token(class_name, backend):
    """The last row is drawn, and learns, as without a padding token; −1 as an index would be it."""
    minus, none, last = (
        fresh(class_name, backend, pad_token_id=pad, initializer_range=0.5)
        for pad in (-1, None, V - 1)
    )
    assert_equal(parameters_of(minus), parameters_of(none))
    assert differs(parameters_of(minus), parameters_of(last))
    inputs = inputs_and_labels_of(class_name)
    inputs["input_ids"][...] = V - 1
    assert_equal(run_randomly(minus, inputs)[0], run_randomly(none, inputs)[0])
    minus.load_state_dict(last.state_dict())
    assert differs(run_randomly(minus, inputs)[0], run_randomly(last, inputs)[0])
