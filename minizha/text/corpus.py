"""A corpus: a text file cut into documents, paragraphs and sentences.

The file is UTF-8 with one paragraph a line and a blank line between documents, or with one document a
line. The novel in the package, 三国演义, is of the first form; its documents are its 120 chapters.
"""

from __future__ import annotations

import re
import reprlib
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib import resources
from os import PathLike
from typing import Any, NamedTuple

from minizha.checks import flag, integer
from minizha.errors import ArgumentError, FileError, TextWarning
from minizha.files import decode_text, decode_utf8, folder_path, read_bytes
from minizha.text.vocabulary import SPECIAL_TOKENS
from minizha.text.wordpiece import character_pieces

MARKS = "。！？；…"
CLOSERS = "”’」』）》"
LONGEST_TITLE = 40  # characters
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
    return [_document(lines, True) for lines in _blocks(decode_utf8(data, name))]


def read_corpus(
    path: str | PathLike[str],
    min_documents: int = 3,
    *,
    titles: bool | None = None,
    document_per_line: bool = False,
) -> list[Document]:
    """Read a corpus from a text file.

    Convention: a first line looks like a title if it is short (at most 40 characters) and does not
    end like a sentence (in 。！？；…, Latin .!?;: or a comma or colon, closing quotes aside), while
    most of the lines after it do. Where this is so in most documents of two or more lines, the
    short first lines that do not end like a sentence are titles, not paragraphs, and a TextWarning
    says how many. Nothing else in a plain text file tells a title from a paragraph.

    Args:
        path: the file.
        min_documents: the fewest documents to accept.
        titles: True takes the first of several lines for a title in every document, False in none;
            None is the convention above.
        document_per_line: every line is a document of one paragraph, without a title.

    Raises:
        ArgumentError: an option is not as described here, or titles=True with document_per_line.
        FileError: missing, not an ordinary file, not UTF-8, binary, empty, or fewer documents than
            ``min_documents``. Pre-training needs three: one is held out, and a random second
            sentence comes from another document than the first.
    """
    path = str(folder_path(path, "path"))
    min_documents = integer("min_documents", min_documents, 1)
    titles = None if titles is None else flag("titles", titles)
    if flag("document_per_line", document_per_line) and titles:
        raise ArgumentError("titles: expected False or None with document_per_line, found True")
    blocks = _blocks(decode_text(read_bytes(path), path))
    if not blocks:
        raise FileError(f"{path}: expected text, found an empty file")
    if document_per_line:
        blocks = [[line] for block in blocks for line in block]
    if len(blocks) < min_documents:
        hint = (
            "each line is one document"
            if document_per_line
            else "a blank line separates documents, each line is one paragraph "
            "(document_per_line, --document-per-line: each line is one document)"
        )
        raise FileError(
            f"{path}: expected at least {min_documents} documents, found {len(blocks)}: {hint}"
        )
    if titles is not None:
        return [_document(lines, titles) for lines in blocks]
    return _with_guessed_titles(blocks, path)


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


def _blocks(text: str) -> list[list[str]]:
    """The lines of each document, without white space around them."""
    blocks: list[list[str]] = [[]]
    for line in text.removeprefix("\ufeff").split("\n"):
        if line := line.strip():
            blocks[-1].append(line)
        elif blocks[-1]:
            blocks.append([])
    return [block for block in blocks if block]


def _document(lines: list[str], has_title: bool) -> Document:
    if has_title and len(lines) > 1:
        return Document(lines[0], tuple(lines[1:]))
    return Document("", tuple(lines))


def _with_guessed_titles(blocks: list[list[str]], path: str) -> list[Document]:
    longer = [lines for lines in blocks if len(lines) > 1]
    titled = [
        lines
        for lines in longer
        if _may_be_title(lines[0]) and 2 * sum(map(_ends_like_a_sentence, lines)) > len(lines) - 1
    ]
    if 2 * len(titled) <= len(longer):
        return [_document(lines, False) for lines in blocks]
    documents = [_document(lines, _may_be_title(lines[0])) for lines in blocks]
    titles = [document.title for document in documents if document.title]
    warnings.warn(
        f"{path}: {len(titles)} first lines ({sum(map(len, titles)):,} characters) are taken for "
        f"titles and left out of the text, such as {titles[0]!r} (titles=False or --titles no keeps "
        "them, titles=True or --titles yes takes every first line)",
        TextWarning,
        stacklevel=3,
    )
    return documents


def _may_be_title(line: str) -> bool:
    return len(line) <= LONGEST_TITLE and not _ends_like_a_sentence(line)


def _ends_like_a_sentence(line: str) -> bool:
    return line.rstrip(CLOSERS + "\"')").endswith(tuple(MARKS + "，：、.!?;:,"))
