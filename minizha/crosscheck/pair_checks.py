"""Checks any pair of functions, forward and backward: ⟨u, Jv⟩ = ⟨Jᵀu, v⟩.

One number for each direction says whether a backward function is right. The left side comes from
the complex step, once a difference has confirmed that forward computes with complex numbers; else
from differences. If a gradient is wrong, its entries are checked one by one, so that the report can
name the worst one, and say how the gradient is related to the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minizha.backend import namespace, to_backend, to_host
from minizha.checks import integer, number
from minizha.crosscheck.pair_arguments import ArgumentCheck
from minizha.crosscheck.pair_functions import Pair
from minizha.crosscheck.pair_report import PairReport, Verdict

STREAM = 0x6D696E697A6861
"""Makes our random numbers others than those of ``numpy.random.default_rng(seed)``."""

RANDOM = (
    "forward is random: called twice with the same arguments, it gives another y. Draw the random "
    "numbers outside and pass them as an argument"
)


def check_pair(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[..., Any],
    arguments: Sequence[Any],
    *,
    trials: int = 3,
    tolerance: float = 1e-12,
    seed: int = 0,
) -> PairReport:
    """Check a pair ``y, cache = forward(*arguments)``, ``gradients = backward(dy, cache)``.

    Let J be the derivative of y, u a random upstream gradient, and v a random direction of one
    argument. Then ``⟨u, Jv⟩ = ⟨Jᵀu, v⟩``: the left side comes from the complex step, the right
    side from what backward returns. u is random, since gradients that sum to 0, as those of softmax
    and LayerNorm do, can't be checked by a u of ones.

    A difference along the same direction says first whether the complex step may judge. If forward
    drops imaginary parts (``np.var``, ``np.abs``) or refuses complex numbers (``math.erf``), the
    check goes on by differences, to the accuracy that these have; ``remarks`` say so.

    Args:
        forward: returns ``(y, cache)``, y an array or a number.
        backward: returns the gradients of the float arguments, in their order.
        arguments: arrays of floats have a gradient; everything else (integers, None, Python
            numbers) is passed unchanged and has none. Both functions are given copies.
        trials: how often u and the directions are drawn, at least 1.
        tolerance: the largest allowed ``|expected − found| / max(1, |expected|)``.
        seed: the seed of the random numbers, at least 0.

    Returns:
        A :class:`~minizha.crosscheck.PairReport` with a verdict for every float argument. ``ok`` is
        None if that is undecided: forward is random, computes in float32 inside, or has a kink at
        the arguments. A gradient that has a wrong shape, or is complex or not finite, is wrong.

    Raises:
        ArgumentError: no argument is an array of floats, or an option is out of range; forward
            does not return a pair, or backward a wrong number of gradients; or one of them raises.
    """
    trials = integer("check_pair: trials", trials, 1)
    tolerance = number("check_pair: tolerance", tolerance, "[0, inf)")
    rng = np.random.default_rng([STREAM, integer("check_pair: seed", seed, 0)])
    pair = Pair(forward, backward, arguments)
    y = to_host(pair.run()[0])
    checks = [ArgumentCheck(pair, k, tolerance, y) for k in pair.floats]
    for _ in range(trials):
        again, cache = pair.run()
        u = np.asarray(rng.standard_normal(y.shape))
        gradients = pair.gradients(to_backend(u, namespace(again)), cache)
        random = not _equal(y, to_host(again))
        for check, gradient in zip(checks, gradients, strict=True):
            v = np.asarray(rng.standard_normal(check.x.shape))
            if not random:
                check.compare(u, v, gradient)
        if random:
            return PairReport(tuple(_undecided(pair, k) for k in pair.floats), 0)
    verdicts = tuple(check.verdict() for check in checks)
    by_differences = any(check.by_differences for check in checks)
    remarks = [*pair.remarks, *dict.fromkeys(r for check in checks for r in check.remarks)]
    return PairReport(
        verdicts,
        trials * len(checks),
        "differences" if by_differences else "complex step",
        tuple(remarks),
    )


def _undecided(pair: Pair, k: int) -> Verdict:
    return Verdict(None, f"argument {k}", pair.names[k], 0.0, (), 0.0, 0.0, RANDOM)


def _equal(y: np.ndarray, again: np.ndarray) -> bool:
    """Whether two results of forward are the same but for the order of sums in several threads."""
    if y.shape != again.shape:
        return False
    with np.errstate(invalid="ignore"):
        return bool(np.allclose(y, again, rtol=1e-12, atol=1e-14, equal_nan=True))
