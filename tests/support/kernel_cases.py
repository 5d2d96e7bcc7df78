"""A kernel next to the plain pair of its operation, on one case; two threads and short blocks for it."""

import contextlib
import os

import numpy as np
import pytest

from minizha.backend import to_host
from minizha.kernels import cores
from tests.support.op_cases import BACKWARDS, FORWARDS, as_tuple, upstream

BOUND = {"float32": 2e-6, "float64": 4e-15}  # relative to the largest number of the result


def by_kernel(kernel, case, dy):
    """Result and gradient of the kernel itself, not through the operation."""
    y, cache = kernel.forward(**case.variables, **case.constants)
    assert type(cache) is kernel.cache
    return y, kernel.backward(dy, cache)


def by_op(case, dy):
    y, cache = FORWARDS[case.op](**case.variables, **case.constants)
    return y, BACKWARDS[case.op](dy, cache)


def difference(kernel, case):
    """The larger of the differences of result and gradient, each relative to its largest number."""
    dy = upstream(FORWARDS[case.op](**case.variables, **case.constants)[0])
    worst = 0.0
    (y, gradients), (right_y, right_gradients) = by_kernel(kernel, case, dy), by_op(case, dy)
    pairs = zip(as_tuple(gradients), as_tuple(right_gradients), strict=True)
    for found, right in [(y, right_y), *pairs]:
        assert found.dtype == right.dtype
        assert found.shape == right.shape
        found, right = to_host(found), to_host(right)
        assert np.isfinite(found).all()
        scale = max(1.0, np.abs(right).max(initial=0.0))
        worst = max(worst, np.abs(found - right).max(initial=0.0) / scale)
    return worst


@contextlib.contextmanager
def shared(threads, block=None):
    """``share`` makes so many parts, and blocks have about so many numbers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sched_getaffinity", lambda _: range(threads), raising=False)
        if block is not None:
            patch.setattr(cores, "_BLOCK", block)
            patch.setattr(cores, "_FEW", block)
        before = cores._get_threads and cores._get_threads()
        if before is not None:
            cores._set_threads(threads)
        try:
            yield
        finally:
            if before is not None:
                cores._set_threads(before)
