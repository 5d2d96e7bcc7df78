"""The errors a person can cause, as one family: ``except MinizhaError`` catches them all."""

import unicodedata
from collections.abc import Sequence

# control and format characters (escape sequences begin with one, bidi overrides are some), halves of
# surrogate pairs, and separators of lines and paragraphs
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


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


def visible(text: str, keep: str = "") -> str:
    r"""``text`` with its control and format characters as escapes, such as ``\x1b``, but not those
    in ``keep``.

    Every command prints texts and names from files through it. Sent to a terminal as they are, they
    could change colours and titles, overwrite what is shown, or reverse its order.
    """
    if text.isprintable():
        return text
    return "".join(
        c.encode("unicode_escape").decode("ascii")
        if c not in keep and unicodedata.category(c) in _UNSEEN
        else c
        for c in text
    )


def listed(items: Sequence[str], between: str = ", ", most: int = 20) -> str:
    """``items`` in one line: the first ``most`` of them, then how many more there are."""
    rest = f"{between}and {len(items) - most} more" if len(items) > most else ""
    return between.join(items[:most]) + rest
