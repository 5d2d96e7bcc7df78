"""How far two right computations may be apart: what rounding makes of an array at its place.

Each step of a model adds roundings of its own to those of what it reads. So the expected noise of
an array, relative to its scale, is::

    expected = amplification · (LOCAL · eps + GAIN · level)

``level`` is what was found, just before, in what the array is made from: the largest error of the
arrays of its layer and of the one before (backward: after) that were found to be right. Measuring it
beats guessing: weights of std 0.3 at width 768 make scores of several hundred, whose softmax turns
a relative error e into several hundred e, and twelve such layers turn float32 into nothing but noise.
Where arrays on the way are missing, a level is guessed from the size of the scores and the depth.
After an array that is wrong the levels stay what they were: nothing is excused by a mistake.

``amplification`` is the ratio of what is added up, or goes into exp or tanh, to what comes out:
a bias's gradient may be a sum of a thousand rows that cancel; that of a key bias does so always.

Measured on random models, float32 against float64 (all eight classes, decoders, cross-attention,
padding, all activation functions; std 0.02, 0.1 and 0.3; 1 to 12 layers of widths 16 to 768, up to
64 tokens). The worst array of the 700 by which the constants were chosen was 2.3 times as far off as
is expected here, of 600 others 1.6 times; ``MARGIN`` times is allowed. In float64, layer 0 of such
models is allowed about 1e-13. tests/crosscheck/comparison/test_noise.py repeats some of it.
Where no more than the gradients of parameters are given, the room is smaller, and a ReLU's kinks need it.
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
"""Roundings of one step, in units of eps."""
GAIN = 3.0
"""How many times larger the error of what a step reads may be in what it makes."""
MARGIN = 12.0
"""How many times the expected noise passes for noise."""
HALF_MARGIN = 3.0
"""The same in half precision, where twelve times would let whole mistakes pass; living ports in it
needed less than one time."""
MOST = 0.1
"""An error beyond which nothing passes for noise, whatever is expected."""

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

Place = tuple[int, str]
"""Number of the layer (−1 embeddings, one above the last: heads), and which of three ways:
forward, back, and the side way back through the scores to queries and keys. There the softmax may
have left nothing but noise, which excuses nothing on the main way."""


class Noise:
    """What is expected of one array after another, in execution order.

    Args:
        names: all names of ours, in execution order.
        size: ``max |array|`` of one of ours, by name.
        shape: its shape.
        missing: the names that theirs does not have.
        furthest: K, the largest relative position.
        kinked: whether the activation function has a kink (ReLU): the gradient of an entry that
            rounding moves across it is another one altogether.
    """

    def __init__(
        self,
        names: Collection[str],
        size: Callable[[str], float],
        shape: Callable[[str], tuple[int, ...]],
        missing: Collection[str] = (),
        furthest: int = 64,
        kinked: bool = False,
    ) -> None:
        self._names, self._size, self._shape = frozenset(names), size, shape
        self._furthest, self._kinked = furthest, kinked
        self._heads = max((layer_of(n) for n in names if layer_of(n) is not None), default=-1) + 1
        self._gaps = {self._place(name) for name in missing}
        self._found: dict[Place, float] = {}
        self._strayed: dict[int, float] = {}

    def scale(self, name: str) -> float:
        """What the error of an array is divided by: its largest entry, or what is larger of a key
        bias's gradient, 0 in theory: that of the weight's; and of a gradient's terms, which may
        cancel: a thousandth of the largest. An array of zeros has the scale 1."""
        own = self._size_of(name)
        if is_gradient(name):
            own = max(own, self._terms(name) / 1000)
        if name.endswith("key.bias" + GRADIENT):
            own = max(own, self._size_of(name.replace("bias", "weight")))
        return own or 1.0

    def expected(self, name: str, precision: str) -> float:
        """The error, in units of :meth:`scale`, that rounding to ``precision`` explains."""
        eps, scale = eps_of(precision), self.scale(name)
        amplification = max(1.0, self._terms(name) / scale)
        noise = amplification * (LOCAL * eps + GAIN * self._level(name, eps))
        return noise + self._table_noise(name, scale) * (eps >= eps_of("float32"))

    def allowed(self, name: str, precision: str) -> float:
        """The error that passes for noise."""
        half = eps_of(precision) > eps_of("float32")
        return (HALF_MARGIN if half else MARGIN) * self.expected(name, precision)

    def learn(self, name: str, max_abs: float) -> None:
        """An array was right but for ``max_abs``."""
        place, size = self._place(name), self._size_of(name) or self.scale(name)
        if name.endswith(_PARAMETERS):  # nothing is made from it, least of all from what cancelled
            size = max(self.scale(name), self._terms(name))
        self._found[place] = max(self._found.get(place, 0.0), max_abs / size)
        if name.endswith(("self.query" + GRADIENT, "self.key" + GRADIENT)):
            self._strayed[place[0]] = max(self._strayed.get(place[0], 0.0), max_abs)

    # --- what the array is made from ------------------------------------------------------------

    def _place(self, name: str) -> Place:
        layer = layer_of(name)
        if layer is None:
            layer = -1 if part_of(name) in ("inputs", "embeddings") else self._heads
        if not is_gradient(name):
            return layer, _FORWARD
        return layer, _SCORES if any(part in name for part in _THROUGH_SCORES) else _BACKWARD

    def _level(self, name: str, eps: float) -> float:
        layer, way = self._place(name)
        if name.startswith(FLOAT_INPUTS):  # every layer looks at them
            return max(self._level_at((k, _BACKWARD), eps) for k in range(-1, self._heads + 1))
        places = [(layer - 1, _FORWARD), (layer, _FORWARD)]
        if way != _FORWARD:
            places += [(layer + 1, _BACKWARD), (layer, _BACKWARD)]
        if way == _SCORES:
            places.append((layer, _SCORES))
        if name == WORDS + GRADIENT:  # where it is tied, the head's rows join
            places.append((self._heads, _BACKWARD))
        level = max(self._level_at(place, eps) for place in places)
        return max(level, self._stray(name, layer)) if way == _BACKWARD else level

    def _stray(self, name: str, layer: int) -> float:
        """What comes back to the main way from queries and keys: no more than its size."""
        found = (
            min(self._strayed.get(k, 0.0) / self.scale(name), self._found.get((k, _SCORES), 0.0))
            for k in (layer, layer + 1)
        )
        return max(found)

    def _level_at(self, place: Place, eps: float) -> float:
        found = self._found.get(place, 0.0)
        return max(found, LOCAL * eps * self._grown(place)) if place in self._gaps else found

    def _grown(self, place: Place) -> float:
        """Where arrays are missing: the guess, in units of one step's roundings."""
        layer, way = place
        read = range(self._heads if way != _FORWARD else min(layer + 1, self._heads))
        steps = len(read) + (self._heads - max(layer, 0) if way != _FORWARD else 0)
        sizes = (self._size_of(f"encoder.layer.{k}.attention.scores") for k in read)
        steepest = max(sizes, default=0.0)
        grown = (1 + steepest) * (1 + steepest * steps / 8)
        return max(grown, _KINK) if self._kinked and way != _FORWARD else grown

    # --- what becomes larger, relative to the result --------------------------------------------

    def _size_of(self, name: str) -> float:
        return self._size(name) if name in self._names else 0.0

    def _terms(self, name: str) -> float:
        """The size of what is added up or goes into a nonlinear function; 0 where it is no matter."""
        if not is_gradient(name):
            for after, before in _BEFORE_ACTIVATION.items():
                if name.endswith(after):
                    return self._size_of(name.removesuffix(after) + before)
            return max((self._size_of(n) for n in _LOGITS.get(name, ())), default=0.0)
        of = name.removesuffix(GRADIENT)
        if name.endswith(_WITHIN_ATTENTION):
            return self._attention_terms(*of.rsplit("attention.", 1))
        if name.endswith(_PARAMETERS):  # a sum over all rows
            rows = self._size_of(made_with(of) + GRADIENT)
            # dkey sums to 0 over the keys: where all tokens are alike, dkeyᵀ · x does, too
            return rows * (self._read(name) if of.endswith("self.key.weight") else 1.0)
        if of in _LOGITS["loss"]:  # (softmax − label) / rows
            rows = math.prod(self._shape(name)[:-1]) or 1
            return max(1.0, self._size_of(of)) / rows
        return 0.0

    def _attention_terms(self, before: str, name: str) -> float:
        """``dscores = probs · (dprobs − their mean)``, so that dscores sums to 0 over the keys;
        ``dvalue = probsᵀ · dcontext``, ``dquery = dscores · (key + R) / √d``, and dkey likewise."""
        first, second = (self._size_of(f"{before}attention.{n}") for n in _FACTORS[name])
        return first * (second if name in ("scores", "self.value") else (1 + second) / 4)

    def _read(self, name: str) -> float:
        """The size of what a layer reads."""
        layer = layer_of(name) or 0
        return self._size_of(f"encoder.layer.{layer - 1}" if layer else "embeddings") or 1.0

    def _table_noise(self, name: str, scale: float) -> float:
        """A table of sines and cosines that is made in float32 has the roundings of its angles,
        which go up to 2K: the largest error is 38 eps for K = 64."""
        table = self._furthest / 4 * eps_of("float32")
        if name.endswith("attention.context"):
            return table / scale
        if name.endswith("attention.scores"):
            return table * self._size_of(name.replace("scores", "self.query")) / scale
        return 0.0
