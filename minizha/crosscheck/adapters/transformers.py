"""A live Transformers model under our names: any of its eight Nezha classes, 4.37 to 4.57.

::

    from minizha import crosscheck
    from minizha.crosscheck.adapters import transformers as peer

    theirs = peer.record(their_model, inputs)
    print(crosscheck.compare(crosscheck.trace(our_model, inputs), theirs))

Not recorded: ``masked_lm_loss`` and ``next_sentence_loss``, which Transformers does not return apart,
and dropout factors: in train mode the two sides draw different ones.
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
    """Run the model, and walk back; return every named activation and gradient.

    Args:
        model: a Nezha model of Transformers. It is run in its own mode and dtype, on its device.
        inputs: keyword arguments of its call, as arrays or nested lists.
        gradients: whether to walk back: from the loss, else from ``upstream``.
        upstream: gradients of output fields; the default is that of
            :func:`~minizha.crosscheck.trace`.

    Convention: NezhaForPreTraining returns no loss unless both labels are given; with one of them
    the loss is here, as documented, the mean cross-entropy of that head's logits.

    Raises:
        ArgumentError: ``model`` is no Nezha model, or ``upstream`` does not fit its output.
        MinizhaError: Transformers failed on these inputs (as it does with ``past_key_values``).
    """
    if not isinstance(model, torch.nn.Module) or not type(model).__name__.startswith("Nezha"):
        found = type(model).__name__
        raise ArgumentError(f"record: model: expected a Nezha class of Transformers, found {found}")
    recorder = TorchRecorder()
    for name, module in model.named_modules():
        _listen(recorder, without_prefix(name), module)
    parameters = {without_prefix(name): p for name, p in model.named_parameters()}

    def call(given: dict[str, Any]) -> dict[str, Any]:
        arguments = given | {"return_dict": True, "output_attentions": True}
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # multiple choice prints its shapes
                out = dict(model(**arguments))
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            text = " ".join(str(error).split())
            raise MinizhaError(f"record: Transformers failed on these inputs: {text}") from error
        if "prediction_logits" in out and "loss" not in out:
            logits = out["prediction_logits"], out["seq_relationship_logits"]
            labels = given.get("labels"), given.get("next_sentence_label")
            out["loss"] = cross_entropies(zip(logits, labels, strict=True))
        return out

    return run(recorder, call, inputs, parameters, gradients, upstream)


def _listen(recorder: TorchRecorder, name: str, module: torch.nn.Module) -> None:
    if name == "embeddings":  # the caller's vectors never pass through word_embeddings
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
    """Put the float64 table of relative positions, rounded once, where Transformers has its own.

    It computes the sines in float32, up to 4.5e-6 away. For a comparison in float64 that is a
    divergence; in float32 it is noise, and nothing needs to be done. Returns the model, changed.
    """
    size, K = model.config.max_position_embeddings, model.config.max_relative_position
    rows = np.clip(np.arange(size) - np.arange(size)[:, None], -K, K) + K
    for module in model.modules():
        if hasattr(module, "positions_encoding"):
            R = relative_table(K, module.positions_encoding.shape[-1])[rows]
            module.positions_encoding = tensor(R, next(model.parameters()))
    return model
