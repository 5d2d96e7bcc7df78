"""Nested arguments, ``past_key_values`` above all, as single arrays with names, and back.

::

    {"past_key_values": ((k, v), (k, v))}
    {"past_key_values.0.0": k, "past_key_values.0.1": v, "past_key_values.1.0": k, …}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minizha.checkpoint.stored import shown
from minizha.errors import ArgumentError

_DEEPEST = 8


def flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Sequences of arrays taken apart, at any depth; everything else as it is.

    Convention: nested lists of numbers are one array, but those of ``past_key_values`` are taken
    apart into its layers, and each into its arrays. The arrays may be of any library; None may
    stand in the place of one.
    """
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if _is_past(name, value) or _holds_arrays(value):
            found |= flat({f"{name}.{i}": part for i, part in enumerate(value)})
        else:
            found[name] = value
    return found


def nested(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`flat` took apart, as tuples in the order of their numbers.

    Convention: parts whose numbers are not 0, 1, 2, … stay a dict of parts.

    Raises:
        ArgumentError: an argument stands there whole and in parts, or is nested too deeply.
    """
    deep = next((name for name in arrays if name.count(".") > _DEEPEST), None)
    if deep is not None:
        raise ArgumentError(f"{shown(deep)}: nested too deeply")
    found: dict[str, Any] = {}
    heads = {name.partition(".")[0] for name in arrays if "." in name}
    both = sorted(heads & arrays.keys())
    if both:
        raise ArgumentError(f"{shown(both[0])} stands there whole and in parts")
    for name, array in arrays.items():
        head, dot, rest = name.partition(".")
        if dot:
            found.setdefault(head, {})[rest] = array
        else:
            found[head] = array
    return {name: _sequence(nested(v)) if isinstance(v, dict) else v for name, v in found.items()}


def _is_past(name: str, value: Any) -> bool:
    """Whether it is all of the past, or a layer of it."""
    named = name.startswith("past_key_values") and name.count(".") < 2
    return named and (isinstance(value, (tuple, list)) or _is_array(value))


def _holds_arrays(value: Any) -> bool:
    """Whether it is a sequence of arrays, or of such sequences."""
    return isinstance(value, (tuple, list)) and any(
        part is None or _is_array(part) or _holds_arrays(part) for part in value
    )


def _is_array(value: Any) -> bool:
    return hasattr(value, "ndim") and not isinstance(value, np.generic)


def _sequence(parts: dict[str, Any]) -> Any:
    numbers = [str(i) for i in range(len(parts))]
    return tuple(parts[n] for n in numbers) if sorted(parts) == sorted(numbers) else parts
