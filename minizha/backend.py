"""The array library of an array, and the few functions in which NumPy and CuPy differ.

Everything above this file is written once, against ``xp``::

    xp = namespace(x)          # numpy for a NumPy array, cupy for a CuPy array
    y = xp.exp(x - 1.0)

Only construction and loading choose a library by name (``get_backend("cupy")``); every later
operation uses the library of its arrays. Arrays move between host and device only through
:func:`to_backend` and :func:`to_host`. Of the operations, cross-entropy alone calls one of them:
it reads its labels on the host.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np

from minizha.errors import ArgumentError, BackendError

Array = Any
"""A ``numpy.ndarray`` or a ``cupy.ndarray``; docstrings give the shape and the dtype."""

BACKENDS = ("numpy", "cupy")
MASKED = "expected a plain array, found a masked one (np.ma): fill it first, such as x.filled(0)"


def get_backend(name: str) -> ModuleType:
    """The array library called ``name``.

    Raises:
        BackendError: the name is unknown, CuPy is not installed, or it finds no GPU.
    """
    if not isinstance(name, str) or name not in BACKENDS:
        raise BackendError(f"backend: expected one of {', '.join(BACKENDS)}, found {name!r}")
    if name == "numpy":
        return np
    try:
        import cupy
    except ImportError as error:
        reason = " ".join(str(error).split())  # CuPy's message fills a screen
        raise BackendError(
            "backend 'cupy' needs CuPy: `pip install cupy-cuda12x` with CUDA 12, "
            f"`pip install cupy-cuda13x` with CUDA 13; the import failed: {reason}"
        ) from error
    # `import cupy` succeeds without a driver too, so the import alone proves nothing
    try:
        usable = cupy.is_available()
    except RuntimeError:  # CuPy 13 raises where CuPy 14 returns False
        usable = False
    if not usable:
        raise BackendError(
            "backend 'cupy': CuPy is installed but finds no usable GPU "
            "(is the NVIDIA driver installed, and does its CUDA version match the CuPy wheel?)"
        )
    return cupy


def is_array(x: Any) -> bool:
    """Whether ``x`` is an array of one of the libraries (a list, a float, None are not).

    Raises:
        ArgumentError: a masked array; see :func:`refuse_masked`.
    """
    if isinstance(x, np.ndarray):
        refuse_masked(x)
        return True
    return _is_cupy(x)


def refuse_masked(x: Any, name: str = "") -> None:
    """Refuse an array of ``numpy.ma``, also inside of lists: as a plain array it would lose its mask
    and show the values under it.

    Raises:
        ArgumentError: ``x`` is or has one; names the argument ``name`` if there is one.
    """
    if holds_masked(x):
        raise ArgumentError((f"{name}: " if name else "") + MASKED)


def holds_masked(x: Any) -> bool:
    """Whether ``x`` is an array of ``numpy.ma``, or nested lists with one."""
    if type(x) is np.ndarray or x is None:
        return False
    if isinstance(x, (list, tuple)):
        return any(holds_masked(item) for item in x if not isinstance(item, (int, float)))
    return isinstance(x, np.ma.MaskedArray)


def namespace(*arrays: Array) -> ModuleType:
    """The library that all ``arrays`` belong to; None and Python numbers are ignored.

    Raises:
        BackendError: the arrays belong to two libraries, or there is no array among them.
    """
    libraries = {_library(x) for x in arrays if is_array(x) or isinstance(x, np.generic)}
    if len(libraries) == 1:
        return np if "numpy" in libraries else sys.modules["cupy"]
    if not libraries:
        types = ", ".join(type(x).__name__ for x in arrays) or "nothing"
        raise BackendError(f"expected NumPy or CuPy arrays, found {types}")
    raise BackendError(
        "expected arrays of one library, found NumPy and CuPy arrays in one call; "
        "convert with minizha.backend.to_backend(x, xp) or to_host(x)"
    )


def to_backend(x: Any, xp: ModuleType, dtype: Any = None) -> Array:
    """``x`` (array of either library, or nested lists) as an array of ``xp``, copied if necessary.

    Raises:
        ArgumentError: a masked array.
    """
    refuse_masked(x)
    if xp is np:
        x = to_host(x)
    return xp.asarray(x, dtype=dtype)


def to_host(x: Array) -> np.ndarray:
    """``x`` as a NumPy array; from CuPy this copies and waits for the device.

    Raises:
        ArgumentError: a masked array.
    """
    refuse_masked(x)
    return x.get() if _is_cupy(x) else np.asarray(x)


def _is_cupy(x: Any) -> bool:
    # looked up, not imported: no array is CuPy's until CuPy has been imported
    cupy = sys.modules.get("cupy")
    return cupy is not None and isinstance(x, cupy.ndarray)


def _library(x: Any) -> str:
    return "cupy" if _is_cupy(x) else "numpy"
