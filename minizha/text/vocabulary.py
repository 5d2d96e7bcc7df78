"""vocab.txt: the list of tokens; the position of a token is its id."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Sequence
from os import PathLike

from minizha.errors import ArgumentError, FileError, MinizhaError
from minizha.files import decode_utf8, read_bytes

LARGEST_VOCABULARY = 64 * 1024**2
"""The most bytes of a vocab.txt; that of Chinese BERT has 110,000."""
PAD, UNK, CLS, SEP, MASK = SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def check_vocabulary(tokens: Sequence[str]) -> list[str]:
    """``tokens`` as a list, checked: every token has one id and fits on a line of vocab.txt.

    Raises:
        ArgumentError: not strings, an empty or repeated token, a line break inside a token, or
            one of ``SPECIAL_TOKENS`` missing.
    """
    if not isinstance(tokens, (list, tuple)) or not all(isinstance(t, str) for t in tokens):
        raise ArgumentError(
            "vocab: expected a list of strings or the path of a vocab.txt, found "
            f"{reprlib.repr(tokens)}"
        )
    return check_tokens(tokens, lambda i: f"vocab[{i}]", "vocab", ArgumentError)


def read_vocabulary(path: str | PathLike[str]) -> list[str]:
    r"""The tokens of a vocab.txt, one a line; the line number (from 0) is the id.

    Convention: UTF-8, split at ``\n`` alone. ``str.splitlines`` would also split at U+2028, which
    two tokens of the released Chinese vocabulary contain, and shift every id after them.

    Raises:
        FileError: the file is missing, not UTF-8 or empty, begins with a byte-order mark, has an
            empty or repeated line, or lacks one of ``SPECIAL_TOKENS``.
    """
    path = os.fspath(path)
    text = decode_utf8(read_bytes(path, LARGEST_VOCABULARY), path)
    if not text.strip():
        raise FileError(f"{path}: expected one token a line, found an empty file")
    if text.startswith("\ufeff"):
        raise FileError(
            f"{path}, line 1: starts with a byte-order mark (U+FEFF), which would become part of "
            "the first token; save the file as UTF-8 without one"
        )
    lines = text.removesuffix("\n").split("\n")
    tokens = [line.removesuffix("\r") for line in lines]
    return check_tokens(tokens, lambda i: f"{path}, line {i + 1}", path, FileError)


def check_tokens(
    tokens: Sequence[str], where: Callable[[int], str], source: str, error: type[MinizhaError]
) -> list[str]:
    """:func:`check_vocabulary` with the caller's words: where(i) names token i in messages."""
    seen: dict[str, int] = {}
    for i, token in enumerate(tokens):
        if not token:
            raise error(f"{where(i)}: expected a token, found nothing")
        if token in seen:
            raise error(f"{where(i)}: {reprlib.repr(token)} repeats {where(seen[token])}")
        if "\n" in token or "\r" in token:
            raise error(f"{where(i)}: a line break inside the token {reprlib.repr(token)}")
        if not token.isascii() and any("\ud800" <= c <= "\udfff" for c in token):
            raise error(f"{where(i)}: {reprlib.repr(token)} is not valid Unicode")
        seen[token] = i
    missing = [token for token in SPECIAL_TOKENS if token not in seen]
    if missing:
        raise error(f"{source}: {', '.join(missing)} missing among its {len(seen)} tokens")
    return list(tokens)
