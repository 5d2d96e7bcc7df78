"""The remarks of a comparison, where the numbers alone would mislead a newcomer."""

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaModel, crosscheck
from minizha.crosscheck.diagnosis import mistaken

SCORES = "encoder.layer.0.attention.scores"
SIZES = {"vocab_size": 13, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3}
INPUTS = {"input_ids": [[5, 6, 7, 8], [9, 4, 3, 2]]}


def model(biases):
    config = NezhaConfig(**SIZES, intermediate_size=10, initializer_range=0.3)
    made, rng = NezhaModel(config, dtype="float64"), np.random.default_rng(0)
    if biases:
        arrays = {name: p + rng.normal(0, 0.3, p.shape) for name, p in made.state_dict().items()}
        made.load_state_dict(arrays)
    return made


def trace(biases=True, **changes):
    return crosscheck.trace(model(biases), INPUTS | changes, gradients=False)


def remarks_of(report):
    return "\n".join(report.remarks)


@pytest.mark.parametrize("biases", [True, False])
def test_a_model_without_biases_is_blind_to_mistakes_about_them(biases):
    ours = trace(biases)
    report = crosscheck.compare(ours, mistaken(ours, "bias_missing"))
    assert report.ok != biases
    assert ("biases of our model are 0" in remarks_of(report)) != biases


def test_other_inputs_are_asked_after():
    ours = trace()
    for ids in ([[5, 6, 7, 9], [9, 4, 3, 2]], [[5, 6, 7], [9, 4, 3]]):
        report = crosscheck.compare(ours, trace(input_ids=ids))
        assert report.first_divergence == "embeddings.word_embeddings"
        assert "same inputs and weights?" in remarks_of(report)
    assert "same inputs" not in remarks_of(crosscheck.compare(ours, mistaken(ours, "no_scale")))


def test_an_array_of_another_shape_is_not_diagnosed():
    ours, theirs = trace(), dict(trace())
    theirs[SCORES] = np.ones((2, 3, 4, 5))
    report = crosscheck.compare(ours, theirs)
    assert report.first_divergence == SCORES
    assert not report.findings
    assert "known mistakes" not in remarks_of(report)


def test_files_that_are_exchanged():
    ours = trace()
    report = crosscheck.compare(mistaken(ours, "no_scale"), ours)
    assert not report.ok
    assert "are the two exchanged?" in remarks_of(report)
    assert "exchanged" not in remarks_of(crosscheck.compare(ours, mistaken(ours, "no_scale")))


@pytest.mark.parametrize(("place", "ok"), [((0, 0, 0, 0), True), ((1, 0, 0, 0), False)])
def test_a_row_of_fractions_is_hidden_and_not_explained_away(place, ok):
    """In the first example no key has mask 1, so its scores are rounded away; in the second, two have."""
    mask = [[0.75, 0.5, 0.75, 0.0], [1.0, 0.5, 1.0, 1.0]]
    ours = trace(attention_mask=mask)
    theirs = dict(ours) | {SCORES: ours[SCORES].copy()}
    theirs[SCORES][place] += 1.0
    report = crosscheck.compare(ours, theirs)
    assert report.ok == ok
    assert "right for their own inputs" not in remarks_of(report)
