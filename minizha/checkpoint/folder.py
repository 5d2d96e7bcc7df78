"""A model folder: ``config.json`` and ``model.safetensors``, as Transformers lays it out."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from minizha.checkpoint.safetensors_file import read_safetensors, to_safetensors
from minizha.config import CONFIG_NAME, NezhaConfig
from minizha.errors import FileError
from minizha.files import make_folder, write_together

WEIGHTS_NAME = "model.safetensors"


def write_folder(folder: Path, config_json: str, arrays: dict[str, np.ndarray]) -> None:
    """Write both files, or on any error neither; the folder is made if need be.

    Raises:
        FileError: the folder or a file can't be written.
    """
    make_folder(folder)
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
    if not os.path.isdir(folder):
        raise FileError(f"{folder}: expected a folder with {CONFIG_NAME} and {WEIGHTS_NAME}")
    return NezhaConfig.from_pretrained(folder), read_safetensors(folder / WEIGHTS_NAME)
