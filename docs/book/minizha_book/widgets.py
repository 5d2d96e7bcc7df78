"""``{widget} NAME``: a picture that the reader moves; ``_static/NAME.js`` draws it in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util.docutils import SphinxDirective

STATIC = Path(__file__).resolve().parents[1] / "_static"


class Widget(SphinxDirective):
    """A place with the classes ``widget`` and ``widget-NAME``.

    It holds a paragraph with the alternative text, which is translated like any other. The script takes it
    as the label of what it draws; without scripts, the paragraph remains.
    """

    required_arguments = 1
    option_spec = {"alt": directives.unchanged_required}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        """The place, with its alternative text."""
        name, text = self.arguments[0], " ".join(self.options.get("alt", "").split())
        if not (STATIC / f"{name}.js").is_file():
            raise self.error(f"widget: there is no _static/{name}.js")
        if not text:
            raise self.error(f"widget {name}: alternative text is missing (:alt:)")
        paragraph = nodes.paragraph(text, text)
        place = nodes.container(text, paragraph, classes=["widget", f"widget-{name}"])
        self.set_source_info(paragraph)
        self.set_source_info(place)
        return [place]


def scripts(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """A page loads the scripts of its own widgets only."""
    for place in doctree.findall(nodes.container) if doctree else ():
        for name in place.get("classes", ()):
            if name.startswith("widget-"):
                app.add_js_file(f"{name.removeprefix('widget-')}.js", loading_method="defer")


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.add_directive("widget", Widget)
    app.connect("html-page-context", scripts)
