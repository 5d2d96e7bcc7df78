"""What one changes about a model that exists: its vocabulary, and which heads it has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from minizha.backend import Array, to_backend
from minizha.checks import integer
from minizha.config import NezhaConfig
from minizha.errors import ArgumentError, MinizhaError
from minizha.model.arguments import ArgumentChecker
from minizha.nezha.parameters import unflatten

WORDS = "embeddings.word_embeddings.weight"
DECODER, DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.bias"


class Adaptable:
    """The methods that change the vocabulary and the heads of a
    :class:`~minizha.model.base.ParameterisedModel`; its gradients are forgotten."""

    config: NezhaConfig
    xp: Any
    dtype: str
    parameters: Any
    state_dict: Callable[[], dict[str, Array]]
    zero_grad: Callable[[], None]

    # Embeddings

    def get_input_embeddings(self) -> Array:
        """The word embeddings, (V, D): the model's own array."""
        return self.state_dict()[self._words]

    def set_input_embeddings(self, value: Any) -> None:
        """Replace the word embeddings, (V, D), and with them a tied decoder.

        Raises:
            ArgumentError: another shape (:meth:`resize_token_embeddings` changes V).
        """
        self._set(self._words, "input embeddings", value)

    def get_output_embeddings(self) -> Array | None:
        """The decoder's matrix, (V, D), the word embeddings where it is tied; None without one."""
        arrays = self.state_dict()
        if DECODER_BIAS not in arrays:
            return None
        return arrays.get(DECODER, arrays[self._words])

    def set_output_embeddings(self, value: Any) -> None:
        """Replace the decoder's matrix, (V, D), and with it tied word embeddings.

        Raises:
            ArgumentError: another shape, or there is no decoder.
        """
        arrays = self.state_dict()
        if DECODER_BIAS not in arrays:
            raise ArgumentError(f"output embeddings: {type(self).__name__} has no decoder")
        self._set(DECODER if DECODER in arrays else self._words, "output embeddings", value)

    def resize_token_embeddings(self, new_num_tokens: int | None = None, *, seed: int = 0) -> Array:
        """Give the vocabulary ``new_num_tokens`` entries; return the new word embeddings.

        Rows are cut off or added at the end, in the word embeddings and in the decoder, tied or
        not; its bias goes along. New rows are N(0, initializer_range²), new biases 0. None
        changes nothing. ``config.vocab_size`` follows.

        Raises:
            ArgumentError: no integer of at least 1, or the padding token would be cut off.
        """
        if new_num_tokens is not None:
            config = self._config("new_num_tokens", vocab_size=new_num_tokens)
            rng = np.random.default_rng(integer("seed", seed, 0))
            names = {self._words, DECODER, DECODER_BIAS}
            try:
                arrays = {
                    name: self._resized(array, config, rng) if name in names else array
                    for name, array in self.state_dict().items()
                }
            except MemoryError as error:
                raise MinizhaError(
                    f"new_num_tokens: {new_num_tokens} are too many for this memory: {error}"
                ) from error
            self._become(config, arrays)
        return self.get_input_embeddings()

    def _resized(self, array: Array, config: NezhaConfig, rng: np.random.Generator) -> Array:
        rows, old = config.vocab_size, array.shape[0]
        if rows <= old:
            return array[:rows].copy()
        new: Array = np.zeros((rows - old, *array.shape[1:]))
        if new.ndim == 2:
            new = rng.standard_normal(new.shape) * config.initializer_range
        return self.xp.concatenate((array, to_backend(new.astype(self.dtype), self.xp)))

    def _set(self, name: str, what: str, value: Any) -> None:
        arrays = self.state_dict()
        array = ArgumentChecker(self.config, self.xp, self.dtype).floats(
            what, value, arrays[name].shape
        )
        if array.dtype != self.dtype:  # complex ones, in a model of real numbers
            raise ArgumentError(f"{what}: expected real numbers, found {array.dtype}")
        arrays[name] = array
        self._become(self.config, arrays)

    # Heads

    def prune_heads(self, heads_to_prune: Mapping[int, Iterable[int]]) -> None:
        """Remove heads of self-attention: ``{layer: [heads]}``.

        Heads keep their numbers: those of ``heads_to_prune``, of ``config.pruned_heads`` and of a
        head mask are the numbers before any pruning. Heads that are gone already are passed
        over. A layer may be counted from the end, −1 being the last.

        Raises:
            ArgumentError: a layer or head that does not exist, or a layer's last head.
        """
        if not isinstance(heads_to_prune, Mapping):
            raise ArgumentError(
                f"heads_to_prune: expected {{layer: [heads]}}, found {type(heads_to_prune).__name__}"
            )
        named = "heads_to_prune"
        more = self._config(named, pruned_heads=dict(heads_to_prune)).pruned_heads
        both = {
            layer: sorted({*self.config.pruned_heads.get(layer, ()), *more.get(layer, ())})
            for layer in {*self.config.pruned_heads, *more}
        }
        config = self._config(named, pruned_heads=both)
        arrays = self.state_dict()
        for layer in more:
            self._prune_layer(arrays, layer, config)
        self._become(config, arrays)

    def _prune_layer(self, arrays: dict[str, Array], layer: int, config: NezhaConfig) -> None:
        d, there = config.head_size, self.config.kept_heads(layer)
        kept = [there.index(head) for head in config.kept_heads(layer)]
        kept = to_backend(np.array(kept), self.xp)
        name = f"{self._body}encoder.layer.{layer}.attention."
        # head n owns d rows of the projections, and d columns of the matrix after them
        for projection in ("query", "key", "value"):
            for leaf in ("weight", "bias"):
                array = arrays[f"{name}self.{projection}.{leaf}"]
                by_head = array.reshape(len(there), d, *array.shape[1:])[kept]
                arrays[f"{name}self.{projection}.{leaf}"] = by_head.reshape(-1, *array.shape[1:])
        array = arrays[name + "output.dense.weight"]
        by_head = array.reshape(array.shape[0], len(there), d)[:, kept]
        arrays[name + "output.dense.weight"] = by_head.reshape(array.shape[0], -1)

    # Both

    @property
    def _body(self) -> str:
        """What stands before the names of the body's parameters."""
        return "" if WORDS in self.state_dict() else "nezha."

    @property
    def _words(self) -> str:
        return self._body + WORDS

    def _config(self, argument: str, **changes: Any) -> NezhaConfig:
        """The configuration changed; an error names the argument that it came from."""
        try:
            return self.config.replace(**changes)
        except ArgumentError as error:
            raise ArgumentError(
                f"{argument}: {str(error).removeprefix('NezhaConfig: ')}"
            ) from error

    def _become(self, config: NezhaConfig, arrays: dict[str, Array]) -> None:
        if config == self.config:
            config = self.config  # earlier outputs keep their backward pass
        self.config, self.parameters = config, unflatten(arrays)
        self.zero_grad()
