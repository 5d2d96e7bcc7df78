"""The check of one argument's gradient: by which oracle, and the verdict."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minizha.backend import to_host
from minizha.crosscheck.derivatives import Line, agree
from minizha.crosscheck.gradient_checks import NOTHING, Worst, worse
from minizha.crosscheck.pair_entries import (
    MOST_ENTRIES,
    Entries,
    Oracle,
    explain,
    other_gradients,
    right_entries,
)
from minizha.crosscheck.pair_functions import Pair
from minizha.crosscheck.pair_report import Verdict
from minizha.crosscheck.relations import shape_relation
from minizha.crosscheck.replacements import replacements


class Trial(NamedTuple):
    """One comparison; ``allowed`` is what the oracle may be off by, relative as ``error`` is."""

    u: np.ndarray
    v: np.ndarray
    gradient: np.ndarray
    expected: float
    found: float
    allowed: float

    @property
    def error(self) -> float:
        """``|expected − found| / max(1, |expected|)``"""
        return abs(self.expected - self.found) / max(1.0, abs(self.expected))


class ArgumentCheck:
    """Compares the gradients of argument k with the oracle's, and then gives the verdict."""

    def __init__(self, pair: Pair, k: int, tolerance: float, y: np.ndarray) -> None:
        self.pair, self.k, self.tolerance, self.y = pair, k, tolerance, y
        self.x = to_host(pair.arguments[k])
        self.trials: list[Trial] = []
        self.refused: Verdict | None = None
        self.by_differences = self.kink = False
        self.roughness: float | None = None
        self.remarks: list[str] = []

    def compare(self, u: np.ndarray, v: np.ndarray, gradient: Any) -> None:
        """One trial: ⟨u, Jv⟩ by the oracle against ⟨gradient, v⟩."""
        line = Line(lambda x: self.pair.outputs(self.k, x), self.x, v, u)
        if not self.trials and self.refused is None:
            self._choose_oracle(line)
        if self.refused is None:
            self.refused = self._refusal(u, gradient)
        if self.refused is not None:
            return
        expected, error = self._derivative(line)
        with np.errstate(all="ignore"):
            found = float((gradient * v).sum())
        allowed = self.tolerance
        if self.by_differences:
            allowed = max(allowed, 1e-8 + 30 * error / max(1.0, abs(expected)))
        self.trials.append(Trial(u, v, gradient, expected, found, allowed))

    def verdict(self) -> Verdict:
        """The verdict after all trials."""
        if self.refused is not None:
            return self.refused
        if not self.kink and all(t.error <= t.allowed for t in self.trials):
            return self._verdict(*self._doubt())
        case = max(self.trials, key=lambda t: np.inf if np.isnan(t.error) else t.error)
        why = self._excuse(case)
        return self._verdict(None, why) if why else self._wrong(case)

    # --- the oracle -------------------------------------------------------------------------------

    def _choose_oracle(self, line: Line) -> None:
        """Differences, where the complex step and a difference disagree, or there is no such step."""
        step = line.complex_step()
        slope = line.difference(step=step)
        with np.errstate(all="ignore"):
            if step is not None and agree(step, slope, line.u):
                return
            self.by_differences, self.roughness = True, line.roughness()
            self.kink = line.kink(self.roughness) > 0
        if self.kink:
            return
        if step is None:
            why = f"forward takes no complex numbers ({self.pair.complex_error})"
        else:
            why = "forward drops imaginary parts"
        self.remarks.append(
            f"{why}, so that it was checked by differences, to about "
            f"{max(1e-8, 30 * slope.error):.0e}, and not by the complex step"
            + "".join(f"; {text}" for text in replacements(self.pair.forward))
        )

    def _derivative(self, line: Line) -> tuple[float, float]:
        """⟨u, Jv⟩ by the oracle, and what it may be off by."""
        step = None if self.by_differences else line.complex_step()
        if step is None:
            return self._difference(line)
        with np.errstate(all="ignore"):
            return float((line.u * step).sum()), 0.0

    def _difference(self, line: Line) -> tuple[float, float]:
        """The same by differences."""
        with np.errstate(all="ignore"):
            noise = 0.0
            if self.roughness:
                noise = max(*line.noise(), self.roughness * float(np.abs(line.u * self.y).sum()))
            slope = line.difference(noise)
            return float((line.u * slope.values).sum()), slope.error

    # --- the verdict ------------------------------------------------------------------------------

    def _refusal(self, u: np.ndarray, gradient: Any) -> Verdict | None:
        """A verdict on a gradient that is no real array of the argument's shape."""
        kind = getattr(getattr(gradient, "dtype", None), "kind", "")
        shape = getattr(gradient, "shape", None)
        if shape == self.x.shape and kind in "fiub":
            return None
        expected = f"expected an array of shape {self.x.shape}, found"
        if not kind or kind not in "fiubc":
            hint = f"{expected} {type(gradient).__name__}"
        elif kind == "c":
            hint = f"the gradient is {gradient.dtype}, but real arguments have real gradients"
        else:
            hint = f"{expected} shape {shape}"
            if max(self.x.size, gradient.size) <= MOST_ENTRIES:
                oracle = Oracle(self.pair, u, self.by_differences)
                right = right_entries(oracle, self.k).expected
                text = shape_relation(gradient, right, other_gradients(oracle, self.k, shape))
                hint += f": {text}" if text else ""
        nan = float("nan")
        return self._verdict(False, hint, (nan, "", (), nan, nan))

    def _doubt(self) -> tuple[bool | None, str]:
        """Whether a gradient with no error is right, or can't be told; and why not."""
        if self.roughness:
            return None, self._rough_text()
        rough = [t.allowed for t in self.trials if not t.allowed <= max(1e-4, self.tolerance)]
        if rough:
            return None, f"differences tell no more than {max(rough):.0e} here"
        return True, ""

    def _excuse(self, case: Trial) -> str:
        """Why an error does not say that backward is wrong; "" if it does."""
        finite = bool(np.isfinite(case.gradient).all())
        if not np.isfinite(case.expected) or not (finite or np.isfinite(self.y).all()):
            return "forward's y, or its derivative, is not finite here"
        if self.kink or not finite:
            return ""  # other entries than those with a kink may be wrong
        # 1e-5 is a hundred times the rounding of float32
        small = abs(case.expected - case.found) <= 1e-5 * float(np.linalg.norm(case.gradient))
        single = case.gradient.astype(np.float32).astype(np.float64)
        if small and (single == case.gradient).all():
            return (
                "backward computes in float32, and is right to "
                f"{case.error:.0e}: compute in float64"
            )
        line = Line(lambda x: self.pair.outputs(self.k, x), self.x, case.v, case.u)
        if self.roughness is None:
            self.roughness = line.roughness()
        if self.roughness:
            difference, error = self._difference(line)
            unsure = abs(difference - case.found) <= 100 * error
            if unsure or case.error <= min(1e4 * self.roughness, 0.05):
                return self._rough_text()
        if self.by_differences and case.error <= 10 * case.allowed:
            return f"differences tell no more than {case.allowed:.0e} here"
        return ""

    def _rough_text(self) -> str:
        return (
            f"forward computes in less than float64 inside (its y is uneven by {self.roughness:.0e}): "
            "backward agrees as far as that can tell; compute in float64"
        )

    def _wrong(self, case: Trial) -> Verdict:
        """The entry with the largest error, and how the gradient is related to the right one."""
        oracle = Oracle(self.pair, case.u, self.by_differences, self.kink, self.roughness or 0.0)
        entries, found = right_entries(oracle, self.k), np.asarray(case.gradient, dtype=float)
        expected, name = entries.expected, self.pair.names[self.k]
        size = np.maximum(1, np.abs(expected))
        bound = 1e-9 * size
        if self.by_differences:
            bound = np.maximum(1e-7 * size, 30 * entries.error)
        known = ~np.isnan(expected) & (entries.kinks == 0)
        with np.errstate(invalid="ignore"):
            near = np.abs(found - expected) <= bound  # NaN is never near
            near |= np.abs(found) < entries.kinks
        wrong = ~near & ~np.isnan(expected)
        if not wrong.any():
            if self.kink:
                return self._verdict(None, _kink_text(entries, int(known.sum())))
            # the wrong entries are not among those that were checked, or the error is tiny
            hint = f"of {known.sum()} entries of {name}'s gradient none is wrong by 1e-9"
            return self._verdict(False, hint)
        worst = NOTHING
        for place in np.argwhere(wrong):
            index = tuple(int(i) for i in place)
            worst = worse(worst, "", index, float(expected[index]), float(found[index]))
        hint = f"{wrong.sum()} of {known.sum()} entries of {name}'s gradient are wrong"
        text = explain(oracle, self.k, found, entries, self.y) if known.all() else ""
        return self._verdict(False, f"{hint}{': ' if text else ''}{text}", worst)

    def _verdict(self, ok: bool | None, hint: str, worst: Worst = NOTHING) -> Verdict:
        """A verdict with the numbers of an entry, or else of the worst direction."""
        if worst is NOTHING:
            for t in self.trials:
                worst = worse(worst, "", (), t.expected, t.found)
        error, _, index, expected, found = worst
        name = self.pair.names[self.k]
        return Verdict(ok, f"argument {self.k}", name, error, index, expected, found, hint)


def _kink_text(entries: Entries, rest: int) -> str:
    places = ", ".join(str(place.tolist()) for place in np.argwhere(entries.kinks)[:3])
    return (
        f"forward has a kink at {places or 'this point'}, where its derivatives from both sides "
        f"differ and backward may take either; the other {rest} entries are right. Move x a little"
    )
