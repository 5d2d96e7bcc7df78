"""How a text file is divided into documents, read line by line: a file need not fit into memory."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Callable, Iterator
from functools import partial
from os import PathLike
from typing import NamedTuple

from minizha.errors import FileError
from minizha.files import check_file, decode_text, read_current
from minizha.transaction import reason

AT_ONCE = 1 << 20
"""The bytes that are read and decoded at a time; a longer line is read as a whole."""


class Layout(NamedTuple):
    """What separates documents: blank lines, with a paragraph a line, unless a field says otherwise.

    ``document_per_line``: every line is a document of one paragraph. ``json_field``: every line is a
    JSON object, and the string under this name is a document, with a paragraph a line.
    """

    document_per_line: bool = False
    json_field: str = ""

    @property
    def rule(self) -> str:
        """What divides the file, for messages."""
        if self.json_field:
            return f"the field {self.json_field!r} of each line is one document"
        if self.document_per_line:
            return "each line is one document"
        return (
            "a blank line separates documents, each line is one paragraph "
            "(document_per_line, --document-per-line: each line is one document)"
        )


def read_blocks(
    path: str | PathLike[str], layout: Layout, watch: Callable[[bytes], object] = len
) -> Iterator[list[str]]:
    """The lines of each document of a file, without white space around them and without blank ones.

    Args:
        watch: is called with the file's bytes, part by part, as they are read.

    Raises:
        FileError: missing, not an ordinary file, not UTF-8, binary, or a line that is not as
            ``layout`` says.
    """
    block: list[str] = []
    for number, line in _lines(path, watch):
        if not line:
            if block:
                yield block
                block = []
        elif layout.json_field:
            text = _field(line, layout.json_field, f"{path}, line {number}")
            if lines := [part for part in map(str.strip, text.split("\n")) if part]:
                yield lines
        elif layout.document_per_line:
            yield [line]
        else:
            block.append(line)
    if block:
        yield block


def _lines(
    path: str | PathLike[str], watch: Callable[[bytes], object]
) -> Iterator[tuple[int, str]]:
    r"""Each line's number, from 1, and its text without white space around it. Lines end with ``\n``."""
    check_file(path)
    try:
        with read_current(path, partial(open, mode="rb")) as file:
            number = 1
            while lines := file.readlines(AT_ONCE):
                data = b"".join(lines)
                watch(data)
                text = decode_text(data, path, number)
                if number == 1:
                    text = text.removeprefix("\ufeff")
                for line in text.removesuffix("\n").split("\n"):
                    yield number, line.strip()
                    number += 1
    except OSError as error:
        raise FileError(f"{path}: can't be read: {reason(error)}") from error


def _field(line: str, name: str, where: str) -> str:
    """The string under ``name`` in the JSON object ``line``."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{where}: expected a JSON object, found {line!r:.60}: {error}") from error
    if not isinstance(content, dict):
        raise FileError(f"{where}: expected a JSON object, found {reprlib.repr(content)}")
    if not isinstance(text := content.get(name), str):
        found = reprlib.repr(text) if name in content else f"the fields {reprlib.repr([*content])}"
        raise FileError(f"{where}: expected a string in the field {name!r}, found {found}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise FileError(f"{where}: {name}: not valid Unicode: {error}") from error
    return text
