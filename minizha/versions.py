"""What ``minizha --version`` prints: the versions that a report of a wrong number should name.

Nothing here needs a library to work: an installation that is broken can still be described.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from minizha import __version__

CUPY = re.compile(r"cupy(-cuda\d+x|-rocm-[\d-]+)?")
"""The names under which CuPy is distributed."""


def describe_versions() -> str:
    """One line for minizha, Python, NumPy with its BLAS, CuPy, tokenizers and safetensors each."""
    lines = [
        f"minizha {__version__}",
        f"Python {platform.python_version()} ({platform.system()} {platform.machine()})",
        f"NumPy {_installed('numpy')} ({_numpy_blas()})",
        f"CuPy {_cupy()}",
        f"tokenizers {_installed('tokenizers')}",
        f"safetensors {_installed('safetensors')}",
    ]
    return "\n".join(lines)


def describe_blas(config: Mapping[str, Any]) -> str:
    """Name, version and thread limit of the BLAS in what ``numpy.show_config(mode="dicts")`` returns.

    The limit is that of the build; OPENBLAS_NUM_THREADS and its like may lower it.
    """
    blas = config.get("Build Dependencies", {}).get("blas", {})
    words = ["BLAS:", str(blas.get("name", "unknown"))]
    if blas.get("version") not in (None, "", "unknown"):
        words.append(str(blas["version"]))
    threads = re.search(r"MAX_THREADS=(\d+)", str(blas.get("openblas configuration", "")))
    return " ".join(words) + (f", at most {threads[1]} threads" if threads else "")


def _numpy_blas() -> str:
    try:
        import numpy
    except ImportError:
        return "can't be imported"
    show_config: Any = numpy.show_config  # NumPy 2.0 annotates neither the mode nor the result
    return describe_blas(show_config(mode="dicts"))


def _installed(name: str) -> str:
    """The version of a distribution. Its metadata suffices: nothing is imported."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cupy() -> str:
    """CuPy is not imported, because that takes a second, and without a driver it may warn or fail."""
    found = {
        f"{each.version} ({name})"
        for each in metadata.distributions()
        if CUPY.fullmatch(name := (each.metadata["Name"] or "").lower())
    }
    return " and ".join(sorted(found)) or "not installed"
