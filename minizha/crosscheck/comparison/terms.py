"""The size of the terms that an array is a sum of, where these are larger than the sum.

A bias's gradient may be a sum of a thousand rows that cancel; that of a key bias is 0 in theory. Then
the rounding errors are those of the terms, and a pass in which they happen to cancel measures too
little.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from minizha.crosscheck.names import GRADIENT, is_gradient, layer_of, made_with

LOGITS = {
    "masked_lm_loss": ("cls.predictions",),
    "next_sentence_loss": ("cls.seq_relationship",),
    "loss": ("cls.predictions", "cls.seq_relationship", "classifier", "qa_outputs"),
}
"""The logits that each loss is computed from."""

_PARAMETERS = (".weight" + GRADIENT, ".bias" + GRADIENT)
_FACTORS = {
    "scores": ("probs", "probs" + GRADIENT),
    "self.value": ("probs", "context" + GRADIENT),
    "self.query": ("scores" + GRADIENT, "self.key"),
    "self.key": ("scores" + GRADIENT, "self.query"),
}
_WITHIN_ATTENTION = tuple(f"attention.{name}{GRADIENT}" for name in _FACTORS)
_BEFORE_ACTIVATION = {
    "attention.probs": "attention.scores",
    "cls.predictions.transform.activation": "cls.predictions.transform.dense",
    "intermediate": "intermediate.dense",
    "pooler": "pooler.dense",
}


class Terms:
    """The size of the terms of each array of a trace.

    ``size(name)`` is ``max |array|``, 0 for an array that the trace lacks; ``shape(name)`` its shape.
    """

    def __init__(
        self, size: Callable[[str], float], shape: Callable[[str], tuple[int, ...]]
    ) -> None:
        self._size, self._shape = size, shape

    def of(self, name: str) -> float:
        """The size of the terms of a sum, or of the argument of a function; 0 if it does not matter."""
        if not is_gradient(name):
            for after, before in _BEFORE_ACTIVATION.items():
                if name.endswith(after):
                    return self._size(name.removesuffix(after) + before)
            return max((self._size(n) for n in LOGITS.get(name, ())), default=0.0)
        differentiated = name.removesuffix(GRADIENT)
        if name.endswith(_WITHIN_ATTENTION):
            return self._within_attention(*differentiated.rsplit("attention.", 1))
        if name.endswith(_PARAMETERS):  # a sum over all rows
            rows = self._size(made_with(differentiated) + GRADIENT)
            # dkey sums to 0 over the keys; if all tokens are alike, so does dkeyᵀ · x
            is_key = differentiated.endswith("self.key.weight")
            return rows * (self._layer_input(name) if is_key else 1.0)
        if differentiated in LOGITS["loss"]:  # (softmax − label) / rows
            rows = math.prod(self._shape(name)[:-1]) or 1
            return max(1.0, self._size(differentiated)) / rows
        return 0.0

    def scale(self, name: str) -> float:
        """The number by which the error of an array is divided: its largest entry.

        The scale of a gradient is at least a thousandth of its largest term, since its terms may
        cancel. That of a key bias's gradient, which is 0 in theory, is at least that of the key
        weight's. An array of zeros has the scale 1.
        """
        scale = self._size(name)
        if is_gradient(name):
            scale = max(scale, self.of(name) / 1000)
        return max(scale, self.beside(name)) or 1.0

    def floor(self, name: str, unit: float, size: float | None = None) -> float:
        """One rounding, with the relative error ``unit``, of the array's largest entry (``size``) and
        of its largest term: no right computation is always more exact than that."""
        rows = 1.0
        if name.endswith(".bias" + GRADIENT):
            made = made_with(name.removesuffix(GRADIENT)) + GRADIENT
            rows = math.sqrt(math.prod(self._shape(made)[:-1]) if self._size(made) else 1)
        own = self._size(name) if size is None else size
        return unit * max(own, rows * self.of(name), self.beside(name))

    def beside(self, name: str) -> float:
        """For the gradient of a key bias, which is 0 in theory, the size of the key weight's; else 0."""
        if not name.endswith("key.bias" + GRADIENT):
            return 0.0
        return self._size(name.replace("bias", "weight"))

    def _within_attention(self, before: str, name: str) -> float:
        """``dscores = probs · (dprobs − Σ dprobs · probs)``, which sums to 0 over the keys;
        ``dvalue = probsᵀ · dcontext``, ``dquery = dscores · (key + R) / √d``, and dkey likewise."""
        first, second = (self._size(f"{before}attention.{n}") for n in _FACTORS[name])
        return first * (second if name in ("scores", "self.value") else (1 + second) / 4)

    def _layer_input(self, name: str) -> float:
        """The size of a layer's input."""
        layer = layer_of(name) or 0
        return self._size(f"encoder.layer.{layer - 1}" if layer else "embeddings") or 1.0
