"""``{source} module.function``: code by its name. A function that is renamed fails the build."""

from __future__ import annotations

import ast
import importlib
import inspect
import textwrap
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

from minizha_book.languages import word
from minizha_book.links import ROOT


def code_of(name: str, docstring: bool) -> tuple[str, str, int]:
    """The text of a function or class, its file and its line; without decorators."""
    module, _, attribute = name.rpartition(".")
    thing = inspect.unwrap(getattr(importlib.import_module(module), attribute))
    file = inspect.getsourcefile(thing)
    lines, first = inspect.getsourcelines(thing)
    tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
    leave = set(range(1, tree.lineno))  # decorators
    head = tree.body[0]
    if not docstring and isinstance(head, ast.Expr) and isinstance(head.value, ast.Constant):
        leave |= set(range(head.lineno, head.end_lineno + 1))
    text = "".join(line for i, line in enumerate(lines, 1) if i not in leave)
    return text, str(Path(file).relative_to(ROOT)), first + tree.lineno - 1


class Source(SphinxDirective):
    """``{source} minizha.ops.layer_norm.layer_norm``; with ``:docstring:`` the docstring, too."""

    required_arguments = 1
    option_spec = {"docstring": directives.flag}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """The code under a caption that links to its line."""
        try:
            text, file, line = code_of(self.arguments[0], "docstring" in self.options)
        except (ImportError, AttributeError, ValueError) as error:
            raise self.error(f"{self.arguments[0]}: there is no such function ({error})") from error
        self.env.note_dependency(str(ROOT / file))
        link = nodes.reference("", "", nodes.Text(
            word("source", self.config.language).format(file=file, line=line)), internal=True)  # fmt: skip
        link["repository_file"] = (file, line)
        block = nodes.literal_block(text, text, language="python", translatable=False)
        caption = nodes.paragraph("", "", link, classes=["source-place"], translatable=False)
        return [nodes.container("", caption, block, classes=["from-source"])]


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.add_directive("source", Source)
