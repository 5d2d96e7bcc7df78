"""What a run leaves, however it ends: where it is saved, and which parameters are worth saving."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from minizha.backend import namespace
from minizha.checkpoint.folder import WEIGHTS_NAME, WEIGHTS_NAMES
from minizha.config_files import CONFIG_NAME
from minizha.errors import FileError, MinizhaError, listed
from minizha.files import make_folder, names_present, write_atomic
from minizha.model.pretraining import NezhaForPreTraining
from minizha.nezha.parameters import unflatten
from minizha.targets import check_target_folder, free_folder, refuse_to_overwrite
from minizha.text.tokenizer_files import SETTINGS_NAME, TOKENIZER_FILES, VOCABULARY_NAME
from minizha.training.report import CURVE_NAME, PICTURE_NAME

WRITTEN = (CONFIG_NAME, WEIGHTS_NAME, VOCABULARY_NAME, SETTINGS_NAME, CURVE_NAME, PICTURE_NAME)
_MADE = (CONFIG_NAME, *WEIGHTS_NAMES, *TOKENIZER_FILES, CURVE_NAME, PICTURE_NAME)


def check_out(folder: Path, corpus: str | None, overwrite: bool) -> None:
    """Make sure, before anything is read or made, that a run may write its files into ``folder``.

    Raises:
        FileError: it can't be written, or holds a model or a part of one and ``overwrite`` is False.
        ArgumentError: the corpus is one of the files to write.
    """
    check_target_folder(folder, WRITTEN)
    for name in WRITTEN if corpus is not None else ():
        refuse_to_overwrite("--out", folder / name, corpus)
    if not overwrite and (found := names_present(folder, _MADE)):
        raise FileError(
            f"{folder}: already holds {listed(found)}; --overwrite replaces the model, --out names "
            "another folder"
        )


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
    folder: Path, save: Callable[[Path], None], *, overwrite: bool, complete: bool
) -> tuple[Path, str]:
    """``save(folder)``; the folder that was used in its place if need be, and what was wrong.

    Convention: what is not ``complete`` replaces no model, and neither does anything without
    ``overwrite``: it is saved in FOLDER-interrupted. If the disk is full or the folder is gone, a
    temporary folder or one in the home directory is used, which may be on another disk.

    Raises:
        FileError: nothing could be written anywhere; names all that was tried.
    """
    taken = bool(names_present(folder, _MADE)) and not (overwrite and complete)
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


class DivergenceError(MinizhaError):
    """A loss or a parameter of a training run is not finite."""


class LastGood:
    """The parameters of the last :meth:`keep` that found all of them finite, and their step."""

    def __init__(self, model: NezhaForPreTraining) -> None:
        self._model, self._changed = model, False
        self.step = 0
        self._state = {name: array.copy() for name, array in model.state_dict().items()}

    def keep(self, step: int) -> None:
        """Keep the model's parameters as they are after ``step``.

        Raises:
            DivergenceError: one of them is not finite.
        """
        if not self._finite():
            raise DivergenceError(f"step {step}: expected finite parameters, found NaN or infinity")
        self._state = {name: array.copy() for name, array in self._model.state_dict().items()}
        self.step, self._changed = step, True

    def changed(self) -> bool:
        """Whether the model's parameters are not the first ones any more."""
        return self._changed or any(
            bool((array != self._state[name]).any())
            for name, array in self._model.state_dict().items()
        )

    def restore(self, *, always: bool) -> None:
        """Give the model the kept parameters, if its own are not finite or ``always``."""
        if always or not self._finite():
            self._model.parameters = unflatten(self._state)

    def _finite(self) -> bool:
        arrays = self._model.state_dict().values()
        return all(bool(namespace(array).isfinite(array).all()) for array in arrays)


def _places(first: Path) -> Iterator[Path]:
    """``first``, and new folders elsewhere."""
    yield first
    for parent in dict.fromkeys((tempfile.gettempdir(), os.path.expanduser("~"))):
        try:
            yield Path(tempfile.mkdtemp(prefix="minizha-", dir=parent))
        except OSError:
            continue
