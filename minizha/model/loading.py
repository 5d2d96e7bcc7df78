"""Matching stored arrays to parameters: which are missing, left over, or of another shape."""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import MASKED, holds_masked, is_array
from minizha.checkpoint.folder import WEIGHTS_NAMES, stored_weights
from minizha.checkpoint.model_type import refuse_other_models
from minizha.checkpoint.names import BODY, canonical_names
from minizha.checkpoint.stored import StoredTensor, shown
from minizha.checkpoint.wrappers import explain_names
from minizha.config import MODEL_TYPE, NezhaConfig
from minizha.config_files import (
    CONFIG_NAME,
    CONFIG_NAMES,
    LARGEST_CONFIG,
    config_path,
    is_relative_bert,
    nezha_values,
)
from minizha.errors import ArgumentError, CheckpointWarning, FileError, listed
from minizha.files import path_exists, read_json_object, read_together
from minizha.model.initialisation import Shapes


class LoadingInfo(NamedTuple):
    """The names of tensors that were missing in a checkpoint or had the wrong shape; and the names
    of tensors that the model does not have."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


class Match(NamedTuple):
    """``fitting`` holds the values that fit, under the names of their parameters; ``missing`` the
    parameters without a value; ``unexpected`` the values without a parameter; ``faults`` what is
    wrong with each other value; ``mismatched`` the names of those with a wrong shape."""

    fitting: dict[str, Any]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    faults: dict[str, str]
    mismatched: tuple[str, ...]


def match(values: Mapping[str, Any], shapes: Shapes, allow_complex: bool = False) -> Match:
    """Find each parameter among ``values``, arrays or stored tensors, under any known spelling.

    Raises:
        ArgumentError: ``values`` is not a mapping of names, or has two spellings of one name.
    """
    renamed = canonical_names(values, shapes)
    faults = {
        name: fault
        for name, shape in shapes.items()
        if name in renamed and (fault := _fault(renamed[name], shape, allow_complex))
    }
    return Match(
        {name: renamed[name] for name in shapes if name in renamed and name not in faults},
        tuple(name for name in shapes if name not in renamed),
        tuple(sorted(name for name in renamed if name not in shapes)),
        faults,
        tuple(n for n in faults if getattr(renamed[n], "shape", shapes[n]) != shapes[n]),
    )


def host_arrays(values: Any) -> Any:
    """``values`` with tensors of other libraries, such as torch's, as NumPy arrays.

    Raises:
        ArgumentError: a tensor has no numbers that NumPy can hold (it is sparse, or on torch's device
            "meta").
    """
    if not isinstance(values, Mapping):
        return values  # match() says what was expected
    return {name: _host_array(name, value) for name, value in values.items()}


def _host_array(name: Any, value: Any) -> Any:
    if is_array(value) or not hasattr(value, "__array__"):
        return value
    try:
        if hasattr(value, "detach"):  # torch's: one that has gradients is not converted as it is
            value = value.detach().cpu()
            if "bfloat16" in str(value.dtype):  # which NumPy lacks; float32 contains it
                value = value.float()
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        text = str(error).partition("\n")[0]
        raise ArgumentError(
            f"state dict: {name}: expected numbers that NumPy can hold, found a "
            f"{type(value).__name__} that it can't read: {text}"
        ) from error


def refuse_missing_body(
    where: str, class_name: str, tensors: Collection[str], fitting: Collection[str]
) -> None:
    """Refuse a checkpoint that has not one parameter of the network's body: its model would be random.

    ``tensors`` are the names in the file, ``fitting`` the parameters found among them.

    Raises:
        FileError: with the reason, as far as the names show it.
    """
    if not _has_body(fitting):
        part = "the encoder of " if fitting else ""
        raise FileError(
            f"{where}: none of its {len(tensors)} tensors belongs to {part}a {class_name}: "
            f"{explain_names(tensors)}"
        )


def _has_body(names: Collection[str]) -> bool:
    return any(name.removeprefix("nezha.").startswith(BODY) for name in names)


def check_vocabulary_size(folder: Path | str, tokens: int, rows: int) -> None:
    """Refuse a vocabulary of ``tokens`` tokens beside word embeddings of ``rows`` rows.

    Convention: more rows are accepted where they fill the number up to a multiple of 8, 16, 32, 64 or
    128, as trainers do for speed. Any other difference means that the files are of two models.

    Raises:
        FileError: fewer rows than tokens, or more than such padding explains.
    """
    padded = any(rows % n == 0 and 0 <= rows - tokens < n for n in (8, 16, 32, 64, 128))
    if rows != tokens and not padded:
        raise FileError(
            f"{folder}: vocab.txt has {tokens} tokens, but config.json says vocab_size = {rows}"
        )


def listed_faults(faults: Mapping[str, str]) -> str:
    """``faults`` in one line."""
    return listed([f"{name}: {fault}" for name, fault in faults.items()], "; ")


def _fault(value: Any, shape: tuple[int, ...], allow_complex: bool) -> str | None:
    stored = isinstance(value, StoredTensor)
    if holds_masked(value):
        return MASKED
    if not (stored or is_array(value)):
        return f"expected an array, found {type(value).__name__}"
    if value.shape != shape:
        return f"expected shape {shape}, found {value.shape}"
    # the name of a dtype, unlike its text, does not tell the byte order
    real = "float" in getattr(value.dtype, "name", str(value.dtype))
    if not (real or (allow_complex and not stored and value.dtype.kind == "c")):
        return f"expected an array of real numbers in floating point, found {value.dtype}"
    return None


def read_model_folder(
    folder: Path, config: NezhaConfig | None = None
) -> tuple[NezhaConfig, dict[str, StoredTensor]]:
    """The configuration and the tensors in a model folder; no tensor is read yet.

    A ``config`` replaces the one in the folder, which then may be of another type or missing; a
    CheckpointWarning names another type.

    Raises:
        FileError: a file is missing or damaged, or the model is of another type.
    """
    path, values, tensors = _read_both(folder, may_lack_config=config is not None)
    model_type = values.get("model_type")
    believed = config is not None or is_relative_bert(values)
    refuse_other_models(tensors, None if believed else model_type, str(folder))
    if config is not None:
        if model_type not in (None, MODEL_TYPE):
            text = f"says model_type {reprlib.repr(model_type)}; config= is given, so it is read as NEZHA's"
            warnings.warn(f"{path}: {text}", CheckpointWarning, stacklevel=3)
        return config, tensors
    try:
        return NezhaConfig.from_dict(nezha_values(values, path)), tensors
    except ArgumentError as error:
        raise FileError(f"{path}: {error}") from error


def _read_both(
    folder: Path, may_lack_config: bool = False
) -> tuple[Path, dict[str, Any], dict[str, StoredTensor]]:
    """The configuration's path, its values, and the tensors, of the same save."""

    def read() -> tuple[Path, dict[str, Any], dict[str, StoredTensor]]:
        path = folder / CONFIG_NAME if may_lack_config else config_path(folder)
        found = not may_lack_config or path_exists(path)
        values = read_json_object(path, LARGEST_CONFIG) if found else {}
        return path, values, stored_weights(folder)

    return read_together([folder / name for name in (*CONFIG_NAMES, *WEIGHTS_NAMES)], read)


class Checkpoint:
    """The stored tensors for a new model; once it is built, ``info`` names missing and unexpected ones."""

    def __init__(
        self,
        tensors: Mapping[str, StoredTensor],
        folder: str,
        class_name: str,
        ignore_mismatched: bool,
    ) -> None:
        self._tensors, self._folder, self._class_name = tensors, folder, class_name
        self._ignore_mismatched = ignore_mismatched
        self._match = Match({}, (), (), {}, ())

    def location(self, name: str) -> str:
        """The folder and the name of a tensor, for messages."""
        return f"{self._folder}: {name}"

    @property
    def info(self) -> LoadingInfo:
        """The names of missing and mismatched tensors, and of unexpected ones."""
        return LoadingInfo((*self._match.missing, *self._match.mismatched), self._match.unexpected)

    def readers(self, shapes: Shapes) -> dict[str, Callable[[], Any]]:
        """For each stored parameter, a function that reads it.

        Raises:
            FileError: the shape of a tensor contradicts the configuration, or none of the tensors is
                a parameter of the model.
        """
        try:
            self._match = match(self._tensors, shapes)
        except ArgumentError as error:
            raise FileError(f"{self._folder}: {error}") from error
        fitting, _, _, faults, mismatched = self._match
        if len(faults) > len(mismatched):
            raise FileError(f"{self._folder}: {listed_faults(faults)}")
        if faults and not self._ignore_mismatched:
            raise FileError(
                f"{self._folder}: {listed_faults(faults)} (ignore_mismatched_sizes=True initialises "
                "such tensors instead)"
            )
        if not fitting:
            refuse_missing_body(self._folder, self._class_name, self._tensors, fitting)
        return {name: tensor.read for name, tensor in fitting.items()}

    def warn(self) -> None:
        """Warn of all differences, if any, in one CheckpointWarning."""
        differences = {
            "missing, so initialised at random": self._match.missing,
            "of another shape, so initialised at random": self._match.mismatched,
            "left over": self._match.unexpected,
        }
        parts = [
            f"{text}: {listed([shown(name) for name in names])}"
            for text, names in differences.items()
            if names
        ]
        if not _has_body(self._match.fitting):  # names of the heads alone fit
            parts.insert(0, f"the whole encoder is random: {explain_names(self._tensors)}")
        if parts:
            text = f"{self._folder}: {self._class_name}: " + "; ".join(parts)
            warnings.warn(text, CheckpointWarning, stacklevel=3)
