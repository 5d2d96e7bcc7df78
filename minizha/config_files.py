"""The file of a configuration: its names, and what it may call NEZHA."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from minizha.errors import CheckpointWarning, FileError
from minizha.files import path_exists

CONFIG_NAME = "config.json"
CONFIG_NAMES = (CONFIG_NAME, "bert_config.json")
"""The first one in a folder is read; the second is Huawei's own."""
_BERT4TORCH_CONFIG_NAME = "bert4torch_config.json"
LARGEST_CONFIG = 8 * 1024**2
"""The most bytes of a config.json; 30,000 labels take 2 million."""


def config_path(folder: Path) -> Path:
    """The path of the configuration in ``folder``: the first of ``CONFIG_NAMES`` that exists.

    Raises:
        FileError: there is none, but bert4torch's configuration, which has other keys.
    """
    found = next((name for name in CONFIG_NAMES if path_exists(folder / name)), None)
    if found is None and path_exists(folder / _BERT4TORCH_CONFIG_NAME):
        raise FileError(
            f"{folder}: expected {CONFIG_NAME}, found {_BERT4TORCH_CONFIG_NAME}, whose keys are "
            f"bert4torch's own: write a {CONFIG_NAME} with this model's sizes under Transformers' names"
        )
    return folder / (found or CONFIG_NAME)


def is_relative_bert(values: Mapping[str, Any]) -> bool:
    """Whether the values of a configuration say that the model is BERT with relative positions."""
    return values.get("model_type") == "bert" and values.get("use_relative_position") is True


def nezha_values(values: dict[str, Any], path: str | PathLike[str]) -> dict[str, Any]:
    """``values`` from the file ``path``, without the ``model_type`` of a BERT with relative positions.

    That is NEZHA under BERT's name; a CheckpointWarning says that it is read so.
    """
    if not is_relative_bert(values):
        return values
    warnings.warn(
        f"{os.fspath(path)}: says model_type 'bert' with use_relative_position; it is read as NEZHA's",
        CheckpointWarning,
        stacklevel=3,
    )
    return {name: value for name, value in values.items() if name != "model_type"}
