"""The arguments of a call, in a file: JSON lists, or safetensors arrays."""

from __future__ import annotations

import inspect
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from minizha.checkpoint.safetensors_file import stored_safetensors
from minizha.checkpoint.stored import shown
from minizha.crosscheck.nesting import nested
from minizha.errors import FileError, listed
from minizha.files import read_json_object

NOT_ARRAYS = {
    "record", "return_dict", "output_attentions", "output_hidden_states", "use_cache",
    "num_items_in_batch", "self",
}  # fmt: skip
"""Arguments of a call that a trace sets as it needs them, or leaves out."""


def read_inputs_file(path: str | PathLike[str], kind: type) -> dict[str, Any]:
    """Keyword arguments for a trace of a model of class ``kind``.

    A ``.json`` file is an object of nested lists, ``{"input_ids": [[5, 6, 7]], "labels": …}``; any
    other file is read as safetensors, where the arrays of nested arguments are called
    ``past_key_values.0.0``, ``past_key_values.0.1``, ….

    Raises:
        FileError: not readable, a name that a trace of the class does not take, or lists that make
            no array.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        found = read_json_object(path)
    else:
        stored = stored_safetensors(path).items()
        try:
            found = nested({name: np.array(tensor.read()) for name, tensor in stored})
        except ValueError as error:
            raise FileError(f"{path}: {error}") from error
    known = [n for n in inspect.signature(kind.__call__).parameters if n not in NOT_ARRAYS]
    unknown = [shown(name) for name in found if name not in known]
    if unknown:
        raise FileError(
            f"{path}: a trace of {kind.__name__} takes no {listed(unknown)}, "
            f"only {', '.join(known)}"
        )
    if not found:
        raise FileError(f"{path}: expected at least input_ids or inputs_embeds, found nothing")
    for name, value in found.items():
        _check_rows(f"{path}: {name}", value, depth=2 if name == "past_key_values" else 0)
    return found


def _check_rows(where: str, value: Any, depth: int = 0) -> None:
    """Refuse lists that are no array for want of a number here or there; those of the outermost
    ``depth`` levels hold arrays, each of its own shape."""
    if depth and isinstance(value, list):
        for i, part in enumerate(value):
            _check_rows(f"{where}.{i}", part, depth - 1)
        return
    rows = value if isinstance(value, list) else []
    while any(isinstance(row, list) for row in rows):
        lengths = [len(row) if isinstance(row, list) else "no row" for row in rows]
        other = next((n for n in lengths if n != lengths[0]), None)
        if other is not None:
            hint = " (pad them, and give an attention_mask)" * where.endswith(": input_ids")
            raise FileError(
                f"{where}: expected rows of one length, found {lengths[0]} and {other}{hint}"
            )
        rows = [entry for row in rows for entry in row]
