"""Which entries of attention scores are compared: those that the mask does not hide.

Hidden scores have no effect, so a port may store anything there, and in their gradients if the query
sees another key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minizha.crosscheck.names import MASKED


def visible_entries(trace: Any, name: str, shape: tuple[int, ...]) -> np.ndarray | None:
    """Booleans that broadcast to ``shape``, or None if every entry of the array counts.

    ``trace`` is read for its ``inputs`` (the masks) and ``config`` (a decoder sees no later token),
    where it has them; without them every entry counts.

    Shapes: scores (B, N, L, J) → (B or 1, 1, L or 1, J).

    Convention: as in :mod:`minizha.model.inputs`. Where the mask is not 1, a term is added that is
    larger than any score: such an entry does not count, nor does any entry of a row without a 1. The
    gradients of such a row do count: the mask is added, so they are those of its equal probabilities.
    """
    if not name.endswith(MASKED) or len(shape) != 4:
        return None
    inputs = getattr(trace, "inputs", None)
    inputs = inputs if isinstance(inputs, Mapping) else {}
    cross = "crossattention." in name
    argument = "encoder_attention_mask" if cross else "attention_mask"
    B, _, L, J = shape
    mask = None if inputs.get(argument) is None else np.asarray(inputs[argument])
    decoder = not cross and getattr(getattr(trace, "config", None), "is_decoder", False)
    causal = np.tri(L, J, J - L)[None, None] if decoder else None
    if mask is None or mask.dtype.kind not in "biuf":
        return None if causal is None else causal == 1
    # by size, not by axes: the mask of multiple choice is (B, C, L), its scores have B·C rows
    if mask.size == B * J:
        mask = mask.reshape(B, 1, 1, J)
        mask = mask if causal is None else mask * causal
    elif mask.size == B * L * J:
        mask = mask.reshape(B, 1, L, J)
    else:
        return None
    sees = mask.max(axis=-1, keepdims=True) == 1
    return (mask == 1) | ~sees if name.endswith(".grad") else (mask == 1) & sees


def beside_kinks(
    trace: Mapping[str, Any], name: str, allowed: Mapping[str, float]
) -> np.ndarray | None:
    """For the gradient of the input of a ReLU: the entries whose slope is certain.

    Where an entry of the input ``name`` is so close to 0 that rounding may change its sign, the gradient
    may be 0 or not, and both are right. ``allowed`` holds the allowed difference of each array.

    Shapes: booleans of the array's shape; None if the array is not the input of an activation.
    """
    if not name.endswith(("intermediate.dense", "predictions.transform.dense")):
        return None
    return np.abs(np.asarray(trace[name])) > allowed[name]
