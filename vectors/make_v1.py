"""Make the test vectors in vectors/v1: models, inputs, every activation and every gradient.

    python vectors/make_v1.py --out vectors/v1

Needs minizha alone. vectors/v1/README.md describes what is written; the cases are in v1_cases.py,
v1_more_cases.py and v1_negative.py, the outputs of known mistakes in v1_mistakes.py.
"""

import argparse
import hashlib
import json
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save
from v1_cases import CASES, FEATURES
from v1_inputs import Arrays, Case, make_inputs, make_parameters
from v1_mistakes import make_mistakes
from v1_negative import CONTROLS, NEGATIVE

import minizha
from minizha import NezhaConfig, crosscheck
from minizha.crosscheck.nesting import nested
from minizha.training.optimizer import AdamW, clip_by_global_norm
from minizha.training.schedule import linear_schedule

VERSION = 1
# of the largest number of each array: ten times the worst that minizha shows in float32, and less
# than what the tanh form of GELU changes; in float64 far above what other orders of summation do
TOLERANCE = {"float64": 1e-10, "float32": 5e-5}
OPTIMIZER = {
    "name": "AdamW", "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.01,
    "peak_learning_rate": 0.01, "warmup_steps": 3, "max_norm": 1.0,
}  # fmt: skip


def build(case: Case, dtype: str = "float64") -> tuple[Any, Arrays]:
    """The model of a case and its inputs."""
    rng = np.random.default_rng(case.seed)
    kind, config = getattr(minizha, case.kind), NezhaConfig(**case.config)
    model = kind(config, dtype=dtype, **case.class_arguments)
    shapes = {name: array.shape for name, array in model.state_dict().items()}
    model.load_state_dict(make_parameters(rng, shapes))
    return model if case.train is None else model.train(case.train), make_inputs(rng, case)


def make_case(case: Case) -> tuple[dict[str, Any], Arrays]:
    """What is known of a case, and its arrays."""
    model, inputs = build(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a long input
        trace = crosscheck.trace(model, nested(inputs))
    arrays = {f"parameters/{name}": array for name, array in trace.parameters.items()}
    arrays |= {f"inputs/{name}": array for name, array in trace.inputs.items()}
    arrays |= {f"expected/{name}": array for name, array in trace.items()}
    about = describe(case, trace)
    if case.steps:
        outcome = optimize(model, inputs, case.steps)
        arrays |= outcome
        about["optimizer"] = OPTIMIZER | {"steps": case.steps}
        # Adam divides the noise that a key bias has for a gradient by eps: no two programs agree on
        # it, and nothing depends on it
        about["outcome"] = [
            n for n in sorted(outcome) if not (n.startswith("final/") and n.endswith("key.bias"))
        ]
    check(case, arrays)
    return about, arrays


def describe(case: Case, trace: Any) -> dict[str, Any]:
    """The JSON file of a case."""
    losses = ("masked_lm_loss", "next_sentence_loss", "loss")
    return {
        "kind": "case",
        "version": VERSION,
        "name": case.name,
        "notes": case.notes,
        "covers": list(case.covers),
        "class": case.kind,
        "class_arguments": case.class_arguments,
        "config": trace.config.to_dict(),
        "training": case.train is not None,
        "dropout_seed": case.train,
        "dtype": "float64",
        "tolerance": TOLERANCE,
        "losses": {name: float(trace[name]) for name in losses if name in trace},
        "inputs": [
            {"name": name, "dtype": str(array.dtype), "shape": list(array.shape)}
            for name, array in trace.inputs.items()
        ],
        "expected": list(trace),
    }


def optimize(model: Any, inputs: Arrays, steps: int) -> Arrays:
    """Losses, norms and rates of some steps; the parameters after them, and Adam's moments."""
    o, history = OPTIMIZER, {"losses": [], "gradient_norms": [], "learning_rates": []}
    adam = AdamW(model, tuple(o["betas"]), o["eps"], o["weight_decay"])
    for step in range(steps):
        model.zero_grad()
        out = model(**inputs)
        out.backward()
        gradients, norm = clip_by_global_norm(model.gradients(), o["max_norm"])
        rate = linear_schedule(step, o["peak_learning_rate"], o["warmup_steps"], steps)
        adam.step(gradients, rate)
        for name, value in zip(history, (out.loss, norm, rate), strict=True):
            history[name].append(float(value))
    arrays = {f"history/{name}": np.array(values) for name, values in history.items()}
    arrays |= {f"final/{name}": array for name, array in model.state_dict().items()}
    arrays |= {f"exp_avg/{name}": array for name, array in adam.m.items()}
    return arrays | {f"exp_avg_sq/{name}": array for name, array in adam.v.items()}


def check(case: Case, arrays: Arrays) -> None:
    """Refuse what no vector may hold."""
    for name, array in arrays.items():
        whole = np.int64 if name.startswith("inputs/") else np.float64
        if array.dtype not in (np.float64, whole) or not np.isfinite(array).all():
            raise RuntimeError(f"{case.name}: {name} is {array.dtype} or not finite")


def as_json(content: dict[str, Any]) -> bytes:
    """An entry a line, lists of numbers in one; the same bytes each time."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    numbers = re.compile(r"\[[-\d.,eE\s]*\]")
    return (numbers.sub(lambda m: "".join(m[0].split()).replace(",", ", "), text) + "\n").encode()


def make_files() -> dict[str, bytes]:
    """Every file by its path, the schema and the manifest excepted."""
    cases = {case.name: make_case(case) for case in CASES}
    entries, mistakes = make_mistakes(cases)
    files = {f"cases/{name}.json": as_json(about) for name, (about, _) in cases.items()}
    files |= {f"cases/{name}.safetensors": as_file(a) for name, (_, a) in cases.items()}
    files |= {f"mistakes/{name}.safetensors": as_file(a) for name, a in mistakes.items()}
    negative = {"controls": CONTROLS, "cases": NEGATIVE}
    for name, content in (("negative", negative), ("mistakes", {"mistakes": entries})):
        files[f"{name}.json"] = as_json({"kind": name, "version": VERSION} | content)
    return files


def as_file(arrays: Arrays) -> bytes:
    """Laid out in C's order, which safetensors takes for granted; a loss keeps its shape, ()."""
    laid_out = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return save(laid_out, metadata={"minizha_vectors": str(VERSION)})


def manifest(files: dict[str, bytes]) -> dict[str, Any]:
    """What there is, with hashes; no date, so that the same numbers are the same bytes."""
    entries = [
        {"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in sorted(files.items())
    ]
    return {
        "kind": "manifest",
        "version": VERSION,
        "generator": {"minizha": minizha.__version__, "numpy": np.__version__},
        "features": FEATURES,
        "cases": [case.name for case in CASES],
        "files": entries,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    out = parser.parse_args().out
    files = make_files()
    schema = out / "schema.json"  # written by hand
    if schema.exists():
        files["schema.json"] = schema.read_bytes()
    for folder in ("cases", "mistakes"):
        (out / folder).mkdir(parents=True, exist_ok=True)
        for old in (out / folder).iterdir():
            if f"{folder}/{old.name}" not in files:
                old.unlink()
    for path, data in (files | {"manifest.json": as_json(manifest(files))}).items():
        (out / path).write_bytes(data)
    print(f"{len(CASES)} cases, {sum(map(len, files.values())):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
