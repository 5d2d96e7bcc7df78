"""What a model folder holds, in words."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from minizha.checkpoint.folder import WEIGHTS_NAME
from minizha.config import NezhaConfig
from minizha.errors import FileError
from minizha.files import check_file, folder_path


class StoredTensor(NamedTuple):
    """A tensor as the file's header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def stored_tensors(path: Path) -> list[StoredTensor]:
    """The tensors of a safetensors file, in the file's order; no data is read.

    Raises:
        FileError: the file is missing or no valid safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    check_file(path)
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return [
                StoredTensor(name, part.get_dtype(), tuple(part.get_shape()))
                for name, part in slices.items()
            ]
    except (SafetensorError, OSError, ValueError) as error:
        raise FileError(f"{path}: not a valid safetensors file: {error}") from error


def describe_folder(folder: str | Path) -> str:
    """The configuration, then every tensor with dtype and shape, then the sums.

    Raises:
        FileError: the folder or a file in it is missing or not usable.
    """
    folder = folder_path(folder)
    if not os.path.isdir(folder):
        raise FileError(f"{folder}: expected a model folder, found no folder")
    config = NezhaConfig.from_pretrained(folder)
    tensors = stored_tensors(folder / WEIGHTS_NAME)
    lines = [str(folder), "", *_columns((k, str(v)) for k, v in config.to_dict().items()), ""]
    lines += _columns((t.name, t.dtype, _shape(t.shape)) for t in tensors)
    total = sum(_size(t.shape) for t in tensors)
    return "\n".join([*lines, "", f"{len(tensors)} tensors, {total:,} parameters"])


def _columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    return [
        "  " + "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for n in shape:
        size *= n
    return size
