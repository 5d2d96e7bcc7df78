"""A corpus: a text file cut into documents, paragraphs and sentences.

The file is UTF-8 with one paragraph a line and a blank line between documents. The novel that
comes with the package, 三国演义 with its 120 chapters as documents, has that form.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from os import PathLike
from typing import NamedTuple

from minizha.checks import integer
from minizha.errors import ArgumentError, FileError
from minizha.files import decode_utf8, read_bytes
from minizha.text.vocabulary import SPECIAL_TOKENS
from minizha.text.wordpiece import character_pieces

MARKS = "。！？；…"
CLOSERS = "”’」』）》"
# a run of marks belongs together, with the quotes and brackets that close on it
_SENTENCE = re.compile(f"[^{MARKS}]*[{MARKS}][{MARKS}{CLOSERS}]*|[^{MARKS}]+")


class Document(NamedTuple):
    """A chapter, an article: paragraphs that belong together, in their order.

    ``title`` is not among the paragraphs, and empty where there is none.
    """

    title: str
    paragraphs: tuple[str, ...]


def embedded_corpus() -> list[Document]:
    """The 120 chapters of 三国演义 (public domain), each with its title.

    Raises:
        FileError: the package was installed without its data.
    """
    name = "minizha/data/sanguo.txt"
    try:
        data = (resources.files("minizha") / "data" / "sanguo.txt").read_bytes()
    except OSError as error:
        raise FileError(f"{name}: missing from the installed package: {error.strerror}") from error
    return _parse(decode_utf8(data, name))


def read_corpus(path: str | PathLike[str], min_documents: int = 3) -> list[Document]:
    """Read a corpus of your own.

    Convention: a document's first line is taken for its title, and kept out of the paragraphs, if
    more lines follow and it does not end like a sentence (in 。！？；…, Latin .!?;: or a comma or
    colon, closing quotes aside): nothing else in a plain text file tells a title from a paragraph.

    Raises:
        FileError: missing, no ordinary file, not UTF-8, binary, empty, or fewer documents than
            ``min_documents``. The three by default are what pre-training needs: two, for a random
            second sentence comes from another document, and one held out.
    """
    path = os.fspath(path)
    data = read_bytes(path)
    if b"\0" in data:
        raise FileError(f"{path}: expected a text file, found NUL bytes (a binary file?)")
    documents = _parse(decode_utf8(data, path))
    if not documents:
        raise FileError(f"{path}: expected text, found an empty file")
    if len(documents) < min_documents:
        raise FileError(
            f"{path}: expected at least {min_documents} documents, found {len(documents)}: "
            "a blank line separates documents, each line is one paragraph"
        )
    return documents


def split_sentences(paragraph: str) -> list[str]:
    """Split after each run of 。！？；…, which stays with its sentence, as do closing quotes.

    What follows the last mark is a sentence too. White space around sentences is dropped.
    """
    return [s for s in map(str.strip, _SENTENCE.findall(paragraph)) if s]


def character_vocabulary(documents: Sequence[Document], min_count: int = 2) -> list[str]:
    """A vocabulary of single characters: special tokens first, then by falling frequency.

    Convention: the characters are counted as the tokenizer will see them, after its lower-casing
    and stripping of accents; a letter inside a Latin word counts as the continuation ``##x``. Equal
    frequencies are ordered by code point. Titles are not counted.

    Args:
        documents: what to count in; leave out what is held out.
        min_count: characters that occur more rarely become [UNK].

    Raises:
        ArgumentError: ``min_count`` below 1.
    """
    min_count = integer("min_count", min_count, 1)
    counts = Counter(character_pieces(p for document in documents for p in document.paragraphs))
    pieces = [piece for piece in counts if counts[piece] >= min_count]
    return [*SPECIAL_TOKENS, *sorted(pieces, key=lambda piece: (-counts[piece], piece))]


def hold_out(
    documents: Sequence[Document], every: int = 12
) -> tuple[list[Document], list[Document]]:
    """Split whole documents into (train, held out): every twelfth is held out, by position.

    Convention: with fewer documents than ``every`` the last one is held out.

    Raises:
        ArgumentError: fewer than two documents, or ``every`` below 2.
    """
    every = integer("every", every, 2)
    if len(documents) < 2:
        raise ArgumentError(
            f"documents: expected at least 2, to hold one out, found {len(documents)}"
        )
    step = min(every, len(documents))
    train = [document for i, document in enumerate(documents) if (i + 1) % step]
    return train, list(documents[step - 1 :: step])


def _parse(text: str) -> list[Document]:
    documents: list[Document] = []
    lines: list[str] = []
    for line in [*text.removeprefix("\ufeff").split("\n"), ""]:
        if line := line.strip():
            lines.append(line)
        elif lines:
            documents.append(_document(lines))
            lines = []
    return documents


def _document(lines: list[str]) -> Document:
    ends_like_a_sentence = lines[0].rstrip(CLOSERS + "\"')").endswith(tuple(MARKS + "，：、.!?;:,"))
    if len(lines) > 1 and not ends_like_a_sentence:
        return Document(lines[0], tuple(lines[1:]))
    return Document("", tuple(lines))
