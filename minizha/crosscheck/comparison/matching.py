"""Which array of theirs is which of ours: by name, by a mapping, or by shape and value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import is_array, to_host
from minizha.checkpoint.stored import shown
from minizha.crosscheck.comparison.layouts import TRANSPOSED, Layout, Shape, layouts
from minizha.crosscheck.comparison.measure import sample
from minizha.errors import ArgumentError, FileError, MinizhaError, listed
from minizha.files import read_json_object

PREFIXES = ("nezha.", "bert.", "module.", "model.")
"""What ports put before the names; taken off, all there are."""

ALIKE = 2e-4
"""Arrays whose sampled entries differ by less, relative to the largest, are taken for the same: more
than float32 makes of one array, less than there is between two of a model."""

_SAMPLE = 509

Arrays = Mapping[str, Any]
Seen = Callable[[str, Shape], np.ndarray | None]


class Match(NamedTuple):
    """Their name and layout of one of ours; ``by`` is "name", "prefix", "mapping" or "value"."""

    their_name: str
    by: str
    layout: Layout | None
    """None where no layout makes their shape ours."""


class Matched(Mapping[str, np.ndarray]):
    """Their arrays under our names and in our layout, each read when it is asked for."""

    def __init__(self, theirs: Arrays, matches: Mapping[str, Match]) -> None:
        self.theirs, self.matches = theirs, matches

    def __getitem__(self, name: str) -> np.ndarray:
        match = self.matches[name]
        array = read_array(self.theirs, match.their_name, "theirs")
        return array if match.layout is None else match.layout.read(array)

    def __contains__(self, name: object) -> bool:
        return name in self.matches  # Mapping's own way would be to read it

    def __iter__(self) -> Iterator[str]:
        return iter(self.matches)

    def __len__(self) -> int:
        return len(self.matches)


def read_array(arrays: Arrays, name: str, side: str) -> np.ndarray:
    """One array, on the host.

    Raises:
        ArgumentError: it is no array of numbers.
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
    """The shape of an array, unread where the mapping can tell."""
    ask = getattr(arrays, "shape", None)
    if callable(ask):
        return tuple(ask(name))
    value = arrays[name]
    return tuple(value.shape) if is_array(value) else read_array(arrays, name, side).shape


def match(
    ours: Arrays,
    theirs: Arrays,
    mapping: Mapping[str, Any] | str | PathLike[str] | None = None,
    seen: Seen = lambda name, shape: None,
) -> dict[str, Match]:
    """A :class:`Match` for each name of ours that has one, in our order.

    In this order: what ``mapping`` says; equal names; their names without prefixes; then, of what is
    left on both sides, arrays that can be laid out alike and agree in their values. ``seen(name,
    shape)`` says which entries of ours count.

    Raises:
        ArgumentError: the mapping is none, or names what is not there, or one array twice; or two
            names of theirs are one of ours, but for their prefixes.
        FileError: the same, of a mapping in a file.
    """
    found = _read_mapping(mapping, ours, theirs)
    there = set(theirs)  # to ask a lazy mapping for a name is to read the array
    used = {m.their_name for m in found.values()}
    bare: dict[str, list[str]] = {}
    for name in theirs:
        bare.setdefault(_without_prefixes(name), []).append(name)
    for name in ours:
        if name in found:
            continue
        exact = [name] if name in there else bare.get(name, [])
        if len(exact) > 1:
            both = " and ".join(shown(n) for n in exact[:2])
            raise ArgumentError(f"compare: other: {both} may both be {name}; a mapping says which")
        if len(exact) == 1 and exact[0] not in used:
            by = "name" if exact[0] == name else "prefix"
            found[name] = Match(exact[0], by, _layout(ours, theirs, name, exact[0]))
            used.add(exact[0])
    left = [name for name in theirs if name not in used]
    absent = [name for name in ours if name not in found]
    if left and absent:
        found |= _by_value(ours, theirs, absent, left, seen)
    return {name: found[name] for name in ours if name in found}


def _without_prefixes(name: str) -> str:
    while (shorter := name.removeprefix(next(filter(name.startswith, PREFIXES), ""))) != name:
        name = shorter
    return name


def _layout(ours: Arrays, theirs: Arrays, name: str, their_name: str) -> Layout | None:
    shapes = shape_of(ours, name, "ours"), shape_of(theirs, their_name, "theirs")
    found = layouts(*shapes)
    if len(found) < 2:
        return found[0] if found else None
    # as many heads as tokens: only the values can tell
    wanted = sample(read_array(ours, name, "ours"), _SAMPLE)
    array = read_array(theirs, their_name, "theirs")
    return min(found, key=lambda layout: _distance(wanted, sample(layout.read(array), _SAMPLE)))


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
    faults, found = [], {}
    known, there = set(ours), set(theirs)
    taken: dict[str, str] = {}
    for name, value in mapping.items():
        their_name, transpose = _said(value)
        if name not in known:
            faults.append(f"{shown(name)} is no name of ours")
        elif their_name is None:
            faults.append(
                f'{name}: expected their name or {{"name": …, "transpose": true or false}}, '
                f"found {shown(value)}"
            )
        elif their_name not in there:
            faults.append(f"{name}: there is no {shown(their_name)} among theirs")
        elif their_name in taken:
            faults.append(f"{shown(their_name)} stands for {taken[their_name]} and for {name}")
        else:
            taken[their_name] = name
            found[name] = (their_name, transpose)
    if faults:
        raise ArgumentError(f"mapping: {listed(faults, '; ', 5)}")
    return {
        name: Match(their_name, "mapping", _asked_layout(ours, theirs, name, their_name, turned))
        for name, (their_name, turned) in found.items()
    }


def _said(value: Any) -> tuple[str | None, bool]:
    if isinstance(value, str):
        return value, False
    if isinstance(value, Mapping) and set(value) <= {"name", "transpose"}:
        name, transpose = value.get("name"), value.get("transpose", False)
        if isinstance(name, str) and isinstance(transpose, bool):
            return name, transpose
    return None, False


def _asked_layout(
    ours: Arrays, theirs: Arrays, name: str, their_name: str, transpose: bool
) -> Layout | None:
    if not transpose:
        return _layout(ours, theirs, name, their_name)
    shape = shape_of(theirs, their_name, "theirs")
    if len(shape) != 2:
        raise ArgumentError(
            f"mapping: {name}: to transpose {shown(their_name)} it needs two axes, found {shape}"
        )
    return TRANSPOSED if shape_of(ours, name, "ours") == shape[::-1] else None


# --- shape and value ----------------------------------------------------------------------------


def _by_value(
    ours: Arrays, theirs: Arrays, absent: list[str], left: list[str], seen: Seen
) -> dict[str, Match]:
    """Of each array a sample is taken in one reading; the samples are compared."""
    shapes = {name: shape_of(ours, name, "ours") for name in absent}
    wanted = set(shapes.values())
    samples: list[tuple[str, Shape, Layout, np.ndarray]] = []
    for name in left:
        ways = [(shape, way) for shape in wanted for way in _ways(shape, theirs, name)]
        if ways and (array := _floats(theirs, name, "theirs")) is not None:
            samples += [(name, shape, way, sample(way.read(array), _SAMPLE)) for shape, way in ways]
    found: dict[str, Match] = {}
    used: set[str] = set()
    for name in absent:
        candidates = [s for s in samples if s[1] == shapes[name] and s[0] not in used]
        if not candidates or (array := _floats(ours, name, "ours")) is None:
            continue
        best = _alike(sample(array, _SAMPLE), _seen_sample(seen, name, array.shape), candidates)
        if best is not None:
            used.add(best[0])
            found[name] = Match(best[0], "value", best[2])
    return found


def _ways(shape: Shape, theirs: Arrays, name: str) -> list[Layout]:
    try:
        return layouts(shape, shape_of(theirs, name, "theirs"))
    except MinizhaError:  # what stands unused beside their arrays need not be one
        return []


def _alike(
    values: np.ndarray, counts: np.ndarray, candidates: list[tuple[str, Shape, Layout, np.ndarray]]
) -> tuple[str, Shape, Layout, np.ndarray] | None:
    """The one that agrees; of several that are equal, as the same array under two names, the first;
    of several that are not, none."""
    values = values[counts]
    if values.size > 1 and (values == values[0]).all():
        return None  # zeros or ones prove nothing
    near = [c for c in candidates if _distance(values, c[3][counts]) <= ALIKE]
    if not near or any(_distance(near[0][3][counts], c[3][counts]) > ALIKE / 100 for c in near):
        return None
    return near[0]


def _floats(arrays: Arrays, name: str, side: str) -> np.ndarray | None:
    try:
        array = read_array(arrays, name, side)
    except MinizhaError:
        return None
    return array if array.dtype.kind == "f" and array.size else None


def _seen_sample(seen: Seen, name: str, shape: Shape) -> np.ndarray:
    visible = seen(name, shape)
    return sample(np.broadcast_to(True if visible is None else visible, shape), _SAMPLE, dtype=bool)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """``max |a − b| / max |a|``; infinite where one is not finite."""
    if a.size == 0:
        return np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        off = np.abs(a - b).max() / (np.abs(a).max() or 1.0)
    return float(off) if np.isfinite(off) else np.inf
