"""Links to files of the repository lead to pages of the site that show them, with line numbers."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import TextLexer, get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

ROOT = Path(__file__).resolve().parents[3]


class FileLinks(SphinxTransform):
    """A Markdown link to a file that is no page of the site becomes a link to the page of its text."""

    default_priority = 25  # after the translation, before Sphinx collects downloads

    def apply(self, **options: Any) -> None:
        """Replace the downloads that MyST makes of such links."""
        folder = posixpath.dirname(self.env.docname)
        for node in list(self.document.findall(nodes.Element)):
            if isinstance(node, addnodes.download_reference):
                file = posixpath.normpath(posixpath.join(folder, node["reftarget"].lstrip("/")))
            elif isinstance(node, addnodes.pending_xref) and node.get("refdomain") == "doc":
                # MyST takes every .md and .py for a page
                page = node["reftarget"]
                names = (f"{page}.md", f"{page}.py") if page not in self.env.found_docs else ()
                file = next((name for name in names if (ROOT / name).is_file()), "")
            else:
                continue
            if file and (ROOT / file).is_file():
                new = nodes.reference("", "", *node.children, internal=True)
                new["repository_file"] = (file, 0)
                node.replace_self(new)


def resolve(app: Any, doctree: Any, name: str) -> None:
    """Give every link to a file its address, and remember that the file needs a page."""
    for node in doctree.findall(nodes.reference):
        if "repository_file" in node:
            file, line = node.attributes.pop("repository_file")
            node["refuri"] = address(app, name, file, line)


def repository_file(app: Any, page: str, file: str, text: str, line: int = 0) -> nodes.reference:
    """A link from a page to the page of a file."""
    uri = address(app, page, file, line)
    return nodes.reference("", "", nodes.literal(text, text), internal=True, refuri=uri)


def address(app: Any, page: str, file: str, line: int = 0) -> str:
    """The address of a file's page, relative to the page that links to it."""
    app.env.book_files = getattr(app.env, "book_files", set()) | {file}
    uri = app.builder.get_relative_uri(page, f"source/{file}")
    return f"{uri}#line-{line}" if line else uri


def pages(app: Any) -> Any:
    """A page for each file that is linked to."""
    form = HtmlFormatter(
        linenos="inline", lineanchors="line", anchorlinenos=True, cssclass="highlight"
    )
    for file in sorted(getattr(app.env, "book_files", ())):
        text = (ROOT / file).read_text(encoding="utf-8")
        try:
            lexer = get_lexer_for_filename(file)
        except ClassNotFound:
            lexer = TextLexer()
        body = f'<h1>{file}</h1>\n<div class="source-file">{highlight(text, lexer, form)}</div>'
        yield f"source/{file}", {"title": file, "body": body}, "page.html"


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.add_transform(FileLinks)
    app.connect("doctree-resolved", resolve)
    app.connect("html-collect-pages", pages)
