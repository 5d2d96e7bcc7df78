"""An equation is proved only if it holds and each of its wrong twins does not."""

import ast

import numpy as np
import pytest
from minizha_book.proofs import LINE, distance, negated, twins

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4))
W = RNG.standard_normal((3, 4))


def of(text, make=twins, *parts):
    expression = ast.parse(text, mode="eval").body
    return [ast.unparse(twin.body) for _, twin in make(expression, *parts)]


def test_twins_change_one_place_each():
    assert set(of("a - b * c.T")) == {"a + b * c.T", "a - b", "a - c.T", "a - b * c"}
    wrong = ["x.sum(axis=1) * 2", "x.mean(axis=1) / 2", "x.sum(axis=2) / 2", "x.sum(axis=1) / 3"]
    assert sorted(of("x.sum(axis=1) / 2")) == sorted(wrong)
    assert of("-x[0]") == ["x[0]", "-x[1]"]
    assert set(of("a @ b")) == {"a.T @ b", "a @ b.T"}
    assert of("name") == []
    assert of("a * b", negated, [X]) == ["-(a * b)"]
    assert of("a, b", negated, [X, W]) == ["(-a, b)", "(a, -b)"]
    assert of("a, b", negated, [0 * X, W]) == ["(a, -b)"]


def test_distance_is_relative_to_what_is_large_and_keeps_a_nan():
    assert distance(np.array([1e6]), np.array([1e6 + 1]), "x") == pytest.approx(1e-6)
    assert distance(0.0, 0.25, "x") == 0.25
    assert np.isnan(distance(np.array([1.0, np.nan]), np.array([1.0, 1.0]), "x"))
    with pytest.raises(ValueError, match="shapes"):
        distance(np.zeros(2), np.zeros(3), "x")
    with pytest.raises(ValueError, match="float64"):
        distance(np.zeros(2, np.float32), np.zeros(2, np.float32), "x")


@pytest.fixture
def proves():
    pytest.importorskip("executing", reason='needs pip install -e ".[book]"')
    from minizha_book.proofs import proves

    return proves


def test_a_right_equation_is_proved(proves, capsys):
    proves("product", np.einsum("ij,ij->i", X, W), (X * W).sum(axis=1))
    found = LINE.match(capsys.readouterr().out.strip())
    assert found[1] == "product"
    assert float(found[2]) < 1e-15
    assert int(found[3]) == 4  # axis 2 does not exist: that twin is not counted


@pytest.mark.parametrize("wrong", [0.0, np.nan, 1e-9])
def test_a_wrong_equation_is_not(proves, wrong):
    with pytest.raises(AssertionError, match="the sides differ"):
        proves("product", X + wrong if wrong else -X, 1.0 * X)


def test_data_that_hide_an_error_are_refused(proves):
    ones = np.ones((3, 4))
    with pytest.raises(
        AssertionError, match=r"1 wrong twins pass, 0 were expected:\n.*ones \* ones"
    ):
        proves("quotient", ones, ones / ones)


def test_an_equation_that_compares_nothing_is_refused(proves):
    y = 2 * X
    with pytest.raises(AssertionError, match="nothing can be changed"):
        proves("name", 2 * X, y)


def test_a_side_that_is_zero_is_tested_by_the_other(proves, capsys):
    # the mean of what sums to zero is zero, too
    proves("zero", (X - X.mean(axis=1, keepdims=True)).sum(axis=1), np.zeros(3), equal_twins=1)
    assert "wrong twins refused" in capsys.readouterr().out


def test_twins_that_are_known_to_be_equal_are_counted(proves):
    zero = np.zeros((3, 4))
    with pytest.raises(AssertionError, match="twins pass, 0 were"):
        proves("zero term", X, X + zero)
    proves("zero term", 2 * X, 2 * X + zero, equal_twins=1)
