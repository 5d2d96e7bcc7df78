"""Their arrays, each against what follows from their own inputs."""

import functools

import numpy as np
import pytest

from minizha import crosscheck
from minizha.crosscheck.comparison.local import OwnInputs
from minizha.crosscheck.comparison.rounding import WithFloat32Table
from minizha.crosscheck.comparison.terms import Terms
from minizha.crosscheck.comparison.verdict import Fit
from minizha.crosscheck.diagnosis import mistaken
from minizha.crosscheck.diagnosis.forward import evaluate
from minizha.ops.gelu import gelu_new
from tests.support.eight_models import inputs_and_labels_of, perturbed
from tests.support.tiny_models import TINY
from tests.support.traces import FLOAT32_TABLE, computed_with, model_and_inputs

MODEL_CLASS = "NezhaForPreTraining"
LAYER = "encoder.layer.0."
GELU = [LAYER + "intermediate", "encoder.layer.1.intermediate"]
GELU.append("cls.predictions.transform.activation")
SCORES = "encoder.layer.1.attention.scores"


@functools.cache
def traced(name=MODEL_CLASS):
    if name in TINY:
        return crosscheck.trace(*model_and_inputs(TINY[name]))
    return crosscheck.trace(perturbed(name, "numpy"), inputs_and_labels_of(name))


def without(arrays, *ends):
    return {name: a for name, a in arrays.items() if not name.endswith(ends)}


def scaled(arrays, name, by=1.001):
    return dict(arrays) | {name: arrays[name] * by}


def own_inputs(ours, theirs):
    sizes = {name: float(np.abs(a).max()) for name, a in ours.items()}
    return OwnInputs(ours, theirs, Terms(lambda n: sizes.get(n, 0.0), lambda n: ours[n].shape))


def causes(report):
    return [(error.arrays, [f.mistake for f in error.findings]) for error in report.errors]


# --- an error of its own --------------------------------------------------------------------------

EVERYWHERE = (
    "embeddings",
    LAYER + "attention.self.key",
    LAYER + "attention.context",
    SCORES,
    "encoder.layer.1",
    "cls.predictions",
    "next_sentence_loss",
    "loss",
    "encoder.layer.1.intermediate.dense.grad",
    LAYER + "attention.self.query.weight.grad",
)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_what_does_not_follow_is_an_error_wherever_it_stands(name):
    """Recorded wrongly, but not used: no other array is spoilt."""
    report = crosscheck.compare(traced(), scaled(traced(), name), diagnose=False)
    assert [d.name for d in report if not d.ok] == [name]
    assert [e.arrays for e in report.errors] == [(name,)]
    assert not report.undecided
    found = report.divergence
    assert found.local_error == pytest.approx(1e-3, rel=1e-2)
    assert found.local_tolerance < 1e-10


def test_an_array_behind_an_error_follows():
    """A mistake at the beginning: what is computed from it differs, and is no error of its own."""
    ours = traced()
    theirs = mistaken(ours, "gelu_tanh")
    report = crosscheck.compare(ours, theirs, diagnose=False)
    assert [name for e in report.errors for name in e.arrays] == GELU
    later = next(d for d in report if d.name == "encoder.layer.1")
    assert not later.ok
    assert later.error > 1e-6 > 1e-12 > later.local_error


@pytest.mark.parametrize("name", ["pooler", "encoder.layer.1.output.dense", "loss"])
def test_so_it_is_behind_one(name):
    """One more wrong array behind the first, off by less than what the first one did, is found, too,
    and spoils no other, though those before it that are wrong were used."""
    ours = traced()
    theirs = mistaken(ours, "gelu_tanh")
    report = crosscheck.compare(ours, scaled(theirs, name, 1 + 1e-9), diagnose=False)
    assert {n for e in report.errors for n in e.arrays} == {*GELU, name}


def test_two_mistakes_in_two_layers_are_both_named():
    ours = traced()
    theirs = mistaken(ours, "gelu_tanh")
    theirs = scaled(theirs, SCORES, np.sqrt(ours.config.head_size))
    report = crosscheck.compare(ours, theirs)
    assert causes(report) == [(tuple(GELU), ["gelu_tanh"]), ((SCORES,), ["no_scale"])]
    assert report.first_divergence == GELU[0]
    assert report.findings == report.errors[0].findings


def test_a_mistake_that_was_recorded_alone_is_named():
    ours = traced()
    before = ours[LAYER + "intermediate.dense"]
    theirs = dict(ours) | {GELU[0]: gelu_new(before)[0]}
    theirs = scaled(theirs, SCORES, np.sqrt(ours.config.head_size))
    report = crosscheck.compare(ours, theirs)
    assert causes(report) == [((GELU[0],), ["gelu_tanh"]), ((SCORES,), ["no_scale"])]
    assert [d.name for d in report if not d.ok] == [GELU[0], SCORES]


# --- missing arrays -------------------------------------------------------------------------------

AROUND = (
    "intermediate.dense",
    "attention.weights",
    "attention.probs",
    "attention.scores",
    "attention.self.value",
    "attention.output.dense",
    "attention.output.sum",
    "attention.output",
    "output.dense",
    "output.sum",
)


@pytest.mark.parametrize("end", AROUND)
def test_a_missing_array_hides_no_other_mistake(end):
    """The step from what is given is recomputed through what lies between."""
    ours = traced()
    theirs = without(mistaken(ours, "gelu_tanh"), "." + end)
    report = crosscheck.compare(ours, theirs)
    assert report.first_divergence == GELU[0]
    assert causes(report) == [(tuple(GELU), ["gelu_tanh"])]
    right = without(ours, "." + end)
    assert crosscheck.compare(ours, right).ok  # the control


def test_behind_the_missing_array_itself_the_mistake_is_named():
    ours = traced()
    theirs = without(mistaken(ours, "gelu_tanh"), ".intermediate")
    report = crosscheck.compare(ours, theirs)
    assert report.first_divergence == LAYER + "output.dense"
    assert {f.mistake for e in report.errors for f in e.findings} == {"gelu_tanh"}


@pytest.mark.parametrize("end", ["intermediate.dense", "attention.probs", "attention.scores"])
def test_a_missing_array_widens_nothing_beyond_its_step(end):
    ours = traced()
    whole, part = (
        {d.name: d.local_tolerance for d in crosscheck.compare(ours, theirs, diagnose=False)}
        for theirs in (dict(ours), without(ours, "." + end))
    )
    steps = own_inputs(ours, ours).steps
    judged = [name for name in part if not np.isnan(part[name])]
    behind = {n for n in judged if any(need.endswith("." + end) for need in steps[n].needs)}
    assert len(behind) >= 2
    assert max(part[n] / whole[n] for n in behind) < 50
    # by other random units in the last place
    assert max(part[n] / whole[n] for n in judged if n not in behind) < 3


def test_hidden_states_alone_are_judged_layer_by_layer():
    ours = traced()
    names = ("embeddings", "encoder.layer.0", "encoder.layer.1")
    report = crosscheck.compare(ours, {n: ours[n] for n in names})
    assert report.ok
    assert max(d.local_tolerance for d in report) < 1e-12
    theirs = mistaken(ours, "gelu_tanh")
    report = crosscheck.compare(ours, {n: theirs[n] for n in names})
    assert causes(report) == [(names[1:], ["gelu_tanh"])]


@pytest.mark.parametrize(
    ("case", "stand_in"),
    [("two layers", True), ("dropout", False), ("head mask", False), ("mask 2-D, padded", True)],
)
def test_weights_stand_in_for_missing_probs(case, stand_in):
    """Without dropout and head mask they are equal."""
    ours = traced(case)
    probs, weights, context = (LAYER + "attention." + n for n in ("probs", "weights", "context"))
    assert np.array_equal(ours[probs], ours[weights]) == stand_in
    given = own_inputs(ours, without(ours, "attention.probs")).given
    assert given.source(probs, LAYER + "attention.scores.grad") == (weights if stand_in else None)
    assert own_inputs(ours, ours).given.source(probs, context) == probs
    # what stands after the step is not read
    assert own_inputs(ours, ours).given.source(probs, LAYER + "attention.self.query") is None


@pytest.mark.parametrize("case", ["plain", "dropout"])
def test_the_gradient_of_a_sum_is_that_of_its_terms(case):
    ours = traced(case)
    total, term = LAYER + "output.sum.grad", LAYER + "output.dense.grad"
    judged = own_inputs(ours, ours)
    expected = None if case == "dropout" else term
    assert judged.given.source(total, LAYER + "attention.output.grad") == expected
    right = evaluate(judged.steps, total, ours, {})
    assert np.allclose(right, ours[term], rtol=0, atol=1e-13) == (case == "plain")


def test_what_can_not_be_computed_is_not_judged():
    ours = traced()
    theirs = dict(ours) | {LAYER + "attention.self.query": np.zeros((2, 3))}
    judged = own_inputs(ours, theirs)
    assert judged.judge("not a step", theirs["loss"], "float64") is None
    assert judged.judge(LAYER + "attention.scores", ours[LAYER + "attention.scores"], "f") is None
    assert judged.judge("encoder.layer.1", ours["encoder.layer.1"], "float64").fit is Fit.GOOD


# --- precision ------------------------------------------------------------------------------------


def test_a_table_made_in_float32_is_benign_in_float64():
    ours = traced()
    report = crosscheck.compare(ours, computed_with(ours, WithFloat32Table(0)))
    assert report.ok
    assert report.first_divergence is None
    (error,) = report.errors
    assert error.benign
    assert "float32" in error.text
    # gradients are judged by themselves only where they differ from ours by more than rounding
    table = [n for n in ours if n.endswith(FLOAT32_TABLE)]
    assert set(error.arrays) <= set(table)
    assert {n for n in table if ".grad" not in n} <= set(error.arrays)
    assert not report.undecided
    assert not report.findings


@pytest.mark.parametrize("key", ["table_bfloat16", "table_float16", "base_1000"])
def test_a_coarser_or_wrong_table_is_a_mistake(key):
    ours = traced()
    report = crosscheck.compare(ours, mistaken(ours, key))
    assert not report.ok
    assert report.first_divergence == LAYER + "attention.scores"
    assert not any(error.benign for error in report.errors)
    assert report.findings[0].mistake == key


def test_a_float32_table_excuses_no_other_mistake():
    ours = traced()
    theirs = computed_with(ours, WithFloat32Table(0))
    report = crosscheck.compare(ours, scaled(theirs, "pooler", 1 + 1e-9))
    assert report.first_divergence == "pooler"
    assert [error.benign for error in report.errors] == [False, True]


@pytest.mark.parametrize("name", ["cls.predictions", "encoder.layer.1"])
def test_one_array_stored_coarser_hides_no_earlier_mistake(name):
    ours = traced()
    theirs = mistaken(ours, "gelu_tanh")
    theirs[name] = theirs[name].astype("float16")
    report = crosscheck.compare(ours, theirs)
    assert report.first_divergence == GELU[0]
    assert [f.mistake for f in report.findings] == ["gelu_tanh"]
    right = dict(ours) | {name: ours[name].astype("float16")}
    assert crosscheck.compare(ours, right).first_divergence is None  # the control
