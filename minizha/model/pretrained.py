"""What every Nezha class shares besides: saving, loading, and the frame of a call."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import fields
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

from minizha.backend import Array, to_host
from minizha.checkpoint.folder import write_folder
from minizha.checkpoint.hub import MODEL_FILES, local_folder
from minizha.config import NezhaConfig
from minizha.errors import ArgumentError, MinizhaError
from minizha.files import folder_path
from minizha.model.adapting import AdaptableModel
from minizha.model.door import flag
from minizha.model.encoder import EncoderGradients, LayerInputs
from minizha.model.inputs import Inputs, read_inputs
from minizha.model.loading import Checkpoint, read_model_folder
from minizha.model.outputs import Deferred, ModelOutput

if TYPE_CHECKING:
    from minizha.text.tokenizer import NezhaTokenizer

_CONFIGURABLE = {f.name for f in fields(NezhaConfig)} - {"extra"}


class Wanted(NamedTuple):
    """What a call asked for, with the configuration's defaults filled in."""

    attentions: bool
    hidden_states: bool
    as_dict: bool
    record: bool
    past_key_values: bool

    def pick(self, result: Any) -> dict[str, Any]:
        """The optional fields, where they were asked for."""
        return {
            "hidden_states": result.hidden_states if self.hidden_states else None,
            "past_key_values": result.past_key_values,
            "attentions": result.attentions,
            "cross_attentions": result.cross_attentions,
        }


class NezhaPreTrainedModel(AdaptableModel):
    """Base of the Nezha classes; :class:`~minizha.model.base.ParameterisedModel` says how they are
    constructed, :class:`~minizha.model.adapting.AdaptableModel` how they are changed."""

    # Saving and loading

    def save_pretrained(
        self, folder: str | PathLike[str], *, tokenizer: NezhaTokenizer | None = None
    ) -> None:
        """Write ``config.json`` and ``model.safetensors``; Transformers 4.37 loads the folder.

        With a ``tokenizer``, its files too, in the same step. On any error, and if the program is
        killed, the folder holds the old model or the new one.

        Raises:
            FileError: the folder or a file can't be written.
        """
        if self.dtype == "complex128":
            raise MinizhaError("save_pretrained: a complex128 model is for differentiation only")
        arrays = {name: to_host(array) for name, array in self.state_dict().items()}
        more = {"architectures": [type(self).__name__], "torch_dtype": self.dtype}
        if tokenizer is not None and not hasattr(tokenizer, "files"):
            raise ArgumentError(
                f"tokenizer: expected a NezhaTokenizer or None, found {type(tokenizer).__name__}"
            )
        folder = folder_path(folder)
        files = None if tokenizer is None else tokenizer.files(folder)
        write_folder(folder, self.config.to_json(**more), arrays, files)

    @classmethod
    def from_pretrained(
        cls,
        name: str | PathLike[str],
        *,
        config: NezhaConfig | str | PathLike[str] | None = None,
        dtype: str | None = None,
        backend: str = "numpy",
        seed: int = 0,
        revision: str | None = None,
        cache_dir: str | PathLike[str] | None = None,
        local_files_only: bool = False,
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        **options: Any,
    ) -> Any:
        """The model in a folder, or under an id on the hub, whoever wrote it.

        The weights are ``model.safetensors`` or ``pytorch_model.bin``, in one file or in shards.

        Args:
            name: a folder, or a hub id such as "sijunhe/nezha-cn-base".
            config: in place of the folder's ``config.json``: a NezhaConfig, or a folder with one.
            dtype: None keeps the stored one (half precision becomes float32).
            backend: "numpy" or "cupy".
            seed: of parameters that are missing in the checkpoint.
            revision: a branch, tag or commit on the hub.
            cache_dir: where downloads are kept; None is huggingface_hub's own place.
            local_files_only: take what is in the cache, ask nobody.
            ignore_mismatched_sizes: initialise tensors of another shape instead of refusing them.
            output_loading_info: return ``(model, LoadingInfo)`` and don't warn.
            options: values of the configuration to change, such as ``num_labels=3``, and what
                the class's constructor takes besides.

        Missing and left-over tensors are named in one CheckpointWarning.

        Raises:
            FileError: a file is missing, damaged, of another kind of model, or of other shapes.
            ArgumentError: a configuration value or an option is not usable.
        """
        hub = {"revision": revision, "cache_dir": cache_dir, "local_files_only": local_files_only}
        folder = local_folder(name, MODEL_FILES, **hub)
        found, tensors = read_model_folder(folder)
        if config is not None and not isinstance(config, NezhaConfig):
            try:
                config = NezhaConfig.from_pretrained(config)
            except ArgumentError as error:
                raise ArgumentError(
                    f"config: expected a NezhaConfig or a folder: {error}"
                ) from error
        changes = {key: options.pop(key) for key in _CONFIGURABLE & options.keys()}
        config = (config or found).replace(**changes)
        if dtype is None:
            wide = any(tensor.dtype == "float64" for tensor in tensors.values())
            dtype = "float64" if wide else "float32"
        ignore = flag("ignore_mismatched_sizes", ignore_mismatched_sizes, False)
        checkpoint = Checkpoint(tensors, str(folder), cls.__name__, ignore)
        model = cls(
            config, dtype=dtype, backend=backend, seed=seed, checkpoint=checkpoint, **options
        )
        if flag("output_loading_info", output_loading_info, False):
            return model, checkpoint.info
        checkpoint.warn()
        return model

    # For the classes' calls

    def _wanted(
        self,
        attentions: bool | None,
        hidden_states: bool | None,
        as_dict: bool | None,
        record: bool | None,
        labelled: bool = False,
        use_cache: bool = False,
    ) -> Wanted:
        c = self.config
        return Wanted(
            flag("output_attentions", attentions, c.output_attentions),
            flag("output_hidden_states", hidden_states, c.output_hidden_states),
            flag("return_dict", as_dict, c.return_dict),
            flag("record", record, labelled or self.training),
            use_cache and c.is_decoder,
        )

    def _inputs(self, *arguments: Any, **more: Any) -> Inputs:
        inputs = read_inputs(self._door, *arguments, **more)
        length, limit = inputs.past_length + inputs.shape[1], self.config.max_position_embeddings
        if length > limit and not self._warned_of_length:
            self._warned_of_length = True
            warnings.warn(
                f"{length} tokens are more than max_position_embeddings = {limit}: relative "
                "positions know no limit, but no model was trained at this length",
                stacklevel=3,
            )
        return inputs

    def _input_gradients(self, inputs: Inputs, gradients: EncoderGradients) -> dict[str, Any]:
        """The gradients of the float inputs that were given; zeros where nobody asked."""
        dx, dencoder, dpast = gradients
        given = {}
        if inputs.inputs_embeds is not None:
            given["inputs_embeds"] = (inputs.inputs_embeds, dx)
        if inputs.encoder_hidden_states is not None:
            given["encoder_hidden_states"] = (inputs.encoder_hidden_states, dencoder)
        found = {name: self.xp.zeros_like(x) if d is None else d for name, (x, d) in given.items()}
        if inputs.layers[0].past is not None:
            found["past_key_values"] = tuple(
                self._past_gradients(layer, d)
                for layer, d in zip(inputs.layers, dpast, strict=True)
            )
        return found

    def _past_gradients(self, layer: LayerInputs, gradients: tuple | None) -> tuple[Array, ...]:
        pairs = [pair for pair in (layer.past, layer.cross_past) if pair is not None]
        arrays = [array for pair in pairs for array in pair]
        return tuple(gradients or (self.xp.zeros_like(array) for array in arrays))

    def _output(
        self,
        kind: type[ModelOutput],
        values: dict[str, Any],
        wanted: Wanted,
        record: Any,
        backward: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> ModelOutput | tuple:
        config = self.config

        def checked(upstream: dict[str, Any]) -> dict[str, Any]:
            if self.config is not config:  # the gradients would have the shapes of before
                raise MinizhaError(
                    "backward: the model was changed since it was called (its vocabulary or its "
                    "heads); call it again"
                )
            return backward({f: self._upstream(f, values[f], d) for f, d in upstream.items()})

        out = kind(values, record, checked if wanted.record else None)
        return out if wanted.as_dict else out.to_tuple()

    def _upstream(self, name: str, field: Any, d: Any) -> Any:
        """The gradient d of a field, checked against the field's shape."""
        if d is None:
            return None
        if isinstance(field, tuple):
            if not isinstance(d, (tuple, list)) or len(d) != len(field):
                raise ArgumentError(
                    f"backward: {name}: expected a sequence of {len(field)} arrays or None"
                )
            return tuple(
                self._upstream(f"{name}[{i}]", f, x)
                for i, (f, x) in enumerate(zip(field, d, strict=True))
            )
        shape = (field.value() if isinstance(field, Deferred) else field).shape
        return self._door.floats(f"backward: {name}", d, shape)
