"""Running a model: what comes out as one flat dictionary of NumPy arrays.

An entry of a tuple has the name of its field and its place (``hidden_states.0``,
``past_key_values.1.0``), the gradient of a parameter or of an input ``∂`` and its name.
"""

import numpy as np

from minizha.backend import to_host

ALL_FIELDS = {"output_hidden_states": True, "output_attentions": True}


def mapped(tree, function, name=""):
    """``function(name, array)`` of each array of a tree: x of ``{"a": (y, (x,))}`` is ``a.1.0``."""
    prefix = f"{name}." if name else ""
    if isinstance(tree, dict):
        return {key: mapped(node, function, f"{prefix}{key}") for key, node in tree.items()}
    if isinstance(tree, (tuple, list)):
        return tuple(mapped(node, function, f"{prefix}{i}") for i, node in enumerate(tree))
    return function(name, tree)


def flattened(tree):
    """Every array of a tree under its name, on the host."""
    arrays = {}
    mapped(tree, lambda name, array: arrays.update({name: to_host(array)}))
    return arrays


def fields(out):
    """Every array of an output, on the host."""
    return flattened(dict(out.items()))


def on_host(arrays):
    """The same dictionary with NumPy arrays."""
    return {name: to_host(array) for name, array in arrays.items()}


def copied(arrays):
    """The same dictionary with NumPy arrays of its own."""
    return {name: to_host(array).copy() for name, array in arrays.items()}


def perturb(model, seed=1):
    """Moves the parameters off 0 and 1, where a mistake might not show."""
    rng = np.random.default_rng(seed)
    model.load_state_dict(
        {
            name: to_host(array) + 0.3 * rng.standard_normal(array.shape)
            for name, array in model.state_dict().items()
        }
    )


def forward(model, inputs, **options):
    """Every field that the model can return, hidden states and attentions included."""
    return fields(model(**inputs, **(ALL_FIELDS | options)))


def backward(model, out, upstream=None):
    """The gradients of one backward pass, from ``upstream`` or the loss: parameters and inputs.

    Without that of head_mask, so that calls with and without a mask can be compared;
    model/test_more_gradients.py tests it."""
    model.zero_grad()
    of_inputs = dict(out.backward(**(upstream or {})))
    of_inputs.pop("head_mask", None)
    return {f"∂{name}": array for name, array in on_host(model.gradients() | of_inputs).items()}


def recorded(model, inputs, **options):
    """An output with every field and the record of its forward pass."""
    return model(**inputs, **(ALL_FIELDS | options), record=True)


def run(model, inputs, upstream=None):
    """Fields, and gradients from ``upstream`` or the loss."""
    out = recorded(model, inputs)
    return fields(out) | backward(model, out, upstream)


def random_upstream(out, rng=4):
    """An upstream gradient for every field but the loss; ``rng`` is a generator or a seed."""
    rng = np.random.default_rng(rng)
    values = {name: value for name, value in out.items() if name != "loss"}
    return mapped(values, lambda _, array: rng.standard_normal(array.shape))


def run_randomly(model, inputs, rng=4):
    """Fields and gradients from a random upstream gradient, and that upstream gradient."""
    out = recorded(model, inputs)
    upstream = random_upstream(out, rng)
    return fields(out) | backward(model, out, upstream), upstream
