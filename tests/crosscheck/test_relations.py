"""Each relation is told where it holds, and not where it merely could."""

import numpy as np
import pytest

from minizha.crosscheck.relations import Wrong, relation, shape_relation


def wrong(change, shape=(4, 5), **replaced):
    """A wrong gradient: ``change(expected, x, y)``."""
    rng = np.random.default_rng(8)
    expected, x, y, u = rng.standard_normal((4, *shape))
    given = Wrong(change(expected, x, y), expected, x, y, u, None, {}, 0.0)
    return given._replace(**replaced)


def rows(a, seed=1):
    """Another number for each row."""
    return np.random.default_rng(seed).standard_normal((*a.shape[:-1], 1))


TERM = "such a term is missing, is too much, or has a wrong factor"
TERMS = "such terms are missing, are too much, or have wrong factors"

RELATIONS = {
    "all are 0": lambda e, x, y: 0 * e,
    "it is -1 times what it should be: its sign is wrong": lambda e, x, y: -e,
    "it is 3 times what it should be": lambda e, x, y: 3 * e,
    "it is 0.6 times (3/5) what it should be": lambda e, x, y: 0.6 * e,
    "it is -1.33333 times (-4/3) what it should be": lambda e, x, y: -4 / 3 * e,
    "it is 0.617 times what it should be": lambda e, x, y: 0.617 * e,
    "it is 2.23607 times what it should be, √5: a scale is missing or double? 5 is the length of "
    "axis 1": lambda e, x, y: 5**0.5 * e,
    "it is 0.2 times (1/5) what it should be: a mean in place of a sum? 5 is the length of axis 1": (
        lambda e, x, y: e / 5
    ),
    "it is 0.05 times (1/20) what it should be: a mean in place of a sum? 20 is the number of entries": (
        lambda e, x, y: e / 20
    ),
    "it is 4 times what it should be: a sum in place of a mean? 4 is the length of axis 0": (
        lambda e, x, y: 4 * e
    ),
    "its numbers are right but in the order of other axes: transpose, don't reshape": (
        lambda e, x, y: e.T.reshape(e.shape)
    ),
    f"each row along axis 1 is off by a constant: {TERM}": lambda e, x, y: e + rows(e),
    f"each row along axis 0 is off by a constant: {TERM}": lambda e, x, y: e + rows(e.T).T,
    f"each row along axis 1 is off by a multiple of x − mean(x): {TERM}": (
        lambda e, x, y: e + rows(e) * (x - x.mean(axis=1, keepdims=True))
    ),
    f"each row along axis 1 is off by a multiple of y: {TERM}": lambda e, x, y: e + rows(e) * y,
    f"each row along axis 1 is off by a multiple of x: {TERM}": lambda e, x, y: e + rows(e) * x,
    f"each row along axis 0 is off by a multiple of x: {TERM}": lambda e, x, y: e + rows(e.T).T * x,
    f"each row along axis 1 is off by a constant and a multiple of x − mean(x): {TERMS}": (
        lambda e, x, y: e + rows(e) + rows(e, 2) * x
    ),
    f"each row along axis 1 is off by a constant and a multiple of y: {TERMS}": (
        lambda e, x, y: e + rows(e) + rows(e, 2) * y
    ),
    f"each row along axis 1 is off by a multiple of y and a multiple of x: {TERMS}": (
        lambda e, x, y: e + rows(e) * x + rows(e, 2) * y
    ),
    "each row along axis 1 is off by a factor of its own": lambda e, x, y: rows(e) * e,
    "each row along axis 0 is off by a factor of its own": lambda e, x, y: rows(e.T).T * e,
    "only these: [0, 1], [3, 4]": lambda e, x, y: e + np.eye(5)[[1, 0, 0, 4]] * [0, 1, 0, 0, 1],
    "only at 2 of axis 1": lambda e, x, y: e + np.sin(x + y) * [0, 0, 1, 0, 0],
    "": lambda e, x, y: np.sin(e),
}


@pytest.mark.parametrize("text", RELATIONS)
def test_a_relation_is_told(text):
    assert relation(wrong(RELATIONS[text])) == text


def test_the_transposed_one():
    assert relation(wrong(lambda e, x, y: e.T, (4, 4))) == "it is transposed"
    swapped = wrong(lambda e, x, y: e.swapaxes(1, 2), (2, 3, 3))
    assert relation(swapped) == "it is transposed"


def test_a_mean_to_be_subtracted():
    zero_sum = wrong(lambda e, x, y: e)
    expected = zero_sum.expected - zero_sum.expected.mean(axis=1, keepdims=True)
    given = zero_sum._replace(found=expected + rows(expected), expected=expected)
    assert relation(given) == "subtracting its mean over axis 1 would make it right"


def test_what_is_known_beside_it():
    given = wrong(lambda e, x, y: np.sin(e))
    assert relation(given._replace(others={"argument 1 (w)": given.found})) == (
        "it is the gradient of argument 1 (w)"
    )
    assert relation(given._replace(diagonal=given.found)).startswith("only the diagonal")
    assert relation(given._replace(u=given.found)).startswith("it is dy itself")
    for name in ("others", "diagonal", "u"):
        near = given.found + 1e-6
        assert relation(given._replace(**{name: {"w": near} if name == "others" else near})) == ""


@pytest.mark.parametrize("text", RELATIONS)
def test_a_relation_that_leaves_more_than_rounding_is_not_told(text):
    """One part in a million: then the relation is another one, or none."""
    given = wrong(RELATIONS[text])
    noise = 1e-6 * np.random.default_rng(3).standard_normal(given.found.shape)
    assert relation(given._replace(found=given.found + noise)) == ""


def test_nor_is_one_of_a_difference_that_is_rounding_itself():
    assert relation(wrong(lambda e, x, y: (1.0 + 1e-10) * e)) == ""


@pytest.mark.parametrize("shape", [(4, 1), (1, 4), (2, 2), (3, 2), (1, 1), (2,), (1,)])
def test_short_rows_are_explained_by_nothing(shape):
    """In a row of two, two terms explain everything."""
    for seed in range(50):
        e, f, x, y, u = np.random.default_rng(seed).standard_normal((5, *shape))
        assert relation(Wrong(f, e, x, y, u, None, {}, 0.0)) == ""


@pytest.mark.parametrize("columns", [2, 3])
def test_rows_that_can_only_be_multiples_are_explained_by_nothing(columns):
    """Rows of two that sum to 0 are all multiples of (1, −1); rows of three orthogonal to x, too."""
    rng = np.random.default_rng(5)
    x, y, u = rng.standard_normal((3, 4, columns))

    def projected(a):
        a = a - a.mean(axis=1, keepdims=True)
        n = x - x.mean(axis=1, keepdims=True)
        if columns == 3:
            a = a - n * (a * n).sum(axis=1, keepdims=True) / (n * n).sum(axis=1, keepdims=True)
        return a

    e, f = (projected(a) for a in rng.standard_normal((2, 4, columns)))
    assert relation(Wrong(f, e, x, y, u, None, {}, 0.0)) == ""


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda e: np.stack([e, 0 * e]), "it is not summed over axis 0"),
        (lambda e: e.T, "it is transposed"),
        (lambda e: e.sum(axis=0), "it is summed over axis 0, which it should keep"),
        (lambda e: e.sum(), "it is summed over axes 0, 1, which it should keep"),
        (lambda e: e.ravel(), "its numbers are right, its shape is not"),
        (lambda e: np.ones((2, 2)), ""),
    ],
)
def test_wrong_shapes(change, text):
    e = np.random.default_rng(0).standard_normal((3, 4))
    assert shape_relation(change(e), e, {}) == text
    assert shape_relation(np.ones((2, 2)), e, {"w": np.ones((2, 2))}) == "it is the gradient of w"
