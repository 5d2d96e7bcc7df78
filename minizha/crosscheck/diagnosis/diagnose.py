"""Which known mistakes reproduce their array, when it is computed again from their own inputs."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import numpy as np

from minizha.crosscheck.comparison.differences import Finding
from minizha.crosscheck.comparison.precision import eps_of, smallest_of
from minizha.crosscheck.comparison.verdict import TIMES
from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.case import Case, distance, mistake_error, overrides
from minizha.crosscheck.diagnosis.catalogue import CATALOGUE, Mistake, known_mistake
from minizha.crosscheck.diagnosis.forward import evaluate
from minizha.crosscheck.diagnosis.rules import Array, ForwardRules
from minizha.crosscheck.names import DROPOUT, is_gradient, layer_of
from minizha.errors import ArgumentError

RIGHT_EPS = 64.0
"""An array is right within so many eps for each step from the arrays that they show, where no
measured error is given."""
MISTAKEN_EPS = 1024.0
"""A mistake gives their array within so many eps; many, since the terms of some sums cancel."""
CLOSER = 8.0
"""A mistake must come this many times closer to their array than the right computation does. Other
mistakes are named beside the closest one if their error is at most this many times as large."""
HINT_CLOSER = 1000.0
"""A simple relation must come this many times closer, or down to rounding."""


class Diagnosis(NamedTuple):
    """The mistakes that reproduce their array, the likeliest first, and remarks on the search."""

    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]


def diagnose(
    ours: Any,
    theirs: Mapping[str, Array],
    name: str,
    *,
    precision: str | None = None,
    seconds: float = 15.0,
    known: Collection[str] = (),
    allowed: float | None = None,
) -> Diagnosis:
    """Compute their array ``name`` again, from their own inputs, with each known mistake.

    Args:
        ours: a trace with ``config``, ``inputs`` and ``parameters``.
        theirs: their arrays, under our names. Arrays that they lack are computed from the others.
        name: the array to explain.
        precision: the dtype that they computed in, if their arrays are stored in a finer one
            ("float32" for numbers of float32 in arrays of float64).
        seconds: the time limit. After it only ``known`` mistakes are tried, and a remark says so.
        known: keys of mistakes that were found in other arrays; if one of them gives this array, too,
            no other is tried.
        allowed: the largest error that rounding explains, as a comparison measures it.

    Where several mistakes give the array, the other arrays of the layer decide: the mistake must
    explain those that are wrong and leave those that are right.

    Raises:
        ArgumentError: ``name`` is not among their arrays.
    """
    if name not in theirs:
        raise ArgumentError(f"diagnose: name: expected one of their arrays, found {name!r}")
    if getattr(ours, "config", None) is None:
        reason = "our side is not a minizha trace and has no configuration"
        return Diagnosis((), (f"no mistake was tried: {reason}",))
    try:
        case = Case(ours, theirs, precision)
        return _try_all(case, name, time.monotonic() + seconds, known, allowed)
    except KeyError as error:
        return Diagnosis((), (f"no mistake was tried: our side lacks {error}",))
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        # arrays that do not fit each other, in our trace or theirs: the verdict must survive them
        error_name = type(error).__name__
        reason = f"{name} can't be computed from arrays and inputs of these shapes ({error_name})"
        return Diagnosis((), (f"no mistake was tried: {reason}",))


def mistaken(trace: Any, key: str) -> dict[str, Array]:
    """Every array of a trace, in float64, as a port with the mistake ``key`` computes it.

    Convention: a mistake of the forward pass leaves the backward rules right: they are applied to
    the mistaken activations.

    Raises:
        ArgumentError: ``key`` is not that of a known mistake.
    """
    rules = known_mistake(key).rules()
    memory: dict[str, Array] = {}
    steps = Case(trace, {}).steps(rules)
    for name in trace:
        if name in steps and name not in memory:
            memory[name] = evaluate(steps, name, {}, memory)
    return {name: memory[name] for name in trace if name in memory}


def _try_all(
    case: Case, name: str, end: float, known: Collection[str], allowed: float | None
) -> Diagnosis:
    if name not in case.steps(Rules()):
        return Diagnosis((), (f"no mistake was tried: the diagnosis can't compute {name}",))
    right, called, steps = case.compute(name, Rules)
    their, eps = case.their(name), case.eps(name)
    right_error = distance(right, their)
    within = RIGHT_EPS * eps * steps
    if allowed is not None:
        within = allowed / max(np.abs(right).max(initial=0.0), smallest_of("float64"))
    if right_error <= within:
        return Diagnosis(
            (),
            (f"{name} is right for their own inputs: the difference arises before it",),
        )
    errors: dict[str, float] = {}
    tried = 0
    candidates = [m for m in CATALOGUE.values() if overrides(m.rules) & called]
    # first those that other arrays show, then known ports': time may run out
    candidates.sort(key=lambda m: (m.key not in known, not m.seen_in))
    for mistake in candidates:
        explained = errors and mistake.key not in known and errors.keys() <= set(known)
        if explained or (time.monotonic() > end and mistake.key not in known):
            break
        tried += 1
        found = mistake_error(case, name, mistake, right)
        if found is None:
            continue
        enough = MISTAKEN_EPS * eps
        if allowed is not None and eps > eps_of("float64"):
            enough = min(enough, max(within, TIMES * found.rounding))
        if found.error <= min(enough, right_error / CLOSER):
            errors[mistake.key] = found.error
    remarks = []
    if tried < len(candidates):
        remarks.append(f"{tried} of {len(candidates)} mistakes were tried in the time allowed")
    if not errors:
        remarks += [
            f"none of the {tried} known mistakes that apply here gives their {name}",
            *_hints(name, right, their, max(within, right_error / HINT_CLOSER)),
        ]
    closest = max(min(errors.values(), default=0.0), eps)
    likely = [m for key, m in CATALOGUE.items() if errors.get(key, np.inf) <= CLOSER * closest]
    best, spoils = _likeliest(case, name, likely, end)
    if spoils and is_gradient(name):
        remarks.append("in the backward pass alone: the activations don't show this mistake")
    elif spoils:
        remarks.append(f"it explains {name}, but it would change arrays beside it that are right")
    findings = (Finding(m.key, m.text, name, errors[m.key], right_error, m.seen_in) for m in best)
    return Diagnosis(tuple(findings), tuple(remarks))


def _likeliest(
    case: Case, name: str, candidates: list[Mistake], end: float
) -> tuple[list[Mistake], bool]:
    """The mistakes that spoil the fewest right arrays of the same layer, or head, and among these
    explain the most wrong ones; and whether they spoil any."""
    only_one = len(candidates) == 1 and not (is_gradient(name) and _acts_forward(candidates[0]))
    if not candidates or only_one:
        return candidates, False
    spoilt = dict.fromkeys((mistake.key for mistake in candidates), 0)
    explained = dict(spoilt)
    for other in _neighbours(case, name):
        if time.monotonic() > end:
            break
        try:
            right, called, steps = case.compute(other, Rules)
        except (KeyError, ValueError, IndexError):  # their arrays don't fit each other
            continue
        eps = case.eps(other)
        is_right = distance(right, case.their(other)) <= RIGHT_EPS * eps * steps
        for mistake in candidates:
            if overrides(mistake.rules) & called:
                found = mistake_error(case, other, mistake, right)
                if found is not None:  # else the mistake does not touch this array
                    spoilt[mistake.key] += is_right and found.error > MISTAKEN_EPS * eps
                    explained[mistake.key] += not is_right and found.error <= MISTAKEN_EPS * eps
    rank = {m.key: (spoilt[m.key], -explained[m.key]) for m in candidates}
    first = min(rank.values())
    return [m for m in candidates if rank[m.key] == first], first[0] > 0


def _acts_forward(mistake: Mistake) -> bool:
    return bool(overrides(mistake.rules) & vars(ForwardRules).keys())


def _neighbours(case: Case, name: str) -> list[str]:
    """The other arrays of the same layer (for an activation only its activations), and the same array
    of the layer before."""
    layer = layer_of(name)
    before = name.replace(f"encoder.layer.{layer}", f"encoder.layer.{(layer or 0) - 1}")
    return [
        n
        for n in case.names
        if n != name
        and n in case.theirs
        and (layer_of(n) == layer or n == before)
        and (is_gradient(name) or not is_gradient(n))
        and not n.endswith(DROPOUT)
    ]


def _hints(name: str, right: Array, their: Array, tolerance: float) -> list[str]:
    """Simple relations between the two arrays, where no known mistake fits."""
    if right.shape != their.shape or not np.isfinite(their).all() or right.size < 2:
        return []
    if max(np.abs(right).max(), np.abs(their).max()) > 1e100:  # their squares overflow
        return []
    hints, square = [], float((right * right).sum())
    factor = float((right * their).sum() / square) if square else 0.0
    if distance(factor * right, their) <= tolerance:
        hints.append(f"their {name} is {factor:.6g} times what follows from their inputs")
    shift = float((their - right).mean())
    if distance(right + shift, their) <= tolerance:
        hints.append(f"their {name} is what follows from their inputs plus {shift:.6g}")
    last = right.shape[-1]
    if (
        right.ndim > 1
        and right.shape[-2] == last
        and distance(right.swapaxes(-1, -2), their) <= tolerance
    ):
        hints.append(f"their {name} has its last two axes exchanged")
    return hints
