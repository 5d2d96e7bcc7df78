"""A save of several files as one step, so that one killed at any moment leaves no mixture.

The largest step that a file system takes at once is one renaming. A save therefore takes three:

1. staging: each file is written to ``FOLDER/.minizha-<random>.tmp/`` and reaches the disk;
2. commitment: that folder is renamed to ``FOLDER/.minizha-save``;
3. completion: the files are moved from there to their places, and the empty folder removed.

Killed before the second, the old files stand. Killed after it, the new ones count: a reader finds
them by :func:`place_of` and changes nothing; the next writer does the third step again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import signal
import stat
import threading
from collections.abc import Iterator

from minizha.errors import FileError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module elsewhere

COMMITTED = ".minizha-save"
_STAGING = re.compile(r"\.minizha-[0-9a-f]{16}\.tmp")
_TRIES = 100  # each is lost to a save that another writer has committed in the meantime
_IN_THE_WAY = (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES)  # the last one on Windows


def place_of(path: str) -> str:
    """Where the file ``path`` lies now: in a committed save that waits for its completion, or
    at ``path`` itself."""
    folder, name = os.path.split(path)
    committed = _committed(folder or ".")
    if name and committed:
        waiting = os.path.join(committed, name)
        if os.path.exists(waiting):
            return waiting
    return path


@contextlib.contextmanager
def staging(folder: str) -> Iterator[str]:
    """A new folder inside ``folder``; gone at the end, unless it was committed.

    The lock on it, which the system takes back from a dead process however it died, tells
    :func:`clear_leftovers` that this writer lives.
    """
    while True:
        # noted before it exists, so that no moment is left in which it would stay behind
        path = os.path.join(folder, f".minizha-{secrets.token_hex(8)}.tmp")
        try:
            os.mkdir(path)
            with _locked(path, wait=True):
                if os.path.isdir(path):  # else it was cleared away before the lock was on it
                    yield path
                    return
        finally:
            _remove(path)


def write_synced(path: str, data: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def commit(staged: str, folder: str) -> None:
    """Make the files in ``staged`` the ones that count for ``folder``, and move them there.

    Raises:
        FileError: before the commitment; or after it, where a file can't take its place. Then
            the save counts all the same, and the next one moves what was left.
    """
    sync_folder(staged)
    committed = os.path.join(folder, COMMITTED)
    for tries_left in reversed(range(_TRIES)):
        complete(folder)
        try:
            os.replace(staged, committed)
            break
        except OSError as error:
            if error.errno not in _IN_THE_WAY or not tries_left:
                raise FileError(f"{committed}: can't be written: {reason(error)}") from error
    sync_folder(folder)
    complete(folder)


def complete(folder: str) -> None:
    """Move the files of a committed save to their places. Where several writers do it at once,
    each file is still moved once, and always the newest.

    Raises:
        FileError: a file can't take its place.
    """
    committed = _committed(folder)
    if not committed:
        return
    names: list[str] = []
    with as_file_error(committed), contextlib.suppress(FileNotFoundError):
        names = os.listdir(committed)
    # Transformers, which looks at the places alone, sees a mixture between two moves. To replace
    # a file is to free the old one, and for 400 MB that takes 0.1 s: the largest last
    for name in sorted(names, key=lambda name: (_size(os.path.join(folder, name)), name)):
        target = os.path.join(folder, name)
        with as_file_error(target), contextlib.suppress(FileNotFoundError):
            os.replace(os.path.join(committed, name), target)
    with contextlib.suppress(OSError):
        os.rmdir(committed)


def clear_leftovers(folder: str) -> None:
    """Remove the staging folders of writers that were killed. Where the system has no locks that
    could tell the living from the dead (Windows, some network drives), they stay."""
    with contextlib.suppress(OSError):
        for name in filter(_STAGING.fullmatch, os.listdir(folder)):
            path = os.path.join(folder, name)
            with _locked(path, wait=False) as descriptor, contextlib.suppress(OSError):
                if descriptor is not None:
                    for inner in os.listdir(descriptor):
                        os.unlink(inner, dir_fd=descriptor)
                    os.rmdir(path)


@contextlib.contextmanager
def interrupts_wait() -> Iterator[None]:
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


def sync_folder(folder: str) -> None:
    """Wait until the names in ``folder`` are on the disk, where the file system can do that."""
    # without this a power cut can undo a renaming
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def as_file_error(path: str) -> Iterator[None]:
    """What the system says becomes a :class:`FileError` that names ``path``."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be written: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The system's words for what went wrong, without numbers and paths."""
    return getattr(error, "strerror", None) or str(error)


def _committed(folder: str) -> str | None:
    """The path of the committed save that waits in ``folder``, if there is one."""
    path = os.path.join(folder, COMMITTED)
    try:
        found, around = os.lstat(path), os.stat(folder)
    except (OSError, ValueError):
        return None
    # a link could lead anywhere; and in /tmp, where all may write, anybody may have put it there
    open_to_all = around.st_mode & stat.S_ISVTX
    foreign = open_to_all and found.st_uid not in (os.geteuid(), around.st_uid)
    return path if stat.S_ISDIR(found.st_mode) and not foreign else None


@contextlib.contextmanager
def _locked(folder: str, *, wait: bool) -> Iterator[int | None]:
    """The descriptor of ``folder``, locked; None where there is no lock to be had."""
    descriptor, held = None, False
    try:
        with contextlib.suppress(OSError):
            if fcntl:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                held = True
        yield descriptor if held else None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _remove(folder: str) -> None:
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
