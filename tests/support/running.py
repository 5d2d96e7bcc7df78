"""Running a model and comparing what came out, for the property tests.

A run is a flat dictionary of host arrays: the fields of the output under their names
(``hidden_states.0`` for the entries of a tuple), gradients under ``∂`` and the parameter's name.
"""

import numpy as np

from minizha.backend import to_host

TOLERANCE = 1e-12


def fields(out):
    """The fields of an output, as they are."""
    found = {}
    for name, value in out.items():
        if isinstance(value, tuple):
            found |= {f"{name}.{i}": array for i, array in enumerate(value)}
        else:
            found[name] = value
    return found


def on_host(arrays):
    """The same dictionary with NumPy arrays."""
    return {name: to_host(array) for name, array in arrays.items()}


def forward(model, inputs, **options):
    """Every field that the model can give, hidden states and attentions too."""
    options = {"output_hidden_states": True, "output_attentions": True} | options
    return on_host(fields(model(**inputs, **options)))


def backward(model, out, upstream=None):
    """Fresh gradients of every parameter and float input, from ``upstream`` or the loss."""
    model.zero_grad()
    given = out.backward(**(upstream or {}))
    return {f"∂{name}": array for name, array in on_host(model.gradients() | given).items()}


def recorded(model, inputs):
    """An output with every field that can be walked back from."""
    return model(**inputs, output_hidden_states=True, output_attentions=True, record=True)


def run(model, inputs, upstream=None):
    """Outputs, and the gradients from ``upstream`` or the loss."""
    out = recorded(model, inputs)
    return on_host(fields(out)) | backward(model, out, upstream)


def random_upstream(out, rng):
    """A gradient for every field but the loss."""
    return {
        name: tuple(rng.standard_normal(a.shape) for a in value)
        if isinstance(value, tuple)
        else rng.standard_normal(value.shape)
        for name, value in out.items()
        if name != "loss"
    }


def run_randomly(model, inputs, case):
    """Outputs and gradients from a random upstream, and that upstream."""
    out = recorded(model, inputs)
    upstream = random_upstream(out, case.rng("upstream"))
    return on_host(fields(out)) | backward(model, out, upstream), upstream


def mapped(upstream, function):
    """``function(field, array)`` of each array of an upstream dictionary."""
    return {
        name: tuple(function(name, a) for a in value)
        if isinstance(value, tuple)
        else function(name, value)
        for name, value in upstream.items()
    }


def assert_close(found, expected, tolerance=TOLERANCE):
    """Equal but for rounding: absolute below 1, relative to the largest entry above."""
    for name, a, b in _pairs(found, expected):
        assert a.shape == b.shape, f"{name}: shape {a.shape}, expected {b.shape}"
        if a.size == 0:
            continue
        difference = np.abs(a - b).max() / max(1.0, np.abs(b).max())
        assert difference <= tolerance, f"{name}: differs by {difference:.1e}"


def assert_equal(found, expected):
    """The same numbers, shapes and dtypes."""
    for name, a, b in _pairs(found, expected):
        assert a.dtype == b.dtype, f"{name}: {a.dtype}, expected {b.dtype}"
        assert a.shape == b.shape, f"{name}: shape {a.shape}, expected {b.shape}"
        assert np.array_equal(a, b), f"{name}: differs by {np.abs(a - b).max():.1e}"


def differs(found, expected, least=1e-9):
    """Whether some number is clearly another."""
    return any(np.abs(a - b).max() > least for _, a, b in _pairs(found, expected))


def _pairs(found, expected):
    if not isinstance(found, dict):
        found, expected = {"array": found}, {"array": expected}
    assert found.keys() == expected.keys(), f"{list(found)}, expected {list(expected)}"
    return [(name, to_host(found[name]), to_host(expected[name])) for name in expected]
