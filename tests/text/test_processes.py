"""Results come in order, few items wait, and what goes wrong in a process is told here."""

import multiprocessing
import operator
import os
import time

import pytest

from minizha.checks import integer
from minizha.errors import ArgumentError, MinizhaError
from minizha.text.processes import available_cores, ordered_map


def slow_if_even(number):
    time.sleep(0.05 * (number % 2 == 0))
    return number, os.getpid()


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("items", [0, 1, 2, 7])
def test_results_are_in_order(count, items):
    found = list(ordered_map(slow_if_even, range(items), count))
    assert [number for number, _ in found] == list(range(items))
    workers = {worker for _, worker in found}
    assert len(workers) == min(count, items)
    assert (os.getpid() in workers) == (count == 1 and items > 0)
    assert multiprocessing.active_children() == []


def test_items_are_taken_as_they_are_needed():
    taken = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    results = ordered_map(abs, items(), 2)
    for number in range(10):
        assert next(results) == number
        assert len(taken) <= number + 4
    results.close()
    assert multiprocessing.active_children() == []


def test_large_items_and_results_do_not_wait_for_each_other():
    size = 3_000_000  # more than a pipe holds
    found = ordered_map(len, (b"x" * size for _ in range(6)), 2)
    assert list(found) == [size] * 6
    assert all(len(b) == size for b in ordered_map(bytes, [size] * 5, 2))


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_of_the_task_is_raised(count):
    def results():
        return list(ordered_map(operator.methodcaller("check"), [Bad()], count))

    with pytest.raises(ArgumentError, match="x: expected an integer of at least 3, found 2"):
        results()
    assert multiprocessing.active_children() == []


class Bad:
    def check(self):
        integer("x", 2, 3)


def test_a_process_that_ends_is_told():
    with pytest.raises(MinizhaError, match="a worker process ended"):
        list(ordered_map(os._exit, [0, 0, 0], 2))
    assert multiprocessing.active_children() == []


def test_cores():
    assert 1 <= available_cores() <= 8
