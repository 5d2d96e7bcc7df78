"""A model folder: ``config.json`` and the weights, in any of the layouts that Transformers writes."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minizha.checkpoint.safetensors_file import stored_safetensors, to_safetensors
from minizha.checkpoint.stored import StoredTensor, shown
from minizha.checkpoint.torch_file import stored_torch
from minizha.config_files import CONFIG_NAME
from minizha.errors import FileError
from minizha.files import make_folder, path_exists, read_bytes, read_json_object, write_together

WEIGHTS_NAME = "model.safetensors"
TORCH_WEIGHTS_NAME = "pytorch_model.bin"
INDEX_SUFFIX = ".index.json"
WEIGHTS_INDEX_NAME = WEIGHTS_NAME + INDEX_SUFFIX
TORCH_WEIGHTS_INDEX_NAME = TORCH_WEIGHTS_NAME + INDEX_SUFFIX
# the first one in the folder is read. What minizha writes comes first, so that weights from before
# a save are not read instead
WEIGHTS_NAMES = (WEIGHTS_NAME, WEIGHTS_INDEX_NAME, TORCH_WEIGHTS_NAME, TORCH_WEIGHTS_INDEX_NAME)

# enough for some thousand tensors; to read JSON takes twenty times as much memory
_MAX_INDEX_BYTES = 400 * 1024


def write_folder(
    folder: Path,
    config_json: str,
    arrays: dict[str, np.ndarray],
    extra_files: Mapping[Path, bytes] | None = None,
) -> None:
    """Write both files and ``extra_files``; on any error write none. A missing folder is made.

    Raises:
        FileError: the folder or a file can't be written.
    """
    make_folder(folder)
    write_together(
        {
            folder / WEIGHTS_NAME: to_safetensors(arrays),
            folder / CONFIG_NAME: config_json.encode("utf-8"),
            **(extra_files or {}),
        }
    )


def stored_weights(folder: Path) -> dict[str, StoredTensor]:
    """The tensors in a folder, not yet read, under the names that the files give them.

    Convention: of ``model.safetensors``, ``model.safetensors.index.json``, ``pytorch_model.bin``
    and ``pytorch_model.bin.index.json``, the first one that exists is used.

    Raises:
        FileError: none of them exists, a file is damaged, or an index does not fit its shards.
    """
    if not os.path.isdir(folder):
        raise FileError(f"{folder}: expected a folder with {CONFIG_NAME} and {WEIGHTS_NAME}")
    # a broken link counts: it is reported, not skipped
    name = next((n for n in WEIGHTS_NAMES if path_exists(folder / n)), None)
    if name is None:
        others = ", ".join(WEIGHTS_NAMES[1:-1])
        raise FileError(
            f"{folder / WEIGHTS_NAME}: can't be read: No such file, nor {others} or "
            f"{WEIGHTS_NAMES[-1]}"
        )
    read = stored_safetensors if name in (WEIGHTS_NAME, WEIGHTS_INDEX_NAME) else stored_torch
    single_file = name in (WEIGHTS_NAME, TORCH_WEIGHTS_NAME)
    return read(folder / name) if single_file else _read_shards(folder / name, read)


def _read_shards(
    path: Path, read: Callable[[Path], dict[str, StoredTensor]]
) -> dict[str, StoredTensor]:
    """The tensors that the index at ``path`` lists, each from its shard."""
    shard_of = weight_map(path)
    shards = {shard: _read_shard(path, shard, read) for shard in dict.fromkeys(shard_of.values())}
    for name, shard in shard_of.items():
        if name not in shards[shard]:
            raise FileError(f"{path}: {shown(name)} is not in {shard}, where it should be")
    return {name: shards[shard][name] for name, shard in shard_of.items()}


def _read_shard(
    path: Path, shard: str, read: Callable[[Path], dict[str, StoredTensor]]
) -> dict[str, StoredTensor]:
    if not path_exists(path.parent / shard):
        raise FileError(f"{path.parent / shard}: this shard is missing; {path.name} names it")
    return read(path.parent / shard)


def weight_map(path: Path) -> dict[str, str]:
    """The index at ``path`` as ``{tensor name: file name}``.

    Convention: an index is not trusted, because a path in it could lead anywhere. Only the names
    of files in the same folder are accepted, with the suffix that the index itself has.

    Raises:
        FileError: not an index, or a path where a file name is expected.
    """
    data = read_bytes(path, _MAX_INDEX_BYTES)
    if data.count(b"{") + data.count(b"[") > 1000:
        raise FileError(f"{path}: too deep for an index")
    shard_of = read_json_object(path, _MAX_INDEX_BYTES).get("weight_map")
    if type(shard_of) is not dict or not shard_of:
        raise FileError(
            f"{path}: weight_map: expected the file of each tensor, found {reprlib.repr(shard_of)}"
        )
    suffix = Path(path.name.removesuffix(INDEX_SUFFIX)).suffix
    for shard in shard_of.values():
        if not (_is_file_name(shard) and shard.endswith(suffix)):
            raise FileError(
                f"{path}: weight_map: expected {suffix} files in the same folder, found {shown(shard)}"
            )
    return shard_of


def _is_file_name(name: Any) -> bool:
    """Whether ``name`` means a file in the same folder, on any system."""
    if type(name) is not str or not name.isprintable() or not 0 < len(name) <= 255:
        return False
    return not set(name) & set('/\\:*?"<>|') and name.strip(". ") == name
