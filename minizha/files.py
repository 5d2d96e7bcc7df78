"""Whole files, read and written so that a person sees what failed and none is left half."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import stat
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from minizha.errors import ArgumentError, FileError


def write_atomic(path: str | PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader finds the old file or the new one, never a part.

    Convention: the bytes go to a temporary file in the same folder, reach the disk (fsync), and
    take the final name in one step (``os.replace``); then the folder is synced. The mode is that
    of any new file (0666 less the umask). A symbolic link at ``path`` is replaced, not followed.

    Raises:
        FileError: the folder is missing or not writable, the disk is full, or ``path`` is
            something else than a file. The temporary file is gone and ``path`` is as it was.
    """
    write_together({path: data})


def write_together(files: Mapping[str | PathLike[str], bytes]) -> None:
    """:func:`write_atomic` for files that belong together: all are on the disk under temporary
    names before the first one takes its place, so a full disk leaves every old file as it was.
    Ctrl-C leaves all old files or all new ones.

    Raises:
        FileError: as for :func:`write_atomic`; names the file at fault.
    """
    staged: list[tuple[str, str]] = []
    try:
        for path, data in ((os.fspath(p), d) for p, d in files.items()):
            with _as_file_error(path):
                check_target(path)
                # noted before it exists, so that no moment is left in which it would stay behind
                staged.append((_name_beside(path), path))
                _write(staged[-1][0], data)
        with _interrupts_wait():
            for temporary, path in staged:
                with _as_file_error(path):
                    os.replace(temporary, path)
    except BaseException:
        for temporary, _ in staged:
            _remove(temporary)
        raise
    for folder in {os.path.dirname(path) or "." for _, path in staged}:
        _sync_folder(folder)


def read_bytes(path: str | PathLike[str]) -> bytes:
    """The content of the file at ``path``.

    Raises:
        FileError: it is missing, unreadable, a folder, or no ordinary file (a pipe, a device).
    """
    path = os.fspath(path)
    check_file(path)
    try:
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be read: {_reason(error)}") from error


def check_file(path: str | PathLike[str]) -> None:
    """Make sure that ``path`` is an ordinary file, before something is opened that never ends.

    Raises:
        FileError: it is missing, a folder, or no ordinary file (a pipe, a device).
    """
    path = os.fspath(path)
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be read: {_reason(error)}") from error
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
        raise FileError(f"{path}: can't be written: {_reason(error)}") from error
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
        raise FileError(f"{name}: expected a folder, can't make it: {_reason(error)}") from error


def read_json_object(path: str | PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        FileError: unreadable, not JSON, a key that stands there twice, or JSON whose outermost
            value is no object.
    """
    path = os.fspath(path)
    text = decode_utf8(read_bytes(path), path)
    try:
        content = json.loads(text, object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
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


@contextlib.contextmanager
def _as_file_error(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be written: {_reason(error)}") from error


def _name_beside(path: str) -> str:
    # a short name of its own: the target's may already be as long as the file system allows
    return os.path.join(os.path.dirname(path), f".minizha-{secrets.token_hex(8)}.tmp")


def _write(path: str, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C takes effect when the block is done: between two renamings it would leave a new
    file beside an old one. Only the main thread gets it and can make it wait."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[tuple] = []
    previous = signal.signal(signal.SIGINT, lambda *arguments: came.append(arguments))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if previous is None else previous)
        if came and callable(previous):
            previous(*came[0])


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    (name, times), *_ = Counter(name for name, _ in pairs).most_common(1) or [("", 1)]
    if times > 1:
        raise ValueError(f"the key {name!r} stands there {times} times")
    return dict(pairs)


def _sync_folder(folder: str) -> None:
    # without this a power cut can undo the rename; some file systems can't sync a folder
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
