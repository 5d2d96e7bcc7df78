"""What the steps of the way back are put together from: sums over uses, linear maps, LayerNorm."""

from __future__ import annotations

from collections.abc import Callable

from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.facts import Facts
from minizha.crosscheck.diagnosis.forward import Step, Steps
from minizha.crosscheck.diagnosis.rules import Array


class Sums:
    """For each array, what each of its uses asks of it."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Step]] = {}

    def add(self, name: str, needs: tuple[str, ...], compute: Callable[..., Array]) -> None:
        """One use: ``compute`` makes its part from the arrays named in ``needs``."""
        self._parts.setdefault(name, []).append(Step(needs, compute))

    def given(self, name: str, value: Array | None) -> None:
        """What the world outside asks."""
        if value is not None:
            self.add(name, (), lambda: value)

    def into(self, steps: Steps, name: str) -> bool:
        """Make ``name.grad`` a step; False where nobody asks anything of it."""
        parts = self._parts.get(name, [])
        if not parts:
            return False
        needs = tuple(need for part in parts for need in part.needs)

        def compute(*values: Array) -> Array:
            left, total = list(values), 0.0
            for part in parts:
                total = total + part.compute(*(left.pop(0) for _ in part.needs))
            return total

        steps[f"{name}.grad"] = Step(needs, compute)
        return True


def through_linear(f: Facts, r: Rules, steps: Steps, sums: Sums, y: str, x: str) -> None:
    """``y = x · weightᵀ + bias``: the gradients of the parameters, and x asked."""
    name = r.parameter(y, f)
    through_parameters(r, steps, y, x)
    sums.add(x, (f"{y}.grad",), lambda dy: r.linear_backward(dy, f.parameter(f"{name}.weight")))


def through_parameters(
    r: Rules, steps: Steps, y: str, x: str, change: Callable[[Array], Array] = lambda x: x
) -> None:
    """The gradients of the parameters alone; ``change`` is what was done to x before."""
    steps[f"{y}.weight.grad"] = Step(
        (f"{y}.grad", x), lambda dy, x: r.weight_backward(dy, change(x))
    )
    steps[f"{y}.bias.grad"] = Step((f"{y}.grad",), r.bias_backward)


def through_norm(f: Facts, r: Rules, steps: Steps, y: str, parameters: str, x: str) -> None:
    """``y = LayerNorm(x)``."""
    eps = f.config.layer_norm_eps
    steps[f"{parameters}.weight.grad"] = Step(
        (f"{y}.grad", x), lambda dy, x: r.norm_weight_backward(dy, x, eps)
    )
    steps[f"{parameters}.bias.grad"] = Step((f"{y}.grad",), r.bias_backward)
    steps[f"{x}.grad"] = Step(
        (f"{y}.grad", x),
        lambda dy, x: r.norm_backward(dy, x, f.parameter(f"{parameters}.weight"), eps),
    )
