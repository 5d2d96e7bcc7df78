"""A corpus: a text file cut into documents, paragraphs and sentences.

The file is UTF-8 with one paragraph a line and a blank line between documents. So is the novel in
the package, 三国演义, whose documents are its 120 chapters.
"""

from __future__ import annotations

import re
import reprlib
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from os import PathLike
from typing import Any, NamedTuple

from minizha.checks import integer
from minizha.errors import ArgumentError, FileError
from minizha.files import decode_utf8, folder_path, read_bytes
from minizha.text.vocabulary import SPECIAL_TOKENS
from minizha.text.wordpiece import character_pieces

MARKS = "。！？；…"
CLOSERS = "”’」』）》"
# a run of marks ends one sentence, together with the closing quotes and brackets after it
_SENTENCE = re.compile(f"[^{MARKS}]*[{MARKS}][{MARKS}{CLOSERS}]*|[^{MARKS}]+")


class Document(NamedTuple):
    """A chapter or an article: its paragraphs in order, without the title.

    ``title`` is empty if the document has none.
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
    """Read a corpus from a text file.

    Convention: a document's first line is its title, not a paragraph, if more lines follow and it
    does not end like a sentence (in 。！？；…, Latin .!?;: or a comma or colon, closing quotes
    aside). Nothing else in a plain text file tells a title from a paragraph.

    Raises:
        FileError: missing, not an ordinary file, not UTF-8, binary, empty, or fewer documents than
            ``min_documents``. Pre-training needs three: one is held out, and a random second
            sentence comes from another document than the first.
    """
    path = str(folder_path(path, "path"))
    min_documents = integer("min_documents", min_documents, 1)
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
    """Split after each run of 。！？；… and the closing quotes after it; both stay with the sentence.

    The text after the last mark is a sentence too. White space around sentences is removed.
    """
    if not isinstance(paragraph, str):
        raise ArgumentError(f"paragraph: expected a string, found {type(paragraph).__name__}")
    return [s for s in map(str.strip, _SENTENCE.findall(paragraph)) if s]


def character_vocabulary(documents: Sequence[Document], min_count: int = 2) -> list[str]:
    """A vocabulary of single characters: the special tokens, then characters by falling frequency.

    Convention: characters are counted after the tokenizer's normalisation (lower case, no accents);
    a letter inside a Latin word counts as the continuation ``##x``. Equal frequencies are ordered by
    code point. Titles are not counted.

    Args:
        documents: the training documents, without those held out.
        min_count: characters that occur less often become [UNK].

    Raises:
        ArgumentError: ``min_count`` below 1.
    """
    check_documents(documents)
    min_count = integer("min_count", min_count, 1)
    counts = Counter(character_pieces(p for document in documents for p in document.paragraphs))
    pieces = [piece for piece in counts if counts[piece] >= min_count]
    return [*SPECIAL_TOKENS, *sorted(pieces, key=lambda piece: (-counts[piece], piece))]


def hold_out(
    documents: Sequence[Document], every: int = 12
) -> tuple[list[Document], list[Document]]:
    """Split the documents into (train, held out): each ``every``-th one is held out.

    Convention: with fewer documents than ``every`` the last one is held out.

    Raises:
        ArgumentError: fewer than two documents, or ``every`` below 2.
    """
    check_documents(documents)
    every = integer("every", every, 2)
    if len(documents) < 2:
        raise ArgumentError(
            f"documents: expected at least 2, to hold one out, found {len(documents)}"
        )
    step = min(every, len(documents))
    train = [document for i, document in enumerate(documents) if (i + 1) % step]
    return train, list(documents[step - 1 :: step])


def check_documents(documents: Any) -> None:
    """Raise an ArgumentError unless ``documents`` is a list of :class:`Document`."""
    if not isinstance(documents, (list, tuple)) or not all(
        isinstance(document, Document) for document in documents
    ):
        found = reprlib.repr(documents)
        raise ArgumentError(f"documents: expected a list of Document, found {found}")


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
