"""A corpus: a text file cut into documents, paragraphs and sentences.

The file is UTF-8 with one paragraph a line and a blank line between documents, or with one document a
line. The novel in the package, 三国演义, is of the first form; its documents are its 120 chapters.
"""

from __future__ import annotations

import re
import reprlib
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import resources
from os import PathLike
from typing import Any, NamedTuple

from minizha.checks import flag, integer
from minizha.errors import ArgumentError, FileError, TextWarning
from minizha.files import folder_path
from minizha.text.layouts import Layout, read_blocks
from minizha.text.vocabulary import SPECIAL_TOKENS
from minizha.text.wordpiece import count_character_pieces

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
    file = resources.files("minizha") / "data" / "sanguo.txt"
    if not file.is_file():
        raise FileError(f"{name}: missing from the installed package")
    with resources.as_file(file) as path:
        return [document(lines, lambda _: True) for lines in read_blocks(path, Layout())]


def read_corpus(
    path: str | PathLike[str],
    min_documents: int = 3,
    *,
    titles: bool | None = None,
    document_per_line: bool = False,
    json_field: str = "",
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
        json_field: every line is a JSON object; the string in this field is a document, with a
            paragraph a line. "" for other files.

    Raises:
        ArgumentError: an option is not as described here, or document_per_line with one of the others.
        FileError: missing, not an ordinary file, not UTF-8, binary, empty, a line that is not such a
            JSON object, or fewer documents than ``min_documents``. Pre-training needs three: one is
            held out, and a random second sentence comes from another document than the first.
    """
    path = str(folder_path(path, "path"))
    layout = check_layout(titles, document_per_line, json_field)
    min_documents = integer("min_documents", min_documents, 1)
    blocks = list(read_blocks(path, layout))
    survey = Survey()
    for lines in blocks:
        survey.add(lines)
    survey.check(path, layout, min_documents)
    titled = survey.titled(path, titles, stacklevel=3)
    return [document(lines, titled) for lines in blocks]


def check_layout(titles: Any, document_per_line: Any, json_field: Any) -> Layout:
    """The layout that these options of :func:`read_corpus` describe, checked.

    Raises:
        ArgumentError: an option is of another type, or document_per_line is used with another one.
    """
    titles = None if titles is None else flag("titles", titles)
    if not isinstance(json_field, str):
        raise ArgumentError(f"json_field: expected a string, found {reprlib.repr(json_field)}")
    if flag("document_per_line", document_per_line):
        if titles:
            raise ArgumentError("titles: expected False or None with document_per_line, found True")
        if json_field:
            raise ArgumentError(
                "json_field: expected none with document_per_line (each line of JSON lines is a "
                f"document in any case), found {reprlib.repr(json_field)}"
            )
    return Layout(bool(document_per_line), json_field)


class Survey:
    """Counts over the documents of a corpus, from which the convention about titles follows."""

    def __init__(self) -> None:
        self.documents = self._longer = self._titled = self._titles = self._characters = 0
        self._example = ""

    def add(self, lines: list[str]) -> None:
        """Count one more document."""
        self.documents += 1
        if len(lines) < 2:
            return
        self._longer += 1
        if _may_be_title(lines[0]):
            self._titled += 2 * sum(map(_ends_like_a_sentence, lines)) > len(lines) - 1
            self._titles += 1
            self._characters += len(lines[0])
            self._example = self._example or lines[0]

    def check(self, name: str, layout: Layout, min_documents: int) -> None:
        """Raise a FileError if there are too few documents; ``name`` is that of the corpus."""
        if not self.documents:
            raise FileError(f"{name}: expected text, found an empty file")
        if self.documents < min_documents:
            raise FileError(
                f"{name}: expected at least {min_documents} documents, found {self.documents}: "
                f"{layout.rule}"
            )

    def titled(self, name: str, titles: bool | None, stacklevel: int) -> Callable[[str], bool]:
        """Whether a first line is a title, by ``titles`` or by the convention; then warn of it."""
        if titles is not None:
            return lambda _: titles
        if 2 * self._titled <= self._longer:
            return lambda _: False
        warnings.warn(
            f"{name}: {self._titles} first lines ({self._characters:,} characters) are taken for "
            f"titles and left out of the text, such as {self._example!r} (titles=False or --titles no "
            "keeps them, titles=True or --titles yes takes every first line)",
            TextWarning,
            stacklevel=stacklevel,
        )
        return _may_be_title


def split_sentences(paragraph: str) -> list[str]:
    """Split after each run of 。！？；… and the closing quotes after it; both stay with the sentence.

    The text after the last mark is a sentence too. White space around sentences is removed.
    """
    if not isinstance(paragraph, str):
        raise ArgumentError(f"paragraph: expected a string, found {type(paragraph).__name__}")
    return [s for s in map(str.strip, _SENTENCE.findall(paragraph)) if s]


def short_sentences(documents: Sequence[Document]) -> list[str]:
    """The sentences of 12 to 40 characters, which fit on a line and say enough to guess from."""
    return [
        s for d in documents for p in d.paragraphs for s in split_sentences(p) if 12 <= len(s) <= 40
    ]


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
    return vocabulary_from(count_characters(documents), min_count)


def count_characters(documents: Sequence[Document]) -> Counter[str]:
    """How often each token of :func:`character_vocabulary` occurs. Counts of parts may be added."""
    return count_character_pieces(
        [s for document in documents for p in document.paragraphs for s in split_sentences(p)]
    )


def vocabulary_from(counts: Counter[str], min_count: int) -> list[str]:
    """:func:`character_vocabulary` of these counts."""
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
    step = held_out_step(len(documents), every)
    train = [document for i, document in enumerate(documents) if (i + 1) % step]
    return train, list(documents[step - 1 :: step])


def held_out_step(count: int, every: int) -> int:
    """The n for which :func:`hold_out` holds out every n-th of ``count`` documents.

    Raises:
        ArgumentError: as for :func:`hold_out`.
    """
    every = integer("every", every, 2)
    if count < 2:
        raise ArgumentError(f"documents: expected at least 2, to hold one out, found {count}")
    return min(every, count)


def check_documents(documents: Any) -> None:
    """Raise an ArgumentError unless ``documents`` is a list of :class:`Document`."""
    if not isinstance(documents, (list, tuple)) or not all(
        isinstance(document, Document) for document in documents
    ):
        found = reprlib.repr(documents)
        raise ArgumentError(f"documents: expected a list of Document, found {found}")


def document(lines: list[str], is_title: Callable[[str], bool]) -> Document:
    """The document of these lines; of several, the first may be its title."""
    if len(lines) > 1 and is_title(lines[0]):
        return Document(lines[0], tuple(lines[1:]))
    return Document("", tuple(lines))


def _may_be_title(line: str) -> bool:
    return len(line) <= LONGEST_TITLE and not _ends_like_a_sentence(line)


def _ends_like_a_sentence(line: str) -> bool:
    return line.rstrip(CLOSERS + "\"')").endswith(tuple(MARKS + "，：、.!?;:,"))
