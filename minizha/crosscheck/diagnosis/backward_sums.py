"""Parts of the backward pass: sums over the uses of an array, linear maps, LayerNorm."""

from __future__ import annotations

from collections.abc import Callable

from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.facts import Facts
from minizha.crosscheck.diagnosis.forward import Step, Steps
from minizha.crosscheck.diagnosis.rules import Array


class Sums:
    """The terms of each array's gradient: one for each use of the array."""

    def __init__(self) -> None:
        self._terms: dict[str, list[Step]] = {}

    def add(self, name: str, needs: tuple[str, ...], compute: Callable[..., Array]) -> None:
        """Add the term of one use: ``compute`` makes it from the arrays named in ``needs``."""
        self._terms.setdefault(name, []).append(Step(needs, compute))

    def add_upstream(self, name: str, gradient: Array | None) -> None:
        """Add an upstream gradient of the array ``name``, if there is one."""
        if gradient is not None:
            self.add(name, (), lambda: gradient)

    def add_step(self, steps: Steps, name: str) -> bool:
        """Make the sum of the terms the step ``name.grad``; False if there are no terms."""
        terms = self._terms.get(name, [])
        if not terms:
            return False
        needs = tuple(need for term in terms for need in term.needs)

        def compute(*values: Array) -> Array:
            remaining, total = list(values), 0.0
            for term in terms:
                total = total + term.compute(*(remaining.pop(0) for _ in term.needs))
            return total

        steps[f"{name}.grad"] = Step(needs, compute)
        return True


def through_linear(f: Facts, r: Rules, steps: Steps, sums: Sums, y: str, x: str) -> None:
    """``y = x · weightᵀ + bias``: the gradients of the parameters, and a term of x's gradient."""
    name = r.parameter(y, f)
    through_parameters(r, steps, y, x)
    sums.add(x, (f"{y}.grad",), lambda dy: r.linear_backward(dy, f.parameter(f"{name}.weight")))


def through_parameters(
    r: Rules, steps: Steps, y: str, x: str, change: Callable[[Array], Array] = lambda x: x
) -> None:
    """The gradients of the parameters alone; the linear map reads ``change(x)``."""
    steps[f"{y}.weight.grad"] = Step(
        (f"{y}.grad", x), lambda dy, x: r.weight_backward(dy, change(x))
    )
    steps[f"{y}.bias.grad"] = Step((f"{y}.grad",), r.bias_backward)


def through_norm(f: Facts, r: Rules, steps: Steps, y: str, parameters: str, x: str) -> None:
    """``y = LayerNorm(x)``: the gradients of the parameters and of x."""
    eps = f.config.layer_norm_eps
    steps[f"{parameters}.weight.grad"] = Step(
        (f"{y}.grad", x), lambda dy, x: r.norm_weight_backward(dy, x, eps)
    )
    steps[f"{parameters}.bias.grad"] = Step((f"{y}.grad",), r.bias_backward)
    steps[f"{x}.grad"] = Step(
        (f"{y}.grad", x),
        lambda dy, x: r.norm_backward(dy, x, f.parameter(f"{parameters}.weight"), eps),
    )
