"""Every pair of ops/ is marked as an operation, and is otherwise the function that it was."""

import importlib
import inspect
import pkgutil

import numpy as np
import pytest

import minizha.ops
from minizha.ops.operation import WATCHER, operation
from tests.support.op_cases import BACKWARDS, FORWARDS, typical_case, upstream

MODULES = [
    importlib.import_module(f"minizha.ops.{info.name}")
    for info in pkgutil.iter_modules(minizha.ops.__path__)
]


class Watching:
    """Collects what it is shown."""

    def __init__(self):
        self.seen = []

    def forward(self, x, y, cache):
        self.seen.append((x, y, cache))

    def backward(self, dy, cache, dx):
        self.seen.append((dy, cache, dx))


@pytest.fixture
def watcher():
    token = WATCHER.set(Watching())
    yield WATCHER.get()
    WATCHER.reset(token)


def as_imported(name):
    """The function as the network imports it, with its marks."""
    module = FORWARDS[name.removesuffix("_backward")].__module__
    return next(vars(m)[name] for m in MODULES if m.__name__ == module)


@pytest.mark.parametrize("name", FORWARDS)
def test_every_pair_is_shown(name, watcher):
    case = typical_case(name)
    arguments = case.variables | case.constants
    if case.seed is not None:
        arguments["rng"] = np.random.default_rng(case.seed)
    x = arguments.pop(next(iter(inspect.signature(FORWARDS[name]).parameters)))
    y, cache = as_imported(name)(x, **arguments)
    for shown, expected in zip(watcher.seen[-1], (x, y, cache), strict=True):
        assert shown is expected
    dy = upstream(y)
    dx = as_imported(f"{name}_backward")(dy, cache)
    for shown, expected in zip(watcher.seen[-1], (dy, cache, dx), strict=True):
        assert shown is expected


def test_what_is_not_marked_is_not_shown(watcher):
    """The control."""
    inspect.unwrap(as_imported("softmax"))(np.zeros(3))
    assert watcher.seen == []


@pytest.mark.parametrize("name", FORWARDS)
def test_a_marked_function_is_itself_from_outside(name):
    for half in (FORWARDS[name], BACKWARDS[name]):
        plain = inspect.unwrap(half)
        assert half.__doc__ == plain.__doc__
        assert half.__name__ == plain.__name__
        assert inspect.signature(half) == inspect.signature(plain)


def test_an_error_is_raised_as_before(watcher):
    @operation
    def fails(x):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails(1.0)
    assert watcher.seen == []
