"""Lines for a terminal: of a limited width, with colours or without."""

from __future__ import annotations

import unicodedata

RED, GREEN, YELLOW, BOLD = "31", "32", "33", "1"


def cells(text: str) -> int:
    """The width of a text in a terminal, in cells; a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, width: int) -> str:
    """``text`` in at most ``width`` cells; if it is longer, its middle is left out."""
    if cells(text) <= width:
        return text
    head = _start(text, width // 3)
    return f"{head}…{_start(text[::-1], width - 1 - cells(head))[::-1]}"


def _start(text: str, width: int) -> str:
    """As many characters as fit in ``width`` cells."""
    used = 0
    for i, c in enumerate(text):
        used += cells(c)
        if used > width:
            return text[:i]
    return text


def _wrap(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` cells, broken at spaces; a longer word is cut."""
    lines, line = [], ""
    for word in text.split():
        if line and cells(line) + 1 + cells(word) <= width:
            line = f"{line} {word}"
            continue
        lines += [line] if line else []
        while (head := _start(word, width)) != word:
            lines.append(head)
            word = word[len(head) :]
        line = word
    return [*lines, line]


class Page:
    """A list of lines; their widths are measured without the colour codes."""

    def __init__(self, width: int, color: bool) -> None:
        self.width, self.color = width, color
        self.lines: list[str] = []

    def say(self, text: str, color: str = "", indent: int = 0) -> None:
        """Add a sentence, in as many lines as it needs."""
        for line in _wrap(text, self.width - indent):
            self.row((" " * indent, ""), (line, color))

    def heading(self, text: str) -> None:
        """Add a bold line, with an empty one above it."""
        self.say("")
        self.say(text, BOLD)

    def row(self, *pieces: tuple[str, str]) -> None:
        """Add a line of pieces of text with their colours; spaces at its end are removed."""
        visible = list(pieces)
        while visible and not visible[-1][0].strip():
            visible.pop()
        if visible:
            visible[-1] = visible[-1][0].rstrip(), visible[-1][1]
        self.lines.append("".join(self._painted(*piece) for piece in visible))

    def _painted(self, text: str, color: str) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self.color and color else text
