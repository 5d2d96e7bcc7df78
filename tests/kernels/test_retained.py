"""Which numbers dropout retains: those of the plain operation, and the same state of the generator."""

import copy
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.kernels import retained as module
from minizha.kernels.retained import retained
from minizha.training.row_generators import RowGenerators
from tests.support.kernel_cases import shared

GENERATORS = {
    "PCG64": np.random.default_rng,
    "MT19937": lambda seed: np.random.Generator(np.random.MT19937(seed)),
    "PCG64DXSM": lambda seed: np.random.Generator(np.random.PCG64DXSM(seed)),
    "rows": RowGenerators,
}


class OnlyRandom:
    """What draws and is no generator."""

    def __init__(self, seed):
        self.own = np.random.default_rng(seed)

    def random(self, size, dtype):
        return self.own.random(size, dtype)


def states(rng):
    if isinstance(rng, RowGenerators):
        return [states(each) for each in rng._generators]
    return str(getattr(rng, "own", rng).bit_generator.state)


@given(
    kind=st.sampled_from([*GENERATORS.values(), OnlyRandom]),
    shapes=st.lists(
        st.lists(st.integers(0, 30), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4
    ),
    threads=st.sampled_from([1, 2, 3]),
    rate=st.sampled_from([0.1, 0.5, 0.9]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_numbers_and_the_state_are_those_of_the_plain_operation(
    kind, shapes, threads, rate, seed
):
    plain, rng = kind(seed), kind(seed)
    with shared(threads), mock.patch.object(module, "BLOCK", 8):
        for shape in shapes:  # one after the other: after an odd number, half a step is left
            found = retained(rng, shape, rate)
            assert found.dtype == bool
            np.testing.assert_array_equal(found, plain.random(shape, np.float32) >= rate)
            assert states(rng) == states(plain)


@pytest.mark.parametrize("count", [1, 2 * module.BLOCK, 3 * module.BLOCK + 7])
@pytest.mark.parametrize("threads", [1, 2])
def test_blocks_of_their_true_size(count, threads):
    rng = np.random.default_rng(3)
    rng.random(dtype=np.float32)
    plain = copy.deepcopy(rng)
    with shared(threads):
        found = retained(rng, (count,), 0.1)
    assert (found == (plain.random(count, np.float32) >= 0.1)).all()
    assert states(rng) == states(plain)


def test_all_are_retained_outside_of_training():
    assert retained(None, (3, 4), 0.5) is None
    rng = np.random.default_rng(0)
    before = states(rng)
    assert retained(rng, (3, 4), 0.0) is None
    assert states(rng) == before


def test_a_jump_to_the_wrong_place_is_seen():
    """A block of seven numbers takes three steps and a half."""
    rng, plain = np.random.default_rng(0), np.random.default_rng(0)
    with shared(2), mock.patch.object(module, "BLOCK", 7):
        found = retained(rng, (70,), 0.5)
    assert (found != (plain.random(70, np.float32) >= 0.5)).any()
