"""The arguments of a call, in a file: JSON lists, or safetensors arrays."""

from __future__ import annotations

import inspect
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from minizha.checkpoint.safetensors_file import stored_safetensors
from minizha.checkpoint.stored import shown
from minizha.errors import FileError, listed
from minizha.files import read_json_object


def read_inputs_file(path: str | PathLike[str], kind: type) -> dict[str, Any]:
    """Keyword arguments for a call of a model of class ``kind``.

    A ``.json`` file is an object of nested lists, ``{"input_ids": [[5, 6, 7]], "labels": …}``; any
    other file is read as safetensors, where the arrays of nested arguments are called
    ``past_key_values.0.0``, ``past_key_values.0.1``, ….

    Raises:
        FileError: not readable, or a name that the class's call does not take.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        found = read_json_object(path)
    else:
        stored = stored_safetensors(path).items()
        try:
            found = _nested({name: np.array(tensor.read()) for name, tensor in stored})
        except ValueError as error:
            raise FileError(f"{path}: {error}") from error
    known = [n for n, p in inspect.signature(kind.__call__).parameters.items() if n != "self"]
    unknown = [shown(name) for name in found if name not in known]
    if unknown:
        raise FileError(
            f"{path}: {kind.__name__} takes no {listed(unknown)}, only {', '.join(known)}"
        )
    if not found:
        raise FileError(f"{path}: expected at least input_ids or inputs_embeds, found nothing")
    return found


def _nested(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """``{"a.0": x, "a.1": y}`` as ``{"a": (x, y)}``, at any depth."""
    found: dict[str, Any] = {}
    heads = {name.partition(".")[0] for name in arrays if "." in name}
    both = sorted(heads & arrays.keys())
    if both:
        raise ValueError(f"{shown(both[0])} stands there whole and in parts")
    for name, array in arrays.items():
        head, dot, rest = name.partition(".")
        if dot:
            found.setdefault(head, {})[rest] = array
        else:
            found[head] = array
    return {name: _sequence(_nested(v)) if isinstance(v, dict) else v for name, v in found.items()}


def _sequence(parts: dict[str, Any]) -> Any:
    """Numbered parts as a tuple, in the order of their numbers; others as they are."""
    numbers = [str(i) for i in range(len(parts))]
    return tuple(parts[n] for n in numbers) if sorted(parts) == sorted(numbers) else parts
