"""The report of a failed pair check: which entry is wrong, what was expected, how the two are related."""

import numpy as np
import pytest

from minizha.backend import get_backend, namespace, to_host
from minizha.crosscheck import check_pair
from minizha.crosscheck.gradient_checks import GradientReport
from minizha.crosscheck.pair_entries import MOST_ENTRIES
from minizha.errors import ArgumentError


@pytest.fixture
def draw(backend):
    """Random arrays of given shapes, on the backend."""
    rng, xp = np.random.default_rng(0), get_backend(backend)
    return lambda *shape: xp.asarray(np.asarray(rng.standard_normal(shape)))


def product(x, w):
    """y = x · w, entry by entry: ∂⟨u, y⟩/∂x = u · w."""
    return x * w, (x, w)


def product_backward(dy, cache):
    x, w = cache
    return dy * w, dy * x


class WrongProduct:
    """A backward function that stores its upstream gradients and returns ``change(dx)``."""

    def __init__(self, change):
        self.change, self.upstream = change, []

    def __call__(self, dy, cache):
        self.upstream.append(to_host(dy))
        dx, dw = product_backward(dy, cache)
        return self.change(dx), dw


def added(index, what=1.0):
    def change(d):
        d = d.copy()
        d[index] += what
        return d

    return change


# --- which entry ----------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [(0, 0), (1, 2), (2, 4)])
def test_the_report_names_the_entry_that_is_farthest_off(index, draw):
    x, w = draw(3, 5), draw(3, 5)
    backward = WrongProduct(lambda d: added(index, 2.0)(added((1, 1), 1e-3)(d)))
    report = check_pair(product, backward, [x, w])
    assert not report.ok
    assert report.name == "argument 0"
    assert report.index == index
    # the expected value is u · w for one of the upstream gradients u
    candidates = [u[index] * float(to_host(w)[index]) for u in backward.upstream]
    assert min(abs(report.expected - c) for c in candidates) < 1e-14
    assert report.found - report.expected == pytest.approx(2.0, rel=1e-12)
    assert report.error == pytest.approx(2.0 / max(1.0, abs(report.expected)), rel=1e-12)
    assert report.hint.startswith("2 of 15 entries of x's gradient are wrong: only these: ")
    assert str(list(index)) in report.hint
    place = f"argument 0[{index[0]}, {index[1]}]: expected {report.expected:.17g}"
    assert place in str(report)
    assert report.hint in str(report)


def test_the_second_argument(draw):
    report = check_pair(
        product,
        lambda dy, cache: (product_backward(dy, cache)[0], added((2, 0))(dy * cache[0])),
        [draw(3, 5), draw(3, 5)],
    )
    assert (report.name, report.index) == ("argument 1", (2, 0))
    assert "w's gradient" in report.hint


def test_what_is_right_has_no_index_and_no_hint(draw):
    report = check_pair(product, product_backward, [draw(3, 5), draw(3, 5)])
    assert report.ok
    assert (report.index, report.hint) == ((), "")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_an_entry_that_is_no_number(wrong, draw):
    report = check_pair(product, WrongProduct(added((1, 2), wrong)), [draw(3, 5), draw(3, 5)])
    assert not report.ok
    assert report.index == (1, 2)
    assert not np.isfinite(report.found)
    assert np.isfinite(report.expected)
    assert report.hint == "1 of 15 entries of x's gradient are wrong"


def test_a_scalar_argument(draw):
    report = check_pair(
        lambda s, x: (s * x, (s, x)),
        lambda dy, c: ((dy * c[1]).sum() + 1.0, dy * c[0]),
        [draw(), draw(4)],
    )
    assert (report.name, report.index) == ("argument 0", ())
    assert report.found - report.expected == pytest.approx(1.0, rel=1e-12)


def test_what_is_wrong_by_a_hair(draw):
    """The error is smaller than the bound for single entries: no entry is named, and no factor."""
    report = check_pair(
        product, WrongProduct(lambda d: d * (1.0 + 1e-10)), [draw(3, 5), draw(3, 5)]
    )
    assert not report.ok
    assert report.index == ()
    assert "none is wrong by 1e-9" in report.hint
    assert "times" not in report.hint


# --- how it is related ----------------------------------------------------------------------------


def centred(x):
    """y = x − mean(x), whose backward subtracts the mean of dy."""
    return x - x.mean(axis=1, keepdims=True), x


def matrix(x, w):
    return x @ w, (x, w)


def matrix_backward(dy, cache):
    x, w = cache
    return dy @ w.T, x.T @ dy


def dw_transposed(dy, cache):
    dx, dw = matrix_backward(dy, cache)
    return dx, dw.T


@pytest.mark.parametrize(
    ("forward", "backward", "shapes", "hint"),
    [
        (product, WrongProduct(lambda d: 3.0 * d), [(3, 5)] * 2, "it is 3 times what it should be"),
        (product, WrongProduct(lambda d: -d), [(3, 5)] * 2, "it is -1 times"),
        (product, WrongProduct(lambda d: 0.125 * d), [(7,)] * 2, "it is 0.125 times"),
        (product, WrongProduct(lambda d: 0.0 * d), [(3, 5)] * 2, "all are 0"),
        (matrix, dw_transposed, [(3, 4), (4, 4)], "it is transposed"),
        (
            centred,
            lambda dy, x: dy,
            [(3, 5)],
            "subtracting its mean over axis 1 would make it right",
        ),
        (
            product,
            WrongProduct(lambda d: d + d.sum(axis=0)),
            [(3, 5)] * 2,
            "each row along axis 0 is off by a constant",
        ),
        (
            lambda x: (abs(x) + 0j, x),
            lambda dy, x: dy,
            [(3, 5)],
            "entries of x's gradient are wrong",
        ),
        (product, WrongProduct(lambda d: d * d), [(3, 5)] * 2, "gradient are wrong$"),
        (
            product,
            WrongProduct(added((1, 1))),
            [(4, 4)] * 2,
            r"1 of 16 entries of x's gradient are wrong: only these: \[1, 1\]$",
        ),
    ],
)
def test_a_simple_relation_is_told(forward, backward, shapes, hint, draw):
    import re

    report = check_pair(forward, backward, [draw(*shape) for shape in shapes])
    assert not report.ok
    assert re.search(hint, report.hint), report.hint


def test_what_is_right_of_these(draw):
    """The controls: the same functions with the right backward functions."""
    assert check_pair(matrix, matrix_backward, [draw(3, 4), draw(4, 4)]).ok
    assert check_pair(centred, lambda dy, x: dy - dy.mean(axis=1, keepdims=True), [draw(3, 5)]).ok


def test_a_forward_of_any_arguments_has_none_with_names(draw):
    report = check_pair(
        lambda *both: product(*both), WrongProduct(added((0, 0))), [draw(3, 5), draw(3, 5)]
    )
    assert "argument 0" in report.hint or "both" in report.hint
    assert report.index == (0, 0)


# --- large arguments, and calls that can't be --------------------------------------------------------


def counting(forward):
    def counted(*arguments):
        counted.calls += 1
        return forward(*arguments)

    counted.calls = 0
    return counted


def test_of_a_large_argument_some_entries_are_gone_through(draw):
    forward = counting(product)
    x, w = draw(80, 100), draw(80, 100)
    report = check_pair(forward, WrongProduct(lambda d: 2.0 * d), [x, w], trials=1)
    assert not report.ok
    assert len(report.index) == 2
    assert f"of {MOST_ENTRIES} entries" in report.hint
    assert f"{MOST_ENTRIES} of" in report.hint
    assert MOST_ENTRIES < forward.calls < MOST_ENTRIES + 100


def test_the_first_and_the_last_entry_are_among_them(draw):
    for index in ((0, 0), (79, 99)):
        report = check_pair(
            product, WrongProduct(added(index)), [draw(80, 100), draw(80, 100)], trials=1
        )
        assert report.index == index


def test_one_that_lies_between_is_found_but_not_placed(draw):
    report = check_pair(
        product, WrongProduct(added((0, 1))), [draw(80, 100), draw(80, 100)], trials=1
    )
    assert not report.ok
    assert (report.name, report.index) == ("argument 0", ())
    assert "none is wrong" in report.hint


@pytest.mark.parametrize(
    ("forward", "found"),
    [
        (lambda x: x, "found ndarray"),
        (lambda x: (x,), r"found \(ndarray\)"),
        (lambda x: (x, x, x), r"found \(ndarray, ndarray, ndarray\)"),
        (lambda x: ([1.0], x), r"found \(list, ndarray\)"),
        (lambda x: None, "found NoneType"),
        (lambda x: [x, None], "found list"),
    ],
)
def test_a_forward_that_returns_no_pair(forward, found, draw):
    with pytest.raises(ArgumentError, match=f"forward: expected a pair .*{found}"):
        check_pair(forward, lambda dy, cache: dy, [draw(3)])


def test_a_pair_whose_y_is_a_single_number(draw):
    def total(x):
        return (x * x).sum(), x

    assert check_pair(total, lambda dy, x: dy * 2.0 * x, [draw(3, 5)]).ok
    report = check_pair(total, lambda dy, x: dy * x, [draw(3, 5)])
    assert "it is 0.5 times" in report.hint


@pytest.mark.parametrize(
    ("arguments", "trials", "words"),
    [
        ([3, None], 3, "at least one array of floats among the arguments, found int, NoneType"),
        ([], 3, "found none"),
        (None, 0, "trials: expected an integer of at least 1, found 0"),
    ],
)
def test_nothing_to_check(arguments, trials, words, draw):
    given = [draw(3)] if arguments is None else arguments
    with pytest.raises(ArgumentError, match=words):
        check_pair(lambda *a: (np.ones(3), None), lambda dy, c: dy, given, trials=trials)


def test_arguments_are_as_they_were(draw):
    x, w = draw(3, 5), draw(3, 5)
    before = [to_host(a).copy() for a in (x, w)]
    check_pair(product, WrongProduct(lambda d: 2.0 * d), [x, w])
    for array, expected in zip((x, w), before, strict=True):
        np.testing.assert_array_equal(to_host(array), expected)
        assert namespace(array) is namespace(x)


def test_the_text_of_a_report_without_an_entry():
    report = GradientReport(True, 0.0, "argument 0", (), 1.0, 1.0, 3)
    assert "argument 0: expected 1, found 1" in str(report)
    assert str(report).endswith("(error 0.0e+00)")
