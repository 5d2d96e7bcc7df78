"""What the expression ``check`` of an exercise is made of; each helper gives a :class:`Finding`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minizha.crosscheck.derivatives import Line
from minizha.crosscheck.gradient_checks import STEP
from minizha.crosscheck.pair_checks import check_pair
from minizha.crosscheck.replacements import replacements
from minizha.errors import ArgumentError
from minizha.exercises.code import Code, CodeError
from minizha.exercises.findings import Finding, of_pair, of_values

SEED = 0x626F6F6B
DIFFERENCES = 1e-7
"""How far a complex step may be from a difference, which is right to about 1e-10."""

LOST = "remark: y has no imaginary part although x has one: something on the way drops it"


class Checks:
    """The reader's code beside the solution's, or beside what the reader began with.

    ``names`` are those that an expression may use: the methods below, and ``np``.
    """

    def __init__(self, reader: Code, solution: Code, start: Code) -> None:
        self.reader, self.solution, self.start = reader, solution, start
        self.rng = np.random.default_rng(SEED)
        helpers = (self.pair, self.equal, self.crosses, self.normal, self.integers)
        self.names = {"np": np} | {helper.__name__: helper for helper in helpers}

    def normal(self, *shape: int) -> np.ndarray:
        """Normal numbers, the same in each verdict."""
        return self.rng.standard_normal(shape)

    def integers(self, high: int, *shape: int) -> np.ndarray:
        """Integers from 0 to ``high − 1``, the same in each verdict."""
        return self.rng.integers(0, high, shape)

    def pair(self, name: str, arguments: Sequence[Any]) -> Finding:
        """The pair ``name``, ``name_backward``: its y is the solution's, its gradients are right."""
        for function in (name, f"{name}_backward"):
            self.reader.function(function)  # said before anything is computed
        expected = np.asarray(self.solution.call(name, *arguments)[0])
        result = self.reader.call(name, *arguments)
        if not (isinstance(result, tuple) and len(result) == 2):
            found = type(result).__name__
            return Finding(False, [f"{name}: expected a pair (y, cache), found {found}"])
        same = of_values(f"the y of {name}", result[0], expected)
        if not same.ok:
            return same
        forward, backward = (self.reader.function(n) for n in (name, f"{name}_backward"))
        with self.reader.errors_in_words(f"{name}_backward"):
            try:
                report = check_pair(forward, backward, arguments)
            except ArgumentError as error:
                raise error.__cause__ or CodeError(str(error)) from error
        return of_pair(name, report)

    def equal(self, name: str, *arguments: Any) -> Finding:
        """The function ``name`` returns what the solution's returns."""
        expected = np.asarray(self.solution.call(name, *arguments))
        return of_values(f"what {name} returns", self.reader.call(name, *arguments), expected)

    def crosses(self, name: str, *arguments: Any) -> Finding:
        """The complex step crosses ``name``, whose values are still those of the start.

        For each array x, along a random direction v: ``Im f(x + ih·v) / h`` against a difference of
        the function that the reader began with.
        """
        value = np.asarray(self.start.call(name, *arguments))
        same = of_values(f"what {name} returns", self.reader.call(name, *arguments), value)
        if not same.ok:
            return same
        for k, x in enumerate(arguments):
            if isinstance(x, np.ndarray) and x.dtype.kind == "f":
                finding = self._crosses_argument(name, arguments, k)
                if not finding.ok:
                    return finding
        return Finding(True, [f"{name} is right: the complex step crosses it"])

    def _crosses_argument(self, name: str, arguments: Sequence[Any], k: int) -> Finding:
        """The same for argument k alone."""

        def at(code: Code, x: np.ndarray) -> np.ndarray:
            return np.asarray(code.call(name, *arguments[:k], x, *arguments[k + 1 :]))

        x, v = arguments[k], self.normal(*arguments[k].shape)
        u = self.normal(*at(self.start, x).shape)
        slope = Line(lambda x: at(self.start, x), x, v, u).difference().values
        try:
            y = at(self.reader, x + 1j * STEP * v)
        except CodeError as error:
            return Finding(False, [f"a complex number does not pass: {error}", *self._advice(name)])
        rounding = 1e-12 * np.abs(slope).max(initial=0)
        step = np.where(np.abs(y.imag / STEP) > rounding, y.imag / STEP, 0.0)
        parameter = self.start.function(name).__code__.co_varnames[k]
        what = f"the complex step of {name} by {parameter}"
        finding = of_values(what, step, slope, DIFFERENCES, y.real)
        if finding.ok:
            return finding
        lost = [] if step.any() else [LOST]
        return Finding(False, [*finding.lines, *lost, *self._advice(name)])

    def _advice(self, name: str) -> list[str]:
        return [f"remark: {text}" for text in replacements(self.reader.names[name])]
