"""The arrays that known mistakes give in the cases: the first that differs, and the results.

Each mistake of KEYS is shown in the first case in which it changes an array. A wrong
array of another implementation can be compared with these.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from v1_inputs import Arrays

from minizha import NezhaConfig
from minizha.crosscheck.diagnosis import CATALOGUE, mistaken
from minizha.crosscheck.names import is_gradient
from minizha.crosscheck.trace_file import Trace
from minizha.crosscheck.vectors import weight_beside

# the cases that show the most mistakes
FIRST_CASES = ("pretraining-clipped", "dropout-model", "model-empty-rows", "decoder-past")
VISIBLE_ERROR = 1e-9  # relative to the largest number; NaN counts as visible
RESULTS = ("pooler", "cls.predictions", "cls.seq_relationship", "classifier", "qa_outputs", "loss")
LAST_GRADIENT = "embeddings.word_embeddings.grad"
OWN_FILE = Path(__file__).parent / "v1" / "mistakes.json"
KEYS = [entry["name"] for entry in json.loads(OWN_FILE.read_text("utf-8"))["mistakes"]]
"""The mistakes of the first version, which later ones are not added to, in the order of its file."""


def make_mistakes(
    cases: dict[str, tuple[dict[str, Any], Arrays]],
) -> tuple[list, dict[str, Arrays]]:
    """The entries of mistakes.json, and the arrays of each mistake that changes any case."""
    names = [*FIRST_CASES, *(name for name in cases if name not in FIRST_CASES)]
    traces = {name: as_trace(*cases[name]) for name in names}
    entries, arrays = [], {}
    for key in KEYS:
        outcomes = (outcome(key, name, traces[name]) for name in names)
        entry, changed = next(filter(None, outcomes), (None, {}))
        if entry:
            entries.append(entry)
            arrays[key] = changed
    return entries, arrays


def as_trace(about: dict[str, Any], arrays: Arrays) -> Trace:
    """A case as the trace that the diagnosis takes."""
    folders: dict[str, Arrays] = {}
    for path, array in arrays.items():
        folder, _, name = path.partition("/")
        folders.setdefault(folder, {})[name] = array
    return Trace(
        {name: folders["expected"][name] for name in about["expected"]},
        model_class=about["class"],
        config=NezhaConfig(**about["config"]),
        dtype=about["dtype"],
        training=about["training"],
        inputs=folders["inputs"],
        parameters=folders["parameters"],
    )


def outcome(key: str, case: str, trace: Trace) -> tuple[dict[str, Any], Arrays] | None:
    """Entry and arrays of a mistake in a case; None if it changes nothing there."""
    try:
        with np.errstate(all="ignore"):
            found = {name: np.asarray(array) for name, array in mistaken(trace, key).items()}
    except (ValueError, IndexError):  # the mistake does not fit the shapes of this case
        return None
    if any(array.shape != trace[name].shape for name, array in found.items()):
        return None
    errors = ((name, relative_error(name, array, trace)) for name, array in found.items())
    first, error = next(((name, e) for name, e in errors if not e <= VISIBLE_ERROR), (None, 0.0))
    if first is None:
        return None
    last = f"encoder.layer.{trace.config.num_hidden_layers - 1}"
    stored = {first, LAST_GRADIENT} if is_gradient(first) else {first, last, *RESULTS}
    names = [name for name in trace if name in stored and name in found]
    entry = {
        "name": key,
        "text": CATALOGUE[key].text,
        "seen_in": CATALOGUE[key].seen_in,
        "case": case,
        "first": first,
        "error": error if np.isfinite(error) else None,
        "arrays": names,
    }
    return entry, {name: found[name] for name in names}


def relative_error(name: str, found: np.ndarray, trace: Trace) -> float:
    """The error as `minizha vectors verify` measures it; NaN if any number is NaN."""
    beside = trace.get(weight_beside(name), trace[name])
    scale = max(np.abs(trace[name]).max(), np.abs(beside).max()) or 1.0
    return float(np.abs(found - trace[name]).max() / scale)
