"""The rule by which an array is equal, undecided, wrong, or follows from its inputs."""

import math

import pytest

from minizha.crosscheck.comparison.verdict import (
    Evidence,
    Fit,
    Verdict,
    Why,
    verdict,
    why_undecided,
)


def single(error, precision="float32", is_gradient=False):
    """An array of float32 or float64 whose rounding error is 1."""
    return Evidence(error, 1.0, 1.0, 0.0, precision, is_gradient)


def half(error, precision="float16", is_gradient=False):
    """An array of a half: float32 would be off by 1, storing the half adds 50, computing in it is off
    by 100."""
    return Evidence(error, 100.0, 1.0, 50.0, precision, is_gradient)


# --- one test -------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_gradient", [False, True])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(
    ("error", "fit"),
    [
        (0.0, Fit.GOOD),
        (7.0, Fit.GOOD),
        (7.1, Fit.UNSURE),
        (12.0, Fit.UNSURE),
        (12.1, Fit.BAD),
        (math.inf, Fit.BAD),
        (math.nan, Fit.BAD),
    ],
)
def test_how_well_rounding_explains_an_error(error, fit, precision, is_gradient):
    found = single(error, precision, is_gradient)
    assert found.fit is fit
    assert found.allowed == 12


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("error", "activation", "gradient"),
    [
        (57.0, Fit.GOOD, Fit.GOOD),  # 7 × float32's error, and stored in the half
        (57.1, Fit.UNSURE, Fit.UNSURE),
        (62.0, Fit.UNSURE, Fit.UNSURE),
        (62.1, Fit.ONLY_IN_HALF, Fit.ONLY_IN_HALF),
        (400.0, Fit.ONLY_IN_HALF, Fit.ONLY_IN_HALF),  # 4 × the half's error
        (400.1, Fit.BAD, Fit.ONLY_IN_HALF),
        (1200.0, Fit.BAD, Fit.ONLY_IN_HALF),  # 12 ×
        (1200.1, Fit.BAD, Fit.BAD),
        (math.nan, Fit.BAD, Fit.BAD),
    ],
)
def test_stored_in_half_and_computed_in_half(error, activation, gradient, precision):
    assert half(error, precision).fit is activation
    assert half(error, precision, is_gradient=True).fit is gradient
    assert half(error, precision).allowed == 62


def test_what_is_only_stored_in_float32_is_allowed_that():
    """Float64 arrays whose inputs were stored as float32."""
    found = Evidence(1e-7, 1e-16, 1e-16, 1.1e-7, "float64", False)
    assert found.fit is Fit.GOOD
    assert found._replace(storing=0.0).fit is Fit.BAD  # the control


# --- both tests -----------------------------------------------------------------------------------

GOOD, UNSURE, BAD = single(1.0), single(10.0), single(1e6)
STORED, PERHAPS, IN_HALF, NEVER = half(10.0), half(60.0), half(300.0), half(1e6)


@pytest.mark.parametrize(
    ("overall", "local", "expected"),
    [
        # their own inputs decide
        (GOOD, GOOD, Verdict.EQUAL),
        (UNSURE, GOOD, Verdict.EQUAL),
        (BAD, GOOD, Verdict.FOLLOWS),
        (GOOD, UNSURE, Verdict.UNDECIDED),
        (BAD, UNSURE, Verdict.UNDECIDED),
        (GOOD, BAD, Verdict.WRONG),
        (BAD, BAD, Verdict.WRONG),
        # a half
        (STORED, STORED, Verdict.EQUAL),
        (STORED, IN_HALF, Verdict.EQUAL),  # it is ours, rounded
        (STORED, NEVER, Verdict.EQUAL),
        (PERHAPS, STORED, Verdict.EQUAL),
        (PERHAPS, IN_HALF, Verdict.UNDECIDED),
        (IN_HALF, STORED, Verdict.FOLLOWS),
        (IN_HALF, IN_HALF, Verdict.UNDECIDED),
        (IN_HALF, NEVER, Verdict.WRONG),
        (NEVER, IN_HALF, Verdict.UNDECIDED),
        (NEVER, NEVER, Verdict.WRONG),
        # nothing to compute it from
        (GOOD, None, Verdict.EQUAL),
        (UNSURE, None, Verdict.EQUAL),
        (BAD, None, Verdict.WRONG),
        (STORED, None, Verdict.EQUAL),
        (IN_HALF, None, Verdict.UNDECIDED),
        (NEVER, None, Verdict.WRONG),
        # NaN on one side
        (single(math.inf), single(math.inf), Verdict.WRONG),
        (single(math.inf), None, Verdict.WRONG),
    ],
)
def test_the_verdict_of_two_tests(overall, local, expected):
    assert verdict(overall, local) is expected


@pytest.mark.parametrize(
    ("overall", "local", "expected"),
    [
        (UNSURE, None, Why.UNSURE),
        (IN_HALF, None, Why.HALF),
        (BAD, UNSURE, Why.UNSURE),
        (IN_HALF, PERHAPS, Why.UNSURE),
        (PERHAPS, IN_HALF, Why.HALF),
    ],
)
def test_why_it_is_undecided(overall, local, expected):
    assert why_undecided(overall, local) is expected


def test_reasons_are_sentences():
    texts = [why.value.format(dtype="float16", error="0.2", allowed="0.3") for why in Why]
    assert len(set(texts)) == len(Why)
    assert not any(c in text for text in texts for c in "{}")
