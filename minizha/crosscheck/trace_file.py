"""A trace: named arrays in execution order, what they were computed from, and the file of both."""

from __future__ import annotations

import json
import math
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
from minizha.checkpoint.stored import StoredTensor, shown
from minizha.checks import flag
from minizha.config import NezhaConfig
from minizha.crosscheck.comparison.precision import PRECISIONS
from minizha.crosscheck.names import VERSION, in_order
from minizha.errors import FileError, MinizhaError
from minizha.files import folder_path, write_atomic

METADATA = "minizha_trace"
INPUTS, PARAMETERS = "inputs/", "parameters/"


class Trace(dict[str, np.ndarray]):
    """``{name: array}`` in execution order; :mod:`~minizha.crosscheck.names` says what each is.

    The attributes say what the arrays were computed from: ``model_class``, ``config``, ``dtype``,
    ``training``, ``inputs`` {argument: array} and ``parameters`` {checkpoint name: array}.
    ``rounding`` {precision: {name: error}} is what rounding does to each array; a comparison measures it
    where it is empty (:mod:`~minizha.crosscheck.comparison.rounding`).
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
        self.rounding: dict[str, dict[str, float]] = {}

    def save(self, path: str | PathLike[str], parameters: bool = True) -> None:
        """Write a safetensors file, completely or not at all.

        ``parameters=False`` leaves the parameters out. A comparison can then compare the arrays that are
        made with one with ours only, and name no mistake in them.

        Raises:
            FileError: the file can't be written.
            ArgumentError: ``path`` is not a path.
            MinizhaError: the trace is in complex128.
        """
        path, parameters = folder_path(path, "path"), flag("parameters", parameters)
        if self.dtype == "complex128":
            raise MinizhaError(
                "save: expected a trace in float32 or float64, found complex128, which serves "
                "differentiation only"
            )
        metadata = {
            "version": VERSION,
            "class": self.model_class,
            "config": self.config.to_dict(),
            "dtype": self.dtype,
            "training": self.training,
            "names": list(self),
            "rounding": self.rounding,
        }
        arrays = dict(self)
        arrays |= {INPUTS + name: array for name, array in self.inputs.items()}
        if parameters:
            arrays |= {PARAMETERS + name: array for name, array in self.parameters.items()}
        write_atomic(path, to_safetensors(arrays, (METADATA, json.dumps(metadata))))


class StoredTrace(Mapping[str, np.ndarray]):
    """A trace in a file; an array is read each time it is accessed.

    ``inputs`` and ``parameters`` are read in the same way. For a file that was not written by minizha,
    known names are in execution order and unknown ones follow, and ``model_class``, ``config``,
    ``dtype`` and ``training`` are None.
    """

    def __init__(
        self, path: Path, tensors: dict[str, StoredTensor], metadata: dict[str, Any] | None = None
    ) -> None:
        metadata = metadata or {}
        self.path, self._tensors = path, tensors
        self.model_class, self.config = metadata.get("class"), metadata.get("config")
        self.dtype, self.training = metadata.get("dtype"), metadata.get("training")
        self.rounding: dict[str, dict[str, float]] = metadata.get("rounding", {})
        self.inputs: Mapping[str, np.ndarray] = {}
        self.parameters: Mapping[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._tensors[name].read()

    def __contains__(self, name: object) -> bool:
        return name in self._tensors  # the default of Mapping would read the array

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of an array, without reading it."""
        return self._tensors[name].shape


def open_trace(path: str | PathLike[str]) -> StoredTrace:
    """Open a file of :meth:`Trace.save`, or any safetensors file with arrays under a trace's names.

    Raises:
        FileError: the file is missing, not a safetensors file, or a trace of an unknown version.
        ArgumentError: ``path`` is not a path.
    """
    path = folder_path(path, "path")
    tensors, metadata = stored_safetensors(path), _read_metadata(path)
    parts: dict[str, dict[str, StoredTensor]] = {INPUTS: {}, PARAMETERS: {}, "": {}}
    for name, tensor in tensors.items():
        prefix = next((p for p in (INPUTS, PARAMETERS) if name.startswith(p)), "")
        parts[prefix][name.removeprefix(prefix)] = tensor
    arrays = {name: parts[""][name] for name in in_order(parts[""])}
    if metadata is not None:
        if sorted(metadata["names"]) != sorted(arrays):
            raise FileError(
                f"{path}: expected in its metadata the names of its arrays, found others"
            )
        arrays = {name: arrays[name] for name in metadata["names"]}
    trace = StoredTrace(path, arrays, metadata)
    trace.inputs = StoredTrace(path, parts[INPUTS])
    trace.parameters = StoredTrace(path, parts[PARAMETERS])
    return trace


def _read_metadata(path: Path) -> dict[str, Any] | None:
    """The metadata of a trace, checked; None for a file that minizha did not write."""
    text = safetensors_metadata(path).get(METADATA)
    if text is None:
        return None
    try:
        metadata = json.loads(text)
        if metadata["version"] != VERSION:
            raise FileError(
                f"{path}: found a trace of version {shown(metadata['version'])}, expected {VERSION}"
            )
        metadata["config"] = NezhaConfig.from_dict(metadata["config"])
        if not all(isinstance(name, str) for name in metadata["names"]):
            raise TypeError("a name is not a string")
        metadata["class"], metadata["dtype"] = str(metadata["class"]), str(metadata["dtype"])
        metadata["training"] = bool(metadata["training"])
        metadata["rounding"] = _rounding(metadata.get("rounding", {}))
    except FileError:
        raise
    except (ValueError, TypeError, KeyError, RecursionError, MinizhaError) as error:
        raise FileError(f"{path}: its metadata {METADATA!r} can't be read: {error}") from error
    return metadata


def _rounding(content: Any) -> dict[str, dict[str, float]]:
    """The rounding errors of a file, checked; files of version 0.1 have none."""
    found = {p: {str(n): float(v) for n, v in errors.items()} for p, errors in content.items()}
    if not found.keys() <= set(PRECISIONS):
        raise ValueError(f"rounding: expected {', '.join(PRECISIONS)}, found {list(found)}")
    if not all(math.isfinite(v) and v > 0 for errors in found.values() for v in errors.values()):
        raise ValueError("rounding: expected positive numbers")
    return found
