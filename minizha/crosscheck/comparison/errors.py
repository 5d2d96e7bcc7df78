"""All independent errors: the arrays that do not follow from their own inputs, by their causes."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from minizha.crosscheck.comparison.differences import Error, Finding
from minizha.crosscheck.diagnosis import diagnose

SECONDS = 15.0
"""The time for the search of causes. After it no further mistake is tried, and a remark says so."""

MOST_UNEXPLAINED = 6
"""After so many errors without a known mistake, others are only held against mistakes found so far."""


class Errors(NamedTuple):
    """The errors, in execution order, and remarks on the search for their causes."""

    found: tuple[Error, ...]
    remarks: tuple[str, ...]


def find_errors(
    ours: Any,
    theirs: Mapping[str, np.ndarray],
    wrong: Sequence[str],
    precisions: Mapping[str, str],
    allowed: Mapping[str, float],
    *,
    diagnose: bool,
) -> Errors:
    """Group the arrays in ``wrong`` by the known mistakes that give them.

    ``allowed`` is the largest error of each array that rounding explains. Arrays without a known
    mistake are one error where they are the same array of several layers. Remarks are those on the
    first.
    """
    if not diagnose:
        groups: dict[Any, list[str]] = {}
        for name in wrong:
            groups.setdefault(_in_any_layer(name), []).append(name)
        return Errors(tuple(Error(tuple(names)) for names in groups.values()), ())
    return _with_causes(ours, theirs, wrong, precisions, allowed)


def _with_causes(
    ours: Any,
    theirs: Mapping[str, np.ndarray],
    wrong: Sequence[str],
    precisions: Mapping[str, str],
    allowed: Mapping[str, float],
) -> Errors:
    end = time.monotonic() + SECONDS
    names: dict[Any, list[str]] = {}
    causes: dict[Any, tuple[Finding, ...]] = {}
    remarks: list[str] = []
    for name in wrong:
        if name not in precisions:  # of another shape, or no floats
            names[name], causes[name] = [name], ()
            continue
        known = [f.mistake for findings in causes.values() for f in findings]
        unexplained = sum(not findings for findings in causes.values())
        if unexplained >= MOST_UNEXPLAINED and not known:
            names.setdefault(_in_any_layer(name), []).append(name)
            causes.setdefault(_in_any_layer(name), ())
            continue
        found = diagnose(
            ours,
            theirs,
            name,
            precision=precisions.get(name),
            seconds=end - time.monotonic() if unexplained < MOST_UNEXPLAINED else 0.0,
            known=known,
            allowed=allowed.get(name),
        )
        key = tuple(f.mistake for f in found.findings) or _in_any_layer(name)
        if not names:
            remarks += found.remarks
        causes.setdefault(key, found.findings)
        names.setdefault(key, []).append(name)
    errors = (Error(tuple(arrays), causes[key]) for key, arrays in names.items())
    return Errors(tuple(errors), tuple(remarks))


def float32_table(arrays: tuple[str, ...]) -> Error:
    """The error, which is none, of a float64 port whose relative table is made in float32."""
    return Error(arrays, text="the relative table is made in float32", benign=True)


def _in_any_layer(name: str) -> str:
    """The name without the number of its layer."""
    return re.sub(r"^encoder\.layer\.\d+", "encoder.layer.*", name)
