"""A kernel next to the plain pair of its operation, on one case."""

import numpy as np

from minizha.backend import to_host
from tests.support.op_cases import BACKWARDS, FORWARDS, upstream

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
    for found, right in zip(by_kernel(kernel, case, dy), by_op(case, dy), strict=True):
        assert found.dtype == right.dtype
        assert found.shape == right.shape
        found, right = to_host(found), to_host(right)
        assert np.isfinite(found).all()
        scale = max(1.0, np.abs(right).max(initial=0.0))
        worst = max(worst, np.abs(found - right).max(initial=0.0) / scale)
    return worst
