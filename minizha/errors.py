"""The errors a person can cause, as one family: ``except MinizhaError`` catches them all."""

from collections.abc import Sequence


class MinizhaError(Exception):
    """Base of every error raised on purpose; its text is one or more complete, readable lines."""


class ArgumentError(MinizhaError, ValueError):
    """A bad argument or configuration: names it, what was found and what was expected."""


class FileError(MinizhaError):
    """A file that can't be read, written or believed: names the path and the reason."""


class BackendError(MinizhaError):
    """An array library that is missing or can't run, or arrays of two libraries in one call."""


class CheckpointWarning(UserWarning):
    """Something about a checkpoint that need not stop the program: tensors that are missing (and
    initialised instead) or left over, or an older copy that serves while the hub is out of reach."""


def listed(items: Sequence[str], between: str = ", ", most: int = 20) -> str:
    """``items`` in one line; of very many, the first and how many more there are."""
    rest = f"{between}and {len(items) - most} more" if len(items) > most else ""
    return between.join(items[:most]) + rest
