"""Checkpoints of a run: folders ``checkpoints/step-000123`` from which it goes on to the same bits.

Each is a model folder, which ``--model`` and Transformers load, with two more files: the moments of the
optimizer, and ``run.json``, which has everything else (docs/pretraining.md lists it). It appears by one
renaming, when all its files are on the disk; so a kill at any moment leaves a whole checkpoint or none.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import to_host
from minizha.checkpoint.folder import WEIGHTS_NAME
from minizha.checkpoint.safetensors_file import stored_safetensors, to_safetensors
from minizha.config_files import CONFIG_NAME
from minizha.errors import FileError
from minizha.files import make_folder, read_bytes, read_json_object
from minizha.text.tokenizer import NezhaTokenizer
from minizha.training.state import TrainingState
from minizha.transaction import (
    as_file_error,
    clear_leftovers,
    staging,
    sync_folder,
    write_synced,
)

CHECKPOINTS_NAME = "checkpoints"
OPTIMIZER_NAME = "optimizer.safetensors"
RECORD_NAME = "run.json"
FINISHED_NAME = "finished.json"
FORMAT = 1
_STEP = re.compile(r"step-(\d{6,12})")


class Checkpoint(NamedTuple):
    """A checkpoint that was read and is whole: its folder, the arrays, and the content of ``run.json``."""

    path: Path
    parameters: dict[str, np.ndarray]
    moments: dict[str, np.ndarray]
    record: dict[str, Any]

    @property
    def step(self) -> int:
        """The number of steps after which it was written."""
        return int(self.record["step"])


def write_checkpoint(
    folder: Path, state: TrainingState, tokenizer: NezhaTokenizer, about: Mapping[str, Any]
) -> Path:
    """Write ``folder/step-N`` for the step N of ``state``; return its path.

    Args:
        about: what ``run.json`` holds besides the state's own numbers.

    Raises:
        FileError: it can't be written. Nothing of it is left, and older checkpoints are as they were.
    """
    model = state.model
    arrays = {name: to_host(array) for name, array in model.state_dict().items()}
    keys = {"architectures": [type(model).__name__], "torch_dtype": model.dtype}
    files = {path.name: data for path, data in tokenizer.files(folder).items()}
    files |= {
        CONFIG_NAME: model.config.to_json(**keys).encode("utf-8"),
        WEIGHTS_NAME: to_safetensors(arrays),
        OPTIMIZER_NAME: to_safetensors(state.arrays()),
    }
    record = {"format": FORMAT, **about, **state.numbers()}
    record["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    record["record"] = _digest(record)
    files[RECORD_NAME] = json.dumps(record, ensure_ascii=True, indent=1).encode("ascii")
    path = checkpoint_path(folder, state.step)
    make_folder(folder)
    clear_leftovers(str(folder))
    with as_file_error(str(path)), staging(str(folder)) as staged:
        for name, data in files.items():
            write_synced(os.path.join(staged, name), data)
        sync_folder(staged)
        if path.exists():  # of a run that was here before, or damaged
            _remove(path)
        os.replace(staged, path)
    sync_folder(str(folder))
    return path


def checkpoint_path(folder: Path, step: int) -> Path:
    """The folder of the checkpoint after ``step`` steps."""
    return folder / f"step-{step:06d}"


def find_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in ``folder``, the newest first; damaged ones too."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if _STEP.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=_step, reverse=True)


def read_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest whole checkpoint in ``folder``, None if there is none at all, and what is wrong with
    the newer ones.

    Raises:
        FileError: there are checkpoints, and all of them are damaged.
    """
    faults: list[str] = []
    for path in find_checkpoints(folder):
        try:
            return read_checkpoint(path), faults
        except FileError as error:
            faults.append(str(error))
    if faults:
        raise FileError(
            f"{folder}: expected a whole checkpoint, but all are damaged: {'; '.join(faults)} "
            "(--overwrite begins anew)"
        )
    return None, []


def read_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in the folder ``path``; every byte of it is checked.

    Raises:
        FileError: a file is missing, damaged, or of another format.
    """
    record = read_json_object(path / RECORD_NAME)
    if record.get("format") != FORMAT:
        raise FileError(
            f"{path / RECORD_NAME}: expected format {FORMAT}, found {record.get('format')!r:.40}"
        )
    if record.pop("record", None) != _digest(record):
        raise FileError(f"{path / RECORD_NAME}: damaged: its content does not match its SHA-256")
    for name, expected in record["files"].items():
        if hashlib.sha256(read_bytes(path / name)).hexdigest() != expected:
            raise FileError(f"{path / name}: damaged: its content does not match its SHA-256")
    parameters, moments = (
        {name: tensor.read() for name, tensor in stored_safetensors(path / file).items()}
        for file in (WEIGHTS_NAME, OPTIMIZER_NAME)
    )
    return Checkpoint(path, parameters, moments, record)


def prune(folder: Path, keep_last: int, best_step: int | None) -> None:
    """Remove all checkpoints but the last ``keep_last`` and that of ``best_step``."""
    for path in find_checkpoints(folder)[keep_last:]:
        if _step(path) != best_step:
            _remove(path)


def remove_checkpoints(folder: Path) -> None:
    """Remove all checkpoints of a run, and that it is finished."""
    with as_file_error(str(folder)):
        (folder / FINISHED_NAME).unlink(missing_ok=True)
    for path in find_checkpoints(folder):
        _remove(path)


def _step(path: Path) -> int:
    found = _STEP.fullmatch(path.name)
    assert found is not None
    return int(found[1])


def _digest(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _remove(path: Path) -> None:
    """Remove a checkpoint. It loses its name first: a kill leaves no part that looks like one."""
    with as_file_error(str(path)):
        nameless = path.with_name(f".minizha-{secrets.token_hex(8)}.tmp")
        os.replace(path, nameless)
    shutil.rmtree(nameless, ignore_errors=True)
