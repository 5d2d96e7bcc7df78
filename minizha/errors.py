"""The errors a person can cause, as one family: ``except MinizhaError`` catches them all."""

from collections.abc import Sequence


class MinizhaError(Exception):
    """Base of every error raised on purpose; its text is one or more complete, readable lines."""


class ArgumentError(MinizhaError, ValueError):
    """A bad argument or configuration: names it, what was found and what was expected."""


class FileError(MinizhaError):
    """A file that can't be read, written or trusted: names the path and the reason."""


class BackendError(MinizhaError):
    """An array library that is missing or can't run, or arrays of two libraries in one call."""


class CheckpointWarning(UserWarning):
    """A fault of a checkpoint that does not stop the program: tensors that are missing (they are
    initialised) or left over, or an older copy that is used because the hub can't be reached."""


class TextWarning(UserWarning):
    """A part of a text that is left out, such as titles, or what is beyond the longest row."""


def listed(items: Sequence[str], between: str = ", ", most: int = 20) -> str:
    """``items`` in one line: the first ``most`` of them, then how many more there are."""
    rest = f"{between}and {len(items) - most} more" if len(items) > most else ""
    return between.join(items[:most]) + rest
