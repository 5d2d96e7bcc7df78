"""How far two results may differ: for arrays, and for dictionaries of arrays under the same names."""

import numpy as np

from minizha.backend import to_host


def assert_close(found, expected, tolerance=1e-12):
    """Every entry: |found − expected| ≤ tolerance (1 + |expected|). A NaN is never close.

    A single expected number is the expectation of every entry.
    """
    for name, a, b in _pairs(found, expected):
        assert b.shape in ((), a.shape), f"{name}: shape {a.shape}, expected {b.shape}"
        difference = np.abs(a - 1.0 * b)  # booleans can be multiplied, but not subtracted
        within = difference <= tolerance * (1.0 + np.abs(b))
        assert within.all(), f"{name}: differs by {difference[~within].max():.1e}"


def assert_equal(found, expected):
    """The same numbers, shapes and dtypes."""
    for name, a, b in _pairs(found, expected):
        assert a.dtype == b.dtype, f"{name}: {a.dtype}, expected {b.dtype}"
        assert a.shape == b.shape, f"{name}: shape {a.shape}, expected {b.shape}"
        assert np.array_equal(a, b), f"{name}: differs by {np.abs(a - b).max():.1e}"


def differs(found, expected, least=1e-9):
    """Whether some entries differ by more than ``least``."""
    return any(np.abs(a - b).max() > least for _, a, b in _pairs(found, expected))


def _pairs(found, expected):
    """(name, found, expected) of each array, on the host."""
    if not isinstance(found, dict):
        found, expected = {"array": found}, {"array": expected}
    assert found.keys() == expected.keys(), f"{list(found)}, expected {list(expected)}"
    return [
        (name, np.asarray(to_host(found[name])), np.asarray(to_host(expected[name])))
        for name in expected
    ]
