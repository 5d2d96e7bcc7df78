"""Checks any pair of functions, forward and backward, by the complex step: ⟨u, Jv⟩ = ⟨Jᵀu, v⟩.

One number for each direction says whether a backward function is right. If it is wrong, its entries
are checked one by one, so that the report can name the worst one.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minizha.backend import is_array, namespace, to_backend, to_host
from minizha.crosscheck.gradient_checks import NOTHING, STEP, GradientReport, Worst, worse
from minizha.errors import ArgumentError

MOST_ENTRIES = 2000
"""How many entries of a wrong gradient are checked."""


def check_pair(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[..., Any],
    arguments: Sequence[Any],
    *,
    trials: int = 3,
    tolerance: float = 1e-12,
    seed: int = 0,
) -> GradientReport:
    """Check a pair ``y, cache = forward(*arguments)``, ``gradients = backward(dy, cache)``.

    Let J be the derivative of y, u a random upstream gradient, and v a random direction of one
    argument. Then ``⟨u, Jv⟩ = ⟨Jᵀu, v⟩``: the left side comes from the complex step, the right
    side from what backward returns. u is random, since gradients that sum to 0, as those of softmax
    and LayerNorm do, can't be checked by a u of ones.

    Args:
        forward: returns ``(y, cache)``; must accept complex numbers.
        backward: returns the gradients of the float arguments, in their order.
        arguments: float64 arrays have a gradient; everything else (integers, None, Python
            numbers) is passed unchanged and has none.
        trials: how often u and the directions are drawn.
        tolerance: the largest allowed ``|expected − found| / max(1, |expected|)``.
        seed: the seed of the random numbers.

    Returns:
        A :class:`GradientReport`; ``name`` is ``argument k``. If the two sides differ, ``index``
        is the worst entry of that argument, ``expected`` its derivative ``∂⟨u, y⟩/∂x`` by the
        complex step, ``found`` what backward returned for it, and ``hint`` may say how the
        gradient is related to the right one.

    Raises:
        ArgumentError: no argument is a float array, or ``trials`` is below 1; or forward does not
            return a pair, or backward returns a wrong number of gradients or one of a wrong shape.
    """
    rng = np.random.default_rng(seed)
    y, cache = _forward(forward, arguments)
    floats = [k for k, a in enumerate(arguments) if is_array(a) and a.dtype.kind == "f"]
    if not floats or trials < 1:
        raise ArgumentError(
            f"check_pair: expected at least one float array among the arguments and one trial, "
            f"found {len(floats)} and {trials}"
        )
    worst, checked = NOTHING, 0
    for _ in range(trials):
        u = _random_like(y, rng)
        gradients = backward(u, cache)
        gradients = tuple(gradients) if type(gradients) in (tuple, list) else (gradients,)
        _check_gradients(gradients, [arguments[k] for k in floats])
        for k, gradient in zip(floats, gradients, strict=True):
            v = _random_like(arguments[k], rng)
            expected = _directional_derivative(forward, arguments, k, v, u)
            found = float((to_host(gradient) * to_host(v)).sum())
            previous = worst
            worst = worse(worst, f"argument {k}", (), expected, found)
            if worst is not previous:
                worst_case = (k, u, to_host(gradient))
            checked += 1
    ok = bool(worst[0] <= tolerance)
    if not ok:
        worst, hint = _worst_entry(forward, arguments, *worst_case, worst)
        return GradientReport(False, *worst, checked, hint)
    return GradientReport(True, *worst, checked)


def _forward(forward: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, Any]:
    result = forward(*arguments)
    if not isinstance(result, tuple) or len(result) != 2 or not _is_array_or_number(result[0]):
        found = type(result).__name__
        if isinstance(result, tuple):
            found = f"({', '.join(type(part).__name__ for part in result)})"
        raise ArgumentError(f"forward: expected a pair (y, cache), y an array, found {found}")
    return result


def _directional_derivative(
    forward: Callable[..., Any], arguments: Sequence[Any], k: int, direction: Any, u: Any
) -> float:
    """``⟨u, Jv⟩``: the derivative of ⟨u, y⟩ as argument k moves along a direction."""
    stepped = list(arguments)
    stepped[k] = arguments[k] + 1j * STEP * direction
    return float((to_host(u) * (to_host(forward(*stepped)[0]).imag / STEP)).sum())


def _worst_entry(
    forward: Callable[..., Any],
    arguments: Sequence[Any],
    k: int,
    u: Any,
    found: np.ndarray,
    worst: Worst,
) -> tuple[Worst, str]:
    """The entry of argument k with the largest error, and a hint."""
    x = arguments[k]
    chosen = np.linspace(0, x.size - 1, min(x.size, MOST_ENTRIES), dtype=int)
    expected, entry = np.full(x.shape, np.nan), NOTHING
    for flat in chosen:
        index = tuple(int(i) for i in np.unravel_index(flat, x.shape))
        unit = np.zeros(x.shape)
        unit[index] = 1.0
        expected[index] = _directional_derivative(
            forward, arguments, k, to_backend(unit, namespace(x)), u
        )
        entry = worse(entry, worst[1], index, float(expected[index]), float(found[index]))
    name = _parameter_name(forward, k)
    known = ~np.isnan(expected)
    with np.errstate(invalid="ignore"):
        near = np.abs(found - expected) <= 1e-9 * np.maximum(1, np.abs(expected))
    wrong = int((~near & known).sum())  # NaN is never near
    if not wrong:  # the wrong entries are not among those that were checked, or the error is tiny
        return worst, f"of {known.sum()} entries of {name}'s gradient none is wrong by 1e-9"
    hint = f"{wrong} of {known.sum()} entries of {name}'s gradient are wrong"
    return entry, hint + (_relation(expected, found) if known.all() else "")


def _relation(expected: np.ndarray, found: np.ndarray) -> str:
    """A simple relation of the gradient to the right one, in words; "" if there is none."""
    scale = np.abs(expected).max(initial=0.0)
    if expected.size < 2 or not np.isfinite(found).all():
        return ""

    def near(a: np.ndarray, b: np.ndarray) -> bool:
        return bool(np.abs(a - b).max() <= 1e-9 * max(1.0, scale))

    if not found.any():
        return ", all are 0"
    if not expected.any():
        return ", all should be 0 (or forward drops imaginary parts: with abs, real or float)"
    factor = float((expected * found).sum() / (expected * expected).sum())
    if near(found, factor * expected):
        return f": it is {factor:.6g} times what it should be"
    if found.ndim == 2 and found.shape[0] == found.shape[1] and near(found.T, expected):
        return ": it is transposed"
    for axis in range(found.ndim):
        if near(found - found.mean(axis=axis, keepdims=True), expected):
            return f": its mean over axis {axis} should be subtracted"
        if near(found - expected, (found - expected).mean(axis=axis, keepdims=True)):
            return f": along axis {axis}, all its entries are off by the same amount"
    return ""


def _parameter_name(forward: Callable[..., Any], k: int) -> str:
    """The name of argument k in forward's signature, or ``argument k``."""
    try:
        names = list(inspect.signature(forward).parameters)
    except (TypeError, ValueError):
        names = []
    return names[k] if k < len(names) else f"argument {k}"


def _is_array_or_number(y: Any) -> bool:
    return is_array(y) or isinstance(y, np.generic)


def _random_like(x: Any, rng: np.random.Generator) -> Any:
    values = np.asarray(rng.standard_normal(x.shape))
    return to_backend(values, namespace(x))


def _check_gradients(gradients: tuple, arguments: list) -> None:
    if len(gradients) != len(arguments):
        raise ArgumentError(
            f"backward: expected {len(arguments)} gradients, one for each float argument of "
            f"forward, found {len(gradients)}"
        )
    for k, (gradient, argument) in enumerate(zip(gradients, arguments, strict=True)):
        found = getattr(gradient, "shape", type(gradient).__name__)
        if found != argument.shape:
            raise ArgumentError(
                f"backward: gradient {k}: expected an array of the argument's shape "
                f"{argument.shape}, found {found}"
            )
