"""``{terms}``: the glossary's table, from glossary.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from minizha_book.languages import word
from minizha_book.ledger import table

FILE = Path(__file__).resolve().parents[1] / "glossary.toml"


def terms() -> dict[str, list[str]]:
    """{English term: [中文, meaning, 含义]}, in alphabetical order."""
    found = tomllib.loads(FILE.read_text(encoding="utf-8"))["terms"]
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


class Terms(SphinxDirective):
    """English term, Chinese term, meaning in the language of the page."""

    def run(self) -> list[nodes.Node]:
        """The table."""
        self.env.note_dependency(str(FILE))
        chinese = self.config.language.startswith("zh")
        heads = word("glossary heads", self.config.language).split("|")
        rows = [
            [
                nodes.paragraph("", text, translatable=False)
                for text in (english, zh, local if chinese else meaning)
            ]
            for english, (zh, meaning, local) in terms().items()
        ]
        return [table(heads, rows, "glossary")]


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.add_directive("terms", Terms)
