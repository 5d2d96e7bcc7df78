"""checks.py: which values are accepted, which are refused, and the messages."""

import re

import numpy as np
import pytest

from minizha.checks import choice, flag, integer, mapping, number
from minizha.errors import ArgumentError


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3)])
def test_an_integer_becomes_an_int(value):
    found = integer("n", value, 0, 3)
    assert found == 3
    assert type(found) is int


@pytest.mark.parametrize("value", [1.0, "3", None, True, np.True_, [3], 4, -1, 10**30, np.nan])
def test_what_is_no_integer_in_the_range_is_refused(value):
    with pytest.raises(ArgumentError, match=r"^n: expected an integer in \[0, 3\], found "):
        integer("n", value, 0, 3)


def test_the_range_of_an_integer_is_in_words():
    with pytest.raises(ArgumentError, match=r"^n: expected an integer of at least 2, found 1$"):
        integer("n", 1, 2)
    with pytest.raises(ArgumentError, match=r"^n: expected an integer, found 'x'$"):
        integer("n", "x")
    with pytest.raises(
        ArgumentError, match=r"^n: expected an integer of at least 2 or None, found 0"
    ):
        integer("n", 0, 2, optional=True)
    assert integer("n", None, 2, optional=True) is None


@pytest.mark.parametrize("value", [0, 0.5, np.float32(0.5), np.int64(0)])
def test_a_number_becomes_a_float(value):
    found = number("x", value, "[0, 1)")
    assert found == value
    assert type(found) is float


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("[0, 1)", [0, 0.999], [1, -1e-9]),
        ("(0, 1]", [1e-9, 1], [0, 1.001]),
        ("[0, inf)", [0, 1e300], [float("inf"), -1]),
        ("(0, inf)", [1e-300], [0.0, float("inf")]),
        ("(-inf, inf)", [-1e300, 1e300], [float("inf"), float("-inf")]),
    ],
)
def test_a_round_bracket_leaves_its_end_out(interval, inside, outside):
    for value in inside:
        assert number("x", value, interval) == value
    for value in [*outside, float("nan"), "0.5", True, None, 1j, [0.5], 10**400]:
        with pytest.raises(ArgumentError, match=r"^x: expected a "):
            number("x", value, interval)


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        ("[0, 1)", "a number in [0, 1)"),
        ("(0, inf)", "a finite number above 0"),
        ("[0.5, inf)", "a finite number of at least 0.5"),
        ("(-inf, inf)", "a finite number"),
    ],
)
def test_an_interval_is_in_words(interval, text):
    with pytest.raises(ArgumentError, match=f"^x: expected {re.escape(text)}, found nan$"):
        number("x", float("nan"), interval)
    with pytest.raises(ArgumentError, match=f"^x: expected {re.escape(text)} or None, found nan$"):
        number("x", float("nan"), interval, optional=True)
    assert number("x", None, interval, optional=True) is None


def test_a_flag_is_true_or_false():
    assert flag("f", True) is True
    assert flag("f", np.False_) is False
    assert flag("f", None, True) is True
    for value in (1, 0, "yes", None, [True]):
        with pytest.raises(ArgumentError, match=r"^f: expected True or False, found "):
            flag("f", value)
    with pytest.raises(ArgumentError, match=r"^f: expected True, False or None, found 1$"):
        flag("f", 1, False)


def test_a_choice_is_one_of_some():
    assert choice("c", "b", ("a", "b")) == "b"
    assert choice("c", None, (None, "b")) is None
    for value in ("x", 1, ["a"], None):
        with pytest.raises(ArgumentError, match=r"^c: expected one of 'a', 'b', found "):
            choice("c", value, ("a", "b"))


def test_a_mapping_is_copied():
    given = {"a": 1}
    found = mapping("m", given)
    assert found == given
    assert found is not given
    assert mapping("m", None, optional=True) is None
    for value in (["a"], None, 1):
        with pytest.raises(ArgumentError, match=r"^m: expected a mapping, found "):
            mapping("m", value)


def test_a_long_value_is_shortened():
    with pytest.raises(ArgumentError) as caught:
        integer("n", "x" * 10**6)
    assert len(str(caught.value)) < 200
