"""Every array of a forward and a backward pass, by name and in execution order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from minizha.backend import Array, is_array, to_backend, to_host
from minizha.checks import flag
from minizha.crosscheck.names import FLOAT_INPUTS, GRADIENT, UPSTREAM, without_prefix
from minizha.crosscheck.nesting import flat
from minizha.crosscheck.recorder import record_operations
from minizha.crosscheck.trace_entries import TraceEntry, trace_entries
from minizha.crosscheck.trace_file import Trace
from minizha.errors import ArgumentError
from minizha.model.base import ParameterisedModel
from minizha.model.outputs import ModelOutput
from minizha.nezha.losses import MaskedWordsCache, NextSentenceCache

LOGITS = (
    "prediction_logits",
    "seq_relationship_logits",
    "logits",
    "start_logits",
    "end_logits",
)
"""The output fields that hold logits."""


def trace(
    model: Any,
    inputs: Mapping[str, Any],
    gradients: bool = True,
    *,
    upstream: Mapping[str, Any] | None = None,
) -> Trace:
    """Run the model forward and backward; return every named activation and gradient.

    Args:
        model: any of the Nezha classes; it is not changed. In train mode the dropout is the one
            that its next call would draw, and its factors are in the trace.
        inputs: the keyword arguments of its call.
        gradients: whether to run the backward pass, from the loss or from ``upstream``.
        upstream: upstream gradients of output fields, of the fields' shapes. By default the
            backward pass starts from the loss; without a loss the upstream gradients are cos(0),
            cos(1), cos(2), … in C order for ``last_hidden_state`` and ``pooler_output``, or for
            the logits of a class with heads.

    Returns:
        A :class:`~minizha.crosscheck.trace_file.Trace` of NumPy arrays in the model's dtype. Its
        ``inputs`` contain the upstream gradients as ``upstream.<field>``.

    Convention: ``chunk_size_feed_forward`` is ignored, since it changes how much memory a layer needs
    and its numbers only by rounding.

    Raises:
        ArgumentError: ``model`` or an argument is not as described.
    """
    _check(model, inputs, upstream)
    gradients = flag("trace: gradients", gradients)
    copy = model.copy_with(chunk_size_feed_forward=0)
    arguments = dict(inputs) | {"record": True, "return_dict": True}
    upstream_arrays: dict[str, Any] = {}
    input_gradients: dict[str, Any] = {}
    with record_operations() as recorder:
        out = copy(**arguments)
        for field in LOGITS:
            getattr(out, field, None)  # computes the logits of all tokens, which are lazy
        if gradients:
            upstream_arrays = _upstream(copy, out, upstream)
            returned = out.backward(**upstream_arrays)
            input_gradients = {n: returned[n] for n in FLOAT_INPUTS if n in returned}
    entries = list(trace_entries(out.record, _values(copy, inputs, out), recorder))
    arrays = {entry.name: entry.value for entry in entries}
    if gradients:
        arrays |= _gradients(entries, copy, input_gradients)
    return Trace(
        {name: to_host(array) for name, array in arrays.items()},
        model_class=type(model).__name__,
        config=model.config,
        dtype=model.dtype,
        training=model.training,
        inputs=_named(dict(inputs) | {UPSTREAM + f: d for f, d in upstream_arrays.items()}),
        parameters={name: to_host(p) for name, p in model.state_dict().items()},
    )


def default_upstream(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """The upstream gradients of a model without a loss: cos(0), cos(1), cos(2), … in C order for each
    of the output fields ``last_hidden_state``, ``pooler_output`` and :data:`LOGITS` in ``shapes``."""
    fields = [f for f in ("last_hidden_state", "pooler_output", *LOGITS) if f in shapes]
    return {f: np.cos(np.arange(math.prod(shapes[f]))).reshape(shapes[f]) for f in fields}


def _check(model: Any, inputs: Any, upstream: Any) -> None:
    if not isinstance(model, ParameterisedModel):
        found = type(model).__name__
        raise ArgumentError(f"trace: model: expected one of the Nezha classes, found {found}")
    if not isinstance(inputs, Mapping):
        found = type(inputs).__name__
        raise ArgumentError(f"trace: inputs: expected keyword arguments, found {found}")
    if inputs.get("num_items_in_batch") is not None:
        raise ArgumentError(
            "trace: inputs: num_items_in_batch: expected None, since a trace has one whole batch"
        )
    if inputs.get("logits_for") is not None:
        raise ArgumentError(
            "trace: inputs: logits_for: expected None, since a trace has the logits of all tokens"
        )
    if upstream is not None and not isinstance(upstream, Mapping):
        found = type(upstream).__name__
        raise ArgumentError(f"trace: upstream: expected {{field: gradient}}, found {found}")


def _upstream(model: Any, out: ModelOutput, upstream: Mapping[str, Any] | None) -> dict[str, Array]:
    """The upstream gradients on the model's backend; an empty dict means the loss."""
    if upstream is None and "loss" not in out:
        upstream = default_upstream({n: value.shape for n, value in out.items() if is_array(value)})
    return {
        name: to_backend(d, model.xp, dtype=model.dtype) if is_array(d) else d
        for name, d in (upstream or {}).items()
    }


def _values(model: Any, inputs: Mapping[str, Any], out: ModelOutput) -> dict[str, Array | None]:
    """The arrays of a trace that no operation's cache leads to."""
    embeds = inputs.get("inputs_embeds")
    if embeds is not None:
        embeds = to_backend(embeds, model.xp, dtype=model.dtype)
        embeds = embeds.reshape(-1, *embeds.shape[-2:])  # multiple choice: B·C rows
    terms = {MaskedWordsCache: "masked_lm_loss", NextSentenceCache: "next_sentence_loss"}
    losses = {
        terms[type(cache)]: loss
        for cache, loss in zip(out.record.tasks, out.record.losses, strict=True)
        if type(cache) in terms
    }
    return {"inputs_embeds": embeds, "loss": getattr(out, "loss", None), **losses}


def _gradients(
    entries: list[TraceEntry], model: Any, input_gradients: Mapping[str, Any]
) -> dict[str, Array]:
    """The gradients in the order of the backward pass: that of ``entries``, reversed."""
    parameters = {without_prefix(name): d for name, d in model.gradients().items()}
    arrays: dict[str, Array] = {}
    for entry in reversed(entries):
        if entry.gradient is not None:
            arrays[entry.name + GRADIENT] = entry.gradient
        for name in entry.parameters:
            if name in parameters:
                arrays[name + GRADIENT] = parameters[name]
    for name, d in flat(input_gradients).items():
        if name != "inputs_embeds":  # that is the gradient of embeddings.word_embeddings
            arrays[name + GRADIENT] = d
    return arrays


def _named(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays among the arguments of a call, on the host, without None and flags."""
    return {
        name: np.asarray(to_host(value) if is_array(value) else value, order="C")
        for name, value in flat(tree).items()
        if value is not None and not isinstance(value, bool)
    }
