"""Builds a bert4torch model (0.6.2) from a config, loads our parameters, and records its arrays.

::

    theirs = bert4torch.build(model.config, "NezhaForPreTraining")
    bert4torch.load(theirs, model.state_dict())
    print(crosscheck.compare(crosscheck.trace(model, inputs), bert4torch.record(theirs, inputs)))

Version 0.6.2 does not divide NEZHA's scores by √d, and computes softmax in float32 for every dtype of
the model. It needs Python 3.12, and also requests, pillow, httpx, regex and torchvision, which pip
does not install with it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minizha.config import NezhaConfig
from minizha.crosscheck.adapters.torch_recorder import TorchRecorder, cross_entropies, run, torch
from minizha.crosscheck.names import entry, without_prefix
from minizha.errors import ArgumentError, MinizhaError

_OPTIONS = {
    "NezhaModel": {"with_pool": True},
    "NezhaForPreTraining": {"with_pool": True, "with_nsp": True, "with_mlm": True},
    "NezhaForMaskedLM": {"with_mlm": True},
    "NezhaForNextSentencePrediction": {"with_pool": True, "with_nsp": True},
}
_ARGUMENTS = ("input_ids", "token_type_ids", "attention_mask", "labels", "next_sentence_label")
# the last parts of their modules' names, with our name of the module's output or first input
_OUTPUTS = {
    "embeddings": "embeddings",
    "pooler_activation": "pooler",
    "multiHeadAttention.dropout": "attention.weights",
}
_FIRST_INPUTS = {
    "mlmLayerNorm": "cls.predictions.transform.activation",
    "multiHeadAttention.o": "attention.context",
    "feedForward.outputDense": "intermediate",
}


def build(config: NezhaConfig, class_name: str = "NezhaForPreTraining") -> torch.nn.Module:
    """A new bert4torch model of that config, in eval mode, with random weights; downloads nothing.

    Raises:
        ArgumentError: bert4torch has no such class.
        MinizhaError: bert4torch is not installed.
    """
    if class_name not in _OPTIONS:
        raise ArgumentError(
            f"class_name: expected one of {', '.join(_OPTIONS)}, found {class_name!r}"
        )
    try:
        from bert4torch.models import build_transformer_model
    except ImportError as error:
        raise MinizhaError(f"bert4torch: {error}; try: pip install bert4torch==0.6.2") from error
    theirs = config.to_dict() | {"model": "nezha", "pos_emb_type": "typical_relative"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bert4torch_config.json")
        path.write_text(json.dumps(theirs), encoding="utf-8")
        return build_transformer_model(config_path=str(path), **_OPTIONS[class_name]).eval()


def load(model: torch.nn.Module, parameters: Mapping[str, np.ndarray]) -> torch.nn.Module:
    """Copy our parameters (the arrays of a ``state_dict()``) into a bert4torch model.

    Raises:
        ArgumentError: a parameter is missing or has another shape.
    """
    ours = {without_prefix(name): np.array(value) for name, value in parameters.items()}
    for name, parameter in _parameters(model).items():
        found, expected = ours[name].shape if name in ours else "nothing", tuple(parameter.shape)
        if found != expected:
            raise ArgumentError(f"load: {name}: expected the shape {expected}, found {found}")
        parameter.data.copy_(torch.from_numpy(ours[name]))
    return model


def record(
    model: torch.nn.Module,
    inputs: Mapping[str, Any],
    gradients: bool = True,
    upstream: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Run the model forward and backward; return every named activation and gradient.

    ``inputs`` may be ids, token types, a mask of two or three axes with zeros and ones, and labels;
    the other arguments are those of the adapter for Transformers.

    Convention: bert4torch has no loss; here it is the mean cross-entropy, as documented. Without a
    mask bert4torch hides the pad token; here a mask of ones is the default.

    Raises:
        ArgumentError: ``inputs`` has other arguments, or ``upstream`` does not fit the output.
    """
    if not {"input_ids"} <= set(inputs) <= set(_ARGUMENTS):
        expected, found = ", ".join(_ARGUMENTS), ", ".join(inputs)
        raise ArgumentError(f"record: inputs: expected some of {expected}, found {found}")
    ids = np.asarray(inputs["input_ids"])
    inputs = {"token_type_ids": ids * 0, "attention_mask": ids * 0 + 1} | dict(inputs)
    recorder, table = TorchRecorder(), _table(model)
    for name, module in model.named_modules():
        _add_hooks(recorder, module, name, table.get(f"{name}.weight", ""))

    def call(tensors: dict[str, Any]) -> dict[str, Any]:
        return_dict, model.return_dict = model.return_dict, True
        mask = tensors["attention_mask"]
        arguments = {name: tensors[name] for name in ("input_ids", "token_type_ids")}
        out = model(attention_mask=mask[:, None] if mask.ndim == 3 else mask, **arguments)
        model.return_dict = return_dict
        return _fields(out, tensors.get("labels"), tensors.get("next_sentence_label"))

    return run(recorder, call, inputs, _parameters(model), gradients, upstream)


def _table(model: torch.nn.Module) -> dict[str, str]:
    """{their name of a parameter: ours}, from bert4torch's table for reading checkpoints."""
    return {k: without_prefix(v) for k, v in model.variable_mapping(prefix="nezha").items()}


def _parameters(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    table = _table(model)
    return {table.get(name, name): parameter for name, parameter in model.named_parameters()}


def _add_hooks(recorder: TorchRecorder, module: torch.nn.Module, theirs: str, weight: str) -> None:
    """``weight`` is our name of the module's weight, which begins with the name of its output."""
    _, number, step = (*theirs.split(".", 2), "", "")[:3]
    step, layer = (step, f"encoder.layer.{number}.") if step and number.isdigit() else (theirs, "")
    if step == "multiHeadAttention":
        recorder.attention(module, f"{layer}attention")
    if step in _FIRST_INPUTS:
        recorder.input(module, layer + _FIRST_INPUTS[step])
    while weight and entry(weight) is None:
        weight = weight.rpartition(".")[0]
    if weight or step in _OUTPUTS:
        recorder.output(module, weight or layer + _OUTPUTS[step])


def _fields(out: Mapping[str, Any], labels: Any, pair_labels: Any) -> dict[str, Any]:
    words, pairs = out.get("mlm_scores"), out.get("nsp_scores")
    if words is not None and pairs is not None:
        loss = cross_entropies([(words, labels), (pairs, pair_labels)])
        return {"prediction_logits": words, "seq_relationship_logits": pairs, "loss": loss}
    if words is None and pairs is None:
        return {
            "last_hidden_state": out["last_hidden_state"],
            "pooler_output": out["pooled_output"],
        }
    logits = pairs if words is None else words
    return {"logits": logits, "loss": cross_entropies([(logits, labels)])}
