"""Records a Transformers model (4.37 to 4.57) of any of its eight Nezha classes under our names.

::

    from minizha import crosscheck
    from minizha.crosscheck.adapters import transformers as peer

    theirs = peer.record(their_model, inputs)
    print(crosscheck.compare(crosscheck.trace(our_model, inputs), theirs))

Not recorded: ``masked_lm_loss`` and ``next_sentence_loss``, which Transformers does not return
separately, and dropout factors, which differ between the two sides in train mode.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from minizha.crosscheck.adapters.torch_recorder import (
    TorchRecorder,
    cross_entropies,
    run,
    tensor,
    torch,
)
from minizha.crosscheck.names import entry, without_prefix
from minizha.errors import ArgumentError, MinizhaError
from minizha.ops.relative_position import relative_table


def record(
    model: torch.nn.Module,
    inputs: Mapping[str, Any],
    gradients: bool = True,
    upstream: Mapping[str, Any] | None = None,
) -> dict[str, np.ndarray]:
    """Run the model forward and backward; return every named activation and gradient.

    Args:
        model: a Nezha model of Transformers. It runs in its mode and dtype, on its device.
        inputs: the keyword arguments of its call, as arrays or nested lists.
        gradients: whether to run the backward pass, from the loss or from ``upstream``.
        upstream: upstream gradients of output fields; the default is that of
            :func:`~minizha.crosscheck.trace`.

    Convention: NezhaForPreTraining returns no loss unless both labels are given; with one of them
    the loss recorded here is the mean cross-entropy of that head's logits, as documented.

    Raises:
        ArgumentError: ``model`` is not a Nezha model, or ``upstream`` does not fit its output.
        MinizhaError: Transformers failed on these inputs (as it does with ``past_key_values``).
    """
    if not isinstance(model, torch.nn.Module) or not type(model).__name__.startswith("Nezha"):
        found = type(model).__name__
        raise ArgumentError(f"record: model: expected a Nezha class of Transformers, found {found}")
    recorder = TorchRecorder()
    for name, module in model.named_modules():
        _add_hooks(recorder, without_prefix(name), module)
    parameters = {without_prefix(name): p for name, p in model.named_parameters()}

    def call(tensors: dict[str, Any]) -> dict[str, Any]:
        arguments = tensors | {"return_dict": True, "output_attentions": True}
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # multiple choice prints its shapes
                out = dict(model(**arguments))
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            text = " ".join(str(error).split())
            raise MinizhaError(f"record: Transformers failed on these inputs: {text}") from error
        if "prediction_logits" in out and "loss" not in out:
            logits = out["prediction_logits"], out["seq_relationship_logits"]
            labels = tensors.get("labels"), tensors.get("next_sentence_label")
            out["loss"] = cross_entropies(zip(logits, labels, strict=True))
        return out

    return run(recorder, call, inputs, parameters, gradients, upstream)


def _add_hooks(recorder: TorchRecorder, name: str, module: torch.nn.Module) -> None:
    if name == "embeddings":  # inputs_embeds do not pass through word_embeddings
        recorder.input(module, "embeddings.word_embeddings", "inputs_embeds")
    if name.endswith(("attention.self", "crossattention.self")):
        prefix = name.removesuffix(".self")
        recorder.attention(module, prefix)
        recorder.output(module, f"{prefix}.weights", 1)
        recorder.output(module, f"{prefix}.context")
    elif name == "cls.predictions.transform.LayerNorm":
        recorder.input(module, "cls.predictions.transform.activation")
    elif entry(name) is not None:
        recorder.output(module, name)


def exact_table(model: torch.nn.Module) -> torch.nn.Module:
    """Replace a model's table of relative positions by the exact one; return the model.

    Transformers computes the sines in float32, with errors up to 4.5e-6. A comparison in float64 names
    them and counts them as no difference, but sees no other error that is as small. In float32 they are
    noise, and the table need not be replaced.
    """
    size, K = model.config.max_position_embeddings, model.config.max_relative_position
    rows = np.clip(np.arange(size) - np.arange(size)[:, None], -K, K) + K
    for module in model.modules():
        if hasattr(module, "positions_encoding"):
            R = relative_table(K, module.positions_encoding.shape[-1])[rows]
            module.positions_encoding = tensor(R, next(model.parameters()))
    return model
