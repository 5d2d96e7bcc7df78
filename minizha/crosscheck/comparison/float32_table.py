"""Whether a relative table that is made in float32 explains a float64 array.

Such a table is off by up to 2K·2⁻²⁴, far more than the rounding errors of float64, and no mistake. It
changes four arrays of each layer, and what follows from them. If their table is T + δ, these are off by::

    scores        q[i] · δ[i, j] / √d              probs.grad    dcontext[i] · δ[i, j]
    context       Σ_j weights[i, j] · δ[i, j]      query.grad    Σ_j dscores[i, j] · δ[i, j] / √d

where δ[i, j] is one vector for each distance. The vectors are fitted; what then remains must be
explained by float64. So an error of another form, such as a factor next to 1, is not excused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minizha.crosscheck.diagnosis.facts import AttentionFacts, Facts
from minizha.crosscheck.diagnosis.rules import Array, distances
from minizha.crosscheck.names import GRADIENT, layer_of

KEY_FORM = {"scores": "self.query", "probs" + GRADIENT: "context" + GRADIENT}
"""Arrays of scalar products with δ, and the other factor."""
VALUE_FORM = {"context": "weights", "self.query" + GRADIENT: "scores" + GRADIENT}
"""Arrays of weighted sums of δ, and the weights."""
READ_TOO = {
    "scores": "self.key",
    "self.query" + GRADIENT: "self.key",
    "context": "self.value",
    "probs" + GRADIENT: "self.value",
}
"""What else the step reads. Where theirs lacks it, it is recomputed, perhaps by the table, too."""
LARGEST = 8.0
"""The largest δ, in units of the rounding error of the largest angle."""

Given = Callable[[str], Any]


def has_table_form(
    facts: Facts, name: str, residual: Array, given: Given, allowed: float
) -> bool | None:
    """Whether a table explains how far an array is off; None where that has no such form, or theirs
    lacks what the step reads.

    Args:
        facts: our inputs and configuration.
        name: the array.
        residual: their array minus the right one, 0 where a mask hides entries.
        given: gives an array of theirs by its name, None if they lack it.
        allowed: what may remain.
    """
    before, _, rest = name.partition("attention.")
    prefix = f"{before}attention."
    other = (KEY_FORM | VALUE_FORM).get(rest)
    factor = None if other is None else given(prefix + other)
    if factor is None:
        return None
    a = facts.attention(layer_of(name) or 0, prefix.endswith("crossattention."))
    if a.has_new_keys and given(prefix + READ_TOO[rest]) is None:
        return None
    in_key_form = rest in KEY_FORM
    fit = _by_distance if in_key_form else _by_sums
    delta, remains = fit(a, rest, residual, np.asarray(factor, np.float64))
    return remains <= allowed and delta <= LARGEST * 2 * a.K * 2.0**-24


def _by_distance(
    a: AttentionFacts, name: str, residual: Array, factor: Array
) -> tuple[float, float]:
    """δ for each distance, from products with it; its largest entry, and what remains."""
    x = _split(factor, a.d)  # (B, N, Lq, d)
    scale = np.full(residual.shape, 1 / math.sqrt(a.d) if name == "scores" else 1.0)
    if name != "scores":
        for multiplier in (a.head_mask, a.factor):
            scale = scale if multiplier is None else scale * multiplier
    if name == "scores":
        scale = np.where(residual == 0, 0.0, scale)  # hidden entries
    rows = _rows(a, *residual.shape[2:])
    largest = remains = 0.0
    for row in np.unique(rows):
        i, j = np.nonzero(rows == row)
        products = (x[:, :, i] * scale[:, :, i, j, None]).reshape(-1, a.d)
        delta, error = _fitted(products, residual[:, :, i, j].reshape(-1, 1))
        largest, remains = max(largest, delta), max(remains, error)
    return largest, remains


def _by_sums(a: AttentionFacts, name: str, residual: Array, factor: Array) -> tuple[float, float]:
    """δ for all distances, from sums over them."""
    rows = _rows(a, *factor.shape[2:])
    reads = (rows[..., None] == np.unique(rows)).astype(np.float64)  # (Lq, Lk, distances)
    sums = np.einsum("bnij,ijr->bnir", factor, reads).reshape(-1, reads.shape[-1])
    scale = math.sqrt(a.d) if name != "context" else 1.0
    delta, error = _fitted(sums / scale, _split(residual, a.d).reshape(-1, a.d))
    return delta, error


def _fitted(products: Array, residual: Array) -> tuple[float, float]:
    delta = np.linalg.lstsq(products, residual, rcond=1e-12)[0]
    return float(np.abs(delta).max()), float(np.abs(residual - products @ delta).max())


def _rows(a: AttentionFacts, Lq: int, Lk: int) -> Array:
    return np.clip(distances(Lq, Lk, a.offset), -a.K, a.K) + a.K


def _split(x: Array, d: int) -> Array:
    """(B, L, N·d) → (B, N, L, d)."""
    B, L, width = x.shape
    return x.reshape(B, L, width // d, d).swapaxes(1, 2)
