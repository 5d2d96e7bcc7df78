"""Which array library an array belongs to, and the handful of functions in which the two differ.

Everything above this file is written once, against ``xp``::

    xp = namespace(x)          # numpy for a NumPy array, cupy for a CuPy array
    y = xp.exp(x - 1.0)

Only construction and loading choose a library by name (``get_backend("cupy")``); from there on
the arrays carry the choice with them. Nothing moves between host and device unless one of
:func:`to_backend` and :func:`to_host` is called; operations never do, but for the labels of
cross-entropy, which are read on the host.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np

from minizha.errors import BackendError

Array = Any
"""A ``numpy.ndarray`` or a ``cupy.ndarray``; docstrings give the shape and the dtype."""

BACKENDS = ("numpy", "cupy")


def get_backend(name: str) -> ModuleType:
    """The array library called ``name``.

    Raises:
        BackendError: the name is unknown, CuPy is not installed, or it finds no GPU.
    """
    if name == "numpy":
        return np
    if name != "cupy":
        raise BackendError(f"backend: expected one of {', '.join(BACKENDS)}, found {name!r}")
    try:
        import cupy
    except ImportError as error:
        reason = " ".join(str(error).split())  # CuPy's own text fills a screen
        raise BackendError(
            "backend 'cupy' needs CuPy: pip install cupy-cuda12x (CUDA 12) "
            f"or cupy-cuda13x (CUDA 13); importing it said: {reason}"
        ) from error
    # `import cupy` succeeds on a machine without a driver; only asking tells.
    try:
        usable = cupy.is_available()
    except RuntimeError:  # CuPy 13 raises where CuPy 14 says no
        usable = False
    if not usable:
        raise BackendError(
            "backend 'cupy': CuPy is installed but finds no usable GPU "
            "(is the NVIDIA driver installed, and does its CUDA version match the CuPy wheel?)"
        )
    return cupy


def is_array(x: Any) -> bool:
    """Whether ``x`` is an array of one of the libraries (a list, a float, None are not)."""
    return isinstance(x, np.ndarray) or _is_cupy(x)


def namespace(*arrays: Array) -> ModuleType:
    """The library that all ``arrays`` belong to; None and Python numbers are passed over.

    Raises:
        BackendError: the arrays belong to two libraries, or none of them is an array.
    """
    found = {_name(x): x for x in arrays if is_array(x) or isinstance(x, np.generic)}
    if len(found) == 1:
        return np if "numpy" in found else sys.modules["cupy"]
    if not found:
        kinds = ", ".join(type(x).__name__ for x in arrays) or "nothing"
        raise BackendError(f"expected NumPy or CuPy arrays, found {kinds}")
    raise BackendError(
        "NumPy and CuPy arrays in one call: nothing moves between host and device silently; "
        "move one side with minizha.backend.to_backend(x, xp) or to_host(x)"
    )


def to_backend(x: Any, xp: ModuleType, dtype: Any = None) -> Array:
    """``x`` (array of either library, or nested lists) as an array of ``xp``, copied if need be."""
    if xp is np:
        x = to_host(x)
    return xp.asarray(x, dtype=dtype)


def to_host(x: Array) -> np.ndarray:
    """``x`` as a NumPy array; from CuPy this copies and waits for the device."""
    return x.get() if _is_cupy(x) else np.asarray(x)


def _is_cupy(x: Any) -> bool:
    # looked up, not imported: where CuPy was never imported, no array can be CuPy's
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, cupy.ndarray)


def _name(x: Any) -> str:
    return "cupy" if _is_cupy(x) else "numpy"
