"""Which array of theirs matches which of ours: by name, by a mapping, or by shape and value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import is_array, to_host
from minizha.checkpoint.stored import shown
from minizha.crosscheck.comparison.layouts import TRANSPOSED, Layout, Shape, layouts
from minizha.crosscheck.comparison.precision import sample
from minizha.errors import ArgumentError, FileError, MinizhaError, listed
from minizha.files import read_json_object

PREFIXES = ("nezha.", "bert.", "module.", "model.")
"""Prefixes that ports put before the names; all that a name has are removed."""

ALIKE = 2e-4
"""Arrays whose sampled entries differ by at most this, relative to the largest, match by value: more
than the rounding errors of float32, less than the difference of two arrays of a model."""

_SAMPLE = 509

Arrays = Mapping[str, Any]
Visible = Callable[[str, Shape], np.ndarray | None]


class Match(NamedTuple):
    """The array of theirs that matches one of ours; ``by`` is "name", "prefix", "mapping" or "value"."""

    their_name: str
    by: str
    layout: Layout | None
    """How theirs is laid out; None if no layout gives our shape."""


class Matched(Mapping[str, np.ndarray]):
    """Their arrays under our names and in our layout; each is read when it is accessed."""

    def __init__(self, theirs: Arrays, matches: Mapping[str, Match]) -> None:
        self.theirs, self.matches = theirs, matches

    def __getitem__(self, name: str) -> np.ndarray:
        match = self.matches[name]
        array = read_array(self.theirs, match.their_name, "theirs")
        return array if match.layout is None else match.layout.read(array)

    def __contains__(self, name: object) -> bool:
        return name in self.matches  # the default of Mapping would read the array

    def __iter__(self) -> Iterator[str]:
        return iter(self.matches)

    def __len__(self) -> int:
        return len(self.matches)


def read_array(arrays: Arrays, name: str, side: str) -> np.ndarray:
    """The array ``name`` of one side, on the host.

    Raises:
        ArgumentError: it is not an array of numbers.
    """
    value = arrays[name]
    try:
        array = to_host(value) if is_array(value) else np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # the last one: tensors of torch
        raise ArgumentError(f"{side}: {shown(name)}: expected an array: {error}") from error
    if array.dtype.name == "bfloat16":  # of ml_dtypes
        return array.astype(np.float32)
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        return array.astype(np.float64)
    if array.dtype.kind not in "biufc":
        raise ArgumentError(f"{side}: {shown(name)}: expected numbers, found {array.dtype}")
    return array


def shape_of(arrays: Arrays, name: str, side: str) -> Shape:
    """The shape of an array, without reading it if the mapping has a method ``shape``."""
    stored_shape = getattr(arrays, "shape", None)
    if callable(stored_shape):
        return tuple(stored_shape(name))
    value = arrays[name]
    return tuple(value.shape) if is_array(value) else read_array(arrays, name, side).shape


def match(
    ours: Arrays,
    theirs: Arrays,
    mapping: Mapping[str, Any] | str | PathLike[str] | None = None,
    visible: Visible = lambda name, shape: None,
) -> dict[str, Match]:
    """A :class:`Match` for each name of ours that has one, in our order.

    Arrays are matched by ``mapping`` first, then by equal names, then by their names without prefixes;
    those that remain on both sides are matched if their layouts fit and their values agree.
    ``visible(name, shape)`` says which entries of ours count.

    Raises:
        ArgumentError: ``mapping`` is not a mapping, or has an unknown name or one array twice; or two
            names of theirs differ only in their prefixes.
        FileError: the same for a mapping in a file.
    """
    matches = _read_mapping(mapping, ours, theirs)
    their_names = set(theirs)  # the ``in`` of a lazy mapping may read the array
    used = {m.their_name for m in matches.values()}
    by_bare_name: dict[str, list[str]] = {}
    for name in theirs:
        by_bare_name.setdefault(_without_prefixes(name), []).append(name)
    for name in ours:
        if name in matches:
            continue
        candidates = [name] if name in their_names else by_bare_name.get(name, [])
        if len(candidates) > 1:
            both = " and ".join(shown(n) for n in candidates[:2])
            raise ArgumentError(
                f"compare: other: {both} both match {name}; choose one by a mapping"
            )
        if len(candidates) == 1 and candidates[0] not in used:
            their_name = candidates[0]
            by = "name" if their_name == name else "prefix"
            matches[name] = Match(their_name, by, _layout(ours, theirs, name, their_name))
            used.add(their_name)
    unused = [name for name in theirs if name not in used]
    unmatched = [name for name in ours if name not in matches]
    if unused and unmatched:
        matches |= _by_value(ours, theirs, unmatched, unused, visible)
    return {name: matches[name] for name in ours if name in matches}


def _without_prefixes(name: str) -> str:
    while (shorter := name.removeprefix(next(filter(name.startswith, PREFIXES), ""))) != name:
        name = shorter
    return name


def _layout(ours: Arrays, theirs: Arrays, name: str, their_name: str) -> Layout | None:
    shapes = shape_of(ours, name, "ours"), shape_of(theirs, their_name, "theirs")
    candidates = layouts(*shapes)
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    # as many heads as tokens: only the values can decide
    values = sample(read_array(ours, name, "ours"), _SAMPLE)
    array = read_array(theirs, their_name, "theirs")
    return min(
        candidates, key=lambda layout: _distance(values, sample(layout.read(array), _SAMPLE))
    )


# --- a mapping ----------------------------------------------------------------------------------


def _read_mapping(mapping: Any, ours: Arrays, theirs: Arrays) -> dict[str, Match]:
    if mapping is None:
        return {}
    if isinstance(mapping, (str, PathLike)):
        path = str(mapping)
        try:
            return _checked_mapping(read_json_object(path), ours, theirs)
        except ArgumentError as error:
            raise FileError(f"{path}: {str(error).removeprefix('mapping: ')}") from error
    if not isinstance(mapping, Mapping):
        raise ArgumentError(
            f"mapping: expected {{our name: their name}} or a path, found {type(mapping).__name__}"
        )
    return _checked_mapping(mapping, ours, theirs)


def _checked_mapping(mapping: Mapping[Any, Any], ours: Arrays, theirs: Arrays) -> dict[str, Match]:
    faults, entries = [], {}
    our_names, their_names = set(ours), set(theirs)
    used: dict[str, str] = {}
    for name, value in mapping.items():
        their_name, transpose = _parse_entry(value)
        if name not in our_names:
            faults.append(f"{shown(name)} is not one of our names")
        elif their_name is None:
            faults.append(
                f'{name}: expected their name or {{"name": …, "transpose": true or false}}, '
                f"found {shown(value)}"
            )
        elif their_name not in their_names:
            faults.append(f"{name}: {shown(their_name)} is not one of their names")
        elif their_name in used:
            faults.append(f"{shown(their_name)} is mapped to both {used[their_name]} and {name}")
        else:
            used[their_name] = name
            entries[name] = (their_name, transpose)
    if faults:
        raise ArgumentError(f"mapping: {listed(faults, '; ', 5)}")
    return {
        name: Match(
            their_name, "mapping", _mapped_layout(ours, theirs, name, their_name, transpose)
        )
        for name, (their_name, transpose) in entries.items()
    }


def _parse_entry(value: Any) -> tuple[str | None, bool]:
    """Their name (None if the value is malformed), and whether their matrix is transposed."""
    if isinstance(value, str):
        return value, False
    if isinstance(value, Mapping) and set(value) <= {"name", "transpose"}:
        name, transpose = value.get("name"), value.get("transpose", False)
        if isinstance(name, str) and isinstance(transpose, bool):
            return name, transpose
    return None, False


def _mapped_layout(
    ours: Arrays, theirs: Arrays, name: str, their_name: str, transpose: bool
) -> Layout | None:
    if not transpose:
        return _layout(ours, theirs, name, their_name)
    shape = shape_of(theirs, their_name, "theirs")
    if len(shape) != 2:
        raise ArgumentError(
            f"mapping: {name}: expected two axes of {shown(their_name)}, which is to be "
            f"transposed, found the shape {shape}"
        )
    return TRANSPOSED if shape_of(ours, name, "ours") == shape[::-1] else None


# --- shape and value ----------------------------------------------------------------------------


def _by_value(
    ours: Arrays, theirs: Arrays, unmatched: list[str], unused: list[str], visible: Visible
) -> dict[str, Match]:
    """Matches by samples of the values; each array is read once."""
    shapes = {name: shape_of(ours, name, "ours") for name in unmatched}
    our_shapes = set(shapes.values())
    samples: list[Sample] = []
    for name in unused:
        readings = [(s, layout) for s in our_shapes for layout in _layouts_of(s, theirs, name)]
        if readings and (array := _floats(theirs, name, "theirs")) is not None:
            samples += [
                Sample(name, shape, layout, sample(layout.read(array), _SAMPLE))
                for shape, layout in readings
            ]
    matches: dict[str, Match] = {}
    used: set[str] = set()
    for name in unmatched:
        candidates = [s for s in samples if s.shape == shapes[name] and s.name not in used]
        if not candidates or (array := _floats(ours, name, "ours")) is None:
            continue
        counted = _visible_sample(visible, name, array.shape)
        best = _best_match(sample(array, _SAMPLE), counted, candidates)
        if best is not None:
            used.add(best.name)
            matches[name] = Match(best.name, "value", best.layout)
    return matches


class Sample(NamedTuple):
    """Some values of an array of theirs, read in one layout as an array of our shape."""

    name: str
    shape: Shape
    layout: Layout
    values: np.ndarray


def _layouts_of(shape: Shape, theirs: Arrays, name: str) -> list[Layout]:
    try:
        return layouts(shape, shape_of(theirs, name, "theirs"))
    except MinizhaError:  # an unused entry of theirs need not be an array
        return []


def _best_match(values: np.ndarray, counted: np.ndarray, candidates: list[Sample]) -> Sample | None:
    """The candidate that agrees. Of several equal ones (an array under two names) it is the first; if
    several agree that are not equal, there is none."""
    values = values[counted]
    if values.size > 1 and (values == values[0]).all():
        return None  # zeros or ones prove nothing
    near = [c for c in candidates if _distance(values, c.values[counted]) <= ALIKE]
    first = near[0].values[counted] if near else None
    if not near or any(_distance(first, c.values[counted]) > ALIKE / 100 for c in near):
        return None
    return near[0]


def _floats(arrays: Arrays, name: str, side: str) -> np.ndarray | None:
    try:
        array = read_array(arrays, name, side)
    except MinizhaError:
        return None
    return array if array.dtype.kind == "f" and array.size else None


def _visible_sample(visible: Visible, name: str, shape: Shape) -> np.ndarray:
    entries = visible(name, shape)
    return sample(np.broadcast_to(True if entries is None else entries, shape), _SAMPLE, dtype=bool)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """``max |a − b| / max |a|``; infinite if an entry is not finite."""
    if a.size == 0:
        return np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.abs(a - b).max() / (np.abs(a).max() or 1.0)
    return float(difference) if np.isfinite(difference) else np.inf
