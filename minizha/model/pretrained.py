"""The base of the Nezha classes: saving and loading."""

from __future__ import annotations

from dataclasses import fields
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from minizha.backend import to_host
from minizha.checkpoint.folder import write_folder
from minizha.checkpoint.hub import MODEL_FILES, local_folder
from minizha.checks import flag
from minizha.config import NezhaConfig
from minizha.errors import ArgumentError, MinizhaError
from minizha.files import folder_path
from minizha.model.adapting import Adaptable
from minizha.model.base import ParameterisedModel
from minizha.model.loading import Checkpoint, LoadingInfo, read_model_folder
from minizha.transformers_options import (
    LOADING,
    SAVING,
    check_shard_size,
    dtype_name,
    refuse_unknown,
    take,
)

if TYPE_CHECKING:
    from minizha.text.tokenizer import NezhaTokenizer

_CONFIGURABLE = {f.name for f in fields(NezhaConfig)} - {"extra"}


class NezhaPreTrainedModel(ParameterisedModel, Adaptable):
    """Base of the Nezha classes. For construction see :class:`~minizha.model.base.ParameterisedModel`,
    for changes to a model :class:`~minizha.model.adapting.Adaptable`."""

    # Saving and loading

    def save_pretrained(
        self,
        folder: str | PathLike[str],
        *,
        tokenizer: NezhaTokenizer | None = None,
        **options: Any,
    ) -> None:
        """Write ``config.json`` and ``model.safetensors``; Transformers 4.37 loads the folder.

        A ``tokenizer`` adds its files, in the same step. After any error, and if the program is
        killed, the folder holds the old model or the new one. ``options`` are those of Transformers
        (:data:`~minizha.transformers_options.SAVING`); with ``is_main_process=False`` nothing is
        written.

        Raises:
            FileError: the folder or a file can't be written.
            ArgumentError: an option asks for something else; the message says what to use.
        """
        meant = take(SAVING, options)
        refuse_unknown(f"{type(self).__name__}.save_pretrained", options)
        if not flag("is_main_process", meant.get("is_main_process", True)):
            return
        if self.dtype == "complex128":
            raise MinizhaError("save_pretrained: a complex128 model is for differentiation only")
        arrays = {name: to_host(array) for name, array in self.state_dict().items()}
        if "max_shard_size" in meant:
            check_shard_size(meant["max_shard_size"], sum(a.nbytes for a in arrays.values()))
        extra_keys = {"architectures": [type(self).__name__], "torch_dtype": self.dtype}
        is_class = isinstance(tokenizer, type)
        if tokenizer is not None and (is_class or not hasattr(tokenizer, "files")):
            raise ArgumentError(
                f"tokenizer: expected a NezhaTokenizer or None, found {type(tokenizer).__name__}"
            )
        folder = folder_path(folder)
        files = None if tokenizer is None else tokenizer.files(folder)
        write_folder(folder, self.config.to_json(**extra_keys), arrays, files)

    @overload
    @classmethod
    def from_pretrained(
        cls,
        name: str | PathLike[str],
        *,
        output_loading_info: Literal[False] = False,
        **options: Any,
    ) -> Self: ...

    @overload
    @classmethod
    def from_pretrained(
        cls, name: str | PathLike[str], *, output_loading_info: Literal[True], **options: Any
    ) -> tuple[Self, LoadingInfo]: ...

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
        token: str | bool | None = None,
        subfolder: str | None = "",
        ignore_mismatched_sizes: bool = False,
        output_loading_info: bool = False,
        **options: Any,
    ) -> Any:
        """The model in a folder or under an id on the hub, as minizha or another library saved it.

        The weights are ``model.safetensors`` or ``pytorch_model.bin``, in one file or in shards.

        Args:
            name: a folder, or a hub id such as "sijunhe/nezha-cn-base".
            config: replaces the folder's ``config.json``: a NezhaConfig, or a folder with one. It
                says that the weights are NEZHA's, whatever ``model_type`` the folder's has.
            dtype: None is the stored one (half precision becomes float32).
            backend: "numpy" or "cupy".
            seed: of the parameters that are missing in the checkpoint.
            revision: a branch, tag or commit on the hub.
            cache_dir: the folder of downloads; None is the default of huggingface_hub.
            local_files_only: use the cache only, without network access.
            token: for a private repository; None is the one that huggingface_hub knows.
            subfolder: a folder inside of the folder ``name``.
            ignore_mismatched_sizes: initialise tensors of another shape instead of raising.
            output_loading_info: return ``(model, LoadingInfo)`` and don't warn.
            options: values of the configuration to change, such as ``num_labels=3``; other
                arguments of the class's constructor; and those of Transformers, such as
                ``torch_dtype`` (:data:`~minizha.transformers_options.LOADING`).

        One CheckpointWarning names all missing and left-over tensors.

        Raises:
            FileError: a file is missing or damaged, or its model is of another type or shape.
            ArgumentError: a configuration value or an option is invalid.
        """
        meant = take(LOADING, options)
        if "dtype" in meant:
            if dtype is not None:
                raise ArgumentError("torch_dtype: expected None beside dtype, found both")
            dtype = dtype_name(meant["dtype"])
        folder = local_folder(
            name,
            MODEL_FILES,
            revision=revision,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            token=token,
            subfolder=subfolder,
        )
        if config is not None and not isinstance(config, NezhaConfig):
            try:
                config = NezhaConfig.from_pretrained(config)
            except ArgumentError as error:
                raise ArgumentError(
                    f"config: expected a NezhaConfig or a folder: {error}"
                ) from error
        changes = {key: options.pop(key) for key in _CONFIGURABLE & options.keys()}
        stored_config, tensors = read_model_folder(folder, config)
        config = stored_config.replace(**changes)
        if dtype is None:
            double = any(tensor.dtype == "float64" for tensor in tensors.values())
            dtype = "float64" if double else "float32"
        ignore = flag("ignore_mismatched_sizes", ignore_mismatched_sizes, False)
        checkpoint = Checkpoint(tensors, str(folder), cls.__name__, ignore)
        model = cls(
            config, dtype=dtype, backend=backend, seed=seed, checkpoint=checkpoint, **options
        )
        if flag("output_loading_info", output_loading_info, False):
            return model, checkpoint.info
        checkpoint.warn()
        return model
