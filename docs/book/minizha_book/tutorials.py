"""Tutorials are pages, and notebooks to download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jupytext
from docutils import nodes

from minizha_book.languages import word

FOLDER = "_notebooks"


def link(app: Any, doctree: nodes.document, name: str) -> None:
    """Below the title of a tutorial, a link to its notebook."""
    if not name.startswith("tutorials/"):
        return
    uri = app.builder.get_relative_uri(name, f"{FOLDER}/x").removesuffix("x.html")
    text = word("notebook", app.config.language)
    html = f'<p><a class="notebook" download href="{uri}{Path(name).name}.ipynb">{text}</a></p>'
    title = next(doctree.findall(nodes.title))
    title.parent.insert(title.parent.index(title) + 1, nodes.raw("", html, format="html"))


def write(app: Any, error: Exception | None) -> None:
    """Write the notebooks, without outputs: whoever downloads one runs it."""
    if error or app.builder.format != "html":
        return
    folder = Path(app.outdir) / FOLDER
    folder.mkdir(exist_ok=True)
    for name in sorted(app.env.found_docs):
        if name.startswith("tutorials/"):
            notebook = jupytext.read(Path(app.srcdir) / f"{name}.py")
            jupytext.write(notebook, folder / f"{Path(name).name}.ipynb")


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.connect("doctree-resolved", link)
    app.connect("build-finished", write)
