"""How much two right computations may differ: the rounding error that is expected in each array.

Each step of a model adds its own rounding errors to those of its inputs. The expected error of an
array, relative to its scale, is::

    expected = amplification · (LOCAL · eps + GAIN · level)

``level`` is the error of the inputs: the largest error among the right arrays of the same layer and
of the one before (in the backward pass: after). It is measured, since a guess would be far too large
or too small: weights of std 0.3 at width 768 make scores of several hundred, whose softmax turns a
relative error e into several hundred e, and twelve such layers turn float32 into nothing but noise.
Where input arrays are missing, the level is guessed from the size of the scores and the depth. A
wrong array does not raise the levels, so a mistake does not excuse the arrays after it.

``amplification`` is the ratio of the terms of a sum, or of the argument of exp or tanh, to the
result: a bias's gradient may be a sum of a thousand rows that cancel, and that of a key bias is.

Measured on random models, float32 against float64 (all eight classes, decoders, cross-attention,
padding, all activation functions; std 0.02, 0.1 and 0.3; 1 to 12 layers of widths 16 to 768, up to
64 tokens): the constants were chosen by 700 of them, in which the largest error was 2.3 times the
expected one; in 600 others it was 1.6 times. ``MARGIN`` times is allowed. In float64, layer 0 of such
models is allowed about 1e-13. tests/crosscheck/comparison/test_noise.py repeats some of this. The
margin is smaller where theirs has only the gradients of parameters, and a ReLU's kink needs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from minizha.crosscheck.comparison.measure import eps_of
from minizha.crosscheck.names import (
    FLOAT_INPUTS,
    GRADIENT,
    WORDS,
    is_gradient,
    layer_of,
    made_with,
    part_of,
)

LOCAL = 8.0
"""The rounding error of one step, in units of eps."""
GAIN = 3.0
"""The factor by which a step may increase the error of its inputs."""
MARGIN = 12.0
"""The allowed error, in units of the expected one."""
HALF_MARGIN = 3.0
"""The same in half precision, where a factor of 12 would hide mistakes; real ports needed less than
1."""
NOISE_LIMIT = 0.1
"""An array with a larger error is never equal; if rounding may explain it, it is undecided."""

_PARAMETERS = (".weight" + GRADIENT, ".bias" + GRADIENT)
_FORWARD, _BACKWARD, _SCORES = "forward", "backward", "scores"
_THROUGH_SCORES = ("attention.scores.", "self.query.", "self.key.")
_FACTORS = {
    "scores": ("probs", "probs" + GRADIENT),
    "self.value": ("probs", "context" + GRADIENT),
    "self.query": ("scores" + GRADIENT, "self.key"),
    "self.key": ("scores" + GRADIENT, "self.query"),
}
_WITHIN_ATTENTION = tuple(f"attention.{name}{GRADIENT}" for name in _FACTORS)
_LOGITS = {
    "masked_lm_loss": ("cls.predictions",),
    "next_sentence_loss": ("cls.seq_relationship",),
    "loss": ("cls.predictions", "cls.seq_relationship", "classifier", "qa_outputs"),
}
_BEFORE_ACTIVATION = {
    "attention.probs": "attention.scores",
    "cls.predictions.transform.activation": "cls.predictions.transform.dense",
    "intermediate": "intermediate.dense",
    "pooler": "pooler.dense",
}
_KINK = 250.0

Stage = tuple[int, str]
"""The number of the layer (−1: embeddings, one more than the last: heads) and one of three
directions: forward, backward, or backward through the scores to queries and keys. The third is
separate, since softmax may leave only noise in it, which must not excuse the rest of the pass."""


class Noise:
    """The expected rounding error of one array after another, in execution order.

    Args:
        names: all names of ours, in execution order.
        size: gives ``max |array|`` of an array of ours.
        shape: gives its shape.
        missing: the names that theirs lacks.
        max_relative_position: K.
        has_kink: whether the activation function has a kink (ReLU); rounding may move an entry across
            it, which changes its gradient altogether.
    """

    def __init__(
        self,
        names: Collection[str],
        size: Callable[[str], float],
        shape: Callable[[str], tuple[int, ...]],
        missing: Collection[str] = (),
        max_relative_position: int = 64,
        has_kink: bool = False,
    ) -> None:
        self._names, self._size, self._shape = frozenset(names), size, shape
        self._K, self._has_kink = max_relative_position, has_kink
        self._head_layer = (
            max((layer_of(n) for n in names if layer_of(n) is not None), default=-1) + 1
        )
        self._incomplete = {self._stage(name) for name in missing}
        self._levels: dict[Stage, float] = {}
        self._query_key_errors: dict[int, float] = {}

    def scale(self, name: str) -> float:
        """The scale of an array, by which its error is divided: its largest entry.

        The scale of a gradient is at least a thousandth of its largest term, since its terms may
        cancel. That of a key bias's gradient, which is 0 in theory, is at least that of the key
        weight's. An array of zeros has the scale 1.
        """
        scale = self._size_of(name)
        if is_gradient(name):
            scale = max(scale, self._terms(name) / 1000)
        if name.endswith("key.bias" + GRADIENT):
            scale = max(scale, self._size_of(name.replace("bias", "weight")))
        return scale or 1.0

    def expected(self, name: str, precision: str) -> float:
        """The error, relative to :meth:`scale`, that rounding to ``precision`` explains."""
        eps, scale = eps_of(precision), self.scale(name)
        amplification = max(1.0, self._terms(name) / scale)
        noise = amplification * (LOCAL * eps + GAIN * self._level(name, eps))
        return noise + self._table_noise(name, scale) * (eps >= eps_of("float32"))

    def allowed(self, name: str, precision: str) -> float:
        """The error, relative to :meth:`scale`, that is allowed."""
        half = eps_of(precision) > eps_of("float32")
        return (HALF_MARGIN if half else MARGIN) * self.expected(name, precision)

    def learn(self, name: str, max_abs: float) -> None:
        """Take the largest difference of a right array into account for the arrays after it."""
        stage, size = self._stage(name), self._size_of(name) or self.scale(name)
        if name.endswith(
            _PARAMETERS
        ):  # its error after cancellation says little about other arrays
            size = max(self.scale(name), self._terms(name))
        self._levels[stage] = max(self._levels.get(stage, 0.0), max_abs / size)
        if name.endswith(("self.query" + GRADIENT, "self.key" + GRADIENT)):
            self._query_key_errors[stage[0]] = max(
                self._query_key_errors.get(stage[0], 0.0), max_abs
            )

    # --- the error of the inputs ----------------------------------------------------------------

    def _stage(self, name: str) -> Stage:
        layer = layer_of(name)
        if layer is None:
            layer = -1 if part_of(name) in ("inputs", "embeddings") else self._head_layer
        if not is_gradient(name):
            return layer, _FORWARD
        return layer, _SCORES if any(part in name for part in _THROUGH_SCORES) else _BACKWARD

    def _level(self, name: str, eps: float) -> float:
        layer, direction = self._stage(name)
        if name.startswith(FLOAT_INPUTS):  # every layer may read them
            return max(self._level_at((k, _BACKWARD), eps) for k in range(-1, self._head_layer + 1))
        stages = [(layer - 1, _FORWARD), (layer, _FORWARD)]
        if direction != _FORWARD:
            stages += [(layer + 1, _BACKWARD), (layer, _BACKWARD)]
        if direction == _SCORES:
            stages.append((layer, _SCORES))
        if name == WORDS + GRADIENT:  # a tied matrix also gets the gradient of the decoder
            stages.append((self._head_layer, _BACKWARD))
        level = max(self._level_at(stage, eps) for stage in stages)
        return max(level, self._error_from_scores(name, layer)) if direction == _BACKWARD else level

    def _error_from_scores(self, name: str, layer: int) -> float:
        """The error that the gradients of queries and keys add to that of their layer's input."""
        scale = self.scale(name)
        return max(
            min(self._query_key_errors.get(k, 0.0) / scale, self._levels.get((k, _SCORES), 0.0))
            for k in (layer, layer + 1)
        )

    def _level_at(self, stage: Stage, eps: float) -> float:
        level = self._levels.get(stage, 0.0)
        return max(level, LOCAL * eps * self._guess(stage)) if stage in self._incomplete else level

    def _guess(self, stage: Stage) -> float:
        """The level that is guessed where arrays are missing, in units of one step's rounding error."""
        layer, direction = stage
        read = range(
            self._head_layer if direction != _FORWARD else min(layer + 1, self._head_layer)
        )
        depth = len(read) + (self._head_layer - max(layer, 0) if direction != _FORWARD else 0)
        sizes = (self._size_of(f"encoder.layer.{k}.attention.scores") for k in read)
        steepest = max(sizes, default=0.0)
        guess = (1 + steepest) * (1 + steepest * depth / 8)
        return max(guess, _KINK) if self._has_kink and direction != _FORWARD else guess

    # --- amplification: terms that are larger than the result -----------------------------------

    def _size_of(self, name: str) -> float:
        return self._size(name) if name in self._names else 0.0

    def _terms(self, name: str) -> float:
        """The size of the terms of a sum or of the argument of a function; 0 if it does not matter."""
        if not is_gradient(name):
            for after, before in _BEFORE_ACTIVATION.items():
                if name.endswith(after):
                    return self._size_of(name.removesuffix(after) + before)
            return max((self._size_of(n) for n in _LOGITS.get(name, ())), default=0.0)
        differentiated = name.removesuffix(GRADIENT)
        if name.endswith(_WITHIN_ATTENTION):
            return self._attention_terms(*differentiated.rsplit("attention.", 1))
        if name.endswith(_PARAMETERS):  # a sum over all rows
            rows = self._size_of(made_with(differentiated) + GRADIENT)
            # dkey sums to 0 over the keys; if all tokens are alike, so does dkeyᵀ · x
            is_key = differentiated.endswith("self.key.weight")
            return rows * (self._layer_input(name) if is_key else 1.0)
        if differentiated in _LOGITS["loss"]:  # (softmax − label) / rows
            rows = math.prod(self._shape(name)[:-1]) or 1
            return max(1.0, self._size_of(differentiated)) / rows
        return 0.0

    def _attention_terms(self, before: str, name: str) -> float:
        """``dscores = probs · (dprobs − Σ dprobs · probs)``, which sums to 0 over the keys;
        ``dvalue = probsᵀ · dcontext``, ``dquery = dscores · (key + R) / √d``, and dkey likewise."""
        first, second = (self._size_of(f"{before}attention.{n}") for n in _FACTORS[name])
        return first * (second if name in ("scores", "self.value") else (1 + second) / 4)

    def _layer_input(self, name: str) -> float:
        """The size of a layer's input."""
        layer = layer_of(name) or 0
        return self._size_of(f"encoder.layer.{layer - 1}" if layer else "embeddings") or 1.0

    def _table_noise(self, name: str, scale: float) -> float:
        """The error of a table of sines and cosines that is computed in float32. It comes from the
        angles, which go up to 2K; for K = 64 the largest error is 38 eps."""
        table = self._K / 4 * eps_of("float32")
        if name.endswith("attention.context"):
            return table / scale
        if name.endswith("attention.scores"):
            return table * self._size_of(name.replace("scores", "self.query")) / scale
        return 0.0
