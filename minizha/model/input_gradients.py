"""The gradients that ``backward`` returns: of the float inputs, and of the hidden states.

``call`` is the :class:`~minizha.model.call.Call` whose backward pass gave the gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from minizha.backend import Array, to_backend
from minizha.nezha.encoder import InputGradients, LayerInputs


def input_gradients(call: Any, gradients: InputGradients) -> dict[str, Any]:
    """The gradients of the float inputs that were given, with zeros in place of None."""
    layers, zeros = call.inputs.layers, call.model.xp.zeros_like
    inputs_and_gradients = {
        "inputs_embeds": (call.inputs.inputs_embeds, gradients.x),
        "encoder_hidden_states": (
            layers[0].encoder_hidden_states,
            gradients.encoder_hidden_states,
        ),
    }
    result: dict[str, Any] = {}
    for name, (x, d) in inputs_and_gradients.items():
        if x is not None:
            d = zeros(x) if d is None else d
            result[name] = d if len(call.batch) == 1 else d.reshape(*call.batch, *d.shape[1:])
    if layers[0].attention.past is not None:
        result["past_key_values"] = tuple(
            tuple(d or (zeros(array) for array in _past_arrays(layer)))
            for layer, d in zip(layers, gradients.past_key_values, strict=True)
        )
    if call.head_mask is not None:
        result["head_mask"] = _head_mask_gradient(call, gradients)
    return result


def _head_mask_gradient(call: Any, gradients: InputGradients) -> Array:
    """The gradient of the head mask, (N,) or (layers, N): the sum over self-attention and
    cross-attention, for (N,) over the layers too; 0 for a pruned head."""
    model, config = call.model, call.model.config
    xp, N, rows = model.xp, config.num_attention_heads, []
    for i, (unpruned, cross) in enumerate(gradients.head_mask):
        row = xp.zeros(N, dtype=model.dtype if unpruned is None else unpruned.dtype)
        if unpruned is not None:
            row[to_backend(np.array(config.unpruned_heads(i)), xp)] = unpruned.reshape(-1)
        rows.append(row if cross is None else row + cross.reshape(-1))
    d = xp.stack(rows)  # (layers, N)
    return d if call.head_mask == d.shape else d.sum(axis=0)


def hidden_gradients(call: Any, gradients: InputGradients) -> tuple[Array, ...] | None:
    """The gradients of the hidden states, with zeros in place of None; None if they are no output."""
    if not call.hidden_states:
        return None
    model = call.model
    shape = (*call.shape, model.config.hidden_size)
    return tuple(
        model.xp.zeros(shape, dtype=model.dtype) if d is None else d
        for d in gradients.hidden_states
    )


def _past_arrays(layer: LayerInputs) -> list[Array]:
    """The past keys and values that a layer was given."""
    attentions = (layer.attention, layer.crossattention)
    pasts = [inputs.past for inputs in attentions if inputs is not None]
    return [array for past in pasts if past is not None for array in past]
