"""``minizha prepare``: texts of any size become a folder of ids, with a few megabytes of them in memory.

The texts are read four times: for the counts that tell titles, for the vocabulary, for the training
documents, and for those held out.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from minizha.errors import ArgumentError, FileError
from minizha.files import file_identity, make_folder
from minizha.progress import progress_bar
from minizha.targets import refuse_to_overwrite
from minizha.text.corpus import (
    Document,
    Survey,
    count_characters,
    document,
    held_out_step,
    short_sentences,
    vocabulary_from,
)
from minizha.text.data_folder import WRITTEN, Record
from minizha.text.data_writer import DataWriter, check_data_folder
from minizha.text.layouts import Layout, read_blocks
from minizha.text.packed import Packed, pack
from minizha.text.processes import ordered_map
from minizha.text.tokenized import (
    Counts,
    check_characters,
    check_parts,
    usable_ids,
)
from minizha.text.tokenizer import NezhaTokenizer
from minizha.transaction import files_together

MEGABYTE = 1_000_000
PART = 500_000
"""The characters of a part, which one process tokenizes."""
SMALL = 8 * MEGABYTE
"""Fewer bytes are read by one process: starting others would take longer."""
MOST_SENTENCES = 10_000
"""The most held-out sentences that are kept as text, to show guesses in."""


class Reading(NamedTuple):
    """How texts are read and divided; ``titles`` is that of :func:`~minizha.text.corpus.read_corpus`.

    Every ``held_out``-th document is held out. Without ``tokens``, a vocabulary, one is made of the
    characters that occur ``min_count`` times in the others.
    """

    layout: Layout
    titles: bool | None
    held_out: int
    min_count: int
    tokens: list[str] | None = None


class Prepared(NamedTuple):
    """The record of a folder, the sizes of its arrays, and the seconds that it took."""

    record: Record
    vocab_size: int
    sentences: int
    tokens: int
    seconds: float


class TextFiles:
    """The documents of text files, which are read anew in each iteration.

    Raises:
        FileError: a file can't be used, or there are fewer than three documents.
    """

    def __init__(self, paths: Sequence[str], layout: Layout, titles: bool | None) -> None:
        self.name = ", ".join(paths)
        self.paths, self._layout = paths, layout
        self._identities = [file_identity(path, follow_links=True) for path in paths]
        self.size = sum(identity[2] for identity in self._identities if identity)
        survey, digest = Survey(), hashlib.sha256()
        for lines in self._blocks("count", update=digest.update):
            survey.add(lines)
        survey.check(self.name, layout, 3)
        self.documents, self.sha256 = survey.documents, digest.hexdigest()
        self._is_title = survey.titled(self.name, titles, stacklevel=4)

    def parts(
        self, task: str, wanted: Callable[[int], bool], about: Callable[[], str] = str
    ) -> Iterator[list[Document]]:
        """The documents whose numbers, from 1, are ``wanted``, in lists of about ``PART`` characters.

        A progress bar named ``task`` shows how many megabytes are read, and ``about()``.
        """
        part: list[Document] = []
        size = 0
        for number, lines in enumerate(self._blocks(task, about), start=1):
            if wanted(number):
                part.append(document(lines, self._is_title))
                size += sum(map(len, lines))
                if size >= PART:
                    yield part
                    part, size = [], 0
        if part:
            yield part

    def _blocks(
        self,
        task: str,
        about: Callable[[], str] = str,
        update: Callable[[bytes], object] = len,
    ) -> Iterator[list[str]]:
        done = 0
        with progress_bar(-(-self.size // MEGABYTE), task) as show:

            def watch(data: bytes) -> None:
                nonlocal done
                update(data)
                done += len(data)
                show(-(-done // MEGABYTE), about())

            for path, identity in zip(self.paths, self._identities, strict=True):
                yield from read_blocks(path, self._layout, watch)
                if file_identity(path, follow_links=True) != identity:
                    raise FileError(f"{path}: expected a file that stays the same; it has changed")


class _Tokenize:
    """The task of a process: documents as packed ids, and their counts."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._tokenizer: NezhaTokenizer | None = None

    def __call__(self, documents: list[Document]) -> tuple[Packed, Counts]:
        if self._tokenizer is None:
            self._tokenizer = NezhaTokenizer(self._tokens)
        ids, counts = usable_ids(documents, self._tokenizer)
        return pack(ids, len(self._tokens)), counts


def prepare_texts(
    paths: Sequence[str],
    folder: Path,
    reading: Reading,
    options: dict[str, Any],
    processes: int,
    *,
    overwrite: bool = False,
) -> Prepared:
    """Tokenize texts, together one corpus, into ``folder``. Its files appear at the end, together.

    Args:
        options: what the folder is to say of ``reading``, as JSON has it.
        processes: how many share the work.

    Raises:
        FileError: a text or the folder can't be used.
        ArgumentError: a text is one of the files to write.
    """
    started = time.monotonic()
    check_data_folder(folder, overwrite)
    for name in WRITTEN:
        refuse_to_overwrite("--out", folder / name, *paths)
    texts = TextFiles(paths, reading.layout, reading.titles)
    processes = processes if texts.size > SMALL else 1
    step = held_out_step(texts.documents, reading.held_out)
    try:
        tokens = reading.tokens or _vocabulary(texts, step, reading.min_count, processes)
        make_folder(folder)
        with files_together(str(folder)) as staged:
            writer = DataWriter(staged, tokens)
            counts, train = _write_train(writer, texts, step, processes)
            record = _write_held_out(writer, texts, step)
            counts = counts.plus(record.counts)
            check_parts(train, writer.documents, record.held_out)
            min_count = None if reading.tokens else reading.min_count
            record = record._replace(
                options=options,
                train_documents=train,
                counts=counts,
                left_out=counts.left_out(min_count),
            )
            writer.finish(record)
    except ArgumentError as error:  # raised where the file's name is not known
        raise FileError(f"{texts.name}: {error}") from error
    seconds = time.monotonic() - started
    return Prepared(record, len(tokens), writer.sentences, writer.tokens, seconds)


def _vocabulary(texts: TextFiles, step: int, min_count: int, processes: int) -> list[str]:
    """The characters of the training documents."""
    counts: Counter[str] = Counter()
    parts = texts.parts("vocabulary", lambda number: number % step != 0)
    with closing(ordered_map(count_characters, parts, processes)) as results:
        for part in results:
            counts.update(part)
    return check_characters(vocabulary_from(counts, min_count), min_count)


def _write_train(
    writer: DataWriter, texts: TextFiles, step: int, processes: int
) -> tuple[Counts, int]:
    """Append the training documents; return their counts, and how many were long enough."""
    counts, started = Counts(), time.monotonic()

    def about() -> str:
        return f"{writer.tokens / (time.monotonic() - started):,.0f} tok/s"

    parts = texts.parts("tokenize", lambda number: number % step != 0, about)
    with closing(ordered_map(_Tokenize(writer.vocabulary), parts, processes)) as results:
        for packed, part_counts in results:
            writer.append(packed)
            counts = counts.plus(part_counts)
    return counts, writer.documents


def _write_held_out(writer: DataWriter, texts: TextFiles, step: int) -> Record:
    """Append the held-out documents; return a record of what there is to say of them and the texts."""
    counts, number, sentences = Counts(), 0, list[str]()
    task = _Tokenize(writer.vocabulary)
    for part in texts.parts("held out", lambda number: number % step == 0):
        packed, part_counts = task(part)
        writer.append(packed)
        counts = counts.plus(part_counts)
        number += len(part)
        if len(sentences) < MOST_SENTENCES:
            sentences += short_sentences(part)[: MOST_SENTENCES - len(sentences)]
    corpus = {
        "files": [os.path.basename(path) for path in texts.paths],
        "bytes": texts.size,
        "sha256": texts.sha256,
    }
    return Record(corpus, {}, 0, number, sentences, counts, "")
