"""The learning rate over time."""

from __future__ import annotations

from minizha.checks import integer, number
from minizha.errors import ArgumentError


def linear_schedule(step: int, peak: float, warmup: int, total: int) -> float:
    """``peak · min(step / warmup, (total − step) / (total − warmup))``: up in a line, down in a line

    Convention: steps count from 0. The first step has rate 0, and so would a step after the last.
    With ``warmup=0`` the rate starts at the peak.

    Source: Devlin et al. 2018, section A.2; ``get_linear_schedule_with_warmup``.

    Raises:
        ArgumentError: not 0 ≤ warmup ≤ total, total < 1, a number of steps that is not an integer,
            or a peak that is negative or not finite.
    """
    peak = number("peak", peak, "[0, inf)")
    step = integer("step", step, 0, 2**53)
    warmup, total = integer("warmup", warmup, high=2**53), integer("total", total, high=2**53)
    if total < 1 or not 0 <= warmup <= total:
        raise ArgumentError(
            f"warmup, total: expected 0 <= warmup <= total and total >= 1, found {warmup}, {total}"
        )
    if step < warmup:
        return peak * step / warmup
    return peak * max(0, total - step) / max(1, total - warmup)
