"""What every Nezha class shares besides: saving, loading, and the frame of a call."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array, to_host
from minizha.checkpoint.folder import read_folder, write_folder
from minizha.config import CONFIG_NAME
from minizha.errors import ArgumentError, CheckpointWarning, FileError, MinizhaError, listed
from minizha.files import folder_path
from minizha.model.base import LoadingInfo, ParameterisedModel, refuse_what_encoders_lack
from minizha.model.inputs import Door, Inputs, flag
from minizha.model.outputs import Deferred, ModelOutput


class Wanted(NamedTuple):
    """What a call asked for, with the configuration's defaults filled in."""

    attentions: bool
    hidden_states: bool
    as_dict: bool
    record: bool

    def pick(self, result: Any) -> dict[str, Any]:
        """The two optional fields, where they were asked for."""
        return {
            "hidden_states": result.hidden_states if self.hidden_states else None,
            "attentions": result.attentions if self.attentions else None,
        }


class NezhaPreTrainedModel(ParameterisedModel):
    """Base of the Nezha classes; :class:`~minizha.model.base.ParameterisedModel` says how they are
    constructed."""

    # Saving and loading

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors``; Transformers 4.37 loads the folder.

        Each file is replaced as a whole: on any error the old one is intact.

        Raises:
            FileError: the folder or a file can't be written.
        """
        if self.dtype == "complex128":
            raise MinizhaError("save_pretrained: a complex128 model is for differentiation only")
        arrays = {name: to_host(array) for name, array in self.state_dict().items()}
        more = {"architectures": [type(self).__name__], "torch_dtype": self.dtype}
        write_folder(folder_path(folder), self.config.to_json(**more), arrays)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        *,
        dtype: str | None = None,
        backend: str = "numpy",
        seed: int = 0,
        output_loading_info: bool = False,
        **options: Any,
    ) -> Any:
        """The model in a folder that :meth:`save_pretrained` or Transformers wrote.

        Tensors that are missing are initialised with ``seed``; these and left-over ones are
        named in one CheckpointWarning. ``dtype`` None keeps the stored one (half precision
        becomes float32). ``output_loading_info=True`` returns ``(model, LoadingInfo)``.

        Raises:
            FileError: a file is missing, damaged, of another model type, or of other shapes.
        """
        folder = folder_path(folder)
        config, arrays = read_folder(folder)
        try:
            refuse_what_encoders_lack(config)
        except ArgumentError as error:
            raise FileError(f"{folder / CONFIG_NAME}: {error}") from error
        if dtype is None:
            wide = any(array.dtype == np.float64 for array in arrays.values())
            dtype = "float64" if wide else "float32"
        model = cls(config, dtype=dtype, backend=backend, seed=seed, **options)
        try:
            info = model.load_state_dict(arrays, strict=False)
        except ArgumentError as error:
            raise FileError(f"{folder}: {error}") from error
        if len(info.missing) == len(model.state_dict()):
            raise FileError(f"{folder}: none of its tensors belongs to a {cls.__name__}")
        if not output_loading_info:
            _warn_of_differences(cls.__name__, folder, info)
        return (model, info) if output_loading_info else model

    # For the classes' calls

    def _wanted(
        self,
        attentions: bool | None,
        hidden_states: bool | None,
        as_dict: bool | None,
        record: bool | None,
        labelled: bool = False,
    ) -> Wanted:
        c = self.config
        return Wanted(
            flag("output_attentions", attentions, c.output_attentions),
            flag("output_hidden_states", hidden_states, c.output_hidden_states),
            flag("return_dict", as_dict, c.return_dict),
            flag("record", record, labelled or self.training),
        )

    @property
    def _door(self) -> Door:
        return Door(self.config, self.xp, self.dtype)

    def _inputs(self, *arguments: Any) -> Inputs:
        inputs = self._door.inputs(*arguments)
        length, limit = inputs.shape[1], self.config.max_position_embeddings
        if length > limit and not self._warned_of_length:
            self._warned_of_length = True
            warnings.warn(
                f"{length} tokens are more than max_position_embeddings = {limit}: relative "
                "positions know no limit, but no model was trained at this length",
                stacklevel=3,
            )
        return inputs

    def _input_gradients(self, inputs: Inputs, dx: Array | None) -> dict[str, Array]:
        if inputs.inputs_embeds is None:
            return {}
        return {"inputs_embeds": self.xp.zeros_like(inputs.inputs_embeds) if dx is None else dx}

    def _output(
        self,
        kind: type[ModelOutput],
        values: dict[str, Any],
        wanted: Wanted,
        record: Any,
        backward: Callable[[dict[str, Any]], dict[str, Any]],
    ) -> ModelOutput | tuple:
        def checked(upstream: dict[str, Any]) -> dict[str, Any]:
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


def _warn_of_differences(kind: str, folder: Any, info: LoadingInfo) -> None:
    parts = []
    if info.missing:
        parts.append("missing, so initialised at random: " + listed(info.missing))
    if info.unexpected:
        parts.append("left over: " + listed(info.unexpected))
    if parts:
        text = f"{folder}: {kind}: " + "; ".join(parts)
        warnings.warn(text, CheckpointWarning, stacklevel=3)
