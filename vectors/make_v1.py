"""Make the test vectors in vectors/v1: models, inputs, every activation and every gradient.

    python vectors/make_v1.py --out vectors/v1

Needs only minizha. vectors/v1/README.md describes the files. The cases are in v1_cases.py,
v1_more_cases.py and v1_negative.py; v1_mistakes.py computes the outputs of known mistakes.
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
# relative to the largest number of an array. In float32 it is ten times the largest error of minizha
# and less than the tanh form of GELU changes; in float64 far more than orders of summation change
TOLERANCE = {"float64": 1e-10, "float32": 5e-5}
OPTIMIZER = {
    "name": "AdamW",
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.01,
    "peak_learning_rate": 0.01,
    "warmup_steps": 3,
    "max_norm": 1.0,
}


def build(case: Case, dtype: str = "float64") -> tuple[Any, Arrays]:
    """The model of a case and its inputs."""
    rng = np.random.default_rng(case.seed)
    model_class, config = getattr(minizha, case.class_name), NezhaConfig(**case.config)
    model = model_class(config, dtype=dtype, **case.class_arguments)
    shapes = {name: array.shape for name, array in model.state_dict().items()}
    model.load_state_dict(make_parameters(rng, shapes))
    return model if case.train is None else model.train(case.train), make_inputs(rng, case)


def make_case(case: Case) -> tuple[dict[str, Any], Arrays]:
    """The description of a case, and its arrays."""
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
        # the gradient of a key bias is rounding noise, which Adam divides by eps: no two programs
        # agree on the result, and nothing depends on it
        about["outcome"] = [
            n for n in sorted(outcome) if not (n.startswith("final/") and n.endswith("key.bias"))
        ]
    check(case, arrays)
    return about, arrays


def describe(case: Case, trace: Any) -> dict[str, Any]:
    """The content of a case's JSON file."""
    losses = ("masked_lm_loss", "next_sentence_loss", "loss")
    return {
        "kind": "case",
        "version": VERSION,
        "name": case.name,
        "notes": case.notes,
        "covers": list(case.covers),
        "class": case.class_name,
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
    """Losses, norms and learning rates of the steps; final parameters and Adam's moments."""
    o, history = OPTIMIZER, {"losses": [], "gradient_norms": [], "learning_rates": []}
    adam = AdamW(model, tuple(o["betas"]), o["eps"], o["weight_decay"])
    for step in range(steps):
        model.zero_grad()
        out = model(**inputs)
        out.backward()
        gradients, norm = clip_by_global_norm(model.gradients(), o["max_norm"])
        learning_rate = linear_schedule(step, o["peak_learning_rate"], o["warmup_steps"], steps)
        adam.step(gradients, learning_rate)
        for name, value in zip(history, (out.loss, norm, learning_rate), strict=True):
            history[name].append(float(value))
    arrays = {f"history/{name}": np.array(values) for name, values in history.items()}
    arrays |= {f"final/{name}": array for name, array in model.state_dict().items()}
    arrays |= {f"exp_avg/{name}": array for name, array in adam.m.items()}
    return arrays | {f"exp_avg_sq/{name}": array for name, array in adam.v.items()}


def check(case: Case, arrays: Arrays) -> None:
    """Refuse any dtype but float64 (and int64 in inputs), and numbers that are not finite."""
    for name, array in arrays.items():
        dtypes = (np.float64, np.int64) if name.startswith("inputs/") else (np.float64,)
        if array.dtype not in dtypes or not np.isfinite(array).all():
            raise RuntimeError(f"{case.name}: {name} is {array.dtype} or not finite")


def as_json(content: dict[str, Any]) -> bytes:
    """JSON with an entry a line, but each list of numbers in one; the same bytes each time."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    numbers = re.compile(r"\[[-\d.,eE\s]*\]")
    return (numbers.sub(lambda m: "".join(m[0].split()).replace(",", ", "), text) + "\n").encode()


def make_files() -> dict[str, bytes]:
    """Every file by its path, except the schema and the manifest."""
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
    """A safetensors file. The library expects C-contiguous arrays; a loss keeps its shape, ()."""
    contiguous = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return save(contiguous, metadata={"minizha_vectors": str(VERSION)})


def manifest(files: dict[str, bytes]) -> dict[str, Any]:
    """All files with their hashes; no date, so that the same numbers give the same bytes."""
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
