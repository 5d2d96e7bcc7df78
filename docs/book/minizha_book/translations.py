"""The Chinese pages are whole: a message without its translation fails the build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polib
from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.nodes import extract_messages

log = logging.getLogger(__name__)

ENGLISH_ONLY = ("docs/reference/api",)
"""Pages whose names begin so are docstrings, and stay English in both languages."""


def catalogue(srcdir: str | Path, page: str) -> Path:
    """The file with the messages of a page."""
    return Path(srcdir) / "docs/book/locale/zh_CN/LC_MESSAGES" / f"{page}.po"


def entries_of(path: Path) -> dict[str, polib.POEntry]:
    """The entries of a catalogue by message; none where there is no file."""
    return {entry.msgid: entry for entry in polib.pofile(str(path))} if path.is_file() else {}


def is_metadata(node: nodes.Node) -> bool:
    """Whether a node is part of a page's header, which no reader sees and no catalogue has."""
    while node.parent is not None and not isinstance(node.parent, nodes.document):
        node = node.parent
    return isinstance(node, (nodes.docinfo, nodes.field_list))


class Figures(SphinxTransform):
    """A cell of a table without a letter, or the name of a benchmark, is the same in every language: it
    is no message."""

    default_priority = 5  # before the messages are read

    def apply(self, **options: Any) -> None:
        """Mark the cells."""
        from benchmarks.cases import CASES  # conf.py says where

        names = {case.name for case in CASES}
        for cell in self.document.findall(nodes.entry):
            for paragraph in cell.findall(nodes.paragraph):
                text = paragraph.astext()
                if text in names or not any(letter.isalpha() for letter in text):
                    paragraph["translatable"] = False


class Whole(SphinxTransform):
    """Compare the messages of a page with its catalogue, before they are translated."""

    default_priority = 10  # Sphinx translates at 20

    def apply(self, **options: Any) -> None:
        """Warn of each message that is missing, fuzzy or empty, and of each that no page has."""
        page = self.env.docname
        if self.config.language != "zh_CN" or page.startswith(ENGLISH_ONLY):
            return
        path = catalogue(self.env.srcdir, page)
        entries = entries_of(path)
        seen = set()
        for node, message in extract_messages(self.document):
            if is_metadata(node):
                continue
            seen.add(message)
            entry = entries.get(message)
            if entry is None or not entry.msgstr or entry.fuzzy or entry.obsolete:
                log.warning("not translated: %r", message, location=node)
        for entry in entries.values():
            if entry.msgid not in seen:
                log.warning("%s translates what the page does not say: %r", path.name, entry.msgid)


class Applied(SphinxTransform):
    """A translation that Sphinx can't put in its place stays out without a word: say so."""

    default_priority = 22  # Sphinx translates at 20

    def apply(self, **options: Any) -> None:
        """Warn of a heading whose translation begins like a list, for example."""
        if self.config.language != "zh_CN":
            return
        entries = entries_of(catalogue(self.env.srcdir, self.env.docname))
        for node, message in extract_messages(self.document):
            if isinstance(
                node, addnodes.translatable
            ):  # a toctree puts its captions in place itself
                continue
            entry = entries.get(message)
            if entry and not node.get("translated") and entry.msgstr not in ("", message):
                log.warning("translated, yet not shown so: %r", entry.msgstr, location=node)


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.add_transform(Figures)
    app.add_transform(Whole)
    app.add_transform(Applied)
