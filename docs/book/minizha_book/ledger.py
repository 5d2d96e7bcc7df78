"""The ledger: every equation of the book, the functions that compute it, their tests, the last error."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from minizha_book.languages import word
from minizha_book.links import repository_file
from minizha_book.proofs import all_proofs, named_labels

ROOT = Path(__file__).resolve().parents[3]


class Ledger(SphinxDirective):
    """The place of the table in its page; it is filled when all pages have been read."""

    def run(self) -> list[nodes.Node]:
        """A placeholder."""
        return [nodes.container(classes=["ledger"])]


def derived() -> dict[str, list[tuple[str, str, int]]]:
    """{label: [(function, file, line)]}, as the docstrings of ops name them."""
    found: dict[str, list[tuple[str, str, int]]] = {}
    for path in sorted((ROOT / "minizha/ops").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                text = " ".join((ast.get_docstring(node) or "").split())
                for label in named_labels(text):
                    place = (node.name, str(path.relative_to(ROOT)), node.lineno)
                    found.setdefault(label, []).append(place)
    return found


def fill(app: Any, doctree: Any, name: str) -> None:
    """Put the table into the ledger's page."""
    places = [n for n in doctree.findall(nodes.container) if n.get("classes") == ["ledger"]]
    if not places:
        return
    language = app.config.language
    functions = derived()
    rows, twins, worst = [], 0, 0.0
    for page, proofs in all_proofs(app.env).items():
        for proof in proofs.values():
            code = nodes.paragraph()
            tests = nodes.paragraph()
            for function, file, line in functions.get(proof.label, []):
                code += [repository_file(app, name, file, function, line), nodes.Text(" ")]
                test = f"tests/ops/test_{Path(file).stem}.py"
                if (ROOT / test).is_file() and not tests.children:
                    tests += repository_file(app, name, test, Path(test).stem)
            number = nodes.reference("", proof.label, internal=True)
            number["refuri"] = f"{app.builder.get_relative_uri(name, page)}#equation-{proof.label}"
            cells = [nodes.paragraph("", "", number), code, tests]
            cells += [nodes.paragraph("", proof.error), nodes.paragraph("", str(proof.twins))]
            rows.append(cells)
            twins += proof.twins
            worst = max(worst, float(proof.error))
    total = word("ledger", language).format(equations=len(rows), worst=f"{worst:.0e}", twins=twins)
    heads = word("ledger heads", language).split("|")
    for place in places:
        place.replace_self([nodes.paragraph("", total), table(heads, rows, "ledger")])


def table(heads: list[str], rows: list[list[nodes.Node]], name: str) -> nodes.table:
    """A table with a row of heads; its words are not for translators."""
    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in heads), cols=len(heads))
    head = nodes.row(
        "", *(nodes.entry("", nodes.paragraph("", text, translatable=False)) for text in heads)
    )
    group += nodes.thead("", head)
    group += nodes.tbody("", *(nodes.row("", *(nodes.entry("", c) for c in row)) for row in rows))
    return nodes.table("", group, classes=[name])


def link_docstring(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """In the pages of the API, the equations that a docstring names are links."""
    text = "\n".join(lines)
    for label in named_labels(text):
        text = text.replace(f"``{label}``", f":eq:`{label}`")
    lines[:] = text.split("\n")


def reread(app: Any, env: Any, added: set, changed: set, removed: set) -> list[str]:
    """The ledger is written again whenever a chapter is."""
    return ["docs/book/ledger"] if "docs/book/ledger" in env.found_docs else []


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.add_directive("ledger", Ledger)
    app.connect("doctree-resolved", fill)
    app.connect("env-get-outdated", reread)
    app.connect("autodoc-process-docstring", link_docstring)
