"""Differences know how far they can be trusted, and so tell when the complex step can't be."""

import numpy as np
import pytest

from minizha.crosscheck.derivatives import Line, agree

U = np.array([0.7, -1.3, 0.4])
V = np.array([1.0, 0.5, -2.0])


def line(function, x=(0.3, 1.1, -0.6)):
    return Line(function, np.array(x), V, U)


SMOOTH = {
    "exp": (np.exp, np.exp),
    "sine of 20x": (lambda x: np.sin(20.0 * x), lambda x: 20.0 * np.cos(20.0 * x)),
    "small": (lambda x: 1e-8 * x**3, lambda x: 3e-8 * x**2),
    "beside a large constant": (lambda x: 1e8 + x**2, lambda x: 2.0 * x),
    "rational": (lambda x: 1.0 / (1.0 + x * x), lambda x: -2.0 * x / (1.0 + x * x) ** 2),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_error_of_a_difference_is_no_larger_than_it_says(name):
    function, derivative = SMOOTH[name]
    for x in ((0.3, 1.1, -0.6), (30.0, 11.0, 2.5), (1e-3, 2e-3, 5e-3)):
        if name == "exp" and x[0] > 1:
            continue
        slope = line(function, x).difference()
        right = float((U * derivative(np.array(x)) * V).sum())
        assert abs(float((U * slope.values).sum()) - right) <= slope.error
        assert slope.error <= 1e-5 * max(1.0, abs(right)) or name == "beside a large constant"


@pytest.mark.parametrize("name", SMOOTH)
def test_on_smooth_functions_both_agree_and_nothing_is_rough(name):
    one = line(SMOOTH[name][0])
    assert agree(one.complex_step(), one.difference(), U)
    assert not one.kink()
    if name != "beside a large constant":
        assert one.roughness() == 0.0


@pytest.mark.parametrize(
    "blind", [np.abs, lambda x: x.real**2, lambda x: x * x.real, lambda x: x * np.var(x)]
)
def test_where_imaginary_parts_are_dropped_they_do_not(blind):
    one = line(blind)
    assert not agree(one.complex_step(), one.difference(), U)


@pytest.mark.parametrize("large", [np.finfo(float).min, 1e15, -1e12, 1e17])
def test_what_rounding_swallows_is_no_disagreement(large):
    """Beside −1.8e308 every real step is lost, and every imaginary one is not."""
    one = line(lambda x: np.exp((x + large) - large))
    step = one.complex_step()
    assert step.any()
    assert agree(step, one.difference(step=step), U)


def test_what_is_flat_is_not_lost():
    """Two of the three outputs move at long steps only, across their kinks."""
    one = line(lambda x: np.where(x > 0, x, 0.0), (-0.01, 1.0, -0.1))
    slope = one.difference()
    np.testing.assert_allclose(slope.values, [0.0, 0.5, 0.0], atol=1e-9)
    assert slope.error < 1e-8


def test_without_complex_numbers_there_is_no_step():
    one = line(lambda x: None if np.iscomplexobj(x) else np.exp(x))
    assert one.complex_step() is None
    assert np.isfinite(one.difference().values).all()


def test_where_y_cannot_be_computed_nothing_speaks_against_the_step():
    one = line(lambda x: np.exp(x) if np.iscomplexobj(x) else None)
    assert np.isnan(one.difference().values).all()
    assert agree(one.complex_step(), one.difference(), U)
    assert not agree(one.complex_step() * np.nan, one.difference(), U)


@pytest.mark.parametrize("x", [(0.0, 1.0, 2.0), (1.0, 1e-9, -1.0)])
def test_a_kink(x):
    assert line(np.abs, x).kink() == pytest.approx(
        1.01 * np.abs(U).sum() * np.abs(V).max(), rel=1e-3
    )
    assert line(lambda x: np.abs(x).astype(np.float32).astype(float), x).kink(1.2e-7)
    assert not line(np.abs, (1.0, 2.0, 3.0)).kink()
    assert not line(lambda x: x * np.abs(x), x).kink()


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [(np.float32, 1e-9, 1e-6), (np.float16, 1e-5, 1e-2)]
)
def test_roughness_is_that_of_the_dtype_inside(dtype, low, high):
    assert low < line(lambda x: np.exp(x.astype(dtype))).roughness() < high
    # cast back, and mixed with float64
    assert (
        low < line(lambda x: np.exp(x.astype(dtype)).astype(float) * np.pi + x).roughness() < high
    )
    assert line(np.exp).roughness() == 0.0


def test_a_kink_nearby_is_not_rough():
    assert line(lambda x: np.maximum(x, 0.0), (2e-6, -1e-3, 1.0)).roughness() == 0.0
