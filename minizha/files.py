"""Whole files, read and written so that a person sees what failed and none is left half."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from os import PathLike

from minizha.errors import FileError


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

    Raises:
        FileError: as for :func:`write_atomic`; names the file at fault.
    """
    staged: list[tuple[str, str]] = []
    try:
        for path, data in ((os.fspath(p), d) for p, d in files.items()):
            with _as_file_error(path):
                _refuse_special(path)
                staged.append((_write_beside(path, data), path))
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
    try:
        mode = os.stat(path).st_mode
        # opening a pipe would wait for a writer, and /dev/zero never ends
        if not stat.S_ISREG(mode):
            kind = "a folder" if stat.S_ISDIR(mode) else "no ordinary file"
            raise FileError(f"{path}: expected a file, found {kind}")
        with open(path, "rb") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be read: {_reason(error)}") from error


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


def _write_beside(path: str, data: bytes) -> str:
    # a short name of its own: the target's may already be as long as the file system allows
    temporary = os.path.join(os.path.dirname(path), f".minizha-{secrets.token_hex(8)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        _remove(temporary)
        raise
    return temporary


def _refuse_special(path: str) -> None:
    """Replacing a device such as /dev/null by a file would succeed, and do harm."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        kind = "a folder" if stat.S_ISDIR(mode) else "no ordinary file"
        raise FileError(f"{path}: can't be written: it is {kind}")


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
