"""What a run leaves, however it ends: the files of its folder, and where else they are saved."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from minizha.checkpoint.folder import WEIGHTS_NAME, WEIGHTS_NAMES
from minizha.config_files import CONFIG_NAME
from minizha.errors import FileError, listed
from minizha.files import make_folder, names_present, write_atomic
from minizha.targets import check_target_folder, free_folder, refuse_to_overwrite
from minizha.text.tokenizer_files import SETTINGS_NAME, TOKENIZER_FILES, VOCABULARY_NAME
from minizha.training.checkpoints import CHECKPOINTS_NAME, find_checkpoints
from minizha.training.history import LOG_NAME
from minizha.training.report import CURVE_NAME, HELD_OUT_NAME, PICTURE_NAME

WRITTEN = (
    CONFIG_NAME,
    WEIGHTS_NAME,
    VOCABULARY_NAME,
    SETTINGS_NAME,
    CURVE_NAME,
    HELD_OUT_NAME,
    PICTURE_NAME,
    LOG_NAME,
)
_MODEL = (CONFIG_NAME, *WEIGHTS_NAMES, *TOKENIZER_FILES, CURVE_NAME, HELD_OUT_NAME, PICTURE_NAME)
_RUN = (CHECKPOINTS_NAME, LOG_NAME)


def check_out(folder: Path, corpus: str | None, overwrite: bool, resume: bool = False) -> None:
    """Make sure, before anything is read or made, that a run may write its files into ``folder``.

    Args:
        resume: the run continues the one in ``folder``, whose checkpoints and log are there.

    Raises:
        FileError: it can't be written, or holds a model, a run or a part of one, and neither
            ``overwrite`` nor ``resume`` says what becomes of it.
        ArgumentError: the corpus is one of the files to write.
    """
    check_target_folder(folder, WRITTEN)
    for name in WRITTEN if corpus is not None else ():
        refuse_to_overwrite("--out", folder / name, corpus)
    found = names_present(folder, (*_MODEL, *_RUN))
    if resume:
        resumable = bool(find_checkpoints(folder / CHECKPOINTS_NAME))
        found = [] if resumable else [name for name in found if name not in _RUN]
    if found and not overwrite:
        without = "there is no checkpoint to resume; " if resume else ""
        or_go_on = "--resume continues its run, " if CHECKPOINTS_NAME in found else ""
        raise FileError(
            f"{folder}: already holds {listed(found)}; {without}{or_go_on}--overwrite replaces the "
            "model, --out names another folder"
        )


def holds_model(folder: Path) -> bool:
    """Whether ``folder`` has a model, or a part of one."""
    return bool(names_present(folder, _MODEL))


def make_out(folder: Path) -> None:
    """Make ``folder`` and write a file into it, which shows what :func:`check_out` can't see.

    Raises:
        FileError: it can't be made or written.
    """
    make_folder(folder)
    probe = folder / f".minizha-{os.getpid()}.probe"
    write_atomic(probe, b"")
    probe.unlink(missing_ok=True)


def save_somewhere(
    folder: Path, save: Callable[[Path], None], *, replace: bool
) -> tuple[Path, str]:
    """``save(folder)``; the folder that was used in its place if need be, and what was wrong.

    Convention: without ``replace``, a model in the folder stays there, and the new one is saved in
    FOLDER-interrupted. If the disk is full or the folder is gone, a temporary folder or one in the
    home directory is used, which may be on another disk.

    Raises:
        FileError: nothing could be written anywhere; names all that was tried.
    """
    taken = holds_model(folder) and not replace
    faults = []
    for place in _places(free_folder(folder, "interrupted") if taken else folder):
        try:
            save(place)
        except FileError as error:
            faults.append(str(error))
            if place.exists() and not any(place.iterdir()) and place != folder:
                place.rmdir()
        else:
            return place, "; ".join(faults)
    raise FileError("; ".join(faults))


def _places(first: Path) -> Iterator[Path]:
    """``first``, and new folders elsewhere."""
    yield first
    for parent in dict.fromkeys((tempfile.gettempdir(), os.path.expanduser("~"))):
        try:
            yield Path(tempfile.mkdtemp(prefix="minizha-", dir=parent))
        except OSError:
            continue
