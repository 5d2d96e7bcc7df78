"""Changes to an existing model: to its vocabulary, and to its attention heads."""

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

WORD_EMBEDDINGS = "embeddings.word_embeddings.weight"
DECODER, DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.bias"


class Adaptable:
    """The methods that change the vocabulary and the heads of a
    :class:`~minizha.model.base.ParameterisedModel`. Each change discards its gradients."""

    config: NezhaConfig
    xp: Any
    dtype: str
    parameters: Any
    state_dict: Callable[[], dict[str, Array]]
    zero_grad: Callable[[], None]
    _copy_array: Callable[[str, Callable[[], Any]], Array]

    # Embeddings

    def get_input_embeddings(self) -> Array:
        """The word embeddings, (V, D): the model's array itself, not a copy."""
        return self.state_dict()[self._word_embeddings]

    def set_input_embeddings(self, value: Any) -> None:
        """Replace the word embeddings, (V, D), and with them a tied decoder.

        Raises:
            ArgumentError: the shape differs (:meth:`resize_token_embeddings` changes V).
        """
        self._replace_array(self._word_embeddings, "input embeddings", value)

    def get_output_embeddings(self) -> Array | None:
        """The decoder's matrix, (V, D), if tied the word embeddings; None without a decoder."""
        arrays = self.state_dict()
        if DECODER_BIAS not in arrays:
            return None
        return arrays.get(DECODER, arrays[self._word_embeddings])

    def set_output_embeddings(self, value: Any) -> None:
        """Replace the decoder's matrix, (V, D), and with it tied word embeddings.

        Raises:
            ArgumentError: the shape differs, or there is no decoder.
        """
        arrays = self.state_dict()
        if DECODER_BIAS not in arrays:
            raise ArgumentError(f"output embeddings: {type(self).__name__} has no decoder")
        name = DECODER if DECODER in arrays else self._word_embeddings
        self._replace_array(name, "output embeddings", value)

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        *,
        seed: int = 0,
    ) -> Array:
        """Give the vocabulary ``new_num_tokens`` entries; return the new word embeddings.

        Rows are removed or added at the end, in the word embeddings, in the decoder, tied or not,
        and in its bias. New rows are N(0, initializer_range²), new biases 0. ``config.vocab_size``
        becomes that number. None is the present number.

        With ``pad_to_multiple_of`` the number is rounded up to its next multiple.

        Raises:
            ArgumentError: not an integer of at least 1, or the padding token would be removed.
        """
        multiple = integer("pad_to_multiple_of", pad_to_multiple_of, 1, optional=True)
        if multiple is not None:
            number = self.config.vocab_size if new_num_tokens is None else new_num_tokens
            new_num_tokens = -(-integer("new_num_tokens", number, 1) // multiple) * multiple
        if new_num_tokens is not None:
            config = self._changed_config("new_num_tokens", vocab_size=new_num_tokens)
            rng = np.random.default_rng(integer("seed", seed, 0))
            names = {self._word_embeddings, DECODER, DECODER_BIAS}
            try:
                arrays = {
                    name: self._resized(array, config, rng) if name in names else array
                    for name, array in self.state_dict().items()
                }
            except MemoryError as error:
                raise MinizhaError(
                    f"new_num_tokens: {new_num_tokens} rows do not fit into memory: {error}"
                ) from error
            self._replace_parameters(config, arrays)
        return self.get_input_embeddings()

    def _resized(self, array: Array, config: NezhaConfig, rng: np.random.Generator) -> Array:
        rows, old = config.vocab_size, array.shape[0]
        if rows <= old:
            return array[:rows].copy()
        new: Array = np.zeros((rows - old, *array.shape[1:]))
        if new.ndim == 2:
            new = rng.standard_normal(new.shape) * config.initializer_range
        return self.xp.concatenate((array, to_backend(new.astype(self.dtype), self.xp)))

    def _replace_array(self, name: str, label: str, value: Any) -> None:
        arrays = self.state_dict()
        checker = ArgumentChecker(self.config, self.xp, self.dtype)
        value = checker.array(label, value)
        array = checker.floats(label, value, arrays[name].shape)
        if not isinstance(value, np.ndarray) and value.dtype.kind != "c":
            array = self._copy_array(label, lambda: value)  # floats checks no range on the device
        if array.dtype != self.dtype:  # complex numbers for a model of real numbers
            raise ArgumentError(f"{label}: expected real numbers, found {array.dtype}")
        arrays[name] = array
        self._replace_parameters(self.config, arrays)

    # Heads

    def prune_heads(self, heads_to_prune: Mapping[int, Iterable[int]]) -> None:
        """Remove heads of self-attention: ``{layer: [heads]}``.

        Heads keep their numbers: ``heads_to_prune``, ``config.pruned_heads`` and head masks use the
        numbers before any pruning. Heads that are already pruned are skipped. Negative layers
        count from the end, −1 being the last.

        Raises:
            ArgumentError: a layer or head does not exist, or a layer would have no head left.
        """
        if not isinstance(heads_to_prune, Mapping):
            raise ArgumentError(
                f"heads_to_prune: expected {{layer: [heads]}}, found {type(heads_to_prune).__name__}"
            )
        name, old = "heads_to_prune", self.config.pruned_heads
        new = self._changed_config(name, pruned_heads=dict(heads_to_prune)).pruned_heads
        union = {
            layer: sorted({*old.get(layer, ()), *new.get(layer, ())}) for layer in {*old, *new}
        }
        config = self._changed_config(name, pruned_heads=union)
        arrays = self.state_dict()
        for layer in new:
            self._prune_layer(arrays, layer, config)
        self._replace_parameters(config, arrays)

    def _prune_layer(self, arrays: dict[str, Array], layer: int, config: NezhaConfig) -> None:
        d, old_heads = config.head_size, self.config.unpruned_heads(layer)
        retained = [old_heads.index(head) for head in config.unpruned_heads(layer)]
        retained = to_backend(np.array(retained), self.xp)
        name = f"{self._body_prefix}encoder.layer.{layer}.attention."
        # head n has d rows of the projections, and d columns of the output matrix
        for projection in ("query", "key", "value"):
            for leaf in ("weight", "bias"):
                array = arrays[f"{name}self.{projection}.{leaf}"]
                by_head = array.reshape(len(old_heads), d, *array.shape[1:])[retained]
                arrays[f"{name}self.{projection}.{leaf}"] = by_head.reshape(-1, *array.shape[1:])
        array = arrays[name + "output.dense.weight"]
        by_head = array.reshape(array.shape[0], len(old_heads), d)[:, retained]
        arrays[name + "output.dense.weight"] = by_head.reshape(array.shape[0], -1)

    # Both

    @property
    def _body_prefix(self) -> str:
        """The prefix of the body's parameter names."""
        return "" if WORD_EMBEDDINGS in self.state_dict() else "nezha."

    @property
    def _word_embeddings(self) -> str:
        return self._body_prefix + WORD_EMBEDDINGS

    def _changed_config(self, argument: str, **changes: Any) -> NezhaConfig:
        """The configuration with changes; errors name the argument of the caller."""
        try:
            return self.config.replace(**changes)
        except ArgumentError as error:
            raise ArgumentError(
                f"{argument}: {str(error).removeprefix('NezhaConfig: ')}"
            ) from error

    def _replace_parameters(self, config: NezhaConfig, arrays: dict[str, Array]) -> None:
        if config == self.config:
            config = self.config  # the same object, so that backward still works on earlier outputs
        self.config, self.parameters = config, unflatten(arrays)
        self.zero_grad()
