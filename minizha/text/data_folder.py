"""The folder that ``minizha prepare`` writes: a tokenized corpus, mapped into memory when it is read.

    data.json      format, version, corpus (names, size, SHA-256), options, counts, sizes of the files
    vocab.txt      the vocabulary
    tokens.bin     the ids, in the smallest unsigned type for the vocabulary
    words.bin      a bit for each token, the first one highest: does a word begin here?
    sentences.bin, documents.bin, openers.bin     int64, as in text.packed.Packed

Numbers are little-endian. The training documents come first, then those held out.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minizha.errors import FileError, listed
from minizha.files import (
    current_path,
    path_exists,
    read_json_object,
    read_together,
)
from minizha.text.corpus import Document
from minizha.text.packed import Packed, token_type
from minizha.text.tokenized import DIGESTED, Counts, TokenizedCorpus, corpus_digest
from minizha.text.tokenizer import NezhaTokenizer
from minizha.text.tokenizer_files import VOCABULARY_NAME
from minizha.transaction import reason

RECORD_NAME = "data.json"
FORMAT, VERSION = "minizha prepared corpus", 1
BOUNDS = ("sentences.bin", "documents.bin", "openers.bin")
ARRAYS = ("tokens.bin", "words.bin", *BOUNDS)
WRITTEN = (RECORD_NAME, VOCABULARY_NAME, *ARRAYS)
_CHUNK = 1 << 20  # numbers that are checked at a time


class Record(NamedTuple):
    """What data.json says besides the sizes of the files."""

    corpus: dict[str, Any]
    options: dict[str, Any]
    train_documents: int
    held_out: int
    held_out_sentences: list[str]
    counts: Counts
    left_out: str


class FileSums(NamedTuple):
    """The size of a file and the SHA-256 of its bytes."""

    bytes: int
    sha256: str


def check_no_data(folder: Path) -> None:
    """Raise a FileError if ``folder``, in which a model is to be saved, holds a prepared corpus."""
    if path_exists(folder / RECORD_NAME):
        raise FileError(
            f"{folder}: holds a prepared corpus; --out names another folder for the model"
        )


def read_data(folder: Path) -> tuple[TokenizedCorpus, dict[str, Any]]:
    """The corpus in a folder that ``minizha prepare`` wrote, and the options that it was made with.

    The arrays are mapped from the files. Each file is read once, in parts, and compared with its
    hash, so that no damaged number is trained on.

    Raises:
        FileError: not such a folder, of a later version, or a file is missing or damaged.
    """
    if not path_exists(folder / RECORD_NAME):
        raise FileError(
            f"{folder}: expected a text, or a folder that `minizha prepare` wrote; found a folder "
            f"without {RECORD_NAME}"
        )
    return read_together([folder / name for name in WRITTEN], lambda: _read(folder))


def _read(folder: Path) -> tuple[TokenizedCorpus, dict[str, Any]]:
    record, sizes = _record(folder / RECORD_NAME)
    tokenizer = NezhaTokenizer(folder / VOCABULARY_NAME)
    kind = token_type(len(tokenizer))
    kinds = {"tokens.bin": kind, "words.bin": np.dtype("u1"), VOCABULARY_NAME: np.dtype("u1")}
    kinds |= dict.fromkeys(BOUNDS, np.dtype("<i8"))
    largest = {name: _check_file(folder / name, sizes[name], kinds[name]) for name in kinds}
    if largest["tokens.bin"] >= len(tokenizer):
        raise FileError(
            f"{folder / 'tokens.bin'}: expected ids below {len(tokenizer)}, found "
            f"{largest['tokens.bin']}: it is damaged"
        )
    # by their names in a committed save, if a kill left them there
    arrays = {
        name: np.memmap(current_path(folder / name), dtype, "r")
        for name, dtype in kinds.items()
        if name in ("tokens.bin", *BOUNDS)
    }
    packed = Packed(*arrays.values(), 0, len(arrays["documents.bin"]) - 1)
    _check_bounds(folder, packed)
    if not 0 < record.train_documents < packed.last:
        raise FileError(
            f"{folder / RECORD_NAME}: train_documents: expected a number in [1, {packed.last - 1}], "
            f"found {record.train_documents}"
        )
    sentences = Document("", tuple(record.held_out_sentences))
    corpus = TokenizedCorpus(
        tokenizer,
        packed,
        record.train_documents,
        record.held_out,
        [sentences],
        record.counts,
        record.left_out,
        corpus_digest(record.train_documents, *(sizes[name].sha256 for name in DIGESTED)),
    )
    return corpus, record.options


def _record(path: Path) -> tuple[Record, dict[str, FileSums]]:
    """data.json, with every type checked."""
    content = read_json_object(path)
    if content.get("format") != FORMAT:
        raise FileError(
            f"{path}: expected the format {FORMAT!r}, found {content.get('format')!r:.80}"
        )
    if content.get("version") != VERSION:
        raise FileError(
            f"{path}: expected version {VERSION}, found {content.get('version')!r:.80}; prepare the "
            "corpus again"
        )
    record = Record(*(content.get(name) for name in Record._fields))
    natural = lambda value: type(value) is int and value >= 0  # noqa: E731
    counts, files = record.counts, content.get("files")
    sound = {
        "counts": isinstance(counts, dict)
        and counts.keys() == set(Counts._fields)
        and all(map(natural, counts.values())),
        "train_documents": natural(record.train_documents),
        "held_out": natural(record.held_out),
        "left_out": isinstance(record.left_out, str),
        "options": isinstance(record.options, dict),
        "held_out_sentences": isinstance(record.held_out_sentences, list)
        and all(isinstance(s, str) for s in record.held_out_sentences),
        "files": isinstance(files, dict)
        and all(
            isinstance(files.get(name), dict)
            and files[name].keys() == set(FileSums._fields)
            and natural(files[name]["bytes"])
            and isinstance(files[name]["sha256"], str)
            for name in (*ARRAYS, VOCABULARY_NAME)
        ),
    }
    if wrong := [name for name, is_sound in sound.items() if not is_sound]:
        raise FileError(f"{path}: {listed(wrong)}: expected what `minizha prepare` writes")
    sizes = {name: FileSums(**sums) for name, sums in files.items() if name in WRITTEN}
    return record._replace(counts=Counts(**counts)), sizes


def _parts(path: Path, dtype: np.dtype) -> Iterator[np.ndarray]:
    """The numbers of a file, part by part: reading takes less memory than touching a mapped file."""
    try:
        with open(current_path(path), "rb") as file:
            while len(part := np.fromfile(file, dtype, _CHUNK)):
                yield part
    except OSError as error:
        raise FileError(f"{path}: can't be read: {reason(error)}") from error


def _check_file(path: Path, expected: FileSums, dtype: np.dtype) -> int:
    """Compare a file with its recorded size and checksum; return its largest number."""
    try:
        size = os.path.getsize(current_path(path))
    except OSError as error:
        raise FileError(f"{path}: can't be read: {reason(error)}") from error
    if size != expected.bytes or size % dtype.itemsize or not size:
        raise FileError(f"{path}: expected {expected.bytes:,} bytes, found {size:,}: it is damaged")
    found, largest = hashlib.sha256(), 0
    for part in _parts(path, dtype):
        found.update(part)
        largest = max(largest, int(part.max()))
    if found.hexdigest() != expected.sha256:
        raise FileError(
            f"{path}: expected the SHA-256 {expected.sha256[:12]}…, found {found.hexdigest()[:12]}…: "
            "it is damaged"
        )
    return largest


def _check_bounds(folder: Path, packed: Packed) -> None:
    """Make sure that every number of the bounds leads somewhere: a hash can be forged."""
    kind = np.dtype("<i8")
    ends = {"sentences.bin": len(packed.tokens), "documents.bin": len(packed.sentences) - 1}
    for step, (name, end) in enumerate(ends.items(), start=1):  # a document has two sentences
        before = -step
        for part in _parts(folder / name, kind):
            if (np.diff(part, prepend=before) < step).any():
                raise FileError(f"{folder / name}: expected rising numbers: it is damaged")
            before = part[-1]
        first = getattr(packed, name.removesuffix(".bin"))[0]
        if (first, before) != (0, end):
            raise FileError(
                f"{folder / name}: expected numbers from 0 to {end:,}, found {first:,} to {before:,}: "
                "it is damaged"
            )
    number = 0
    both = (_parts(folder / name, kind) for name in BOUNDS[1:])
    for documents, openers in zip(*both, strict=False):
        if not np.array_equal(openers, documents - np.arange(number, number + len(documents))):
            raise FileError(f"{folder / BOUNDS[2]}: expected what follows from {BOUNDS[1]}")
        number += len(documents)
