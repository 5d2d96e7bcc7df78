"""A model folder: ``config.json`` and the weights, in any of the layouts that Transformers writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minizha.checkpoint.safetensors_file import stored_safetensors, to_safetensors
from minizha.checkpoint.stored import StoredTensor, shown
from minizha.checkpoint.torch_file import stored_torch
from minizha.config import CONFIG_NAME
from minizha.errors import FileError
from minizha.files import is_there, make_folder, read_bytes, read_json_object, write_together

WEIGHTS_NAME = "model.safetensors"
TORCH_WEIGHTS_NAME = "pytorch_model.bin"
INDEX_ENDING = ".index.json"
WEIGHTS_INDEX_NAME = WEIGHTS_NAME + INDEX_ENDING
TORCH_WEIGHTS_INDEX_NAME = TORCH_WEIGHTS_NAME + INDEX_ENDING
# the first that is there is read; what minizha writes comes first, so that weights which lay in
# the folder before a save are not read instead
WEIGHTS_NAMES = (WEIGHTS_NAME, WEIGHTS_INDEX_NAME, TORCH_WEIGHTS_NAME, TORCH_WEIGHTS_INDEX_NAME)

_MOST_INDEX = 400 * 1024  # bytes: some thousand tensors; reading JSON takes twenty times as much


def write_folder(
    folder: Path,
    config_json: str,
    arrays: dict[str, np.ndarray],
    more: Mapping[Path, bytes] | None = None,
) -> None:
    """Write both files and ``more``, or on any error none; the folder is made if need be.

    Raises:
        FileError: the folder or a file can't be written.
    """
    make_folder(folder)
    write_together(
        {
            folder / WEIGHTS_NAME: to_safetensors(arrays),
            folder / CONFIG_NAME: config_json.encode("utf-8"),
            **(more or {}),
        }
    )


def stored_weights(folder: Path) -> dict[str, StoredTensor]:
    """The tensors in a folder, unread, under the names that the files give them.

    Convention: looks for ``model.safetensors``, ``model.safetensors.index.json``,
    ``pytorch_model.bin``, ``pytorch_model.bin.index.json``, and reads the first that is there.

    Raises:
        FileError: none of them is there, or a file is damaged, or an index does not fit its shards.
    """
    if not os.path.isdir(folder):
        raise FileError(f"{folder}: expected a folder with {CONFIG_NAME} and {WEIGHTS_NAME}")
    # a link to nothing counts: it is a fault to be named, not to be passed over
    name = next((n for n in WEIGHTS_NAMES if is_there(folder / n)), None)
    if name is None:
        others = ", ".join(WEIGHTS_NAMES[1:-1])
        raise FileError(
            f"{folder / WEIGHTS_NAME}: can't be read: No such file, nor {others} or "
            f"{WEIGHTS_NAMES[-1]}"
        )
    read = stored_safetensors if name in (WEIGHTS_NAME, WEIGHTS_INDEX_NAME) else stored_torch
    whole = name in (WEIGHTS_NAME, TORCH_WEIGHTS_NAME)
    return read(folder / name) if whole else _read_shards(folder / name, read)


def _read_shards(
    path: Path, read: Callable[[Path], dict[str, StoredTensor]]
) -> dict[str, StoredTensor]:
    """The tensors that the index at ``path`` names, each from the shard that it names."""
    named = weight_map(path)
    shards = {shard: _shard(path, shard, read) for shard in dict.fromkeys(named.values())}
    for name, shard in named.items():
        if name not in shards[shard]:
            raise FileError(f"{path}: {shown(name)} is not in {shard}, where it should be")
    return {name: shards[shard][name] for name, shard in named.items()}


def _shard(
    path: Path, shard: str, read: Callable[[Path], dict[str, StoredTensor]]
) -> dict[str, StoredTensor]:
    if not is_there(path.parent / shard):
        raise FileError(f"{path.parent / shard}: this shard is missing; {path.name} names it")
    return read(path.parent / shard)


def weight_map(path: Path) -> dict[str, str]:
    """Which file holds which tensor, as the index at ``path`` says.

    Convention: an index is not to be trusted: a path in it could lead anywhere. Only bare names
    pass, which can't but be in the same folder, and only of the index's own kind.

    Raises:
        FileError: no index, or a name that is not bare.
    """
    data = read_bytes(path)
    if len(data) > _MOST_INDEX or data.count(b"{") + data.count(b"[") > 1000:
        raise FileError(f"{path}: longer or deeper than an index has use for ({len(data):,} bytes)")
    named = read_json_object(path).get("weight_map")
    if type(named) is not dict or not named:
        raise FileError(f"{path}: weight_map: expected names of tensors and of their files")
    ending = Path(path.name.removesuffix(INDEX_ENDING)).suffix
    for shard in named.values():
        if not (_is_bare(shard) and shard.endswith(ending)):
            raise FileError(
                f"{path}: weight_map: expected {ending} files in the same folder, found {shown(shard)}"
            )
    return named


def _is_bare(name: Any) -> bool:
    """Whether it can't but name a file in the same folder, on any system."""
    if type(name) is not str or not name.isprintable() or not 0 < len(name) <= 255:
        return False
    return not set(name) & set('/\\:*?"<>|') and name.strip(". ") == name
