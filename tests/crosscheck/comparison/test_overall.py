"""How far an array may be from ours: measured, or guessed where there is nothing to measure with."""

import numpy as np
import pytest

from minizha import crosscheck
from minizha.crosscheck.comparison import overall as module
from minizha.crosscheck.comparison.overall import GROWTH, STEP, Overall, rounding_of
from minizha.crosscheck.comparison.precision import unit_of
from minizha.crosscheck.comparison.terms import Terms
from minizha.crosscheck.comparison.verdict import TIMES
from tests.support.tiny_models import TINY
from tests.support.traces import model_and_inputs

NAMES = [f"encoder.layer.{k}" for k in range(3)]


@pytest.fixture
def ours():
    return crosscheck.trace(*model_and_inputs(TINY["plain"]))


def terms_of(trace):
    sizes = {name: float(np.abs(a).max()) for name, a in trace.items()}
    return Terms(lambda n: sizes.get(n, 0.0), lambda n: trace[n].shape)


def overall_of(trace):
    return Overall(trace, terms_of(trace))


# --- measured -------------------------------------------------------------------------------------


def test_rounding_is_measured_once_and_kept(ours, monkeypatch):
    assert ours.rounding == {}
    found = rounding_of(ours, "float32")
    assert found.keys() == ours.keys()
    assert ours.rounding == {"float32": found}
    monkeypatch.setattr(module, "model_rounding", None)  # not called again
    assert rounding_of(ours, "float32") == found
    assert overall_of(ours).evidence("embeddings", 0.0, "float32").rounding == found["embeddings"]


def test_that_of_float64_is_that_of_float32_scaled(ours):
    double, single = rounding_of(ours, "float64"), rounding_of(ours, "float32")
    assert list(ours.rounding) == ["float32"]
    for name, value in single.items():
        assert double[name] == pytest.approx(value * 2.0**-29, rel=1e-12), name


def test_it_is_stored_with_the_trace(ours, tmp_path, monkeypatch):
    rounding_of(ours, "float32"), rounding_of(ours, "bfloat16")
    ours.save(tmp_path / "ours.safetensors")
    stored = crosscheck.open_trace(tmp_path / "ours.safetensors")
    assert stored.rounding == ours.rounding
    assert stored.rounding.keys() == {"float32", "bfloat16"}
    monkeypatch.setattr(module, "model_rounding", None)
    assert rounding_of(stored, "float64") == rounding_of(ours, "float64")


def test_a_comparison_keeps_it(ours):
    assert crosscheck.compare(ours, {n: a.astype("f4") for n, a in ours.items()}).ok
    assert "float32" in ours.rounding


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_a_half_may_be_stored_or_computed_in(ours, half):
    name, overall = "encoder.layer.0", overall_of(ours)
    found = overall.evidence(name, 0.25, half)
    scale = np.abs(ours[name]).max()
    assert found.error == 0.25
    assert found.single == rounding_of(ours, "float32")[name]
    assert found.rounding == rounding_of(ours, half)[name] > 100 * found.single
    assert found.storing == unit_of(half) * scale
    single = overall.evidence(name, 0.25, "float32")
    assert (single.single, single.storing) == (single.rounding, 0.0)


# --- guessed --------------------------------------------------------------------------------------


def test_without_a_configuration_it_is_guessed():
    ours = {name: np.full((2, 3), 4.0) for name in NAMES}
    overall, unit = overall_of(ours), unit_of("float64")
    assert overall.evidence(NAMES[0], 0.0, "float64").rounding == 4.0 * STEP * unit
    assert overall.evidence(NAMES[0], 0.0, "float64").allowed == TIMES * 4.0 * STEP * unit
    assert overall.evidence(NAMES[0], 0.0, "float32").rounding == 4.0 * STEP * unit_of("float32")


def test_errors_of_equal_arrays_are_passed_on():
    ours = {name: np.full((2, 3), 4.0) for name in NAMES}
    overall, unit = overall_of(ours), unit_of("float64")
    overall.learn(NAMES[0], 4e-14)  # of 4
    overall.learn(NAMES[1], 1e-15)
    expected = 4.0 * (STEP * unit + GROWTH * 1e-14)
    assert overall.evidence(NAMES[2], 0.0, "float64").rounding == pytest.approx(expected)


def test_a_large_error_excuses_no_other():
    """What is passed on is bounded by what rounding can explain."""
    ours = {name: np.full((2, 3), 4.0) for name in NAMES}
    overall = overall_of(ours)
    overall.learn(NAMES[0], 3.0)
    assert overall.evidence(NAMES[2], 0.0, "float64").allowed / 4.0 < 0.01


def test_the_argument_of_a_softmax_counts():
    scores = np.array([[[[300.0, 1.0]]]])
    probs = np.array([[[[1.0, 0.0]]]])
    ours = {"encoder.layer.0.attention.scores": scores, "encoder.layer.0.attention.probs": probs}
    found = overall_of(ours).evidence("encoder.layer.0.attention.probs", 0.0, "float64")
    assert found.rounding == 300 * STEP * unit_of("float64")


def test_a_trace_without_parameters_is_guessed(ours):
    name = "encoder.layer.0.attention.self.query"
    assert name in rounding_of(ours, "float32")
    ours.parameters, ours.rounding = {}, {}
    assert name not in rounding_of(ours, "float32")
    expected = np.abs(ours[name]).max() * STEP * unit_of("float32")
    assert overall_of(ours).evidence(name, 0.0, "float32").rounding == pytest.approx(expected)
