"""Make test vectors from Transformers' NEZHA: parameters, inputs, outputs and gradients.

    python vectors/make_transformers_vectors.py --out vectors/transformers-4.37.2

Needs torch, transformers 4.37.2, numpy and safetensors; it does not import minizha. Everything is
computed in float64, on one thread, in eval mode. README.md in this folder describes the files.
"""

import argparse
import contextlib
import hashlib
import inspect
import io
import json
import math
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers_cases import ADAMW, CASES
from transformers_decoder_cases import DECODER_CASES
from transformers_head_cases import HEAD_CASES
from transformers_inputs import Case, make_inputs

VERSION = "4.37.2"
STEPS, WARMUP_STEPS, PEAK_LEARNING_RATE = 10, 3, 1e-2
WEIGHT_DECAY, BETAS, EPS, MAX_NORM = 0.01, (0.9, 0.999), 1e-8, 1.0
Arrays = dict[str, np.ndarray]
Tensors = dict[str, torch.Tensor]

FROM_MODEL = "the model's own"
FROM_LOGITS = (
    "torch.nn.CrossEntropyLoss (mean over labels other than -100) of the logits, as documented; "
    "Transformers itself returns None unless both labels are given"
)
ADAMW_NOTE = (
    "Ten steps of torch.optim.AdamW in eval mode on one batch, both losses. Step s = 0..9: forward "
    "and backward (losses[s] is the loss before the update), gradient_norms[s] is the global norm "
    "before clipping, every gradient is multiplied by min(1, 1 / (norm + 1e-6)) as "
    "torch.nn.utils.clip_grad_norm_ does, then AdamW updates with learning_rates[s] = "
    "peak * min(s / 3, (10 - s) / (10 - 3)), so the first step has learning rate 0 and changes the "
    "moments only. The norm falls below 1 on the way, so some steps are clipped and some are not. "
    "Biases and LayerNorm have no weight decay. A key bias's gradient is 0 in theory; Adam divides "
    "its rounding noise by about eps = 1e-8, so key biases agree to fewer digits than the rest."
)


def float64_relation(K: int, d: int, L: int) -> np.ndarray:
    """Return R[i, j] = T[clip(j - i, -K, K) + K], T sinusoidal over the shifted index 0..2K.

    T[p, 0::2] = sin(p w) and T[p, 1::2] = cos(p w) with w = 10000^(-c/d), c = 0, 2, … d - 2.
    Shape (L, L, d), float64.
    """
    angle = np.arange(2 * K + 1)[:, None] * np.exp(np.arange(0, d, 2) * (-math.log(10000.0) / d))
    table = np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(2 * K + 1, d)
    offset = np.arange(L)[None, :] - np.arange(L)[:, None]
    return table[np.clip(offset, -K, K) + K]


def overwrite_position_buffers(model: torch.nn.Module) -> None:
    """Replace the relation that Transformers computed in float32 by one in float64."""
    config = model.config
    d = config.hidden_size // config.num_attention_heads
    relation = float64_relation(config.max_relative_position, d, config.max_position_embeddings)
    layers = [m for m in model.modules() if hasattr(m, "positions_encoding")]
    expected = config.num_hidden_layers * (2 if config.add_cross_attention else 1)
    if len(layers) != expected:
        raise RuntimeError(f"{len(layers)} position buffers, expected {expected}")
    for layer in layers:
        error = np.abs(layer.positions_encoding.numpy() - relation).max()
        if error > 1e-5:
            raise RuntimeError(f"the formula is {error} away from Transformers' float32 table")
        layer.positions_encoding = torch.from_numpy(relation.copy())


def saved_keys(model: torch.nn.Module) -> list[str]:
    """Return the names in a file that save_pretrained writes."""
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, safe_serialization=True)
        with safe_open(Path(folder) / "model.safetensors", framework="np") as file:
            return sorted(file.keys())


def build(case: Case, rng: np.random.Generator) -> tuple[torch.nn.Module, Tensors]:
    """Return the model and its parameters by checkpoint name, filled in the order of the names.

    Each is normal(0, 0.1), a LayerNorm weight 1 + normal(0, 0.1). The pad row is not zeroed: a zero
    row would hide a wrong gradient there.
    """
    config = transformers.NezhaConfig(**case.config)
    model_class = getattr(transformers, case.class_name)
    model = model_class(config, **case.class_arguments).double().eval()
    parameters = dict(sorted(model.named_parameters()))
    if list(parameters) != saved_keys(model):
        raise RuntimeError(f"{case.name}: save_pretrained stores other names than the parameters'")
    with torch.no_grad():
        for name, parameter in parameters.items():
            centre = 1.0 if name.endswith("LayerNorm.weight") else 0.0
            parameter.copy_(torch.from_numpy(centre + rng.normal(0, 0.1, tuple(parameter.shape))))
    model.tie_weights()
    overwrite_position_buffers(model)
    return model, parameters


def compute_loss(model: torch.nn.Module, out: Any, inputs: Tensors) -> tuple[torch.Tensor, str]:
    """Return the loss and the sentence that says how it was computed."""
    if out.loss is not None:
        return out.loss, FROM_MODEL
    cross_entropy = torch.nn.CrossEntropyLoss()
    if "labels" in inputs:
        logits, labels = out.prediction_logits, inputs["labels"]
    else:
        logits, labels = out.seq_relationship_logits, inputs["next_sentence_label"]
    return cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1)), FROM_LOGITS


def flatten(fields: Iterable[tuple[str, Any]]) -> Tensors:
    """Return {name: tensor}; tuples become name.0, name.1, …, tuples in them name.0.0, …"""
    flat = {}
    for name, value in fields:
        if isinstance(value, tuple):
            flat |= flatten((f"{name}.{index}", part) for index, part in enumerate(value))
        else:
            flat[name] = value
    return flat


def call(model: torch.nn.Module, inputs: Tensors) -> tuple[Any, Tensors]:
    """Return the output and its fields; what Transformers prints is dropped."""
    with contextlib.redirect_stdout(io.StringIO()):
        out = model(**inputs, output_hidden_states=True, output_attentions=True)
    fields = dict(out)
    if "encoder_hidden_states" not in inputs:
        # Transformers 4.37.2 then puts the cached keys and values here
        fields.pop("cross_attentions", None)
    return out, flatten(fields.items())


def under(folder: str, tensors: Tensors | Arrays) -> Arrays:
    """Return contiguous arrays named folder/name; refuse other dtypes than float64 and int64, and
    numbers that are not finite."""
    arrays = {}
    for name, tensor in tensors.items():
        array = tensor.detach().numpy() if isinstance(tensor, torch.Tensor) else tensor
        if array.dtype not in (np.float64, np.int64) or not np.isfinite(array).all():
            raise RuntimeError(f"{folder}/{name}: {array.dtype} or not finite")
        arrays[f"{folder}/{name}"] = array.copy(order="C")
    return arrays


def run_case(case: Case) -> tuple[Arrays, dict[str, Any]]:
    """Return a case's arrays and the facts that only its run tells."""
    rng = np.random.default_rng(case.seed)
    model, parameters = build(case, rng)
    inputs = {name: torch.from_numpy(array) for name, array in make_inputs(rng, case).items()}
    arrays = under("parameters", parameters) | under("inputs", inputs)
    leaves = dict(parameters)
    for name in sorted(inputs.keys() & {"inputs_embeds", "encoder_hidden_states"}):
        leaves[name] = inputs[name].requires_grad_()
    out, outputs = call(model, inputs)
    facts = {}
    if case.upstream:
        names = [name for name in outputs if name.split(".")[0] in case.upstream]
        upstream = {name: torch.from_numpy(rng.normal(size=outputs[name].shape)) for name in names}
        start = sum((outputs[name] * gradient).sum() for name, gradient in upstream.items())
        arrays |= under("upstream", upstream)
    else:
        start, facts["loss"] = compute_loss(model, out, inputs)
        outputs["loss"] = start
    found = torch.autograd.grad(start, list(leaves.values()), allow_unused=True)
    gradients = {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }
    facts["without_gradient"] = [name for name, g in zip(leaves, found, strict=True) if g is None]
    return arrays | under("outputs", outputs) | under("gradients", gradients), facts


def run_adamw(case: Case) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays of ten optimizer steps; ADAMW_NOTE describes them."""
    rng = np.random.default_rng(case.seed)
    model, parameters = build(case, rng)
    inputs = {name: torch.from_numpy(array) for name, array in make_inputs(rng, case).items()}
    arrays = under("parameters", parameters) | under("inputs", inputs)
    undecayed = [name for name in parameters if name.endswith("bias") or "LayerNorm" in name]
    groups = [
        {"params": [p for name, p in parameters.items() if name not in undecayed]},
        {"params": [parameters[name] for name in undecayed], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups, PEAK_LEARNING_RATE, BETAS, EPS, weight_decay=WEIGHT_DECAY, foreach=False
    )
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, WARMUP_STEPS, STEPS)
    history = {"losses": [], "gradient_norms": [], "learning_rates": []}
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_NORM, foreach=False)
        history["losses"].append(loss.item())
        history["gradient_norms"].append(norm.item())
        history["learning_rates"].append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    arrays |= under("history", {name: np.array(values) for name, values in history.items()})
    for moment in ("exp_avg", "exp_avg_sq"):
        states = {name: optimizer.state[p][moment] for name, p in parameters.items()}
        arrays |= under(moment, states)
    description = {
        "name": "AdamW",
        "betas": BETAS,
        "eps": EPS,
        "weight_decay": WEIGHT_DECAY,
        "peak_learning_rate": PEAK_LEARNING_RATE,
        "warmup_steps": WARMUP_STEPS,
        "steps": STEPS,
        "max_norm": MAX_NORM,
    }
    facts = {"loss": FROM_MODEL, "no_weight_decay": undecayed, "optimizer": description}
    return arrays | under("final", parameters), facts


def complete_config(case: Case) -> dict[str, Any]:
    """Return every NezhaConfig value that the model depends on, including defaults."""
    config = transformers.NezhaConfig(**case.config)
    names = set(inspect.signature(transformers.NezhaConfig).parameters) - {"kwargs"}
    names |= {"tie_word_embeddings", "is_decoder", "add_cross_attention", "model_type"}
    names |= case.config.keys()  # such as num_labels and pruned_heads
    return {name: getattr(config, name) for name in sorted(names)}


def write(case: Case, arrays: Arrays, facts: dict[str, Any], out: Path) -> dict[str, Any]:
    """Save one case and return its entry in the manifest."""
    note = ADAMW_NOTE if case is ADAMW else case.note
    description = {
        "class": case.class_name,
        "class_arguments": case.class_arguments,
        "config": complete_config(case),
        "seed": case.seed,
        "note": note,
        "upstream": list(case.upstream),
    } | facts
    path = out / f"{case.name}.safetensors"
    # one metadata key only: several would be written in random order
    save_file(arrays, path, metadata={"case": json.dumps(description, sort_keys=True)})
    path.chmod(0o644)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"name": case.name, "file": path.name, "sha256": digest} | description


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--any-version", action="store_true", help=f"not only {VERSION}")
    arguments = parser.parse_args()
    if transformers.__version__ != VERSION and not arguments.any_version:
        print(f"transformers is {transformers.__version__}, expected {VERSION}", file=sys.stderr)
        return 2
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    cases = (*CASES, *DECODER_CASES, *HEAD_CASES)
    entries = [write(case, *run_case(case), arguments.out) for case in cases]
    entries.append(write(ADAMW, *run_adamw(ADAMW), arguments.out))
    versions = {m.__name__: str(m.__version__) for m in (torch, transformers, np, safetensors)}
    manifest = {"versions": versions, "dtype": "float64", "cases": entries}
    text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
    (arguments.out / "manifest.json").write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
