"""A model folder: ``config.json`` and ``model.safetensors``, as Transformers lays it out."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from minizha.checkpoint.safetensors_file import read_safetensors, to_safetensors
from minizha.config import CONFIG_NAME, NezhaConfig
from minizha.errors import FileError
from minizha.files import write_together

WEIGHTS_NAME = "model.safetensors"


def write_folder(folder: Path, config_json: str, arrays: dict[str, np.ndarray]) -> None:
    """Write both files, or on any error neither; the folder is made if need be.

    Raises:
        FileError: the folder or a file can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{folder}: can't make the folder: {error.strerror or error}") from error
    write_together(
        {
            folder / WEIGHTS_NAME: to_safetensors(arrays),
            folder / CONFIG_NAME: config_json.encode("utf-8"),
        }
    )


def read_folder(folder: Path) -> tuple[NezhaConfig, dict[str, np.ndarray]]:
    """The configuration and the arrays, under the names that the file gives them.

    Raises:
        FileError: the folder or a file in it is missing or not usable.
    """
    if not folder.is_dir():
        raise FileError(f"{folder}: expected a folder with {CONFIG_NAME} and {WEIGHTS_NAME}")
    return NezhaConfig.from_pretrained(folder), read_safetensors(folder / WEIGHTS_NAME)
