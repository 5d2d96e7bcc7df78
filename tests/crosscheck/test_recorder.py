"""The recorder replaces a profiler during a trace, and restores it afterwards."""

import cProfile
import sys

import pytest

from minizha.crosscheck import trace
from minizha.crosscheck.recorder import record_operations
from minizha.nezha import embeddings
from tests.support.tiny_models import TINY
from tests.support.traces import model_and_inputs


def no_profiler(frame, event, argument):
    """A profiler that does nothing."""


@pytest.mark.parametrize("before", [None, no_profiler])
@pytest.mark.parametrize("fails", [False, True])
def test_a_profiler_is_put_back(before, fails, backend, monkeypatch):
    model, inputs = model_and_inputs(TINY["plain"], backend)
    if fails:
        monkeypatch.setattr(embeddings, "layer_norm", lambda *a: 1 / 0)
    sys.setprofile(before)
    try:
        try:
            trace(model, inputs)
            failed = False
        except ZeroDivisionError:
            failed = True
        found = sys.getprofile()
    finally:
        sys.setprofile(None)
    assert found is before
    assert failed == fails


def test_while_it_listens_another_is_at_work():
    """The control of the test above."""
    with record_operations():
        assert sys.getprofile() is not None
    assert sys.getprofile() is None


def counted():
    """A function that the profile must contain."""


def test_a_profiler_in_c_goes_on_afterwards(backend):
    model, inputs = model_and_inputs(TINY["plain"], backend)
    profile = cProfile.Profile()
    profile.enable()
    try:
        trace(model, inputs)
        counted()
    finally:
        profile.disable()
        sys.setprofile(None)
    assert counted.__code__ in {entry.code for entry in profile.getstats()}
