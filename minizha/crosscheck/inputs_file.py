"""Reads the arguments of a call from a file: JSON lists, or safetensors arrays."""

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
    "self",
    "record",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "use_cache",
    "num_items_in_batch",
}
"""Arguments of a call that a trace sets itself or leaves out."""


def read_inputs_file(path: str | PathLike[str], model_class: type) -> dict[str, Any]:
    """The keyword arguments for a trace of a model of the class ``model_class``.

    A ``.json`` file is an object of nested lists, ``{"input_ids": [[5, 6, 7]], "labels": …}``. Any
    other file is read as safetensors, where the arrays of nested arguments are called
    ``past_key_values.0.0``, ``past_key_values.0.1``, ….

    Raises:
        FileError: the file can't be read, has an argument that a trace of the class does not take, or
            lists of unequal lengths.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        arguments = read_json_object(path)
    else:
        stored = stored_safetensors(path).items()
        try:
            arguments = nested({name: np.array(tensor.read()) for name, tensor in stored})
        except ValueError as error:
            raise FileError(f"{path}: {error}") from error
    known = [n for n in inspect.signature(model_class.__call__).parameters if n not in NOT_ARRAYS]
    unknown = [shown(name) for name in arguments if name not in known]
    if unknown:
        raise FileError(
            f"{path}: a trace of {model_class.__name__} takes no {listed(unknown)}, "
            f"only {', '.join(known)}"
        )
    if not arguments:
        raise FileError(f"{path}: expected at least input_ids or inputs_embeds, found nothing")
    for name, value in arguments.items():
        _check_rows(f"{path}: {name}", value, depth=2 if name == "past_key_values" else 0)
    return arguments


def _check_rows(where: str, value: Any, depth: int = 0) -> None:
    """Refuse nested lists of unequal lengths. The outermost ``depth`` levels are exempt: they hold
    arrays that may have other shapes."""
    if depth and isinstance(value, list):
        for i, item in enumerate(value):
            _check_rows(f"{where}.{i}", item, depth - 1)
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
