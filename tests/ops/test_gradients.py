"""⟨u, Jv⟩ = ⟨Jᵀu, v⟩ for every pair of ops/, and every check fails on a wrong backward."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minizha.backend import get_backend
from minizha.crosscheck import check_pair
from minizha.errors import ArgumentError, MinizhaError
from minizha.ops.activation import ACTIVATIONS
from tests.support.op_cases import BACKWARDS, CASES, FORWARDS, FUNCTIONS, draw_case, typical_case
from tests.support.wrong_backwards import WRONG

pytestmark = pytest.mark.usefixtures("plain_ops")

# not half of a pair: constants, a selection of rows, and Φ and φ, whose slopes gelu_backward has
WITHOUT_BACKWARD = {
    "head_mask_gradient",
    "relative_table",
    "relative_rows",
    "labelled_rows",
    "normal_cdf",
    "normal_pdf",
}


def test_every_op_is_a_pair_and_every_pair_has_a_case():
    assert all(FORWARDS.values()), "a backward without a forward"
    halves = {*FORWARDS, *(f"{name}_backward" for name in FORWARDS)}
    assert FUNCTIONS.keys() - halves == WITHOUT_BACKWARD
    assert CASES.keys() == FORWARDS.keys()


@pytest.mark.parametrize("op", FORWARDS)
@settings(max_examples=40)
@given(data=st.data())
def test_backward_is_the_transpose_of_the_derivative(op, backend, data):
    case = draw_case(data.draw, op).on(get_backend(backend))
    report = check_pair(case.forward, BACKWARDS[op], case.values, trials=2, tolerance=1e-12)
    assert report.ok, report
    assert report.checked == 2 * len(case.variables)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_so_is_the_backward_that_hidden_act_finds(name, backend):
    x = get_backend(backend).asarray(3.0 * np.random.default_rng(0).standard_normal((5, 7)))
    report = check_pair(*ACTIVATIONS[name], [x])
    assert report.ok, report


@pytest.mark.parametrize("op", FORWARDS)
def test_the_typical_case_passes(op, backend):
    """The cases on which the wrong backwards must fail."""
    case = typical_case(op).on(get_backend(backend))
    report = check_pair(case.forward, BACKWARDS[op], case.values)
    assert report.ok, report
    assert abs(report.expected) > 0


@pytest.mark.parametrize(("op", "mistake"), [(op, m) for op in WRONG for m in WRONG[op]])
def test_a_wrong_backward_fails(op, mistake, backend):
    case = typical_case(op).on(get_backend(backend))
    report = check_pair(case.forward, WRONG[op][mistake], case.values)
    assert report.ok is False
    assert report.error > 1e-5, "too small a difference to be sure"
    assert report.name.startswith("argument ")
    assert "DIFFER" in str(report)


def test_there_are_wrong_backwards_for_every_op():
    assert WRONG.keys() == FORWARDS.keys()
    assert all(WRONG.values())
    assert sum(map(len, WRONG.values())) >= 20


# --- check_pair itself ----------------------------------------------------------------------------


def product(x, weight):
    return x * weight, (x, weight)


def product_backward(dy, cache):
    x, weight = cache
    return dy * weight, dy * x


@pytest.fixture
def factors(backend):
    rng, xp = np.random.default_rng(0), get_backend(backend)
    return [xp.asarray(rng.standard_normal((3, 5))) for _ in range(2)]


def test_check_pair_accepts_what_is_right(factors):
    report = check_pair(product, product_backward, factors)
    assert report.ok
    assert report.checked == 6
    assert report.error <= 1e-15
    assert "agree" in str(report)


@pytest.mark.parametrize(
    ("backward", "found"),
    [
        (lambda dy, cache: product_backward(dy, cache)[0], "found 1"),
        (lambda dy, cache: (*product_backward(dy, cache), dy), "found 3"),
        (lambda dy, cache: (), "found 0"),
    ],
)
def test_a_wrong_number_of_gradients_is_an_argument_error(backward, found, factors):
    with pytest.raises(ArgumentError, match=found) as caught:
        check_pair(product, backward, factors)
    assert isinstance(caught.value, MinizhaError)


@pytest.mark.parametrize(
    ("place", "change", "found"),
    [
        (0, lambda d: d[0], "found shape (5,)"),
        (1, lambda d: d.T, "found shape (5, 3): it is transposed"),
        (1, lambda d: d.sum(), "found shape (): it is summed over axes 0, 1"),
    ],
)
def test_a_wrong_shape_is_a_verdict_on_that_gradient_alone(place, change, found, factors):
    def backward(dy, cache):
        gradients = list(product_backward(dy, cache))
        gradients[place] = change(gradients[place])
        return gradients

    report = check_pair(product, backward, factors)
    assert report.ok is False
    assert report.name == f"argument {place}"
    assert [v.ok for v in report.verdicts] == [k != place for k in range(2)]
    assert f"expected an array of shape (3, 5), {found}" in report.hint


@pytest.mark.parametrize("place", [0, 1])
def test_a_nan_in_a_gradient_fails(place, factors):
    def with_nan(dy, cache):
        gradients = [g.copy() for g in product_backward(dy, cache)]
        gradients[place][1, 2] = np.nan
        return tuple(gradients)

    report = check_pair(product, with_nan, factors)
    assert not report.ok
    assert np.isnan(report.error)
    assert report.name == f"argument {place}"


def test_a_nan_that_is_not_the_last_fails_too(factors):
    """Comparisons with NaN are False, so that a plain maximum may drop it."""
    trials = []

    def with_nan_once(dy, cache):
        trials.append(None)
        dx, dweight = product_backward(dy, cache)
        return (dx * np.nan if len(trials) == 1 else dx), dweight

    report = check_pair(product, with_nan_once, factors)
    assert len(trials) == 3
    assert not report.ok


def test_integers_and_none_get_no_gradient(factors):
    def forward(x, times, nothing):
        assert nothing is None
        return x * times, times

    report = check_pair(forward, lambda dy, times: dy * times, [factors[0], 3, None])
    assert report.ok
    assert report.checked == 3


def test_a_forward_that_is_blind_to_complex_numbers_is_checked_by_differences(factors):
    def forward(x, weight):
        y, cache = product(x, weight)
        return y.real + 0j, cache

    report = check_pair(forward, product_backward, factors)
    assert report.ok
    assert report.oracle == "differences"
    assert "drops imaginary parts" in report.remarks[0]
    assert not check_pair(forward, lambda dy, cache: (dy, dy), factors).ok


def test_the_check_is_the_same_on_every_run(factors):
    wrong = lambda dy, cache: (dy, dy)  # noqa: E731
    assert check_pair(product, wrong, factors) == check_pair(product, wrong, factors)
    assert check_pair(product, wrong, factors) != check_pair(product, wrong, factors, seed=1)
