"""What known mistakes make of the cases: the first array that differs, and what comes out.

For each mistake of minizha's catalogue, in the first case that shows it. Whoever has a wrong array can
look whether it is one of these.
"""

from typing import Any

import numpy as np
from v1_inputs import Arrays

from minizha import NezhaConfig
from minizha.crosscheck.diagnosis import CATALOGUE, mistaken
from minizha.crosscheck.names import is_gradient
from minizha.crosscheck.trace_file import Trace
from minizha.crosscheck.vectors import weight_beside

# those that show the most come first
FIRST = ("pretraining-clipped", "dropout-model", "model-empty-rows", "decoder-past")
SEEN = 1e-9  # of the largest number; and NaN is seen
RESULTS = ("pooler", "cls.predictions", "cls.seq_relationship", "classifier", "qa_outputs", "loss")
LAST_GRADIENT = "embeddings.word_embeddings.grad"


def make_mistakes(
    cases: dict[str, tuple[dict[str, Any], Arrays]],
) -> tuple[list, dict[str, Arrays]]:
    """The entries of mistakes.json, and the arrays of each mistake that is seen anywhere."""
    names = [*FIRST, *(name for name in cases if name not in FIRST)]
    traces = {name: as_trace(*cases[name]) for name in names}
    entries, arrays = [], {}
    for key in CATALOGUE:
        found = (outcome(key, name, traces[name]) for name in names)
        entry, kept = next(filter(None, found), (None, {}))
        if entry:
            entries.append(entry)
            arrays[key] = kept
    return entries, arrays


def as_trace(about: dict[str, Any], arrays: Arrays) -> Trace:
    """A case as what the diagnosis reads."""
    parts: dict[str, Arrays] = {}
    for name, array in arrays.items():
        part, _, rest = name.partition("/")
        parts.setdefault(part, {})[rest] = array
    return Trace(
        {name: parts["expected"][name] for name in about["expected"]},
        model_class=about["class"],
        config=NezhaConfig(**about["config"]),
        dtype=about["dtype"],
        training=about["training"],
        inputs=parts["inputs"],
        parameters=parts["parameters"],
    )


def outcome(key: str, case: str, trace: Trace) -> tuple[dict[str, Any], Arrays] | None:
    """What a mistake does to a case; None where it does not show."""
    try:
        with np.errstate(all="ignore"):
            found = {name: np.asarray(array) for name, array in mistaken(trace, key).items()}
    except (ValueError, IndexError):  # the mistake does not fit the shapes of this case
        return None
    if any(array.shape != trace[name].shape for name, array in found.items()):
        return None
    errors = ((name, distance(name, array, trace)) for name, array in found.items())
    first, error = next(((name, e) for name, e in errors if not e <= SEEN), (None, 0.0))
    if first is None:
        return None
    last = f"encoder.layer.{trace.config.num_hidden_layers - 1}"
    kept = {first, LAST_GRADIENT} if is_gradient(first) else {first, last, *RESULTS}
    names = [name for name in trace if name in kept and name in found]
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


def distance(name: str, found: np.ndarray, trace: Trace) -> float:
    """The error as `minizha vectors verify` measures it; NaN where a number became NaN."""
    beside = trace.get(weight_beside(name), trace[name])
    scale = max(np.abs(trace[name]).max(), np.abs(beside).max()) or 1.0
    return float(np.abs(found - trace[name]).max() / scale)
