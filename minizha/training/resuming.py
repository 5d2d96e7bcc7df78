"""Whether a run may go on from a checkpoint: what has to be the same, and what costs the last bits."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

from minizha import __version__
from minizha.errors import ArgumentError, listed
from minizha.training.checkpoints import Checkpoint
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import Data

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""The variables that tell a BLAS how many threads to use."""


def describe_run(
    options: PretrainOptions, data: Data, backend: str, workers: int
) -> dict[str, Any]:
    """What a checkpoint says of its run: options, data, and what computes it."""
    return {
        "options": asdict(options),
        "corpus": data.digest,
        "backend": backend,
        "workers": workers,
        "threads": {name: os.environ.get(name) for name in THREADS},
        "versions": {
            "minizha": __version__,
            "Python": platform.python_version(),
            "NumPy": metadata.version("numpy"),
            "machine": platform.machine(),
        },
    }


def check_same_run(checkpoint: Checkpoint, options: PretrainOptions, data: Data) -> None:
    """Make sure that ``checkpoint`` is of a run with these options and this corpus.

    Raises:
        ArgumentError: it is of another run; names every difference.
    """
    defaults = asdict(PretrainOptions())  # of options that are newer than the checkpoint
    recorded, given = defaults | checkpoint.record["options"], asdict(options)
    faults = [
        f"--{name.replace('_', '-')}: expected {recorded.get(name)} as recorded, found {value}"
        for name, value in given.items()
        if recorded.get(name) != value
    ]
    if checkpoint.record["corpus"] != data.digest:
        faults.append(
            f"--corpus: expected the corpus as recorded, of SHA-256 {checkpoint.record['corpus'][:12]}…, "
            f"found another one, of {data.digest[:12]}…"
        )
    if faults:
        raise ArgumentError(
            f"{checkpoint.path}: --resume continues the same run only: {listed(faults, '; ')} "
            "(--out names another folder, --overwrite begins anew)"
        )


def changes(checkpoint: Checkpoint, about: dict[str, Any]) -> list[str]:
    """What computes otherwise than before: the run goes on, but not to the same bits."""
    found = []
    for name in ("backend", "workers", "threads", "versions"):
        before, now = checkpoint.record[name], about[name]
        if isinstance(now, dict):
            pairs = {key: (before.get(key), value) for key, value in now.items()}
        else:
            pairs = {name: (before, now)}
        found += [f"{key} {old} → {new}" for key, (old, new) in pairs.items() if old != new]
    return found
