"""A trace: named arrays in execution order, what they were made from, and the file that holds both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from minizha.checkpoint.safetensors_file import (
    safetensors_metadata,
    stored_safetensors,
    to_safetensors,
)
from minizha.checkpoint.stored import StoredTensor, copy_from_map, shown
from minizha.config import NezhaConfig
from minizha.crosscheck.names import VERSION, in_order
from minizha.errors import FileError, MinizhaError
from minizha.files import write_atomic

METADATA = "minizha_trace"
INPUTS, PARAMETERS = "inputs/", "parameters/"


class Trace(dict[str, np.ndarray]):
    """``{name: array}`` in execution order; :mod:`~minizha.crosscheck.names` says what each is.

    Besides, what the arrays were made from: ``model_class``, ``config``, ``dtype``, ``training``,
    ``inputs`` {argument: array} and ``parameters`` {checkpoint name: array}.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray],
        *,
        model_class: str,
        config: NezhaConfig,
        dtype: str,
        training: bool,
        inputs: dict[str, np.ndarray],
        parameters: dict[str, np.ndarray],
    ) -> None:
        super().__init__(arrays)
        self.model_class, self.config, self.dtype = model_class, config, dtype
        self.training, self.inputs, self.parameters = training, inputs, parameters

    def save(self, path: str | PathLike[str], parameters: bool = True) -> None:
        """Write a safetensors file, whole or not at all.

        ``parameters`` False leaves the parameters out; a comparison can then say where two sides
        differ, but rarely why.

        Raises:
            FileError: it can't be written.
            MinizhaError: it is in complex128.
        """
        if self.dtype == "complex128":
            raise MinizhaError("save: a trace in complex128 is for differentiation only")
        about = {
            "version": VERSION,
            "class": self.model_class,
            "config": self.config.to_dict(),
            "dtype": self.dtype,
            "training": self.training,
            "names": list(self),
        }
        arrays = dict(self)
        arrays |= {INPUTS + name: array for name, array in self.inputs.items()}
        if parameters:
            arrays |= {PARAMETERS + name: array for name, array in self.parameters.items()}
        write_atomic(path, to_safetensors(arrays, (METADATA, json.dumps(about))))


class StoredTrace(Mapping[str, np.ndarray]):
    """A trace in a file, of which one array at a time is read, each time it is asked for.

    ``inputs`` and ``parameters`` are mappings of the same kind. In a file that is not minizha's the
    names are in execution order as far as they are ours, and ``model_class``, ``config``, ``dtype``
    and ``training`` are None.
    """

    def __init__(
        self, path: Path, tensors: dict[str, StoredTensor], about: dict[str, Any] | None = None
    ) -> None:
        about = about or {}
        self.path, self._tensors = path, tensors
        self.model_class, self.config = about.get("class"), about.get("config")
        self.dtype, self.training = about.get("dtype"), about.get("training")
        self.inputs: Mapping[str, np.ndarray] = {}
        self.parameters: Mapping[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        return copy_from_map(self._tensors[name].read())

    def __contains__(self, name: object) -> bool:
        return name in self._tensors  # a Mapping would read the array to see whether it is there

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, without reading it."""
        return self._tensors[name].shape


def open_trace(path: str | PathLike[str]) -> StoredTrace:
    """A file of :meth:`Trace.save`, or any safetensors file with arrays under a trace's names.

    Raises:
        FileError: the file is missing, no safetensors file, or a trace of an unknown version.
    """
    path = Path(path)
    tensors, about = stored_safetensors(path), _about(path)
    parts: dict[str, dict[str, StoredTensor]] = {INPUTS: {}, PARAMETERS: {}, "": {}}
    for name, tensor in tensors.items():
        prefix = next((p for p in (INPUTS, PARAMETERS) if name.startswith(p)), "")
        parts[prefix][name.removeprefix(prefix)] = tensor
    arrays = {name: parts[""][name] for name in in_order(parts[""])}
    if about is not None:
        if sorted(about["names"]) != sorted(arrays):
            raise FileError(f"{path}: the names in its metadata are not those of its arrays")
        arrays = {name: arrays[name] for name in about["names"]}
    trace = StoredTrace(path, arrays, about)
    trace.inputs = StoredTrace(path, parts[INPUTS])
    trace.parameters = StoredTrace(path, parts[PARAMETERS])
    return trace


def _about(path: Path) -> dict[str, Any] | None:
    """The metadata of a trace, checked; None for a file that is not one of ours."""
    text = safetensors_metadata(path).get(METADATA)
    if text is None:
        return None
    try:
        about = json.loads(text)
        if about["version"] != VERSION:
            raise FileError(
                f"{path}: a trace of version {shown(about['version'])}, expected {VERSION}"
            )
        about["config"] = NezhaConfig(**about["config"])
        if not all(isinstance(name, str) for name in about["names"]):
            raise TypeError("names that are no strings")
        about["class"], about["dtype"] = str(about["class"]), str(about["dtype"])
        about["training"] = bool(about["training"])
    except FileError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, MinizhaError) as error:
        raise FileError(f"{path}: its metadata {METADATA!r} can't be read: {error}") from error
    return about
