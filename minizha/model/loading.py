"""Which stored array is which parameter; what is missing, left over, or of another shape."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from minizha.backend import is_array
from minizha.checkpoint.folder import WEIGHTS_NAMES, stored_weights
from minizha.checkpoint.model_type import refuse_other_models
from minizha.checkpoint.names import canonical_names
from minizha.checkpoint.stored import StoredTensor, shown
from minizha.config import CONFIG_NAME, NezhaConfig
from minizha.errors import ArgumentError, CheckpointWarning, FileError, listed
from minizha.files import file_identity, read_json_object
from minizha.model.initialisation import Shapes

_TRIES = 100  # each is lost to another save


class LoadingInfo(NamedTuple):
    """Names of tensors that a checkpoint lacked, or had in a shape that does not fit; and of
    those that nobody took."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


class Match(NamedTuple):
    """``found`` are the values that fit, under the parameters' names; ``missing`` are the
    parameters without any; ``unexpected`` the values without a parameter; ``faults`` says of
    those that don't fit what is wrong, and ``mismatched`` are those of them whose shape it is."""

    found: dict[str, Any]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    faults: dict[str, str]
    mismatched: tuple[str, ...]


def match(values: Mapping[str, Any], shapes: Shapes, let_complex: bool = False) -> Match:
    """Find each parameter among ``values``, arrays or stored tensors, under any known spelling.

    Raises:
        ArgumentError: no mapping of names, or two spellings of one name.
    """
    renamed = canonical_names(values, shapes)
    faults = {
        name: fault
        for name, shape in shapes.items()
        if name in renamed and (fault := _misfit(renamed[name], shape, let_complex))
    }
    return Match(
        {name: renamed[name] for name in shapes if name in renamed and name not in faults},
        tuple(name for name in shapes if name not in renamed),
        tuple(sorted(name for name in renamed if name not in shapes)),
        faults,
        tuple(n for n in faults if getattr(renamed[n], "shape", shapes[n]) != shapes[n]),
    )


def listed_faults(faults: Mapping[str, str]) -> str:
    """``faults`` in one line."""
    return listed([f"{name}: {fault}" for name, fault in faults.items()], "; ")


def _misfit(value: Any, shape: tuple[int, ...], let_complex: bool) -> str | None:
    stored = isinstance(value, StoredTensor)
    if not (stored or is_array(value)):
        return f"expected an array, found {type(value).__name__}"
    if value.shape != shape:
        return f"expected shape {shape}, found {value.shape}"
    real = "float" in str(value.dtype)
    if not (real or (let_complex and not stored and value.dtype.kind == "c")):
        return f"expected an array of real numbers in floating point, found {value.dtype}"
    return None


def read_model_folder(folder: Path) -> tuple[NezhaConfig, dict[str, StoredTensor]]:
    """The configuration and the tensors in a model folder; no tensor is read yet.

    Raises:
        FileError: a file is missing or damaged, or it is another kind of model.
    """
    path = folder / CONFIG_NAME
    values, tensors = _read_both(folder)
    refuse_other_models(tensors, values.get("model_type"), str(folder))
    try:
        return NezhaConfig.from_dict(values), tensors
    except ArgumentError as error:
        raise FileError(f"{path}: {error}") from error


def _read_both(folder: Path) -> tuple[dict[str, Any], dict[str, StoredTensor]]:
    """Both of one save: should another take its place in between, both are read once more."""
    for _ in range(_TRIES):
        before = _stamps(folder)
        try:
            found = read_json_object(folder / CONFIG_NAME), stored_weights(folder)
        except FileError:
            if before == _stamps(folder):
                raise
            continue
        if before == _stamps(folder):
            return found
    raise FileError(f"{folder}: is saved anew again and again while it is read")


def _stamps(folder: Path) -> list[tuple[int, ...] | None]:
    return [file_identity(folder / name) for name in (CONFIG_NAME, *WEIGHTS_NAMES)]


class Checkpoint:
    """Stored tensors on their way into a new model; afterwards ``info`` says what became of them."""

    def __init__(
        self,
        tensors: Mapping[str, StoredTensor],
        where: str,
        kind: str,
        ignore_mismatched: bool,
    ) -> None:
        self._tensors, self._where, self._kind = tensors, where, kind
        self._ignore = ignore_mismatched
        self._match = Match({}, (), (), {}, ())

    def place(self, name: str) -> str:
        """A tensor's name and where it lies, for messages."""
        return f"{self._where}: {name}"

    @property
    def info(self) -> LoadingInfo:
        """What is not in the model, and what the model did not get."""
        return LoadingInfo((*self._match.missing, *self._match.mismatched), self._match.unexpected)

    def readers(self, shapes: Shapes) -> dict[str, Callable[[], Any]]:
        """For each parameter that is there, a function that reads it.

        Raises:
            FileError: a tensor has another shape than the configuration asks for, or none of the
                tensors is a parameter of the model.
        """
        try:
            self._match = match(self._tensors, shapes)
        except ArgumentError as error:
            raise FileError(f"{self._where}: {error}") from error
        found, faults, mismatched = self._match.found, self._match.faults, self._match.mismatched
        if len(faults) > len(mismatched):
            raise FileError(f"{self._where}: {listed_faults(faults)}")
        if faults and not self._ignore:
            raise FileError(
                f"{self._where}: {listed_faults(faults)} (ignore_mismatched_sizes=True initialises "
                "such tensors instead)"
            )
        if not found:
            raise FileError(
                f"{self._where}: none of its {len(self._tensors)} tensors belongs to a {self._kind}"
            )
        return {name: tensor.read for name, tensor in found.items()}

    def warn(self) -> None:
        """One CheckpointWarning of all differences, where there are any."""
        said = {
            "missing, so initialised at random": self._match.missing,
            "of another shape, so initialised at random": self._match.mismatched,
            "left over": self._match.unexpected,
        }
        parts = [
            f"{text}: {listed([shown(name) for name in names])}"
            for text, names in said.items()
            if names
        ]
        if parts:
            text = f"{self._where}: {self._kind}: " + "; ".join(parts)
            warnings.warn(text, CheckpointWarning, stacklevel=3)
