"""What is wrong in a call of check_pair, or inside the reader's functions, is one readable error."""

import math

import numpy as np
import pytest

from minizha.backend import get_backend
from minizha.crosscheck import check_pair, gradcheck
from minizha.crosscheck.pair_functions import Pair
from minizha.errors import ArgumentError, MinizhaError
from tests.support.tiny_models import TINY


def square(x):
    return x * x, {"x": x}


def square_backward(dy, cache):
    return 2.0 * cache["x"] * dy


X = np.arange(6.0).reshape(2, 3) + 0.5


def test_a_dictionary_is_a_cache_like_any_other(backend):
    x = get_backend(backend).asarray(X)
    assert check_pair(square, square_backward, [x]).ok is True
    assert check_pair(square, lambda dy, c: dy * c["x"], (x,)).ok is False


# --- calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (X, "arguments: expected a list of forward's arguments, such as [x], found ndarray"),
        ({"x": X}, "arguments: expected a list of forward's arguments, such as [x], found dict"),
        (3.0, "found float"),
        ("x", "found str"),
        ([[1.0, 2.0]], "argument 0: expected an array, found a list; write numpy.array(…)"),
        ([X, [[1.0], [2.0]]], "argument 1: expected an array, found a list"),
        ([2.0], "at least one array of floats among the arguments, found float"),
        ([np.arange(3)], "found int64 array; write x.astype(float)"),
        ([np.ones(3, dtype=bool), None], "found bool array, NoneType"),
        ([], "found none"),
    ],
)
def test_arguments_that_cannot_be_checked(arguments, words):
    with pytest.raises(ArgumentError) as caught:
        check_pair(square, square_backward, arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"trials": "3"}, "check_pair: trials: expected an integer of at least 1, found '3'"),
        ({"trials": 0}, "found 0"),
        ({"trials": 1.5}, "found 1.5"),
        ({"seed": -1}, "check_pair: seed: expected an integer of at least 0, found -1"),
        ({"seed": None}, "found None"),
        ({"tolerance": -1e-9}, "check_pair: tolerance: expected a finite number of at least 0"),
        ({"tolerance": "small"}, "found 'small'"),
    ],
)
def test_options_out_of_range(options, words):
    with pytest.raises(ArgumentError) as caught:
        check_pair(square, square_backward, [X], **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": -1}, "gradcheck: seed: expected an integer of at least 0, found -1"),
        ({"seed": "0"}, "found '0'"),
        ({"entries": "2"}, "gradcheck: entries: expected an integer of at least 1"),
        ({"tolerance": np.nan}, "gradcheck: tolerance: expected a finite number of at least 0"),
    ],
)
def test_options_of_gradcheck_out_of_range(options, words):
    tiny = next(iter(TINY.values()))
    with pytest.raises(ArgumentError) as caught:
        gradcheck(tiny.model("numpy"), tiny.inputs(), **options)
    assert words in str(caught.value)


def test_functions_that_are_none():
    with pytest.raises(ArgumentError, match="forward: expected a function, found ndarray"):
        check_pair(X, square_backward, [X])
    with pytest.raises(ArgumentError, match="backward: expected a function, found NoneType"):
        check_pair(square, None, [X])


# --- inside the functions ---------------------------------------------------------------------------


def fails_in_forward(x):
    y = x @ x  # (2, 3) @ (2, 3)
    return y, x


def helper(x):
    return x["missing"]


def fails_in_backward(dy, cache):
    twice = 2.0 * dy
    return twice * helper(cache)


def test_the_line_of_forward():
    with pytest.raises(MinizhaError) as caught:
        check_pair(fails_in_forward, square_backward, [X])
    text = str(caught.value)
    assert text.startswith(
        "forward: expected a pair (y, cache) of the arguments x (2, 3); found ValueError: "
    )
    line = fails_in_forward.__code__.co_firstlineno + 1
    assert f"at line {line} of test_pair_functions.py: `y = x @ x" in text
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_line_of_backward_and_not_of_what_it_calls():
    with pytest.raises(MinizhaError) as caught:
        check_pair(square, fails_in_backward, [X])
    text = str(caught.value)
    assert (
        "backward: expected the gradients of x, given dy of shape (2, 3) and forward's cache, a dict"
        in text
    )
    assert "found KeyError: 'missing'" in text
    line = fails_in_backward.__code__.co_firstlineno + 2
    assert f"at line {line} of test_pair_functions.py: `return twice * helper(cache)`" in text


@pytest.mark.parametrize(
    ("forward", "arguments", "words"),
    [
        (lambda: None, [X], "takes 0 positional arguments but 1 was given"),
        (lambda x, w: None, [X], "missing 1 required positional argument: 'w'"),
        (math.exp, [X], "forward: expected a pair"),
        (lambda x: (np.argmax(x, axis=1), x), [X], "y: expected floats, found int64"),
    ],
)
def test_a_forward_that_does_not_fit(forward, arguments, words):
    with pytest.raises(ArgumentError) as caught:
        check_pair(forward, square_backward, arguments)
    assert words in str(caught.value)


def test_a_dictionary_of_gradients():
    with pytest.raises(ArgumentError, match=r"expected 1 gradients.*found a dict"):
        check_pair(square, lambda dy, c: {"dx": dy}, [X])


def test_a_keyboard_interrupt_is_not_caught():
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_pair(interrupted, square_backward, [X])


# --- copies -----------------------------------------------------------------------------------------


def test_float32_arguments_are_handed_out_in_float64():
    seen = []

    def forward(x):
        seen.append(x.dtype)
        return x * x, {"x": x}

    report = check_pair(forward, square_backward, [X.astype(np.float32)])
    assert report.ok is True
    assert set(seen) <= {np.dtype(np.float64), np.dtype(np.complex128)}
    assert report.remarks == ("argument 0 is float32; forward was given it in float64",)


def test_a_copy_for_every_call(backend):
    x = get_backend(backend).asarray(X)
    given = []
    pair = Pair(lambda x: (given.append(x) or x * 2.0, x), lambda dy, c: dy, [x])
    pair.run()
    pair.run()
    assert len({id(g) for g in (*given, x, *pair.arguments)}) == 4
