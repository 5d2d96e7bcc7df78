"""A save of several files as one transaction: a kill at any moment never mixes old and new files.

The largest step that a file system takes at once is one renaming. A save therefore has three steps:

1. staging: each file is written to ``FOLDER/.minizha-<random>.tmp/`` and synced to the disk;
2. commit: that folder is renamed to ``FOLDER/.minizha-save``;
3. completion: the files are moved from there to their paths, and the empty folder is removed.

A kill before step 2 leaves the old files valid. A kill after it leaves the new ones valid: a reader
finds them by :func:`find_current` and changes nothing; the next writer repeats step 3.

Another program may write a file in between, at its path. It is newer than the one that waits, by
the time of its last change, and is the valid one: step 3 removes the one that waits.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator

from minizha.errors import FileError
from minizha.interrupts import delay_interrupts

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module elsewhere

COMMITTED = ".minizha-save"
_STAGING = re.compile(r"\.minizha-[0-9a-f]{16}\.tmp")
_TRIES = 100  # a try fails if another writer has committed a save in the meantime
_OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES)  # the last one on Windows


def find_current(path: str) -> str:
    """Where the file ``path`` is now: in a committed save that is not complete, or at ``path``.

    Convention: a file at ``path`` that is newer than the one in the save is the current one.
    """
    folder, name = os.path.split(path)
    committed = _committed_folder(folder or ".")
    if name and committed:
        moved_later = os.path.join(committed, name)
        if os.path.exists(moved_later) and not _newer(path, moved_later):
            return moved_later
    return path


@contextlib.contextmanager
def staging(folder: str) -> Iterator[str]:
    """A new folder inside ``folder``; removed at the end, unless it was committed.

    The folder is locked while its writer runs. The system releases the lock when the process ends,
    however it ends; so :func:`clear_leftovers` knows which writers still run.
    """
    while True:
        # the name is known before the folder exists, so that it is removed after any interrupt
        path = os.path.join(folder, f".minizha-{secrets.token_hex(8)}.tmp")
        try:
            os.mkdir(path)
            with _locked(path, wait=True):
                if os.path.isdir(path):  # else another writer removed it before it was locked
                    yield path
                    return
        finally:
            _remove(path)


@contextlib.contextmanager
def files_together(folder: str) -> Iterator[str]:
    """A new folder; the files written into it, of any size, become those of ``folder`` at the end of
    the block, all or none of them.

    Raises:
        FileError: they can't be written.
    """
    with as_file_error(folder):
        complete_save(folder)  # an older committed save would hide the new files
        clear_leftovers(folder)
    with staging(folder) as staged:
        yield staged
        for name in os.listdir(staged):
            with as_file_error(os.path.join(folder, name)):
                _sync(os.path.join(staged, name))
        with delay_interrupts():
            commit(staged, folder)


def write_synced(path: str, data: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def commit(staged: str, folder: str) -> None:
    """Commit the files in ``staged`` as those of ``folder``, and move them there.

    Raises:
        FileError: the commit failed; or a file can't be replaced after it. In the second case the
            save is valid all the same, and the next one moves the remaining files.
    """
    committed = os.path.join(folder, COMMITTED)
    for tries_left in reversed(range(_TRIES)):
        complete_save(folder)
        with as_file_error(committed):
            _make_newest(staged, folder)
        sync_folder(staged)
        try:
            os.replace(staged, committed)
            break
        except OSError as error:
            if error.errno not in _OCCUPIED or not tries_left:
                raise FileError(f"{committed}: can't be written: {reason(error)}") from error
    sync_folder(folder)
    complete_save(folder)


def complete_save(folder: str) -> None:
    """Move the files of a committed save to their paths.

    Several writers may do this at once: each file is still moved once, and always the newest.

    Raises:
        FileError: a file can't be replaced.
    """
    committed = _committed_folder(folder)
    if not committed:
        return
    names: list[str] = []
    with as_file_error(committed), contextlib.suppress(FileNotFoundError):
        names = os.listdir(committed)
    # between two moves Transformers, which knows no committed saves, sees a mixture. Replacing a
    # file frees the old one, which takes 0.1 s for 400 MB: so the largest is moved last
    for name in sorted(names, key=lambda name: (_size(os.path.join(folder, name)), name)):
        target, waiting = os.path.join(folder, name), os.path.join(committed, name)
        with as_file_error(target), contextlib.suppress(FileNotFoundError):
            if not _discard(committed, name, target):
                os.replace(waiting, target)
    with contextlib.suppress(OSError):
        os.rmdir(committed)


def clear_leftovers(folder: str) -> None:
    """Remove the staging folders of writers that were killed.

    They stay where there are no locks to tell a killed writer from a running one (on Windows and
    on some network drives).
    """
    with contextlib.suppress(OSError):
        for name in filter(_STAGING.fullmatch, os.listdir(folder)):
            path = os.path.join(folder, name)
            with _locked(path, wait=False) as descriptor, contextlib.suppress(OSError):
                if descriptor is not None:
                    for inner in os.listdir(descriptor):
                        os.unlink(inner, dir_fd=descriptor)
                    os.rmdir(path)


@contextlib.contextmanager
def exclusive(folder: str) -> Iterator[bool]:
    """Lock ``folder`` for this process; False if another one has locked it.

    The system releases the lock when the process ends, however it ends. Where there are no locks, the
    answer is True.
    """
    if not fcntl:
        yield True
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        free = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            free = False
        except OSError:  # a file system without locks
            pass
        yield free
    finally:
        os.close(descriptor)


def sync_folder(folder: str) -> None:
    """Wait until the names in ``folder`` are on the disk, if the file system can do that."""
    # without this, a power cut can undo a renaming
    with contextlib.suppress(OSError):
        _sync(folder)


@contextlib.contextmanager
def as_file_error(path: str) -> Iterator[None]:
    """Turn the system's errors into a :class:`FileError` that names ``path``."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise FileError(f"{path}: can't be written: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The system's error message without its number and path."""
    return getattr(error, "strerror", None) or str(error)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _committed_folder(folder: str) -> str | None:
    """The path of the committed save in ``folder``, or None."""
    path = os.path.join(folder, COMMITTED)
    try:
        status, parent = os.lstat(path), os.stat(folder)
    except (OSError, ValueError):
        return None
    # a link could lead anywhere; and in /tmp another user may have made the folder
    shared = parent.st_mode & stat.S_ISVTX
    foreign = shared and status.st_uid not in (os.geteuid(), parent.st_uid)
    return path if stat.S_ISDIR(status.st_mode) and not foreign else None


@contextlib.contextmanager
def _locked(folder: str, *, wait: bool) -> Iterator[int | None]:
    """The descriptor of ``folder``, locked; None if it can't be locked."""
    descriptor, locked = None, False
    try:
        with contextlib.suppress(OSError):
            if fcntl:
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                locked = True
        yield descriptor if locked else None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _remove(folder: str) -> None:
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _newer(path: str, than: str) -> bool:
    """Whether the file ``path`` was last changed after ``than``; False if one is missing."""
    try:
        return os.lstat(path).st_mtime_ns > os.lstat(than).st_mtime_ns
    except OSError:
        return False


def _discard(committed: str, name: str, target: str) -> bool:
    """Remove a waiting file if ``target`` is newer; return whether it is."""
    waiting = os.path.join(committed, name)
    if not _newer(target, waiting):
        return False
    if os.unlink not in os.supports_dir_fd:
        os.unlink(waiting)
        return True
    # by the folder itself, not by its name: under that name another writer may commit its own save
    descriptor = os.open(committed, os.O_RDONLY)
    try:
        time = os.stat(name, dir_fd=descriptor).st_mtime_ns
        if newer := os.lstat(target).st_mtime_ns > time:
            os.unlink(name, dir_fd=descriptor)
        return newer
    finally:
        os.close(descriptor)


def _make_newest(staged: str, folder: str) -> None:
    """Date the staged files after those that they replace: a clock may go backwards, and an old file
    may have a date in the future."""
    for name in os.listdir(staged):
        new, old = os.path.join(staged, name), os.path.join(folder, name)
        if _newer(old, new):
            time = os.lstat(old).st_mtime_ns + 1
            os.utime(new, ns=(time, time))


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
