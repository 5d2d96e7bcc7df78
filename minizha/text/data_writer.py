"""Writes the folder of a prepared corpus, whose format text.data_folder describes."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minizha.errors import FileError, listed
from minizha.files import names_present, path_exists
from minizha.targets import check_target_folder
from minizha.text.data_folder import (
    ARRAYS,
    BOUNDS,
    FORMAT,
    RECORD_NAME,
    VERSION,
    WRITTEN,
    FileSums,
    Record,
)
from minizha.text.packed import Packed, token_type
from minizha.text.tokenized import vocabulary_file
from minizha.text.tokenizer_files import VOCABULARY_NAME
from minizha.transaction import as_file_error, reason


def check_data_folder(folder: Path, overwrite: bool) -> None:
    """Make sure that a prepared corpus may be written into ``folder``.

    Raises:
        FileError: it can't be written, holds something else, or a prepared corpus and ``overwrite``
            is False.
    """
    check_target_folder(folder, WRITTEN)
    try:
        names = sorted(os.listdir(folder)) if path_exists(folder) else []
    except OSError as error:
        raise FileError(f"{folder}: can't be read: {reason(error)}") from error
    foreign = [n for n in names if n not in WRITTEN and not n.startswith(".minizha-")]
    if foreign:
        raise FileError(
            f"{folder}: expected a new folder, an empty one, or one that `minizha prepare` wrote, "
            f"found {listed(foreign, most=5)} in it"
        )
    if found := names_present(folder, WRITTEN):
        if RECORD_NAME not in found:
            raise FileError(
                f"{folder}: expected a folder with {RECORD_NAME}, found {listed(found)}"
            )
        if not overwrite:
            raise FileError(
                f"{folder}: already holds a prepared corpus; --overwrite replaces it, --out names "
                "another folder"
            )


class DataWriter:
    """Writes the files of a prepared corpus into ``folder``, part by part.

    Raises:
        FileError: a file can't be written.
    """

    def __init__(self, folder: str, tokens: Sequence[str]) -> None:
        self.vocabulary = list(tokens)
        self._folder, self._type = folder, token_type(len(tokens))
        self._begins_word = np.array([not token.startswith("##") for token in tokens])
        self._bits = np.zeros(0, bool)  # fewer than a byte
        self._hashes = {name: hashlib.sha256() for name in (*ARRAYS, VOCABULARY_NAME)}
        self.tokens = self.sentences = self.documents = 0
        for name in BOUNDS:
            self._write(name, np.zeros(1, "<i8"))
        self._write(VOCABULARY_NAME, vocabulary_file(tokens))

    def append(self, packed: Packed) -> None:
        """Add documents."""
        self._write("tokens.bin", packed.tokens.astype(self._type))
        bits = np.concatenate([self._bits, self._begins_word[packed.tokens]])
        whole = len(bits) // 8 * 8
        self._write("words.bin", np.packbits(bits[:whole]))
        self._bits = bits[whole:]
        starts = (self.tokens, self.sentences, self.sentences - self.documents)
        arrays = (packed.sentences, packed.documents, packed.openers)
        for name, start, array in zip(BOUNDS, starts, arrays, strict=True):
            self._write(name, (array[1:] + start).astype("<i8"))
        self.tokens += len(packed.tokens)
        self.sentences += len(packed.sentences) - 1
        self.documents += len(packed.documents) - 1

    def finish(self, record: Record) -> None:
        """Write data.json."""
        self._write("words.bin", np.packbits(self._bits))
        files = {
            name: FileSums(os.path.getsize(os.path.join(self._folder, name)), found.hexdigest())
            for name, found in self._hashes.items()
        }
        content = {
            "format": FORMAT,
            "version": VERSION,
            "sentences": self.sentences,
            "documents": self.documents,
            **record._replace(counts=record.counts._asdict())._asdict(),
            "files": {name: sums._asdict() for name, sums in files.items()},
        }
        data = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        path = os.path.join(self._folder, RECORD_NAME)
        with as_file_error(path), open(path, "w", encoding="utf-8") as file:
            file.write(data)

    def _write(self, name: str, data: Any) -> None:
        path = os.path.join(self._folder, name)
        with as_file_error(path), open(path, "ab") as file:
            file.write(data)
        self._hashes[name].update(data)
