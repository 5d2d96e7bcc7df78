"""AdamW: steps of about equal size for every parameter, whatever the size of its gradient."""

from __future__ import annotations

from typing import Any

from minizha.backend import Array, namespace
from minizha.errors import MinizhaError
from minizha.nezha.parameters import unflatten


def adamw_update(
    parameter: Array,
    gradient: Array,
    m: Array,
    v: Array,
    step: int,
    rate: float,
    *,
    betas: tuple[float, float],
    eps: float,
    decay: float,
) -> tuple[Array, Array, Array]:
    """``p ← p · (1 − rate · decay) − rate · m̂ / (√v̂ + eps)``

    with ``m ← β₁ m + (1 − β₁) g``, ``v ← β₂ v + (1 − β₂) g²``, ``m̂ = m / (1 − β₁ᵗ)`` and
    ``v̂ = v / (1 − β₂ᵗ)``: the running means start at 0, and these factors correct exactly for
    that. The decay acts on the parameter itself; in the gradient, the division by √v̂ would
    cancel its size.

    Shapes: parameter (…), gradient (…), m (…), v (…) → parameter, m, v.

    Convention: step t counts from 1. New arrays; nothing is mutated.

    Source: Loshchilov and Hutter 2019, algorithm 2; ``torch.optim.AdamW``.
    """
    beta1, beta2 = betas
    m = beta1 * m + (1.0 - beta1) * gradient
    v = beta2 * v + (1.0 - beta2) * (gradient * gradient)
    deviation = namespace(v).sqrt(v) * (1.0 - beta2**step) ** -0.5 + eps
    change = m / deviation
    change *= rate / (1.0 - beta1**step)
    return parameter * (1.0 - rate * decay) - change, m, v


def decays(name: str) -> bool:
    """Whether weight decay applies: to matrices, not to biases and not to LayerNorm."""
    return not (name.endswith("bias") or "LayerNorm" in name)


def global_norm(gradients: dict[str, Array]) -> Array:
    """``√(Σ over all gradients Σ g²)``, one number; on a GPU the result stays there."""
    xp = namespace(*gradients.values())
    total = sum((g * g).sum(dtype=xp.float64) for g in gradients.values())
    return xp.sqrt(total)


def clip_by_global_norm(
    gradients: dict[str, Array], max_norm: float
) -> tuple[dict[str, Array], Array]:
    """``g · min(1, max_norm / (norm + 1e-6))`` for all gradients alike, and the norm before

    Convention: the direction of the step is kept; the 1e-6 is ``torch.nn.utils.clip_grad_norm_``'s.
    """
    norm = global_norm(gradients)
    xp = namespace(*gradients.values())
    factor = xp.minimum(max_norm / (norm + 1e-6), 1.0)
    return {name: g * factor.astype(g.dtype) for name, g in gradients.items()}, norm


class AdamW:
    """AdamW for a model: the moments m and v, and :func:`adamw_update` for all parameters.

    Args:
        model: each step replaces its parameters.
        betas: decay rates of the running means m and v.
        eps: added to √v̂.
        weight_decay: applies to matrices, not to biases and LayerNorm.
    """

    def __init__(
        self,
        model: Any,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        self.model = model
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        zeros_like = model.xp.zeros_like
        self.m = {name: zeros_like(p) for name, p in model.state_dict().items()}
        self.v = {name: zeros_like(p) for name, p in model.state_dict().items()}
        self.steps = 0

    def step(self, gradients: dict[str, Array], rate: float) -> None:
        """Replace every parameter by its update. Outputs computed earlier keep the old parameters.

        Raises:
            MinizhaError: a parameter's shape differs from that of its moments.
        """
        parameters = self.model.state_dict()
        if {n: p.shape for n, p in parameters.items()} != {n: m.shape for n, m in self.m.items()}:
            raise MinizhaError(
                "AdamW: expected the model's parameters as they were when this AdamW was made, found "
                "other names or shapes (a resized vocabulary or pruned heads?); make a new AdamW"
            )
        self.steps += 1
        updated = {}
        for name, parameter in parameters.items():
            updated[name], self.m[name], self.v[name] = adamw_update(
                parameter,
                gradients[name],
                self.m[name],
                self.v[name],
                self.steps,
                rate,
                betas=self.betas,
                eps=self.eps,
                decay=self.weight_decay if decays(name) else 0.0,
            )
        self.model.parameters = unflatten(updated)
