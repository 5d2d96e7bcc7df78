"""Where files will be written: checked before the work, so that no result is lost for a wrong name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from minizha.errors import ArgumentError, FileError
from minizha.transaction import find_current, reason

_MOST_LINKS = 40  # as in Linux


def path_text(path: Any, name: str = "path") -> str:
    """``path`` as a str; an ArgumentError for anything that is not a path."""
    text = os.fspath(path) if isinstance(path, (str, PathLike)) else None
    if not isinstance(text, str):
        raise ArgumentError(f"{name}: expected a path, found {type(path).__name__}")
    return text


def check_target(path: str | PathLike[str]) -> None:
    """Make sure that a file may be written to ``path``: its folder is there and may be written, and
    at ``path`` is nothing, a file, or a link to one of these.

    A link is followed before it is judged. A save replaces a link, so it would put a file where
    /dev/stdout was: links in /dev and /proc are refused, wherever they lead.

    Raises:
        FileError: it is a folder, a pipe or a device, or its folder is missing or read-only.
    """
    path = path_text(path)
    folder = os.path.dirname(path) or "."
    try:
        if not stat.S_ISDIR(os.stat(folder).st_mode):
            raise NotADirectoryError(0, "Not a directory")
        _check_links(path)
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        if not os.path.isdir(folder):
            raise FileError(f"{path}: can't be written: {reason(error)}: {folder}") from error
        mode = stat.S_IFREG  # nothing is there, or a link that leads to nothing
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be written: {reason(error)}") from error
    if not stat.S_ISREG(mode):
        raise FileError(f"{path}: can't be written: it is {file_type(mode)}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise FileError(f"{path}: can't be written: the folder {folder} is read-only")


def check_target_folder(folder: str | PathLike[str], names: Iterable[str] = ()) -> None:
    """Make sure that files of these names may be written into ``folder``, which need not exist.

    Raises:
        FileError: the folder can't be made or written, or :func:`check_target` refuses a file.
    """
    existing = Path(folder)
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    try:
        mode = os.stat(existing).st_mode
    except (OSError, ValueError) as error:
        raise FileError(f"{folder}: expected a folder, can't make it: {reason(error)}") from error
    if not stat.S_ISDIR(mode):
        raise FileError(
            f"{folder}: expected a folder, can't make it: {existing} is {file_type(mode)}"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise FileError(f"{folder}: can't be written: the folder {existing} is read-only")
    if existing == Path(folder):
        for name in names:
            check_target(existing / name)


def refuse_to_overwrite(
    name: str, target: str | PathLike[str], *sources: str | PathLike[str]
) -> None:
    """Make sure that ``target``, the value of the argument ``name``, is none of ``sources``, which
    are read. Other names of one file count, and a file that waits in a committed save.

    Raises:
        ArgumentError: it is one of them.
    """
    for source in sources:
        if _same_place(target, source) or _same_file(target, find_current(os.fspath(source))):
            raise ArgumentError(
                f"{name}: expected another file, found {os.fspath(target)}, which the command reads"
            )


def free_folder(folder: str | PathLike[str], ending: str) -> Path:
    """The first of FOLDER-ending, FOLDER-ending-2, … that does not exist."""
    base = Path(folder)
    if base.name in ("", ".."):  # such as "."
        base = Path(os.path.realpath(base))
    path, count = base.with_name(f"{base.name}-{ending}"), 1
    while os.path.lexists(path):
        count += 1
        path = base.with_name(f"{base.name}-{ending}-{count}")
    return path


def file_type(mode: int) -> str:
    """What a file of this mode is, for messages."""
    if stat.S_ISREG(mode):
        return "a file"
    return "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"


def _check_links(path: str) -> None:
    """Refuse a chain of links that passes through /dev or /proc, or that has no end."""
    for _ in range(_MOST_LINKS):
        if not os.path.islink(path):
            return
        folder = os.path.realpath(os.path.dirname(path) or ".")
        if folder == "/dev" or folder.startswith("/proc/"):
            raise OSError(0, "it leads to a pipe or a device")
        path = os.path.join(folder, os.readlink(path))
    raise OSError(0, "too many levels of symbolic links")


def _same_file(a: str | PathLike[str], b: str | PathLike[str]) -> bool:
    try:
        return os.path.samefile(a, b)
    except (OSError, ValueError):
        return False


def _same_place(a: str | PathLike[str], b: str | PathLike[str]) -> bool:
    """Whether both are one name in one folder, whether or not a file is there."""
    (folder_a, name_a), (folder_b, name_b) = os.path.split(a), os.path.split(b)
    return name_a == name_b and _same_file(folder_a or ".", folder_b or ".")
