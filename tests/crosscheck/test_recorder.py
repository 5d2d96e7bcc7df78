"""The recorder is shown the operations of its own thread, as long as its block runs."""

import threading

import numpy as np
import pytest

from minizha.crosscheck import trace
from minizha.crosscheck.recorder import record_operations
from minizha.nezha import embeddings
from minizha.ops.linear import linear, linear_backward
from minizha.ops.operation import WATCHER, operation
from minizha.ops.softmax import softmax, softmax_backward
from tests.support.tiny_models import TINY
from tests.support.traces import model_and_inputs

RNG = np.random.default_rng(0)
X, WEIGHT, BIAS = RNG.normal(size=(2, 3)), RNG.normal(size=(4, 3)), RNG.normal(size=4)


def test_results_and_gradients_are_found_by_their_cache():
    with record_operations() as recorder:
        y, cache = linear(X, WEIGHT, BIAS)
        probs, other = softmax(y)
        dy = softmax_backward(probs, other)
        dx, _, _ = linear_backward(dy, cache)
    for array, found in (
        (X, recorder.x(cache)),
        (y, recorder.y(cache)),
        (dy, recorder.dy(cache)),
        (dx, recorder.dx(cache)),
        (y, recorder.x(other)),
        (probs, recorder.y(other)),
        (probs, recorder.dy(other)),
        (dy, recorder.dx(other)),
    ):
        assert found is array


def test_equal_caches_are_different_operations():
    with record_operations() as recorder:
        first, second = (softmax(np.zeros(3))[1] for _ in range(2))
        softmax_backward(np.ones(3), second)
    assert recorder.y(first) is not recorder.y(second)
    assert recorder.dy(first) is None
    assert recorder.dy(second) is not None


def test_of_functions_that_wrap_each_other_the_outermost_counts():
    @operation
    def twice(x):
        y, cache = softmax(x)
        return 2.0 * y, cache

    @operation
    def twice_backward(dy, cache):
        return softmax_backward(2.0 * dy, cache)

    with record_operations() as recorder:
        y, cache = twice(X)
        twice_backward(X, cache)
    assert recorder.y(cache) is y
    assert recorder.dy(cache) is X


def test_before_and_after_nothing_is_recorded():
    _, before = softmax(X)
    with record_operations() as recorder:
        pass
    _, after = softmax(X)
    assert recorder.y(before) is recorder.y(after) is None


def test_another_thread_is_not_recorded():
    caches = []
    with record_operations() as recorder:
        thread = threading.Thread(target=lambda: caches.append(softmax(X)[1]))
        thread.start()
        thread.join()
        caches.append(softmax(X)[1])
    assert [recorder.y(cache) is not None for cache in caches] == [False, True]


@pytest.mark.parametrize("fails", [False, True])
def test_a_trace_leaves_no_recorder_behind(fails, backend, monkeypatch):
    model, inputs = model_and_inputs(TINY["plain"], backend)
    if fails:
        monkeypatch.setattr(embeddings, "layer_norm", lambda *a: 1 / 0)
    try:
        trace(model, inputs)
        failed = False
    except ZeroDivisionError:
        failed = True
    assert failed == fails
    assert WATCHER.get() is None
