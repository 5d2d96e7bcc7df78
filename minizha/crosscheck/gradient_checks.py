"""The gradient of a model's loss, entry by entry, against the complex step.

For a function that is real on real numbers and smooth, ``f(x + ih·v) = f(x) + ih·f′(x)v − …``:
the imaginary part, divided by h, is the directional derivative. Nothing is subtracted, so h can
be 1e-30 and the derivative is right to the last digit. (A difference quotient loses half of
them: f(x + h) and f(x) agree in their leading digits, and those cancel.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import is_array, to_host
from minizha.checks import integer, number
from minizha.crosscheck.names import FLOAT_INPUTS
from minizha.crosscheck.nesting import flat, nested
from minizha.errors import ArgumentError
from minizha.model.base import ParameterisedModel

STEP = 1e-30


class GradientReport(NamedTuple):
    """The worst entry of a check.

    ``error`` is ``|expected − found| / max(1, |expected|)``, where ``expected`` is the complex
    step's derivative and ``found`` the backward pass's; ``name`` and ``index`` say which entry.
    ``hint`` says what else was noticed, or is empty.
    """

    ok: bool
    error: float
    name: str
    index: tuple[int, ...]  # type: ignore[assignment]  # hides the method of tuples
    expected: float
    found: float
    checked: int
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.name}[{', '.join(map(str, self.index))}]" if self.index else self.name
        verdict = "agree" if self.ok else "DIFFER"
        return (
            f"{self.checked} derivatives: backward and complex step {verdict}; the worst is {place}: "
            f"expected {self.expected:.17g}, found {self.found:.17g} (error {self.error:.1e})"
            + (f"; {self.hint}" if self.hint else "")
        )


Worst = tuple[float, str, tuple[int, ...], float, float]
"""What a :class:`GradientReport` holds from ``error`` to ``found``."""
NOTHING: Worst = (-1.0, "", (), 0.0, 0.0)
"""Before the first entry: any error is larger."""


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
        model: a model with a loss. It is not changed: the check runs on copies of its
            parameters in float64 and complex128. In train mode, each pass draws the same dropout.
        inputs: the keyword arguments of its call, with labels.
        entries: how many entries of each parameter to check, drawn with ``seed``; None: all.
        tolerance: the largest allowed ``|expected − found| / max(1, |expected|)``.
        seed: of the draw of ``entries``, at least 0.

    Returns:
        A :class:`GradientReport` of the worst entry. Float inputs (``inputs_embeds``,
        ``encoder_hidden_states``, ``past_key_values``) are checked, too. The word embedding of the
        pad token is left out if input_ids contains it: by convention its lookup has no gradient,
        although the loss depends on it.

    Raises:
        ArgumentError: ``inputs`` is not a mapping, or gives no loss; or an option is out of range.
    """
    entries = integer("gradcheck: entries", entries, 1, optional=True)
    seed = integer("gradcheck: seed", seed, 0)
    tolerance = number("gradcheck: tolerance", tolerance, "[0, inf)")
    if not isinstance(model, ParameterisedModel):
        found = type(model).__name__
        raise ArgumentError(f"gradcheck: model: expected one of the Nezha classes, found {found}")
    if not isinstance(inputs, Mapping):
        found = type(inputs).__name__
        raise ArgumentError(f"gradcheck: inputs: expected keyword arguments, found {found}")
    real, stepped = model.astype("float64"), model.astype("complex128")
    out = _run(real, inputs)
    if "loss" not in out:
        raise ArgumentError("gradcheck: inputs: expected labels, so that there is a loss")
    returned = out.backward()
    input_gradients = {name: returned[name] for name in FLOAT_INPUTS if name in returned}
    gradients = {name: to_host(d) for name, d in (real.gradients() | flat(input_gradients)).items()}
    # complex copies, in which the steps are made, under the names of the gradients
    floats = {
        name: _complex(x) for name, x in flat({n: inputs[n] for n in input_gradients}).items()
    }
    arrays = stepped.state_dict() | floats
    worst, checked = _check_entries(
        stepped, inputs | nested(floats), arrays, gradients, entries, seed
    )
    return GradientReport(bool(worst[0] <= tolerance), *worst, checked)


def _check_entries(
    stepped: Any,
    inputs: dict[str, Any],
    arrays: dict[str, Any],
    gradients: dict[str, np.ndarray],
    entries: int | None,
    seed: int,
) -> tuple[Worst, int]:
    """The worst entry of ``arrays``, and the number of entries that were checked."""
    worst, checked, rng = NOTHING, 0, np.random.default_rng(seed)
    for name, array in arrays.items():
        for index in _indices(array.shape, entries, rng):
            if name.endswith("word_embeddings.weight") and index[0] == _pad_row(stepped, inputs):
                continue
            array[index] += 1j * STEP  # the copy's own array, so its next pass sees the step
            expected = complex(_run(stepped, inputs, record=False).loss).imag / STEP
            array[index] = array[index].real
            worst = worse(worst, name, index, expected, float(gradients[name][index]))
            checked += 1
    return worst, checked


def _complex(value: Any) -> np.ndarray:
    return np.array(to_host(value) if is_array(value) else value, dtype=np.complex128)


def worse(worst: Worst, name: str, index: tuple[int, ...], expected: float, found: float) -> Worst:
    """The worse of two entries."""
    error = abs(expected - found) / max(1.0, abs(expected))
    # NaN is worse than any number (hence `not <=`, not `>`) and remains the worst
    if not (error <= worst[0] or np.isnan(worst[0])):
        return error, name, index, expected, found
    return worst


def _pad_row(model: Any, inputs: dict[str, Any]) -> int | None:
    pad, ids = model.config.padding_row, inputs.get("input_ids")
    return pad if pad is not None and ids is not None and (to_host(ids) == pad).any() else None


def _run(model: Any, inputs: dict[str, Any], record: bool = True) -> Any:
    if model.training:
        model.train(seed=0)  # the same dropout in every pass
    return model(**(inputs | {"record": record, "return_dict": True}))


def _indices(shape: tuple[int, ...], entries: int | None, rng: np.random.Generator) -> list:
    size = int(np.prod(shape))
    chosen = range(size) if entries is None else rng.permutation(size)[:entries]
    return [tuple(int(i) for i in np.unravel_index(flat, shape)) for flat in chosen]
