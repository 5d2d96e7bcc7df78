"""Whole files, read and written so that a person sees what failed and none is left half."""

from __future__ import annotations

import contextlib
import json
import os
import reprlib
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from minizha.errors import ArgumentError, FileError
from minizha.transaction import (
    as_file_error,
    clear_leftovers,
    commit,
    complete,
    interrupts_wait,
    place_of,
    reason,
    staging,
    sync_folder,
    write_synced,
)

T = TypeVar("T")

DEEPEST = 200  # levels of a JSON text


def write_atomic(path: str | PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader finds the old file or the new one, never a part.

    Convention: the bytes go to a folder of their own beside ``path``, reach the disk (fsync), and
    take the final name in one step (``os.replace``); then the folder is synced. The mode is that
    of any new file (0666 less the umask). A symbolic link at ``path`` is replaced, not followed.

    Raises:
        FileError: the folder is missing or not writable, the disk is full, or ``path`` is
            something else than a file. What was written is gone and ``path`` is as it was.
    """
    write_together({path: data})


def write_together(files: Mapping[Any, bytes]) -> None:
    """:func:`write_atomic` for files that belong together: a full disk, Ctrl-C, and where they
    lie in one folder even a kill or a power cut, leave all old files or all new ones.

    Convention: after a kill the new files may wait in ``FOLDER/.minizha-save`` (:mod:`transaction
    <minizha.transaction>` tells why). Every read of this package looks there first; the next write to
    the folder moves them, and removes what killed writers left.

    Raises:
        FileError: as for :func:`write_atomic`; names the file at fault. Where it is one that can
            not take its place any more (on Windows, while a program has it open), the new files
            wait as after a kill.
    """
    folders: dict[str, dict[str, bytes]] = {}
    for path, data in ((os.fspath(p), d) for p, d in files.items()):
        check_target(path)
        folders.setdefault(os.path.dirname(path) or ".", {})[path] = data
    with contextlib.ExitStack() as stack:
        staged: dict[str, str] = {}
        for folder, group in folders.items():
            with as_file_error(next(iter(group))):
                complete(folder)  # an older save that still waited would hide the new files
                clear_leftovers(folder)
                place = stack.enter_context(staging(folder))
            for path, data in group.items():
                staged[path] = os.path.join(place, os.path.basename(path))
                with as_file_error(path):
                    write_synced(staged[path], data)
        with interrupts_wait():
            if len(folders) == 1 and len(staged) > 1:
                commit(place, next(iter(folders)))
            else:
                for path, temporary in staged.items():
                    with as_file_error(path):
                        os.replace(temporary, path)
    for folder in folders:
        sync_folder(folder)


def newest(path: str | PathLike[str]) -> Path:
    """Where the content of ``path`` lies: at ``path``, or where a killed save left a newer one.

    For reading only, and at once: the next write moves the file to ``path``. See :func:`at_newest`.
    """
    return Path(place_of(os.fspath(path)))


def at_newest(path: str | PathLike[str], read: Callable[[str], T]) -> T:
    """``read(place)`` for the place of :func:`newest`, again where the file has just been moved.

    Raises:
        FileNotFoundError: there is no such file; and what ``read`` raises.
    """
    path = os.fspath(path)
    for _ in range(100):
        place = place_of(path)
        try:
            return read(place)
        except FileNotFoundError:
            if place == path:
                raise
    return read(path)


def is_there(path: str | PathLike[str]) -> bool:
    """Whether there is anything at ``path``, a link to nothing included."""
    return stamp(path) is not None


def stamp(path: str | PathLike[str]) -> tuple[int, ...] | None:
    """What tells the file at ``path`` from one that takes its place; None where there is none.

    Moving a file to its place, the last step of a save, does not change it.
    """
    try:
        found = at_newest(path, os.lstat)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def read_bytes(path: str | PathLike[str]) -> bytes:
    """The content of the file at ``path``.

    Raises:
        FileError: it is missing, unreadable, a folder, or no ordinary file (a pipe, a device).
    """
    path = os.fspath(path)
    check_file(path)
    try:
        return at_newest(path, _content)
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be read: {reason(error)}") from error


def check_file(path: str | PathLike[str]) -> None:
    """Make sure that ``path`` is an ordinary file, before something is opened that never ends.

    Raises:
        FileError: it is missing, a folder, or no ordinary file (a pipe, a device).
    """
    path = os.fspath(path)
    try:
        mode = at_newest(path, os.stat).st_mode
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be read: {reason(error)}") from error
    # opening a pipe would wait for a writer, and /dev/zero never ends
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "no ordinary file"
        raise FileError(f"{path}: expected a file, found {kind}")


def check_target(path: str | PathLike[str]) -> None:
    """Make sure that ``path`` is missing or something that a file may take the place of.

    Raises:
        FileError: it is a folder or no ordinary file: replacing a device such as /dev/null by a
            file would succeed, and do harm.
    """
    path = os.fspath(path)
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be written: {reason(error)}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        kind = "a folder" if stat.S_ISDIR(mode) else "no ordinary file"
        raise FileError(f"{path}: can't be written: it is {kind}")


def folder_path(folder: str | PathLike[str]) -> Path:
    """``folder`` as a Path; it need not exist.

    Raises:
        ArgumentError: no path, an empty one (a Path of it would be the current folder), or one
            with a NUL character.
    """
    name = os.fspath(folder) if isinstance(folder, (str, PathLike)) else None
    if not isinstance(name, str):
        raise ArgumentError(f"folder: expected a path, found {type(folder).__name__}")
    if not name or "\0" in name:
        raise ArgumentError(f"folder: expected a path, found {name!r}")
    return Path(name)


def make_folder(folder: str | PathLike[str]) -> None:
    """Make ``folder`` and what it lies in, where they are missing.

    Raises:
        FileError: it can't be made, or is something else than a folder.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except (OSError, ValueError) as error:
        name = os.fspath(folder)
        raise FileError(f"{name}: expected a folder, can't make it: {reason(error)}") from error


def read_json_object(path: str | PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileError: unreadable, not JSON, a key that stands there twice, more than 200 levels, or JSON
            whose outermost value is no object.
    """
    path = os.fspath(path)
    text = decode_utf8(read_bytes(path), path)
    try:
        content = _parse_json(text)
    except ValueError as error:
        raise FileError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise FileError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def decode_utf8(data: bytes, path: str | PathLike[str]) -> str:
    """``data`` as text; ``path`` is where it came from and serves the error message.

    Raises:
        FileError: the bytes are not UTF-8; names the line and the byte at fault.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileError(
            f"{os.fspath(path)}, line {line}: expected UTF-8 text, found the byte "
            f"0x{data[error.start]:02x} (convert the file first, for example with "
            "iconv -f GB18030 -t UTF-8)"
        ) from error


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _parse_json(text: str) -> Any:
    """The value that a JSON text describes.

    Convention: at most 200 levels. Without this limit the depth that can be read would depend on the
    version of Python, and some values could be read that are too deep to be copied.

    Raises:
        ValueError: not JSON, a key that stands there twice in one object, or too many levels.
    """
    too_deep = f"expected at most {DEEPEST} levels of lists and objects, found more"
    try:
        value = json.loads(text, object_pairs_hook=_no_repeats)
    except RecursionError as error:
        raise ValueError(too_deep) from error
    level = _with_elements([value])
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _with_elements(outer)]
    if level:
        raise ValueError(too_deep)
    return value


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        times = Counter(name for name, _ in pairs)
        name = max(times, key=times.__getitem__)
        raise ValueError(f"the key {reprlib.repr(name)} stands there {times[name]} times")
    return content


def _with_elements(value: list[Any] | dict[str, Any]) -> list[Any]:
    """The lists and objects among the elements of a list or the values of an object."""
    elements = value.values() if isinstance(value, dict) else value
    return [element for element in elements if isinstance(element, (dict, list))]
