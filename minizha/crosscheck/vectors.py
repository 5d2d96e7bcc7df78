"""Test vectors: checks a folder of results against them.

The vectors are a folder outside of this package (``vectors/v1`` of the repository), which its README
describes. An implementation in any language computes the cases and writes its results to
``RESULTS/<case>.safetensors``, under the names of a trace.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from math import nan
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minizha.checkpoint.safetensors_file import stored_safetensors
from minizha.checkpoint.stored import StoredTensor, shown
from minizha.config import NezhaConfig
from minizha.crosscheck.comparison.measure import measure
from minizha.crosscheck.comparison.overall import rounding_of
from minizha.crosscheck.comparison.verdict import TIMES
from minizha.crosscheck.comparison.visible import visible_entries
from minizha.crosscheck.trace_file import StoredTrace, Trace, open_trace
from minizha.crosscheck.vectors_report import (
    DIFFERENT,
    EQUAL,
    MISSING,
    CaseResult,
    Divergence,
    VerifyReport,
)
from minizha.errors import ArgumentError, FileError, MinizhaError, listed
from minizha.files import folder_path, path_exists, read_json_object

VERSION = 1
OUTCOMES = ("refused", "accepted")
_EXPECTED = "expected/"
# the gradients of some biases are 0 in theory, so those of the weights serve as their scale
_BIAS = re.compile(r"\bbias(\.grad)?$")


class VectorCase(NamedTuple):
    """One case: ``description`` is its JSON file, ``stored`` its arrays, which are read one at a time;
    ``config`` and ``inputs`` are as in a trace."""

    description: dict[str, Any]
    stored: dict[str, StoredTensor]
    config: NezhaConfig
    inputs: Mapping[str, np.ndarray]

    @property
    def stored_names(self) -> dict[str, str]:
        """``{name of a result: name in the file}`` of all arrays to compare, in execution order."""
        return {name: _EXPECTED + name for name in self.description["expected"]} | {
            name: name for name in self.description.get("outcome", ())
        }

    def expected(self, name: str) -> np.ndarray:
        """The right result ``name``."""
        return self.stored[self.stored_names[name]].read()


def verify(folder: str | PathLike[str], vectors: str | PathLike[str] | None = None) -> VerifyReport:
    """Compare the results in ``folder`` with the vectors.

    Args:
        folder: has ``<case>.safetensors`` for some cases or all, with any arrays of the case under
            their names in float32 or float64; and optionally ``negative.json``,
            ``{case: "refused" or "accepted"}`` for the negative cases and their controls.
        vectors: the folder with ``manifest.json``; None: the one of this copy of the repository.

    Convention: ``error = max |result − expected| / max |expected|`` must be at most the case's
    tolerance for the coarsest dtype of the file, or 12 times what rounding to that dtype does to the
    array, which is measured. The scale of a bias's gradient is at least that of
    its weight's: keys' and some classifiers' biases have gradient 0 in theory. Scores that a mask
    hides are not compared.

    Raises:
        FileError: a file is missing or can't be read, or there are no results.
        ArgumentError: an argument is not a path.
    """
    folder = folder_path(folder)
    vectors = _vectors_of_repository() if vectors is None else folder_path(vectors)
    names = _case_names(vectors)
    if not os.path.isdir(folder):
        raise FileError(f"{folder}: expected a folder with results")
    files = {path.stem: path for path in sorted(folder.glob("*.safetensors"))}
    wrong, answers = _answers(folder / "negative.json", vectors / "negative.json")
    if not answers and not files.keys() & set(names):
        raise FileError(f"{folder}: no results; expected files such as {names[0]}.safetensors")
    cases = tuple(
        _verify_case(read_case(vectors, name), open_trace(files[name]))
        if name in files
        else CaseResult(name, MISSING)
        for name in names
    )
    unknown = tuple(path.name for name, path in files.items() if name not in names)
    return VerifyReport(cases, wrong, answers, unknown)


def read_case(vectors: str | PathLike[str], name: str) -> VectorCase:
    """The case ``name`` of a folder of vectors.

    Raises:
        FileError: there is no such case, or one of its files is damaged.
    """
    folder = folder_path(vectors) / "cases"
    path = folder / f"{name}.json"
    description = read_json_object(path)
    _check_kind(path, description, "case")
    if description.get("name") != name:
        raise FileError(
            f"{path}: expected the case {shown(name)}, found {shown(description.get('name'))}"
        )
    stored = stored_safetensors(folder / f"{name}.safetensors")
    inputs = {
        n.removeprefix("inputs/"): t.read() for n, t in stored.items() if n.startswith("inputs/")
    }
    try:
        config = NezhaConfig.from_dict(description["config"])
        case = VectorCase(description, stored, config, inputs)
        missing = [n for n in case.stored_names.values() if n not in stored]
        if missing:
            raise KeyError(f"no array {listed(missing)}")
        if not all(0 < description["tolerance"][dtype] < 1 for dtype in ("float32", "float64")):
            raise ValueError("expected tolerances between 0 and 1")
    except (KeyError, TypeError, ValueError, AttributeError, MinizhaError) as error:
        raise FileError(f"{path}: not a case of test vectors: {error}") from error
    return case


def weight_beside(name: str) -> str | None:
    """The array that gives the scale of a bias or of its gradient; None for other arrays."""
    return _BIAS.sub(r"weight\1", name) if _BIAS.search(name) else None


def _verify_case(case: VectorCase, theirs: StoredTrace) -> CaseResult:
    # the results may be a copy of the case's own file, where names begin with "expected/"
    their_names = {name.removeprefix(_EXPECTED): name for name in theirs}
    names = [name for name in case.stored_names if name in their_names]
    other_arrays = (
        "final/",
        "parameters/",
        "inputs/",
    )  # of such a copy; final/ has key biases, too
    unknown = tuple(
        shown(name)
        for name in their_names
        if name not in case.stored_names and not name.startswith(other_arrays)
    )
    name, total = case.description["name"], len(case.stored_names)
    if not names:
        nothing = Divergence("", float("nan"), 0.0, reason="no array under a name of the case")
        return CaseResult(name, DIFFERENT, total=total, divergence=nothing, unknown=unknown)
    coarse = any(theirs[their_names[n]].dtype.itemsize < 8 for n in names)
    dtype = "float32" if coarse else "float64"
    rounding = _rounding(case, dtype)
    checked = [_check(case, n, theirs[their_names[n]], dtype, rounding.get(n)) for n in names]
    wrong = [c for c in checked if c.reason or not c.error <= c.tolerance]
    return CaseResult(
        name=name,
        status=DIFFERENT if wrong else EQUAL,
        dtype=dtype,
        compared=len(names),
        total=total,
        wrong=len(wrong),
        largest_error=max(c.error for c in checked),
        times_rounding=max((c.error / c.rounding for c in checked if c.rounding), default=nan),
        divergence=wrong[0] if wrong else None,
        unknown=unknown,
    )


def _rounding(case: VectorCase, dtype: str) -> dict[str, float]:
    """What rounding to the dtype does to each array, measured; the files of version 1 do not say."""
    description, parameters = case.description, "parameters/"
    trace = Trace(
        {name: case.expected(name) for name in description["expected"]},
        model_class=description["class"],
        config=case.config,
        dtype=description["dtype"],
        training=description["training"],
        inputs=dict(case.inputs),
        parameters={
            name.removeprefix(parameters): tensor.read()
            for name, tensor in case.stored.items()
            if name.startswith(parameters)
        },
    )
    try:
        return rounding_of(trace, dtype)
    except (KeyError, ValueError, IndexError, TypeError, AttributeError):  # a damaged case
        return {}


def _check(
    case: VectorCase, name: str, theirs: np.ndarray, dtype: str, rounding: float | None
) -> Divergence:
    """The error of one array, right or wrong."""
    ours, reason = case.expected(name), ""
    tolerance = float(case.description["tolerance"][dtype])
    if ours.ndim == 0 and theirs.size == 1:  # some writers can't write arrays without axes
        theirs = theirs.reshape(())
    if theirs.dtype.kind != "f":
        reason = f"{theirs.dtype} where float32 or float64 is expected"
    elif theirs.shape != ours.shape:
        reason = f"shape {theirs.shape} where {ours.shape} is expected"
    if reason:
        return Divergence(name, float("inf"), tolerance, reason=reason)
    measured = measure(ours, theirs, dtype, visible_entries(case, name, ours.shape))
    scale = measured.scale
    if (weight := weight_beside(name)) in case.stored_names:
        scale = max(scale, float(np.abs(case.expected(weight)).max()))
    relative = (rounding or 0.0) / (scale or 1.0)
    tolerance = max(tolerance, TIMES * relative)
    return Divergence(
        name=name,
        error=measured.max_abs / (scale or 1.0),
        tolerance=tolerance,
        rounding=relative,
        index=measured.index,
        expected=measured.ours,
        found=measured.theirs,
        reason=measured.broken,
    )


def _answers(path: Path, cases: Path) -> tuple[dict[str, str], int]:
    """The wrong answers to the negative cases, and the number of all answers."""
    if not path_exists(path):
        return {}, 0
    answers, description = read_json_object(path), read_json_object(cases)
    _check_kind(cases, description, "negative")
    right = {case["name"]: "refused" for case in description["cases"]}
    right |= {case["name"]: "accepted" for case in description["controls"]}
    for name, answer in answers.items():
        if name not in right or answer not in OUTCOMES:
            raise FileError(
                f"{path}: expected the names of negative cases with {' or '.join(OUTCOMES)}, found "
                f"{shown(name)}: {shown(answer)}"
            )
    return {name: right[name] for name, a in answers.items() if a != right[name]}, len(answers)


def _case_names(vectors: Path) -> list[str]:
    path = vectors / "manifest.json"
    manifest = read_json_object(path)
    _check_kind(path, manifest, "manifest")
    names = manifest.get("cases")
    # names are used in paths
    if not isinstance(names, list) or not names or not all(map(_is_case_name, names)):
        raise FileError(f"{path}: expected the names of cases, found {shown(names)}")
    return names


def _is_case_name(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r"[\w-]+", name) is not None


def _check_kind(path: Path, content: dict[str, Any], kind: str) -> None:
    if content.get("kind") != kind or content.get("version") != VERSION:
        raise FileError(f"{path}: expected the {kind} of test vectors, version {VERSION}")


def _vectors_of_repository() -> Path:
    path = Path(__file__).parents[2] / "vectors" / "v1"
    if not path_exists(path / "manifest.json"):
        raise ArgumentError(
            "vectors: expected the folder of the test vectors, vectors/v1 of the repository, found "
            "None; an installed package does not contain it"
        )
    return path
