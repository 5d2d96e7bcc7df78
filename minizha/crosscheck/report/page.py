"""Lines for a terminal: no wider than asked, in colours or without."""

from __future__ import annotations

import unicodedata

RED, GREEN, YELLOW, BOLD = "31", "32", "33", "1"


def cells(text: str) -> int:
    """How wide a terminal shows it: Chinese characters take two cells."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def fit(text: str, room: int) -> str:
    """``text`` in ``room`` cells, its middle left out if need be."""
    if cells(text) <= room:
        return text
    head = _start(text, room // 3)
    return f"{head}…{_start(text[::-1], room - 1 - cells(head))[::-1]}"


def _start(text: str, room: int) -> str:
    """As many characters as fit in ``room`` cells."""
    width = 0
    for i, c in enumerate(text):
        width += cells(c)
        if width > room:
            return text[:i]
    return text


def _wrap(text: str, room: int) -> list[str]:
    """Lines of at most ``room`` cells, broken at spaces; a longer word is cut."""
    lines, line = [], ""
    for word in text.split():
        if line and cells(line) + 1 + cells(word) <= room:
            line = f"{line} {word}"
            continue
        lines += [line] if line else []
        while (head := _start(word, room)) != word:
            lines.append(head)
            word = word[len(head) :]
        line = word
    return [*lines, line]


class Page:
    """Lines that grow; widths are counted before the colours go in."""

    def __init__(self, width: int, color: bool) -> None:
        self.width, self.color = width, color
        self.lines: list[str] = []

    def say(self, text: str, color: str = "", indent: int = 0) -> None:
        """A sentence in as many lines as it takes."""
        for line in _wrap(text, self.width - indent):
            self.row((" " * indent, ""), (line, color))

    def heading(self, text: str) -> None:
        """A line that stands out, with an empty one above."""
        self.say("")
        self.say(text, BOLD)

    def row(self, *pieces: tuple[str, str]) -> None:
        """Pieces of text with their colours; spaces at the end are dropped."""
        kept = list(pieces)
        while kept and not kept[-1][0].strip():
            kept.pop()
        if kept:
            kept[-1] = kept[-1][0].rstrip(), kept[-1][1]
        self.lines.append("".join(self._painted(*piece) for piece in kept))

    def _painted(self, text: str, color: str) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self.color and color else text
