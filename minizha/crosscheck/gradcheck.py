"""Gradient checks: the complex step, and ⟨u, Jv⟩ = ⟨v, Jᵀu⟩.

For a function that is real on real numbers and smooth, ``f(x + ih·v) = f(x) + ih·f′(x)v − …``:
the imaginary part, divided by h, is the directional derivative. Nothing is subtracted, so h can
be 1e-30 and the derivative is right to the last digit. (A difference quotient loses half of
them: f(x + h) and f(x) agree in their leading digits, and those cancel.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import is_array, namespace, to_backend, to_host
from minizha.errors import ArgumentError

STEP = 1e-30


class GradientReport(NamedTuple):
    """The worst entry of a check.

    ``error`` is ``|expected − found| / max(1, |expected|)``, where ``expected`` is the complex
    step's derivative and ``found`` the backward pass's; ``name`` and ``index`` say which entry.
    """

    ok: bool
    error: float
    name: str
    index: tuple[int, ...]
    expected: float
    found: float
    checked: int

    def __str__(self) -> str:
        place = f"{self.name}[{', '.join(map(str, self.index))}]" if self.index else self.name
        verdict = "agree" if self.ok else "DIFFER"
        return (
            f"{self.checked} derivatives: backward and complex step {verdict}; the worst is {place}: "
            f"expected {self.expected:.17g}, found {self.found:.17g} (error {self.error:.1e})"
        )


def gradcheck(
    model: Any,
    inputs: dict[str, Any],
    *,
    entries: int | None = None,
    tolerance: float = 1e-12,
    seed: int = 0,
) -> GradientReport:
    """Check the gradient of the loss with respect to every parameter, entry by entry.

    ``∂loss/∂p = Im loss(p + ih) / h``, one forward pass an entry, against ``out.backward()``.

    Args:
        model: a model with a loss. It is not touched: the check runs on copies of its
            parameters in float64 and complex128. In train mode, each pass draws the same dropout.
        inputs: keyword arguments of its call, labels among them.
        entries: check only so many entries of each parameter, drawn with ``seed``; None: all.
        tolerance: of ``|expected − found| / max(1, |expected|)``.

    Returns:
        A :class:`GradientReport` of the worst entry; float inputs (``inputs_embeds``,
        ``encoder_hidden_states``, ``past_key_values``) are checked too where they are given.
        Left out is the word embedding of the pad token where input_ids holds it: by convention
        its lookup passes no gradient on, although the loss does depend on it.

    Raises:
        ArgumentError: the inputs give no loss.
    """
    if entries is not None and (not isinstance(entries, int) or entries < 1):
        raise ArgumentError(f"gradcheck: entries: expected at least 1 or None, found {entries}")
    if not isinstance(inputs, Mapping):
        found = type(inputs).__name__
        raise ArgumentError(f"gradcheck: inputs: expected keyword arguments, found {found}")
    real, stepped = model.astype("float64"), model.astype("complex128")
    out = _run(real, inputs)
    if "loss" not in out:
        raise ArgumentError("gradcheck: inputs: expected labels, so that there is a loss")
    given = out.backward()
    gradients = {n: to_host(g) for n, g in real.gradients().items()} | dict(_named(given))
    places = stepped.state_dict()
    # arrays of our own, so that the next pass sees the steps; under the same names as gradients
    floats = {name: _complex(inputs[name]) for name in given}
    places |= dict(_named(floats))
    inputs = inputs | floats

    worst, checked, rng = None, 0, np.random.default_rng(seed)
    for name, array in places.items():
        for index in _indices(array.shape, entries, rng):
            if name.endswith("word_embeddings.weight") and index[0] == _silent_row(model, inputs):
                continue
            array[index] += 1j * STEP  # the copy's own array, so its next pass sees the step
            expected = complex(_run(stepped, inputs, record=False).loss).imag / STEP
            array[index] = array[index].real
            found = float(gradients[name][index])
            worst = _worse(worst, name, index, expected, found)
            checked += 1
    return GradientReport(bool(worst[0] <= tolerance), *worst, checked)


def check_pair(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[..., Any],
    arguments: Sequence[Any],
    *,
    trials: int = 3,
    tolerance: float = 1e-12,
    seed: int = 0,
) -> GradientReport:
    """Check a pair ``y, cache = forward(*arguments)``, ``gradients = backward(dy, cache)``.

    With J the derivative of y, u a random gradient of y and v a random direction for one
    argument at a time: ``⟨u, Jv⟩ = ⟨Jᵀu, v⟩``. The left side is the complex step, the right
    side is what backward returns. Random u, because a u of ones is blind where gradients sum
    to 0, as those of softmax and LayerNorm do.

    Args:
        forward: returns ``(y, cache)``; must let complex numbers through.
        backward: returns the gradients of the float arguments, in their order.
        arguments: floats are float64 arrays and get a gradient; everything else (integers,
            None, Python numbers) is passed as it is and gets none.

    Returns:
        A :class:`GradientReport`; ``name`` is ``argument k``.

    Raises:
        ArgumentError: backward returns another number of gradients, or one of a wrong shape.
    """
    rng = np.random.default_rng(seed)
    y, cache = forward(*arguments)
    places = [k for k, a in enumerate(arguments) if is_array(a) and a.dtype.kind == "f"]
    if not places or trials < 1:
        raise ArgumentError(
            f"check_pair: expected at least one float array among the arguments and one trial, "
            f"found {len(places)} and {trials}"
        )
    worst, checked = None, 0
    for _ in range(trials):
        u = _random_like(y, rng)
        gradients = backward(u, cache)
        gradients = tuple(gradients) if type(gradients) in (tuple, list) else (gradients,)
        _check_gradients(gradients, [arguments[k] for k in places])
        for k, gradient in zip(places, gradients, strict=True):
            v = _random_like(arguments[k], rng)
            stepped = list(arguments)
            stepped[k] = arguments[k] + 1j * STEP * v
            along_v = to_host(forward(*stepped)[0]).imag / STEP
            expected = float((to_host(u) * along_v).sum())
            found = float((to_host(gradient) * to_host(v)).sum())
            worst = _worse(worst, f"argument {k}", (), expected, found)
            checked += 1
    return GradientReport(bool(worst[0] <= tolerance), *worst, checked)


def _named(tree: dict[str, Any]) -> list[tuple[str, Any]]:
    """``{"a": x, "b": (y, z)}`` as ``[("a", x), ("b.0", y), ("b.1", z)]``, on the host."""
    found: list[tuple[str, Any]] = []
    for name, node in tree.items():
        if isinstance(node, (tuple, list)):
            found += _named({f"{name}.{i}": part for i, part in enumerate(node)})
        else:
            found.append((name, to_host(node)))
    return found


def _complex(value: Any) -> Any:
    if isinstance(value, (tuple, list)) and any(is_array(part) for part in _leaves(value)):
        return tuple(_complex(part) for part in value)
    return np.array(to_host(value) if is_array(value) else value, dtype=np.complex128)


def _leaves(value: Any) -> list[Any]:
    if not isinstance(value, (tuple, list)):
        return [value]
    return [leaf for part in value for leaf in _leaves(part)]


def _worse(worst: tuple | None, name: str, index: tuple, expected: float, found: float) -> tuple:
    error = abs(expected - found) / max(1.0, abs(expected))
    # a NaN must win (so `not <=`, not `>`) and, once there, stay
    if worst is None or not (error <= worst[0] or np.isnan(worst[0])):
        return error, name, index, expected, found
    return worst


def _silent_row(model: Any, inputs: dict[str, Any]) -> int | None:
    pad, ids = model.config.pad_token_id, inputs.get("input_ids")
    return pad if pad is not None and ids is not None and (to_host(ids) == pad).any() else None


def _run(model: Any, inputs: dict[str, Any], record: bool = True) -> Any:
    if model.training:
        model.train(seed=0)  # the same dropout in every pass
    return model(**(inputs | {"record": record, "return_dict": True}))


def _indices(shape: tuple[int, ...], entries: int | None, rng: np.random.Generator) -> list:
    size = int(np.prod(shape))
    chosen = range(size) if entries is None else rng.permutation(size)[:entries]
    return [tuple(int(i) for i in np.unravel_index(flat, shape)) for flat in chosen]


def _random_like(x: Any, rng: np.random.Generator) -> Any:
    values = np.asarray(rng.standard_normal(x.shape))
    return to_backend(values, namespace(x))


def _check_gradients(gradients: tuple, arguments: list) -> None:
    if len(gradients) != len(arguments):
        raise ArgumentError(
            f"backward: expected {len(arguments)} gradients, one for each float argument of "
            f"forward, found {len(gradients)}"
        )
    for k, (gradient, argument) in enumerate(zip(gradients, arguments, strict=True)):
        found = getattr(gradient, "shape", type(gradient).__name__)
        if found != argument.shape:
            raise ArgumentError(
                f"backward: gradient {k}: expected an array of the argument's shape "
                f"{argument.shape}, found {found}"
            )
