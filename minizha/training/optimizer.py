"""AdamW: steps of about equal size for every parameter, whatever the size of its gradient."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from minizha.backend import Array, is_array, namespace
from minizha.checks import integer, number
from minizha.errors import ArgumentError, MinizhaError, listed
from minizha.kernels.adamw import Rates, sums_of_squares, update_parameters
from minizha.model.base import ParameterisedModel
from minizha.nezha.parameters import unflatten


class NotFiniteError(ArgumentError):
    """A gradient, its square or the norm of all gradients is NaN or infinite."""


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

    Convention: step t counts from 1. New arrays, in the dtype of the parameter, float32 or float64,
    to which a gradient of the other one is converted; nothing is mutated.

    Source: Loshchilov and Hutter 2019, algorithm 2; ``torch.optim.AdamW``.

    Raises:
        ArgumentError: a shape or dtype differs, ``rate``, ``betas``, ``eps`` or ``decay`` is out of
            range, or ``rate · decay`` is above 1. On the host also: a gradient whose square is not
            finite, or a negative number in v.
    """
    gradient = _check_arrays(parameter, gradient, m, v)
    betas = _check_betas(betas)
    step = integer("step", step, 1, 2**53)
    rate = number("rate", rate, f"[0, {_root_of_largest(parameter.dtype)}]")
    eps = _check_eps(eps, parameter.dtype)
    decay = number("decay", decay, "[0, inf)")
    if rate * decay > 1:
        raise ArgumentError(
            f"rate, decay: expected a product of at most 1, found {rate:g} · {decay:g}: the decay "
            "would turn the sign of the parameter"
        )
    rates = Rates(step, rate, 1.0, betas, eps)
    return _updated(parameter, gradient, m, v, decay, rates)


def _updated(
    parameter: Array, gradient: Array, m: Array, v: Array, decay: float, rates: Rates
) -> tuple[Array, Array, Array]:
    """The equations of :func:`adamw_update`, for arguments that are checked."""
    (beta1, beta2), step = rates.betas, rates.step
    gradient = gradient * rates.scale
    m = beta1 * m + (1.0 - beta1) * gradient
    v = beta2 * v + (1.0 - beta2) * (gradient * gradient)
    deviation = namespace(v).sqrt(v) * (1.0 - beta2**step) ** -0.5 + rates.eps
    change = m / deviation
    change *= rates.rate / (1.0 - beta1**step)
    return parameter * (1.0 - rates.rate * decay) - change, m, v


def _update_on_device(*columns: Any) -> Any:
    """What :func:`~minizha.kernels.adamw.update_parameters` computes, on a GPU: new arrays."""
    *lists, rates = columns
    rows = zip(*lists, strict=True)
    return zip(*(_updated(p, g, m, v, decay, rates) for p, g, m, v, decay in rows), strict=True)


def decays(name: str) -> bool:
    """Whether weight decay applies: to matrices, not to biases and not to LayerNorm."""
    return not (name.endswith("bias") or "LayerNorm" in name)


def global_norm(gradients: dict[str, Array]) -> Array:
    """``√(Σ over all gradients Σ g²)``, one number; on a GPU the result stays there."""
    xp = namespace(*gradients.values())
    if xp is np:
        total = math.fsum(sums_of_squares(list(gradients.values())))
        # infinite also where a square alone is out of range
        return np.sqrt(total) if math.isfinite(total) else _norm_of_large(gradients)
    return xp.sqrt(sum((g * g).sum(dtype=xp.float64) for g in gradients.values()))


def clip_by_global_norm(
    gradients: dict[str, Array], max_norm: float
) -> tuple[dict[str, Array], Array]:
    """``g · min(1, max_norm / (norm + 1e-6))`` for all gradients alike, and the norm before

    Convention: the direction of the step is kept; the 1e-6 is ``torch.nn.utils.clip_grad_norm_``'s.
    The gradients keep their dtypes. They are new arrays; ``AdamW.step`` with the factor of
    :func:`clipping_factor` as its ``scale`` does the same without them.

    Raises:
        as :func:`clipping_factor`
    """
    factor, norm = clipping_factor(gradients, max_norm)
    return {name: g * factor.astype(g.dtype) for name, g in gradients.items()}, norm


def clipping_factor(gradients: dict[str, Array], max_norm: float) -> tuple[Array, Array]:
    """``min(1, max_norm / (norm + 1e-6))`` and the norm; on a GPU both stay there.

    Raises:
        ArgumentError: not a mapping of names to arrays of real numbers in floating point, or
            ``max_norm`` is not a finite number above 0. On the host also: a norm that is not finite
            (on a GPU, to ask would be to wait for it).
    """
    max_norm = number("max_norm", max_norm, "(0, inf)")
    if not isinstance(gradients, Mapping) or not gradients:
        raise ArgumentError(f"gradients: expected {{name: array}}, found {reprlib.repr(gradients)}")
    for name, g in gradients.items():
        _check_floats(f"gradients: {name}", g)
    norm = global_norm(gradients)
    xp = namespace(*gradients.values())
    return xp.minimum(max_norm / (norm + 1e-6), 1.0), norm


class AdamW:
    """AdamW for a model: the moments m and v, and :func:`adamw_update` for all parameters.

    Args:
        model: any of the Nezha classes; each step replaces its parameters.
        betas: decay rates of the running means m and v, in [0, 1).
        eps: added to √v̂; above 0.
        weight_decay: applies to matrices, not to biases and LayerNorm; at least 0.

    Raises:
        ArgumentError: an argument is not as described here, or the model is in complex128.
    """

    def __init__(
        self,
        model: Any,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ) -> None:
        if not isinstance(model, ParameterisedModel) or model.dtype == "complex128":
            found = getattr(model, "dtype", None) or type(model).__name__
            raise ArgumentError(
                f"model: expected one of the Nezha classes in float32 or float64, found {found}"
            )
        self.model = model
        self.betas, self.eps = _check_betas(betas), _check_eps(eps, model.dtype)
        self.weight_decay = number("weight_decay", weight_decay, "[0, inf)")
        zeros = model.xp.zeros
        self.m, self.v = (
            {name: zeros(p.shape, dtype=p.dtype) for name, p in model.state_dict().items()}
            for _ in "mv"
        )
        self.steps = 0

    def step(self, gradients: dict[str, Array], rate: float, scale: float | Array = 1.0) -> None:
        """Replace every parameter by its update. Outputs computed earlier keep the old parameters.

        ``scale`` multiplies the gradients first: the factor of :func:`clipping_factor`. The parameters
        keep their dtype, whatever that of ``gradients``, ``rate`` and ``scale``. On NumPy the moments are
        overwritten: copy an array of ``m`` or ``v`` to compare it later.

        Raises:
            MinizhaError: a parameter's shape differs from that of its moments.
            ArgumentError: a gradient is missing, unknown, of another shape, or on the host not
                finite; or ``rate`` or ``scale`` is out of range. The model and the moments are then
                unchanged.
        """
        parameters = self.model.state_dict()
        if {n: p.shape for n, p in parameters.items()} != {n: m.shape for n, m in self.m.items()}:
            raise MinizhaError(
                "AdamW: expected the model's parameters as they were when this AdamW was made, found "
                "other names or shapes (a resized vocabulary or pruned heads?); make a new AdamW"
            )
        rate = number("rate", rate, f"[0, {_root_of_largest(self.model.dtype)}]")
        if rate * self.weight_decay > 1:
            raise ArgumentError(
                f"rate: expected a product with weight_decay = {self.weight_decay:g} of at most 1, "
                f"found {rate:g}"
            )
        if self.model.xp is np:
            scale = number("scale", scale, "[0, 1]")
        else:  # to ask for the number would be to wait for it
            scale = self.model.xp.asarray(scale, dtype=self.model.dtype)
        checked = _check_gradients(gradients, parameters)
        rates = Rates(self.steps + 1, rate, scale, self.betas, self.eps)
        decay = [self.weight_decay if decays(name) else 0.0 for name in parameters]
        g, m, v = ([of[name] for name in parameters] for of in (checked, self.m, self.v))
        update = update_parameters if self.model.xp is np else _update_on_device
        new, self.m, self.v = (
            dict(zip(parameters, arrays, strict=True))
            for arrays in update(list(parameters.values()), g, m, v, decay, rates)
        )
        self.steps, self.model.parameters = rates.step, unflatten(new)


# --- checks -----------------------------------------------------------------------------------------


def _check_gradients(
    gradients: Mapping[str, Array], parameters: Mapping[str, Array]
) -> dict[str, Array]:
    """``gradients`` in the dtypes of the ``parameters``, whose names and shapes they have."""
    if not isinstance(gradients, Mapping):
        raise ArgumentError(
            f"gradients: expected {{name: array}}, found {type(gradients).__name__}"
        )
    for fault, names in (
        ("there is none of", [n for n in parameters if n not in gradients]),
        ("not a parameter of the model", [str(n) for n in gradients if n not in parameters]),
    ):
        if names:
            raise ArgumentError(
                f"gradients: expected one for each parameter, but {fault}: {listed(names)}"
            )
    checked = {n: _of_shape(f"gradients: {n}", gradients[n], p) for n, p in parameters.items()}
    if isinstance(next(iter(parameters.values())), np.ndarray):
        sums = sums_of_squares(list(checked.values()))
        for (name, p), total in zip(parameters.items(), sums, strict=True):
            if not total <= float(np.finfo(p.dtype).max):  # also catches NaN
                _check_range(f"gradients: {name}", checked[name], p)
    return {n: checked[n].astype(p.dtype, copy=False) for n, p in parameters.items()}


def _check_arrays(parameter: Array, gradient: Array, m: Array, v: Array) -> Array:
    """The gradient in the dtype of the parameter; m and v must have this dtype."""
    _check_floats("parameter", parameter)
    for name, array in (("m", m), ("v", v)):
        _check_floats(name, array)
        if array.shape != parameter.shape or array.dtype != parameter.dtype:
            raise ArgumentError(
                f"{name}: expected the shape and the dtype of the parameter, {parameter.shape} in "
                f"{parameter.dtype}, found {array.shape} in {array.dtype}"
            )
    if namespace(parameter, m, v) is np and v.size and not v.min() >= 0:
        raise ArgumentError("v: expected numbers of at least 0, since it is a mean of squares")
    return _fitting("gradient", gradient, parameter)


def _fitting(name: str, gradient: Array, parameter: Array) -> Array:
    """``gradient`` in the dtype of ``parameter``, whose shape it has."""
    _of_shape(name, gradient, parameter)
    if isinstance(gradient, np.ndarray) and gradient.size:
        _check_range(name, gradient, parameter)
    return gradient.astype(parameter.dtype, copy=False)


def _of_shape(name: str, gradient: Array, parameter: Array) -> Array:
    """``gradient``, checked to have the shape of ``parameter``."""
    _check_floats(name, gradient)
    if gradient.shape != parameter.shape:
        raise ArgumentError(
            f"{name}: expected the shape of the parameter, {parameter.shape}, found {gradient.shape}"
        )
    if type(gradient) is not type(parameter):
        namespace(gradient, parameter)  # raises, if one of them is on a GPU
    return gradient


def _check_range(name: str, gradient: np.ndarray, parameter: np.ndarray) -> None:
    limit = _root_of_largest(parameter.dtype)
    low, high = float(gradient.min()), float(gradient.max())
    if not (low >= -limit and high <= limit):  # also catches NaN
        raise NotFiniteError(
            f"{name}: expected numbers whose squares are finite in {parameter.dtype}, found "
            f"{low} … {high} (a smaller learning rate may help)"
        )


def _check_floats(name: str, array: Any) -> None:
    if not is_array(array) or array.dtype.kind != "f":
        found = array.dtype if is_array(array) else reprlib.repr(array)
        raise ArgumentError(
            f"{name}: expected an array of real numbers in floating point, found {found}"
        )


def _check_betas(betas: Any) -> tuple[float, float]:
    pair = betas.tolist() if isinstance(betas, np.ndarray) else betas
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ArgumentError(f"betas: expected two numbers in [0, 1), found {reprlib.repr(betas)}")
    return number("betas[0]", pair[0], "[0, 1)"), number("betas[1]", pair[1], "[0, 1)")


def _check_eps(eps: Any, dtype: Any) -> float:
    """A smaller one would be 0 in this dtype, and 0 / 0 the update where all gradients were 0."""
    return number("eps", eps, f"[{float(np.finfo(dtype).tiny)}, {_root_of_largest(dtype)}]")


@cache
def _root_of_largest(dtype: Any) -> float:
    """The largest number whose square is finite."""
    return math.sqrt(float(np.finfo(dtype).max))


def _norm_of_large(gradients: Mapping[str, Array]) -> Array:
    """The global norm, of numbers whose squares are out of range: ``s · √(Σ (g / s)²)``."""
    scale = max(float(np.abs(g).max()) for g in gradients.values() if g.size)
    norm = scale
    if math.isfinite(scale):
        with np.errstate(under="ignore"):
            squares = [((g / np.float64(scale)) ** 2).sum() for g in gradients.values()]
        norm = scale * math.sqrt(float(sum(squares)))
    if not math.isfinite(norm) or any(np.isnan(g).any() for g in gradients.values()):
        bad = [name for name, g in gradients.items() if not np.isfinite(g).all()]
        raise NotFiniteError(
            f"gradients: expected finite numbers with a finite norm, found {norm:g} in "
            f"{listed(bad or list(gradients))} (a smaller learning rate may help)"
        )
    return np.float64(norm)
