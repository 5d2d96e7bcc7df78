"""Nested arguments, such as ``past_key_values``, as single arrays with names, and back.

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
    """Split sequences of arrays, at any depth, into single arrays; leave everything else as it is.

    Convention: nested lists of numbers are one array, except that ``past_key_values`` is split into
    layers and each layer into its arrays. The arrays may be of any library; an item may be None.
    """
    arrays: dict[str, Any] = {}
    for name, value in tree.items():
        if _is_past(name, value) or _holds_arrays(value):
            arrays |= flat({f"{name}.{i}": item for i, item in enumerate(value)})
        else:
            arrays[name] = value
    return arrays


def nested(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Join what :func:`flat` has split: tuples in the order of the numbers in the names.

    Convention: arrays whose numbers are not 0, 1, 2, … remain a dict.

    Raises:
        ArgumentError: a name is both an array and a sequence, or it is nested too deeply.
    """
    deep = next((name for name in arrays if name.count(".") > _DEEPEST), None)
    if deep is not None:
        raise ArgumentError(
            f"{shown(deep)}: nested too deeply: expected at most {_DEEPEST} dots in a name"
        )
    tree: dict[str, Any] = {}
    sequences = {name.partition(".")[0] for name in arrays if "." in name}
    both = sorted(sequences & arrays.keys())
    if both:
        name = shown(both[0])
        raise ArgumentError(f"{name}: expected one array or a sequence {name}.0, …, found both")
    for name, array in arrays.items():
        head, dot, rest = name.partition(".")
        if dot:
            tree.setdefault(head, {})[rest] = array
        else:
            tree[head] = array
    return {name: _sequence(nested(v)) if isinstance(v, dict) else v for name, v in tree.items()}


def _is_past(name: str, value: Any) -> bool:
    """Whether a value is ``past_key_values``, or one layer of it."""
    named = name.startswith("past_key_values") and name.count(".") < 2
    return named and (isinstance(value, (tuple, list)) or _is_array(value))


def _holds_arrays(value: Any) -> bool:
    """Whether a value is a sequence of arrays, or of such sequences."""
    return isinstance(value, (tuple, list)) and any(
        item is None or _is_array(item) or _holds_arrays(item) for item in value
    )


def _is_array(value: Any) -> bool:
    return hasattr(value, "ndim") and not isinstance(value, np.generic)


def _sequence(items: dict[str, Any]) -> Any:
    numbers = [str(i) for i in range(len(items))]
    return tuple(items[n] for n in numbers) if sorted(items) == sorted(numbers) else items
