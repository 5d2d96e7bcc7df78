"""The check of one argument's gradient: by which oracle, the verdict, and what a wrong one is."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import namespace, to_backend, to_host
from minizha.crosscheck.derivatives import Line, agree
from minizha.crosscheck.gradient_checks import NOTHING, Worst, worse
from minizha.crosscheck.pair_functions import Pair
from minizha.crosscheck.pair_report import Verdict
from minizha.crosscheck.relations import Wrong, relation, shape_relation

MOST_ENTRIES = 2000
"""How many entries of a wrong gradient are checked."""
MOST_FOR_VARIANTS = 400
"""Up to how many entries a wrong gradient is compared with those of changed arguments."""

INSTEAD = {
    r"\bvar\(": "np.var drops imaginary parts: write the variance as a product, (c * c).mean(…)",
    r"\bstd\(": "np.std drops imaginary parts: write it as a product, ((c * c).mean(…)) ** 0.5",
    r"linalg\.norm": "np.linalg.norm drops imaginary parts: write (x * x).sum(…) ** 0.5",
    r"\babs(olute)?\(": "np.abs drops imaginary parts: write np.where(x > 0, x, -x)",
    r"\berfc?\b": "math.erf takes no complex numbers: minizha.ops.gelu has normal_cdf",
    r"logaddexp": "np.logaddexp takes no complex numbers: write a + log(1 + exp(b − a))",
    r"\b(zeros|empty|ones|full)\(": "a buffer of np.zeros is real: give it the dtype of x",
    r"\bastype\(": "astype(float) drops imaginary parts: leave it out",
    r"\breal\b": ".real drops imaginary parts: leave it out",
    r"\bfloat\(": "float() takes no complex numbers: leave it out",
    r"\bout=": "out= needs an array of the dtype of x",
}
"""What to use in place of functions to which the complex step does not apply."""


class Trial(NamedTuple):
    """One comparison; ``allowed`` is what the oracle may be off by, relative as ``error`` is."""

    u: np.ndarray
    gradient: np.ndarray
    expected: float
    found: float
    allowed: float

    @property
    def error(self) -> float:
        return abs(self.expected - self.found) / max(1.0, abs(self.expected))


class Entries(NamedTuple):
    """The right gradient entry by entry, NaN where it was not computed."""

    expected: np.ndarray
    diagonal: np.ndarray
    error: float
    kinks: np.ndarray


def _sources(function: Any) -> Iterator[str]:
    """The source of a function, and of the functions that it calls by name."""
    names = getattr(getattr(function, "__code__", None), "co_names", ())
    known = getattr(function, "__globals__", {})
    for each in (function, *(known[n] for n in names if inspect.isfunction(known.get(n)))):
        try:
            yield inspect.getsource(each)
        except (OSError, TypeError):  # typed at a prompt, or not written in Python
            continue


class ArgumentCheck:
    """Compares the gradients of argument k with the oracle's, and then gives the verdict."""

    def __init__(self, pair: Pair, k: int, tolerance: float, y: np.ndarray) -> None:
        self.pair, self.k, self.tolerance, self.y = pair, k, tolerance, y
        self.x = np.array(to_host(pair.arguments[k]))
        self.trials: list[Trial] = []
        self.refused: Verdict | None = None
        self.by_differences = self.kink = False
        self.roughness: float | None = None
        self.remarks: list[str] = []

    def compare(self, u: np.ndarray, v: np.ndarray, gradient: Any) -> None:
        """One trial: ⟨u, Jv⟩ by the oracle against ⟨gradient, v⟩."""
        if self.refused is None:
            self.refused = self._refusal(u, gradient)
        if self.refused is not None:
            return
        line = self.line(v, u)
        if not self.trials:
            self._choose_oracle(line)
        expected, error = self._derivative(line)
        with np.errstate(all="ignore"):
            found = float((gradient * v).sum())
        allowed = self.tolerance
        if self.by_differences:
            allowed = max(allowed, 1e-8 + 30 * error / max(1.0, abs(expected)))
        self.trials.append(Trial(u, gradient, expected, found, allowed))

    def line(self, v: np.ndarray, u: np.ndarray, **replaced: Any) -> Line:
        """y as a function of a step along v."""
        return Line(lambda x: self.pair.outputs(self.k, x, **replaced), self.x, v, u)

    def verdict(self) -> Verdict:
        """The verdict after all trials."""
        if self.refused is not None:
            return self.refused
        if not self.kink and all(t.error <= t.allowed for t in self.trials):
            return self._verdict(*self._doubt())
        worst = NOTHING
        for trial in self.trials:
            before = worst
            worst = worse(worst, "", (), trial.expected, trial.found)
            if worst is not before:
                case = trial
        if np.isfinite(case.gradient).all():
            if not np.isfinite(case.expected):
                return self._verdict(None, "forward's y, or its derivative, is not finite here")
            why = "" if self.kink else self._too_rough(case)
            if why:
                return self._verdict(None, why)
        return self._wrong(case)

    def _refusal(self, u: np.ndarray, gradient: Any) -> Verdict | None:
        """A verdict on a gradient that is no float array of the argument's shape."""
        kind = getattr(getattr(gradient, "dtype", None), "kind", "")
        shape = getattr(gradient, "shape", None)
        if shape == self.x.shape and kind in "fiub":
            return None
        if shape is None or kind not in "fiubc":
            found = type(gradient).__name__
            hint = f"expected an array of shape {self.x.shape}, found {found}"
        elif kind == "c":
            hint = f"the gradient is {gradient.dtype}, but real arguments have real gradients"
        else:
            hint = f"expected an array of shape {self.x.shape}, found shape {shape}"
            if max(self.x.size, gradient.size) <= MOST_ENTRIES:
                others = self._others(u, gradient.shape)
                text = shape_relation(gradient, self.entries(u).expected, others)
                hint += f": {text}" if text else ""
        nan = float("nan")
        return Verdict(False, f"argument {self.k}", self._name, nan, (), nan, nan, hint)

    def _choose_oracle(self, line: Line) -> None:
        """Differences, where the complex step and a difference disagree, or there is no such step."""
        step, slope = line.complex_step(), line.difference()
        with np.errstate(all="ignore"):
            if step is not None and agree(step, slope, line.u):
                return
        self.by_differences, self.kink = True, line.has_kink()
        if self.kink:
            return
        self.roughness = line.roughness()
        if step is None:
            why = f"forward takes no complex numbers ({self.pair.complex_error})"
        else:
            why = "forward drops imaginary parts"
        self.remarks.append(
            f"{why}, so that it was checked by differences, to about "
            f"{max(1e-8, 30 * slope.error):.0e}, and not by the complex step{self._instead()}"
        )

    def _instead(self) -> str:
        """What to use in place of what forward's source has."""
        source = "".join(_sources(self.pair.forward))
        texts = [text for word, text in INSTEAD.items() if re.search(word, source)]
        return "".join(f"; {text}" for text in texts)

    def _derivative(self, line: Line) -> tuple[float, float]:
        """⟨u, Jv⟩ by the oracle, and what it may be off by."""
        with np.errstate(all="ignore"):
            if not self.by_differences:
                step = line.complex_step()
                if step is not None:
                    return float((line.u * step).sum()), 0.0
            noise = max(line.noise()) if self.roughness else 0.0
            slope = line.difference(noise)
            return float((line.u * slope.values).sum()), slope.error

    def _doubt(self) -> tuple[bool | None, str]:
        """Whether a gradient with no error is right."""
        if self.roughness:
            return None, self._rough_text(self.roughness)
        rough = [t.allowed for t in self.trials if not t.allowed <= max(1e-4, self.tolerance)]
        if rough:
            return None, f"differences tell no more than {max(rough):.0e} here"
        return True, ""

    def _rough_text(self, roughness: float) -> str:
        return (
            f"forward computes in less than float64 inside (its y is uneven by {roughness:.0e}): "
            "backward agrees as far as that can tell; compute in float64"
        )

    def _too_rough(self, case: Trial) -> str:
        """Why an error says nothing; "" if it does."""
        scale = max(np.abs(case.gradient).max(initial=0.0), 1e-300)
        single = case.gradient.astype(np.float32).astype(np.float64)
        small = case.error <= 1e-4 * max(1.0, scale * self.x.size**0.5)
        if small and case.gradient.any() and (single == case.gradient).all():
            return (
                f"backward computes in float32, and is right to {case.error:.0e}: compute in float64"
            )
        if self.by_differences:
            if case.error <= 10 * case.allowed:
                if self.roughness:
                    return self._rough_text(self.roughness)
                return f"differences tell no more than {case.allowed:.0e} here"
            return ""
        roughness = self.line(np.ones_like(self.x), case.u).roughness()
        if roughness and case.error <= 1e4 * roughness:
            return self._rough_text(roughness)
        return ""

    @property
    def _name(self) -> str:
        return self.pair.names[self.k]

    def _verdict(self, ok: bool | None, hint: str = "", entry: Worst | None = None) -> Verdict:
        if entry is None:
            entry = NOTHING
            for t in self.trials:
                entry = worse(entry, "", (), t.expected, t.found)
        error, _, index, expected, found = entry
        return Verdict(ok, f"argument {self.k}", self._name, error, index, expected, found, hint)

    def entries(self, u: np.ndarray, **replaced: Any) -> Entries:
        """The derivatives of ⟨u, y⟩ by each entry of x, or by ``MOST_ENTRIES`` of them."""
        shape = self.x.shape
        expected, diagonal = np.full(shape, np.nan), np.full(shape, np.nan)
        kinks, error = np.zeros(shape, dtype=bool), 0.0
        for flat in np.linspace(0, self.x.size - 1, min(self.x.size, MOST_ENTRIES), dtype=int):
            index = np.unravel_index(flat, shape)
            unit = np.zeros(shape)
            unit[index] = 1.0
            line = self.line(unit, u, **replaced)
            step = None if self.by_differences else line.complex_step()
            if step is None:
                slope = line.difference()
                step, error = slope.values, max(error, slope.error)
                kinks[index] = self.kink and line.has_kink()
            expected[index] = (u * step).sum()
            if u.shape == shape:
                diagonal[index] = (u * step)[index]
        return Entries(expected, diagonal, error, kinks)

    def _wrong(self, case: Trial) -> Verdict:
        """The entry with the largest error, and how the gradient is related to the right one."""
        entries, found = self.entries(case.u), np.asarray(case.gradient, dtype=float)
        expected = entries.expected
        bound = np.maximum(1e-9 * np.maximum(1, np.abs(expected)), 30 * entries.error)
        if self.by_differences:
            bound = np.maximum(bound, 1e-7 * np.maximum(1, np.abs(expected)))
        known = ~np.isnan(expected) & ~entries.kinks
        with np.errstate(invalid="ignore"):
            near = np.abs(found - expected) <= bound
        wrong = ~near & known  # NaN is never near
        if not wrong.any():
            if self.kink:
                return self._verdict(None, self._kink_text(entries.kinks, int(known.sum())))
            # the wrong entries are not among those that were checked, or the error is tiny
            hint = f"of {known.sum()} entries of {self._name}'s gradient none is wrong by 1e-9"
            return self._verdict(False, hint)
        entry = NOTHING
        for place in np.argwhere(wrong):
            index = tuple(int(i) for i in place)
            entry = worse(entry, "", index, float(expected[index]), float(found[index]))
        hint = f"{wrong.sum()} of {known.sum()} entries of {self._name}'s gradient are wrong"
        text = self._relation(case, entries) if known.all() else ""
        return self._verdict(False, f"{hint}{': ' if text else ''}{text}", entry)

    def _kink_text(self, kinks: np.ndarray, rest: int) -> str:
        places = ", ".join(str(p.tolist()) for p in np.argwhere(kinks)[:3]) or "this point"
        return (
            f"forward has a kink at {places}, where its derivatives from both sides differ and "
            f"backward may take either; the other {rest} entries are right. Move x a little"
        )

    def _others(self, u: np.ndarray, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        """The right gradients of the other arguments of a shape."""
        checks = [ArgumentCheck(self.pair, k, self.tolerance, self.y) for k in self.pair.floats]
        for check in checks:
            check.by_differences = self.by_differences
        return {
            self.pair.label(check.k): check.entries(u).expected
            for check in checks
            if check.k != self.k and check.x.shape == shape and check.x.size <= MOST_ENTRIES
        }

    def _relation(self, case: Trial, entries: Entries) -> str:
        found = np.asarray(case.gradient, dtype=float)
        same = case.u.shape == self.x.shape
        wrong = Wrong(
            found,
            entries.expected,
            self.x,
            self.y,
            case.u,
            entries.diagonal if same else None,
            self._others(case.u, self.x.shape),
            entries.error,
        )
        return self._ignored_upstream(wrong) or relation(wrong) or self._variant(wrong)

    def _ignored_upstream(self, wrong: Wrong) -> str:
        """Whether another dy gives the same gradient."""
        if not (np.isfinite(wrong.found).all() and wrong.found.any() and wrong.expected.any()):
            return ""
        y, cache = self.pair.run()
        another = to_backend(1.0 + 0.5 * wrong.u, namespace(y))
        again = self.pair.gradients(another, cache)[self.pair.floats.index(self.k)]
        same = np.shape(again) == wrong.found.shape and wrong.near(again, wrong.found)
        return "it does not depend on dy" if same else ""

    def _variant(self, wrong: Wrong) -> str:
        """Whether it is the right gradient for another value of another argument."""
        if self.x.size > MOST_FOR_VARIANTS or self.x.size < 2:
            return ""
        for k in self.pair.floats:
            value = np.array(to_host(self.pair.arguments[k]))
            variants = {"were all 1 (it is left out?)": np.ones_like(value)}
            if value.ndim > 1 and value.shape[-1] == value.shape[-2]:
                variants["were transposed"] = value.swapaxes(-1, -2)
            for what, changed in variants.items() if k != self.k else ():
                expected = self.entries(wrong.u, others={k: changed}).expected
                if wrong.near(wrong.found, expected) and not wrong.near(expected, wrong.expected):
                    return f"it is what it would be if {self.pair.label(k)} {what}"
        return ""
