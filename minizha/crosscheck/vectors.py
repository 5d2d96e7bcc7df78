"""Test vectors: is a folder of someone's results what the vectors say should come out?

The vectors are a folder outside of this package (``vectors/v1`` of the repository); its README says
what lies there. Whoever has another implementation runs it on the cases, in any language, and
writes what came out to ``RESULTS/<case>.safetensors``, under the names of a trace.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minizha.checkpoint.safetensors_file import stored_safetensors
from minizha.checkpoint.stored import StoredTensor, shown
from minizha.config import NezhaConfig
from minizha.crosscheck.comparison.measure import measure
from minizha.crosscheck.comparison.visible import visible_entries
from minizha.crosscheck.trace_file import StoredTrace, open_trace
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
# the gradient of some biases is 0 in theory, and only that of the weight tells what is small there
_BIAS = re.compile(r"\bbias(\.grad)?$")


class VectorCase(NamedTuple):
    """One case: ``about`` is its JSON file, ``stored`` its arrays, read one at a time; ``config`` and
    ``inputs`` as a trace has them."""

    about: dict[str, Any]
    stored: dict[str, StoredTensor]
    config: NezhaConfig
    inputs: Mapping[str, np.ndarray]

    @property
    def places(self) -> dict[str, str]:
        """``{name of a result: name in the file}`` of all that is compared, in execution order."""
        return {name: _EXPECTED + name for name in self.about["expected"]} | {
            name: name for name in self.about.get("outcome", ())
        }

    def expected(self, name: str) -> np.ndarray:
        """What should come out."""
        return self.stored[self.places[name]].read()


def verify(folder: str | PathLike[str], vectors: str | PathLike[str] | None = None) -> VerifyReport:
    """Compare the results in ``folder`` with the vectors.

    Args:
        folder: has ``<case>.safetensors`` for some cases or all, with any of the case's arrays under
            their names in float32 or float64; and ``negative.json``, if wanted:
            ``{case: "refused" or "accepted"}`` for the negative cases and their controls.
        vectors: the folder with ``manifest.json``; None: the one of this copy of the repository.

    Convention: ``error = max |result − expected| / max |expected|``, at most the case's tolerance for
    the coarsest dtype of the file. A bias's gradient is measured by its weight's, where that is
    larger: keys' and some classifiers' biases have gradient 0 in theory. Scores that a mask hides
    are not looked at.

    Raises:
        FileError: a file is missing or can't be read, or there is nothing to verify.
        ArgumentError: an argument is no path.
    """
    folder = folder_path(folder)
    vectors = _own_vectors() if vectors is None else folder_path(vectors)
    names = _names(vectors)
    if not folder.is_dir():
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
        FileError: there is no such case, or a file of it is damaged.
    """
    place = folder_path(vectors) / "cases"
    path = place / f"{name}.json"
    about = read_json_object(path)
    _check_kind(path, about, "case")
    if about.get("name") != name:
        raise FileError(
            f"{path}: expected the case {shown(name)}, found {shown(about.get('name'))}"
        )
    stored = stored_safetensors(place / f"{name}.safetensors")
    inputs = {
        n.removeprefix("inputs/"): t.read() for n, t in stored.items() if n.startswith("inputs/")
    }
    try:
        config = NezhaConfig.from_dict(about["config"])
        case = VectorCase(about, stored, config, inputs)
        absent = [place for place in case.places.values() if place not in stored]
        if absent:
            raise KeyError(f"no array {listed(absent)}")
        if not all(0 < about["tolerance"][dtype] < 1 for dtype in ("float32", "float64")):
            raise ValueError("a tolerance that is none")
    except (KeyError, TypeError, ValueError, AttributeError, MinizhaError) as error:
        raise FileError(f"{path}: not a case of test vectors: {error}") from error
    return case


def weight_beside(name: str) -> str | None:
    """The array that a bias's gradient is measured by; None for all other arrays."""
    return _BIAS.sub(r"weight\1", name) if _BIAS.search(name) else None


def _verify_case(case: VectorCase, theirs: StoredTrace) -> CaseResult:
    # a copy of the case's own file will do as well
    found = {name.removeprefix(_EXPECTED): name for name in theirs}
    names = [name for name in case.places if name in found]
    others = ("final/", "parameters/", "inputs/")  # key biases, and what a copy brings along
    unknown = [n for n in found if n not in case.places and not n.startswith(others)]
    total, about = len(case.places), {"unknown": tuple(shown(n) for n in unknown)}
    if not names:
        nothing = Divergence("", float("nan"), 0.0, reason="no array under a name of the case")
        return CaseResult(case.about["name"], DIFFERENT, total=total, divergence=nothing, **about)
    coarse = any(theirs[found[name]].dtype.itemsize < 8 for name in names)
    dtype = "float32" if coarse else "float64"
    tolerance = float(case.about["tolerance"][dtype])
    checked = [_check(case, name, theirs[found[name]], dtype, tolerance) for name in names]
    wrong = [c for c in checked if c.reason or not c.error <= tolerance]
    return CaseResult(
        case.about["name"], DIFFERENT if wrong else EQUAL, dtype, len(names), total, len(wrong),
        max(c.error for c in checked), wrong[0] if wrong else None, **about,
    )  # fmt: skip


def _check(
    case: VectorCase, name: str, theirs: np.ndarray, dtype: str, tolerance: float
) -> Divergence:
    """The measurements of one array, right or wrong."""
    ours, reason = case.expected(name), ""
    if ours.ndim == 0 and theirs.size == 1:  # some writers know no arrays without an axis
        theirs = theirs.reshape(())
    if theirs.dtype.kind != "f":
        reason = f"{theirs.dtype} where float32 or float64 is expected"
    elif theirs.shape != ours.shape:
        reason = f"shape {theirs.shape} where {ours.shape} is expected"
    if reason:
        return Divergence(name, float("inf"), tolerance, reason=reason)
    found = measure(ours, theirs, dtype, visible_entries(case, name, ours.shape))
    scale = found.scale
    if (weight := weight_beside(name)) in case.places:
        scale = max(scale, float(np.abs(case.expected(weight)).max()))
    error = found.max_abs / (scale or 1.0)
    return Divergence(name, error, tolerance, found.index, found.ours, found.theirs, found.broken)


def _answers(path: Path, cases: Path) -> tuple[dict[str, str], int]:
    """The wrong answers to the negative cases, and how many answers there are."""
    if not path_exists(path):
        return {}, 0
    found, about = read_json_object(path), read_json_object(cases)
    _check_kind(cases, about, "negative")
    right = {case["name"]: "refused" for case in about["cases"]}
    right |= {case["name"]: "accepted" for case in about["controls"]}
    for name, answer in found.items():
        if name not in right or answer not in OUTCOMES:
            raise FileError(
                f"{path}: expected the names of negative cases with {' or '.join(OUTCOMES)}, found "
                f"{shown(name)}: {shown(answer)}"
            )
    return {name: right[name] for name, a in found.items() if a != right[name]}, len(found)


def _names(vectors: Path) -> list[str]:
    path = vectors / "manifest.json"
    manifest = read_json_object(path)
    _check_kind(path, manifest, "manifest")
    names = manifest.get("cases")
    # a name becomes a part of a path
    if not isinstance(names, list) or not names or not all(map(_is_plain, names)):
        raise FileError(f"{path}: expected the names of cases, found {shown(names)}")
    return names


def _is_plain(name: Any) -> bool:
    return isinstance(name, str) and re.fullmatch(r"[\w-]+", name) is not None


def _check_kind(path: Path, content: dict[str, Any], kind: str) -> None:
    if content.get("kind") != kind or content.get("version") != VERSION:
        raise FileError(f"{path}: expected the {kind} of test vectors, version {VERSION}")


def _own_vectors() -> Path:
    path = Path(__file__).parents[2] / "vectors" / "v1"
    if not path_exists(path / "manifest.json"):
        raise ArgumentError(
            "vectors: expected the folder of the test vectors, which an installed package does not "
            "bring along: vectors/v1 of the repository"
        )
    return path
