"""The machine and the versions that figures belong to."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import numpy

from minizha import __version__
from minizha.versions import describe_blas

PACKAGES = ("torch", "transformers", "onnxruntime")
VARIABLES = ("OPENBLAS_", "OMP_", "GOMP_", "MKL_", "KMP_", "MALLOC_")
"""Environment variables with these beginnings change times; the numbers of threads are set anyway."""


def describe(threads: int) -> dict[str, str]:
    """What a reader needs to know to judge the figures."""
    numpy_version = f"NumPy {numpy.__version__} ({describe_blas(numpy.show_config(mode='dicts'))})"
    versions = [numpy_version, *filter(None, map(_installed, PACKAGES))]
    found = {
        "processor": f"{_processor()}, {cores()} cores",
        "memory": _memory(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": ", ".join(versions),
        "threads": str(threads),
        "minizha": __version__,
    }
    variables = [
        f"{name}={value}"
        for name, value in sorted(os.environ.items())
        if name.startswith(VARIABLES) and not name.endswith("_NUM_THREADS")
    ]
    return found | ({"environment": " ".join(variables)} if variables else {})


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB"
    except (AttributeError, OSError, ValueError):
        return "unknown"


def _installed(name: str) -> str:
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return ""


def commit() -> str:
    """The commit of this repository; empty where there is none."""
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip()
