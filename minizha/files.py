"""Files read and written as a whole: an error names the file, and no file is left half written."""

from __future__ import annotations

import contextlib
import json
import os
import reprlib
import stat
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from minizha.errors import ArgumentError, FileError
from minizha.transaction import (
    as_file_error,
    clear_leftovers,
    commit,
    complete_save,
    delay_interrupts,
    find_current,
    reason,
    staging,
    sync_folder,
    write_synced,
)

T = TypeVar("T")

DEEPEST = 200  # levels of a JSON text
LARGEST_JSON = 64 * 1024**2
"""The most bytes of a JSON file; to read it takes up to twenty times as much memory."""


def write_atomic(path: str | PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader finds the old file or the new one, never a part.

    Convention: the bytes are written to a temporary folder beside ``path`` and synced to the disk
    (fsync); one step then moves them to ``path`` (``os.replace``), and the folder is synced. The
    mode is that of any new file (0666 less the umask). A symbolic link at ``path`` is replaced, not
    followed.

    Raises:
        FileError: the folder is missing or not writable, the disk is full, or ``path`` is not a
            file. The temporary files are then removed, and ``path`` is unchanged.
    """
    write_together({path: data})


def write_together(files: Mapping[Any, bytes]) -> None:
    """:func:`write_atomic` for files that belong together: all of them are new, or all are old.

    This holds after a full disk and after Ctrl-C. Within one folder it also holds after a kill or
    a power cut.

    Convention: after a kill the new files may be in ``FOLDER/.minizha-save`` (:mod:`transaction
    <minizha.transaction>` says why). This package looks there first whenever it reads a file. The
    next write to the folder moves the files to their paths and removes what killed writers left.

    Raises:
        FileError: as for :func:`write_atomic`; names the file. If a file can't be replaced after
            the commit (on Windows, while a program has it open), the new files stay in
            ``.minizha-save``, as after a kill.
    """
    folders: dict[str, dict[str, bytes]] = {}
    for path, data in ((os.fspath(p), d) for p, d in files.items()):
        check_target(path)
        folders.setdefault(os.path.dirname(path) or ".", {})[path] = data
    with contextlib.ExitStack() as stack:
        staged: dict[str, str] = {}
        for folder, group in folders.items():
            with as_file_error(next(iter(group))):
                complete_save(folder)  # an older committed save would hide the new files
                clear_leftovers(folder)
                staging_folder = stack.enter_context(staging(folder))
            for path, data in group.items():
                staged[path] = os.path.join(staging_folder, os.path.basename(path))
                with as_file_error(path):
                    write_synced(staged[path], data)
        with delay_interrupts():
            if len(folders) == 1 and len(staged) > 1:
                commit(staging_folder, next(iter(folders)))
            else:
                for path, temporary in staged.items():
                    with as_file_error(path):
                        os.replace(temporary, path)
    for folder in folders:
        sync_folder(folder)


def current_path(path: str | PathLike[str]) -> Path:
    """Where the current content of ``path`` is stored: at ``path``, or in a committed save.

    Use it at once, and only for reading: the next write moves the file to ``path``. See
    :func:`read_current`.
    """
    return Path(find_current(os.fspath(path)))


def read_current(path: str | PathLike[str], read: Callable[[str], T]) -> T:
    """``read(current_path(path))``, repeated if another process has just moved the file.

    Raises:
        FileNotFoundError: there is no such file; and what ``read`` raises.
    """
    path = os.fspath(path)
    for _ in range(100):
        current = find_current(path)
        try:
            return read(current)
        except FileNotFoundError:
            if current == path:
                raise
    return read(path)


def path_exists(path: str | PathLike[str]) -> bool:
    """Whether there is anything at ``path``; a broken link counts."""
    return file_identity(path) is not None


def file_identity(
    path: str | PathLike[str], *, follow_links: bool = False
) -> tuple[int, ...] | None:
    """Device, inode, size and time of the file at ``path``; None if there is none.

    They differ once another file has replaced it. The last step of a save, which moves a file to
    its path, leaves them unchanged.
    """
    try:
        status = read_current(path, os.stat if follow_links else os.lstat)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def read_bytes(path: str | PathLike[str], most: int | None = None) -> bytes:
    """The content of the file at ``path``, at most ``most`` bytes if that is given.

    Raises:
        FileError: it is missing, unreadable, too large, a folder, a pipe or a device.
    """
    path = os.fspath(path)
    check_file(path)
    try:
        return read_current(path, partial(_content, named=path, most=most))
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be read: {reason(error)}") from error


def check_file(path: str | PathLike[str]) -> None:
    """Make sure that ``path`` is an ordinary file: reading a pipe or a device may never end.

    Raises:
        FileError: it is missing, a folder, a pipe or a device.
    """
    path = os.fspath(path)
    try:
        mode = read_current(path, os.stat).st_mode
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be read: {reason(error)}") from error
    # opening a pipe would wait for a writer, and /dev/zero never ends
    if not stat.S_ISREG(mode):
        raise FileError(f"{path}: expected a file, found {_file_type(mode)}")


def check_target(path: str | PathLike[str]) -> None:
    """Make sure that a file may be written to ``path``: nothing, a file or a link is there.

    Raises:
        FileError: it is a folder, a pipe or a device. ``os.replace`` would put a file in the place
            of /dev/null.
    """
    path = os.fspath(path)
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be written: {reason(error)}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise FileError(f"{path}: can't be written: it is {_file_type(mode)}")


def folder_path(folder: str | PathLike[str]) -> Path:
    """``folder`` as a Path; it need not exist.

    Raises:
        ArgumentError: not a path, an empty one (as a Path it would be the current folder), or one
            with a NUL character.
    """
    name = os.fspath(folder) if isinstance(folder, (str, PathLike)) else None
    if not isinstance(name, str):
        raise ArgumentError(f"folder: expected a path, found {type(folder).__name__}")
    if not name or "\0" in name:
        raise ArgumentError(f"folder: expected a path, found {name!r}")
    return Path(name)


def inner_folder(folder: str | PathLike[str], subfolder: Any) -> Path:
    """The ``subfolder`` of ``folder``, a relative path; ``folder`` itself for "" and None.

    Raises:
        ArgumentError: not a path, or one that leads out of ``folder``.
    """
    path = folder_path(folder)
    if subfolder in ("", None):
        return path
    inner = Path(subfolder) if isinstance(subfolder, str) and "\0" not in subfolder else None
    if inner is None or inner.is_absolute() or ".." in inner.parts:
        raise ArgumentError(f"subfolder: expected a path in the folder, found {subfolder!r:.200}")
    return path / inner


def make_folder(folder: str | PathLike[str]) -> None:
    """Make ``folder`` and the folders that contain it, if they are missing.

    Raises:
        FileError: it can't be made, or is not a folder.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except (OSError, ValueError) as error:
        name = os.fspath(folder)
        raise FileError(f"{name}: expected a folder, can't make it: {reason(error)}") from error


def read_json_object(path: str | PathLike[str], most: int = LARGEST_JSON) -> dict[str, Any]:
    """The object in a JSON file of at most ``most`` bytes.

    Raises:
        FileError: unreadable, too large, not JSON, a key that appears twice, more than 200 levels,
            an integer of more than 4,300 digits, or JSON whose outermost value is not an object.
    """
    path = os.fspath(path)
    text = decode_utf8(read_bytes(path, most), path)
    try:
        content = _parse_json(text)
    except ValueError as error:
        raise FileError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise FileError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def decode_utf8(data: bytes, path: str | PathLike[str]) -> str:
    """``data`` as text; ``path``, the file that it is from, appears in the error message.

    Raises:
        FileError: the bytes are not UTF-8; names the line and the byte.
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


def _content(path: str, named: str, most: int | None) -> bytes:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise FileError(f"{named}: expected at most {most:,} bytes, found {size:,}")
        return file.read()


def _parse_json(text: str) -> Any:
    """The value that a JSON text describes.

    Convention: at most 200 levels. Without this limit the depth that can be read would depend on the
    version of Python, and some values could be read that are too deep to be copied.

    Raises:
        ValueError: not JSON, a key that appears twice in one object, or too many levels.
    """
    too_deep = f"expected at most {DEEPEST} levels of lists and objects, found more"
    try:
        value = json.loads(text, object_pairs_hook=_no_repeats)
    except RecursionError as error:
        raise ValueError(too_deep) from error
    except ValueError as error:
        if str(error).startswith("Exceeds the limit"):  # Python's own, with advice for programs
            raise ValueError("an integer of more than 4,300 digits") from error
        raise
    level = _with_elements([value])
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _with_elements(outer)]
    if level:
        raise ValueError(too_deep)
    return value


def _file_type(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        name = max(counts, key=counts.__getitem__)
        raise ValueError(f"the key {reprlib.repr(name)} appears {counts[name]} times")
    return content


def _with_elements(value: list[Any] | dict[str, Any]) -> list[Any]:
    """The lists and objects among the elements of a list or the values of an object."""
    elements = value.values() if isinstance(value, dict) else value
    return [element for element in elements if isinstance(element, (dict, list))]
