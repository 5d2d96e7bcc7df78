"""``{exercise-check} 5.2``: an exercise of the package, with an editor that checks it in the browser."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from minizha_book.languages import word

CHINESE = "[\u3000-\u9fff\uff00-\uffef]"


def joined(text: str) -> str:
    """A text without the line breaks after Chinese characters, which a browser would show as spaces."""
    return re.sub(rf"(?<={CHINESE})\n(?=\S)", "", text)


class ExerciseCheck(SphinxDirective):
    """The statement, the editor, and the solution, hidden until it is asked for."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Everything comes from minizha.exercises; the page only gives the place."""
        from minizha.errors import MinizhaError
        from minizha.exercises import exercise

        try:
            ex = exercise(self.arguments[0])
        except MinizhaError as error:
            raise self.error(str(error)) from error
        language = "zh" if self.config.language.startswith("zh") else "en"
        label = f"exercise-{ex.id.replace('.', '-')}"
        statement = self._parse(
            f"````{{exercise}} {ex.title[language]}\n:label: {label}\n\n{joined(ex.statement[language])}\n````"
        )
        solution = self._parse(
            f"`````{{solution}} {label}\n:class: dropdown\n\n```python\n{ex.solution.strip()}\n```\n\n"
            f"{joined(ex.explanation[language])}\n`````"
        )
        for node in statement + solution:
            for part in node.findall():
                if isinstance(part, nodes.Element):
                    part["translatable"] = False
        return [*statement, nodes.raw("", self._editor(ex, language), format="html"), *solution]

    def _parse(self, text: str) -> list[nodes.Node]:
        box = nodes.container()
        self.state.nested_parse(StringList(text.splitlines(), self.get_source_info()[0]), 0, box)
        return box.children

    def _editor(self, ex: Any, language: str) -> str:
        start = ex.start.strip("\n")
        rows = start.count("\n") + 2
        words = {key: escape(word(key, language)) for key in ("check", "stop", "reset", "terminal")}
        label = escape(word("editor", language).format(id=ex.id))
        return (
            f'<div class="exercise-check" data-id="{ex.id}" data-version="{ex.version}" data-language="{language}">'
            f'<textarea rows="{rows}" spellcheck="false" autocapitalize="off" autocomplete="off" aria-label="{label}">{escape(start)}</textarea>'
            f'<div class="buttons"><button class="check">{words["check"]}</button>'
            f'<button class="stop" hidden>{words["stop"]}</button><button class="reset">{words["reset"]}</button>'
            f"<span>{words['terminal']} <code>minizha exercise start {ex.id}</code></span></div>"
            f'<pre class="verdict" aria-live="polite" hidden></pre></div>'
        )


def setup(app: Any) -> None:
    """Sphinx calls this once."""
    app.add_directive("exercise-check", ExerciseCheck)
    app.add_js_file("exercise.js", loading_method="defer")
