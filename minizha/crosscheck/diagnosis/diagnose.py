"""Which known mistake, made in our own computation from their own inputs, gives their array?"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minizha.crosscheck.comparison.differences import Finding
from minizha.crosscheck.comparison.measure import coarser, eps_of
from minizha.crosscheck.comparison.visible import visible_entries
from minizha.crosscheck.diagnosis.backward import backward_steps
from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.catalogue import CATALOGUE, Mistake
from minizha.crosscheck.diagnosis.facts import Facts
from minizha.crosscheck.diagnosis.forward import Steps, evaluate, forward_steps
from minizha.crosscheck.diagnosis.rules import Array, ForwardRules
from minizha.crosscheck.names import DROPOUT, is_gradient, layer_of
from minizha.errors import ArgumentError

NOISE = 64.0
"""How many eps for each step an array may be away from what follows rightly from its inputs."""
ROOM = 1024.0
"""How many eps it may be away from what follows with a mistake: some arrays are sums that cancel."""
APART = 8.0
"""How many times closer a mistake must come than the right computation does; and the others, if any
is to be named beside the closest."""


class Diagnosis(NamedTuple):
    """The mistakes that reproduce their array, the likeliest first, and sentences on what else was
    found on the way."""

    findings: tuple[Finding, ...]
    remarks: tuple[str, ...]


def diagnose(
    ours: Any,
    theirs: Mapping[str, Array],
    name: str,
    *,
    precision: str | None = None,
    seconds: float = 15.0,
) -> Diagnosis:
    """Compute their array ``name`` again, from their own inputs, under each known mistake.

    Args:
        ours: a trace with ``config``, ``inputs`` and ``parameters``.
        theirs: their arrays, under our names. What they don't show is computed on the way.
        name: the array to explain.
        precision: what they computed in, where their arrays were widened since ("float32" in an
            array of float64).
        seconds: after so long no further mistake is tried, and a remark says so.

    Where several mistakes give the array, what follows in the same layer decides: a mistake must
    explain what else is wrong there, and must not spoil what is right.

    Raises:
        ArgumentError: ``name`` is not among their arrays.
    """
    if name not in theirs:
        raise ArgumentError(f"diagnose: name: expected one of their arrays, found {name!r}")
    if getattr(ours, "config", None) is None:
        reason = "our side is no trace of minizha's, and without its configuration"
        return Diagnosis((), (f"{reason} no mistake can be tried",))
    try:
        return _try_all(_Case(ours, theirs, precision), name, time.monotonic() + seconds)
    except KeyError as error:
        return Diagnosis((), (f"no mistake was tried: our side lacks {error}",))
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        # a trace whose parts don't fit each other, or their arrays: no reason to lose the verdict
        found = type(error).__name__
        reason = f"{name} can't be computed from arrays and inputs of these shapes ({found})"
        return Diagnosis((), (f"no mistake was tried: {reason}",))


def mistaken(ours: Any, key: str) -> dict[str, Array]:
    """Every array of a trace, in float64, as a port with the mistake ``key`` would compute it.

    Convention: the gradients are those that the right rules give for the mistaken activations,
    unless the mistake is one of the way back.
    """
    case = _Case(ours, {})
    memory: dict[str, Array] = {}
    steps = case.steps(CATALOGUE[key].rules())
    for name in ours:
        if name in steps and name not in memory:
            memory[name] = evaluate(steps, name, {}, memory)
    return {name: memory[name] for name in ours if name in memory}


def _try_all(case: _Case, name: str, end: float) -> Diagnosis:
    if name not in case.steps(Rules()):
        return Diagnosis((), (f"no mistake was tried: nothing leads to {name}",))
    right, called, steps = case.compute(name, Rules)
    their, eps = case.their(name), case.eps(name)
    right_error = distance(right, their)
    if right_error <= NOISE * eps * steps:
        return Diagnosis(
            (),
            (f"{name} follows rightly from their own inputs: what differs entered before it",),
        )
    errors, tried = {}, 0
    candidates = [m for m in CATALOGUE.values() if _overrides(m.rules) & called]
    candidates.sort(key=lambda m: not m.seen_in)  # those that were shipped first: time may run out
    for mistake in candidates:
        if time.monotonic() > end:
            break
        tried += 1
        error = _error(case, name, mistake, right)
        if error is not None and error <= min(ROOM * eps, right_error / APART):
            errors[mistake.key] = error
    remarks = []
    if tried < len(candidates):
        remarks.append(f"{tried} of {len(candidates)} mistakes were tried in the time there was")
    if not errors:
        remarks += [
            f"none of the {tried} known mistakes that could act here gives their {name}",
            *_hints(name, right, their, ROOM * eps),
        ]
    closest = max(min(errors.values(), default=0.0), eps)
    found = [m for key, m in CATALOGUE.items() if errors.get(key, np.inf) <= APART * closest]
    best, spoils = _likeliest(case, name, found, end)
    if spoils and is_gradient(name):
        remarks.append("in the way back alone: the activations don't show this mistake")
    elif spoils:
        remarks.append(f"it explains {name}, and not other arrays beside it that are right")
    findings = (Finding(m.key, m.text, name, errors[m.key], right_error, m.seen_in) for m in best)
    return Diagnosis(tuple(findings), tuple(remarks))


class Computed(NamedTuple):
    """An array, the names of the rules that took part, and how many steps it took from arrays that
    they show."""

    array: Array
    called: set[str]
    steps: int


class _Case:
    """One comparison: our facts, their arrays, and how they are computed again."""

    def __init__(
        self, ours: Any, theirs: Mapping[str, Array], precision: str | None = None
    ) -> None:
        self.trace, self.theirs, self.precision = ours, theirs, precision
        self.facts, self.names = Facts(ours), list(ours)

    def steps(self, rules: Rules) -> Steps:
        return forward_steps(self.facts, rules) | backward_steps(self.facts, rules)

    def compute(self, name: str, kind: type[Rules]) -> Computed:
        """The array under rules of a kind."""
        rules = _watched(kind)
        memory: dict[str, Array] = {}
        found = evaluate(self.steps(rules), name, self.theirs, memory)
        steps = 1 + sum(1 for made in memory if made not in self.theirs)
        return Computed(self._without_hidden(name, found), rules.called, steps)

    def their(self, name: str) -> Array:
        return self._without_hidden(name, np.asarray(self.theirs[name], np.float64))

    def eps(self, name: str) -> float:
        """Of the dtype that they computed in."""
        dtype = np.asarray(self.theirs[name]).dtype
        found = dtype.name if dtype.kind == "f" else "float64"
        return eps_of(found if self.precision is None else coarser(found, self.precision))

    def _without_hidden(self, name: str, array: Array) -> Array:
        """Scores that a mask hides are a port's own business."""
        visible = visible_entries(self.trace, name, array.shape)
        return array if visible is None else np.where(visible, array, 0.0)


def _watched(kind: type[Rules]) -> Any:
    """Rules of a kind that note which of them are used."""

    class Watched(kind):  # type: ignore[misc, valid-type]  # its base is known at run time only
        def __init__(self) -> None:
            self.called: set[str] = set()

        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_") and name != "called":
                self.called.add(name)
            return super().__getattribute__(name)

    return Watched()


def _overrides(kind: type[Rules]) -> set[str]:
    """The rules that a mistake replaces."""
    return {
        name
        for cls in kind.__mro__
        if issubclass(cls, Rules) and cls is not Rules
        for name in vars(cls)
    }


def _error(case: _Case, name: str, mistake: Mistake, right: Array) -> float | None:
    """How far their array is from the mistaken one; None where the mistake changes nothing, or
    can't be made here."""
    try:
        with np.errstate(all="ignore"):
            wrong = case.compute(name, mistake.rules).array
    except (ValueError, IndexError, KeyError):  # shapes that only the right rules lead to
        return None
    if wrong.shape != right.shape or distance(wrong, right) <= 16 * np.finfo(np.float64).eps:
        return None
    return distance(wrong, case.their(name))


def distance(a: Array, b: Array) -> float:
    """``max |a − b| / max |a|``; NaN equals NaN, and nothing else equals NaN."""
    if a.shape != b.shape:
        return float("inf")
    if a.size == 0:
        return 0.0
    if (np.isfinite(a) != np.isfinite(b)).any():
        return float("inf")
    known = np.isfinite(a)
    scale = max(np.abs(a[known]).max(initial=0.0), np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):
        return float(np.abs(a[known] - b[known]).max(initial=0.0) / scale)


def _likeliest(
    case: _Case, name: str, found: list[Mistake], end: float
) -> tuple[list[Mistake], bool]:
    """Those that spoil the fewest arrays that are right in the same layer, or head, and explain the
    most of those that are wrong; and whether they spoil any."""
    alone = len(found) == 1 and not (is_gradient(name) and _acts_forward(found[0]))
    if not found or alone:
        return found, False
    spoilt = dict.fromkeys((mistake.key for mistake in found), 0)
    explained = dict(spoilt)
    for other in _around(case, name):
        if time.monotonic() > end:
            break
        try:
            right, called, steps = case.compute(other, Rules)
        except (KeyError, ValueError, IndexError):  # arrays of other shapes lead nowhere
            continue
        eps = case.eps(other)
        fine = distance(right, case.their(other)) <= NOISE * eps * steps
        for mistake in found:
            if _overrides(mistake.rules) & called:
                error = _error(case, other, mistake, right)
                if error is not None:  # else it says nothing of this array
                    spoilt[mistake.key] += fine and error > ROOM * eps
                    explained[mistake.key] += not fine and error <= ROOM * eps
    rank = {m.key: (spoilt[m.key], -explained[m.key]) for m in found}
    first = min(rank.values())
    return [m for m in found if rank[m.key] == first], first[0] > 0


def _acts_forward(mistake: Mistake) -> bool:
    return bool(_overrides(mistake.rules) & vars(ForwardRules).keys())


def _around(case: _Case, name: str) -> list[str]:
    """The other arrays of the layer, all of them for a gradient, activations for an activation; and
    the same array of the layer before."""
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


def _hints(name: str, right: Array, their: Array, room: float) -> list[str]:
    """Simple relations between the two arrays, where no known mistake fits."""
    if right.shape != their.shape or not np.isfinite(their).all() or right.size < 2:
        return []
    if max(np.abs(right).max(), np.abs(their).max()) > 1e100:  # squares of these are no numbers
        return []
    hints, square = [], float((right * right).sum())
    factor = float((right * their).sum() / square) if square else 0.0
    if distance(factor * right, their) <= room:
        hints.append(f"their {name} is {factor:.6g} times what follows from their inputs")
    shift = float((their - right).mean())
    if distance(right + shift, their) <= room:
        hints.append(f"their {name} is what follows from their inputs plus {shift:.6g}")
    last = right.shape[-1]
    if (
        right.ndim > 1
        and right.shape[-2] == last
        and distance(right.swapaxes(-1, -2), their) <= room
    ):
        hints.append(f"their {name} has its last two axes exchanged")
    return hints
