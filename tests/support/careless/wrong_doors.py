"""Doors that are wrong on purpose, one for each fault that calls.py must see."""

import time
from typing import Any

import numpy as np

from minizha.errors import MinizhaError
from tests.support.careless.kinds import integer
from tests.support.careless.world import Door


def leaking(x: Any) -> None:
    if not isinstance(x, int):
        raise KeyError(x)


def two_lines(x: Any) -> None:
    raise MinizhaError("one\ntwo")


def no_number(x: Any) -> dict[str, np.ndarray]:
    if type(x) is not int:
        raise MinizhaError("x: expected an integer")
    return {"a": np.array([1.0, np.nan])}


def any_keyword(x: Any = 1, **_: Any) -> None:
    if type(x) is not int:
        raise MinizhaError("x: expected an integer")


def slow(x: Any) -> None:
    time.sleep(3600)


def warning(x: Any) -> None:
    np.float32(1e38) * np.float32(1e38)
    raise MinizhaError("x")


def right(x: Any) -> int:
    if type(x) is not int or not 0 <= x <= 9:
        raise MinizhaError("x: expected an integer in [0, 9]")
    return x


def door(call: Any, required: tuple[str, ...] = ()) -> Door:
    return Door(call.__name__, call, lambda w: {"x": 3}, {"x": integer(0, 9)}, required)


LEAKS, TWO_LINES, NO_NUMBER = door(leaking), door(two_lines), door(no_number)
ANY_KEYWORD, SLOW, WARNING = door(any_keyword), door(slow), door(warning)
ACCEPTS = door(lambda x=1: x, ("x",))
RIGHT = door(right, ("x",))
