"""Readers with one fault each, which the check of the mutants must find."""

import faulthandler
import mmap
import pickle
import time
import warnings
import zipfile
from pathlib import Path

import numpy as np

from minizha.errors import FileError


def leaks(folder: Path) -> None:
    raise KeyError("weight_map")


def sleeps(folder: Path) -> None:
    time.sleep(0.1)


def allocates(folder: Path) -> None:
    np.ones(5_000_000)


def allocates_unseen(folder: Path) -> None:
    """Memory that a C or Rust library takes, which Python does not trace."""
    with mmap.mmap(-1, 40_000_000) as memory:
        memory.write(b"x" * 100_000)
        for _ in range(399):
            memory.write(memory[:100_000])


def runs_the_pickle(folder: Path) -> None:
    try:
        with zipfile.ZipFile(folder / "pytorch_model.bin") as archive:
            pickle.loads(next(archive.read(n) for n in archive.namelist() if "data.pkl" in n))
    except Exception as error:
        raise FileError(f"{folder}: it can't be read") from error


def follows_the_index(folder: Path) -> None:
    raise FileError(f"{folder}: {Path('/etc/hostname').read_bytes()!r}")


def writes(folder: Path) -> None:
    (folder / "cache").write_bytes(b"")


def warns(folder: Path) -> None:
    warnings.warn("invalid value encountered in cast", RuntimeWarning, stacklevel=1)


def says_two_lines(folder: Path) -> None:
    raise FileError(f"{folder}: not valid:\nline 2")


def names_no_path(folder: Path) -> None:
    raise FileError("not a valid file")


def crashes(folder: Path) -> None:
    faulthandler._sigsegv()


def hangs(folder: Path) -> None:
    time.sleep(1000)


def refuses_all(folder: Path) -> None:
    raise FileError(f"{folder}: no")


def loads_all(folder: Path) -> None:
    """It reads nothing, and so accepts everything."""
