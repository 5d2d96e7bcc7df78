"""A relative table made in float32 is told from errors of another form."""

import functools

import numpy as np
import pytest

from minizha import crosscheck
from minizha.crosscheck.comparison.float32_table import (
    KEY_FORM,
    LARGEST,
    VALUE_FORM,
    has_table_form,
)
from minizha.crosscheck.comparison.rounding import WithFloat32Table
from minizha.crosscheck.diagnosis import CATALOGUE
from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.facts import Facts
from tests.support.tiny_models import TINY
from tests.support.traces import computed_with, model_and_inputs

CASES = ("plain", "dropout and everything", "mask 2-D, padded", "decoder and everything", "past")
NAMES = [f"encoder.layer.0.attention.{name}" for name in (*KEY_FORM, *VALUE_FORM)]
ALLOWED = 1e-13
"""What float64 explains in models as small as these."""


@functools.cache
def traced(case):
    return crosscheck.trace(*model_and_inputs(TINY[case]))


def step_alone(ours, name, rules):
    """The array by other rules, all others right."""
    from minizha.crosscheck.diagnosis.backward import all_steps
    from minizha.crosscheck.diagnosis.forward import evaluate

    return evaluate(all_steps(Facts(ours), rules), name, ours, {})


def form_of(ours, name, theirs):
    right = step_alone(ours, name, Rules())
    return has_table_form(Facts(ours), name, theirs - right, ours.get, ALLOWED)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", CASES)
def test_a_table_made_in_float32_has_the_form(case, name):
    ours = traced(case)
    theirs = step_alone(ours, name, WithFloat32Table(0))
    assert np.abs(theirs - ours[name]).max() > 100 * ALLOWED, "the control: it changes the array"
    assert form_of(ours, name, theirs) is True


@pytest.mark.parametrize("factor", [1 + 1e-7, 1 + 1e-5])
@pytest.mark.parametrize("name", NAMES)
def test_a_factor_next_to_one_has_not(name, factor):
    ours = traced("plain")
    assert form_of(ours, name, ours[name] * factor) is False


def test_a_table_that_is_wrong_by_more_has_not():
    ours = traced("plain")

    class Coarse(WithFloat32Table):
        def table(self, a):
            return super().table(a) + 2 * LARGEST * 2 * a.K * 2.0**-24

    assert form_of(ours, NAMES[0], step_alone(ours, NAMES[0], Coarse(0))) is False


def test_without_the_other_factor_or_in_another_array_there_is_no_form():
    ours, residual = traced("plain"), np.zeros((1,))
    facts = Facts(ours)
    assert has_table_form(facts, NAMES[0], residual, lambda name: None, ALLOWED) is None
    assert has_table_form(facts, "encoder.layer.0", residual, ours.get, ALLOWED) is None


@pytest.mark.parametrize("factor", [1 + 1e-9, 1 + 1e-6, 1 + 1e-5])
def test_a_port_with_another_scale_is_wrong(factor):
    """It uses the scores that it records, so that everything after them follows."""
    ours = traced("plain")

    class Scaled(Rules):
        def scores(self, q, k, a):
            return super().scores(q, k, a) * factor

    report = crosscheck.compare(ours, computed_with(ours, Scaled()), diagnose=False)
    assert report.first_divergence == "encoder.layer.0.attention.scores"
    assert not any(error.benign for error in report.errors)


@pytest.mark.parametrize("lacking", ["self.key", "self.value", "self.query", "weights"])
def test_where_theirs_lacks_what_the_step_reads_the_size_decides(lacking):
    """What is recomputed, perhaps through a table of another layer, has not the form."""
    ours = traced("plain")
    theirs = computed_with(ours, WithFloat32Table(0))
    part = {name: a for name, a in theirs.items() if not name.endswith(f"attention.{lacking}")}
    part = {name: a for name, a in part.items() if not name.endswith("layer.0")}
    report = crosscheck.compare(ours, part, diagnose=False)
    assert report.ok
    assert any(error.benign for error in report.errors)


def test_a_float32_table_and_a_small_mask_are_both_named():
    """As in Huawei's TensorFlow code: a row that sees nothing has the hidden scores of that table."""

    class Huawei(CATALOGUE["mask_minus_10000"].rules, WithFloat32Table):
        pass

    ours = traced("mask 2-D, an example sees nothing")
    report = crosscheck.compare(ours, computed_with(ours, Huawei(0)))
    assert report.first_divergence == "encoder.layer.0.attention.probs"
    assert [f.mistake for f in report.findings] == ["mask_minus_10000"]
    assert [error.benign for error in report.errors] == [False, True]
