"""Files read and written as a whole: an error names the file, and no file is left half written."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import reprlib
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from minizha.errors import ArgumentError, FileError, MinizhaError
from minizha.interrupts import delay_interrupts
from minizha.targets import check_target, file_type, path_text
from minizha.transaction import (
    as_file_error,
    clear_leftovers,
    commit,
    complete_save,
    find_current,
    reason,
    staging,
    sync_folder,
    write_synced,
)

T = TypeVar("T")

DEEPEST = 200  # levels of a JSON text
_TRIES = 100  # a try fails if another save ends during it
LARGEST_JSON = 64 * 1024**2
"""The most bytes of a JSON file; to read it takes up to twenty times as much memory."""


def write_atomic(path: str | PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader finds the old file or the new one, never a part.

    Convention: the bytes are written to a temporary folder beside ``path`` and synced to the disk
    (fsync); one step then moves them to ``path`` (``os.replace``), and the folder is synced. The
    mode is that of any new file (0666 less the umask). A symbolic link at ``path`` is replaced, not
    followed; one that leads to a folder, a pipe or a device is refused.

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
    for path, data in ((path_text(p), d) for p, d in files.items()):
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


def read_together(paths: Sequence[str | PathLike[str]], read: Callable[[], T]) -> T:
    """``read()``, which reads some of ``paths``, all from one save: repeated if a save ended meanwhile.

    Raises:
        FileError: other saves replaced the files during each of many tries; and what ``read`` raises.
    """
    for _ in range(_TRIES):
        before = [file_identity(path) for path in paths]
        try:
            result = read()
        except MinizhaError:
            if before == [file_identity(path) for path in paths]:
                raise
            continue
        if before == [file_identity(path) for path in paths]:
            return result
    raise FileError(
        f"{os.path.dirname(paths[0])}: expected files that stay the same while they are read; other "
        f"saves replaced them {_TRIES} times"
    )


def path_exists(path: str | PathLike[str]) -> bool:
    """Whether there is anything at ``path``; a broken link counts."""
    return file_identity(path) is not None


def names_present(folder: str | PathLike[str], names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are in ``folder``."""
    return [name for name in names if path_exists(os.path.join(folder, name))]


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
    path = path_text(path)
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
    path = path_text(path)
    try:
        mode = read_current(path, os.stat).st_mode
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be read: {reason(error)}") from error
    # opening a pipe would wait for a writer, and /dev/zero never ends
    if not stat.S_ISREG(mode):
        raise FileError(f"{path}: expected a file, found {file_type(mode)}")


def folder_path(folder: str | PathLike[str], name: str = "folder") -> Path:
    """``folder``, or another path that the argument ``name`` gives, as a Path; it need not exist.

    Raises:
        ArgumentError: not a path, an empty one (as a Path it would be the current folder), or one
            with a NUL character.
    """
    text = path_text(folder, name)
    if not text or "\0" in text:
        raise ArgumentError(f"{name}: expected a path, found {text!r}")
    return Path(text)


def inner_folder(folder: str | PathLike[str], subfolder: Any) -> Path:
    """The ``subfolder`` of ``folder``, a relative path; ``folder`` itself for "" and None.

    Raises:
        ArgumentError: not a path, or one that leads out of ``folder``.
    """
    path = folder_path(folder)
    if subfolder is None or (isinstance(subfolder, str) and not subfolder):
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
    name = path_text(folder, "folder")
    try:
        os.makedirs(name, exist_ok=True)
    except (OSError, ValueError) as error:
        raise FileError(f"{name}: expected a folder, can't make it: {reason(error)}") from error


def read_json_object(path: str | PathLike[str], most: int = LARGEST_JSON) -> dict[str, Any]:
    """The object in a JSON file of at most ``most`` bytes.

    Raises:
        FileError: unreadable, too large, not JSON, a key that appears twice, more than 200 levels,
            an integer of more than 4,300 digits, or JSON whose outermost value is not an object.
    """
    path = path_text(path)
    text = decode_utf8(read_bytes(path, most), path)
    try:
        content = _parse_json(text)
    except ValueError as error:
        raise FileError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise FileError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def decode_text(data: bytes, path: str | PathLike[str], line: int = 1) -> str:
    """:func:`decode_utf8` for a text of ordinary characters, which NUL is not.

    Raises:
        FileError: the bytes are not UTF-8, or there are NUL bytes among them.
    """
    if b"\0" in data and (line > 1 or _unicode_mark(data) is None):
        kind = "a binary file, or UTF-16 without a byte-order mark?"
        raise FileError(f"{os.fspath(path)}: expected a text file, found NUL bytes ({kind})")
    return decode_utf8(data, path, line)


def decode_utf8(data: bytes, path: str | PathLike[str], line: int = 1) -> str:
    """``data`` as text; ``path``, the file that it is from, appears in the error message, with the
    number of the line. ``line`` is that of the first byte.

    Raises:
        FileError: the bytes are not UTF-8; names the encoding that the first bytes tell, or else
            the line and the byte.
    """
    if line == 1 and (encoding := _unicode_mark(data)):
        raise FileError(
            f"{os.fspath(path)}, line 1: expected UTF-8 text, found {encoding}, which the first bytes "
            f"tell (convert the file first, for example with iconv -f {encoding} -t UTF-8)"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line += data.count(b"\n", 0, error.start)
        raise FileError(
            f"{os.fspath(path)}, line {line}: expected UTF-8 text, found the byte "
            f"0x{data[error.start]:02x} (convert the file first, for example with iconv -f GB18030 "
            "-t UTF-8, or with -f BIG5 for most texts in traditional characters)"
        ) from error


def _unicode_mark(data: bytes) -> str | None:
    """The encoding that a byte-order mark tells; None for UTF-8 and where there is none."""
    # the mark of UTF-16 begins that of UTF-32
    marks = {codecs.BOM_UTF32_LE: "UTF-32", codecs.BOM_UTF32_BE: "UTF-32"}
    marks |= {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}
    return next((encoding for mark, encoding in marks.items() if data.startswith(mark)), None)


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
