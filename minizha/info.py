"""A description of a model folder: configuration, tensors, missing and unused ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike

from minizha.checkpoint.folder import stored_weights
from minizha.checkpoint.hub import MODEL_FILES, local_folder
from minizha.checkpoint.model_type import OtherModelError
from minizha.checkpoint.stored import StoredTensor, shown
from minizha.config import NezhaConfig
from minizha.config_files import LARGEST_CONFIG, config_path
from minizha.errors import ArgumentError, FileError
from minizha.files import read_json_object
from minizha.model.auto import class_of
from minizha.model.loading import match, read_model_folder


def describe_folder(name: str | PathLike[str]) -> str:
    """The configuration, every tensor with dtype and shape, the totals, and whether they match.

    ``name`` is a folder or a hub id. A model of another architecture is listed too, with the reason
    why it can't be loaded.

    Raises:
        FileError: the folder or a file in it is missing or damaged.
    """
    folder = local_folder(name, MODEL_FILES)
    try:
        config, tensors = read_model_folder(folder)
        values, verdict = config.to_dict(), _fit(config, tensors)
    except OtherModelError as error:
        tensors, values = (
            stored_weights(folder),
            read_json_object(config_path(folder), LARGEST_CONFIG),
        )
        verdict = [f"can't be loaded: {error}"]
    except ArgumentError as error:
        raise FileError(f"{folder}: {error}") from error
    lines = [str(folder), "", *_columns((shown(k), shown(str(v))) for k, v in values.items()), ""]
    lines += _columns((shown(name), t.dtype, _shape(t.shape)) for name, t in tensors.items())
    total = sum(tensor.size for tensor in tensors.values())
    return "\n".join([*lines, "", f"{len(tensors)} tensors, {total:,} numbers", *verdict])


def _fit(config: NezhaConfig, tensors: Mapping[str, StoredTensor]) -> list[str]:
    """The class that the folder loads as, and each tensor that is missing, left over or misfits."""
    model_class = class_of(config, tensors)
    _, missing, unexpected, faults, _ = match(tensors, model_class.shapes(config))
    differences = [f"  missing: {name}" for name in missing]
    differences += [f"  left over: {shown(name)}" for name in unexpected]
    differences += [f"  does not fit: {name}: {fault}" for name, fault in faults.items()]
    verdict = f"{len(differences)} differences" if differences else "complete"
    return [f"as {model_class.__name__}: {verdict}", *differences]


def _columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
