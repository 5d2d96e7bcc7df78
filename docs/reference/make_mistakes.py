"""Writes mistakes.md, the page of the known mistakes: ``python docs/reference/make_mistakes.py``."""

from collections.abc import Iterable
from pathlib import Path

from minizha.crosscheck.diagnosis import CATALOGUE, Mistake
from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.rules import ForwardRules

HEAD = """# Known mistakes

The {count} mistakes that a [comparison](crosscheck.md) tries if two sides differ, those
that were seen in a port, a library or a paper first. `report.findings` and the JSON report name a mistake
by its key. `crosscheck.mistakes()` lists them; `crosscheck.mistaken(trace, key)` computes the arrays of a
port that makes one.

The last column names what a mistake replaces: a rule of
[the forward pass](../../minizha/crosscheck/diagnosis/rules.py) or of
[the backward pass](../../minizha/crosscheck/diagnosis/backward_rules.py), where the right
computation stands.
`python docs/reference/make_mistakes.py` writes this page; a test checks that it agrees with the code.
"""


def page() -> str:
    """The text of the page."""
    rules = [*vars(ForwardRules), *vars(Rules)]  # in the order of the computation
    mistakes = sorted(CATALOGUE.values(), key=lambda m: rules.index(m.replaces[0]))
    others = [m for m in mistakes if not m.seen_in]
    forward = [m for m in others if hasattr(ForwardRules, m.replaces[0])]
    return "\n".join(
        (
            HEAD.format(count=len(mistakes)),
            *section("Seen", "what | seen in", (m for m in mistakes if m.seen_in)),
            *section("Others of the forward pass", "what", forward),
            *section(
                "Others of the backward pass", "what", (m for m in others if m not in forward)
            ),
        )
    )


def section(title: str, columns: str, mistakes: Iterable[Mistake]) -> Iterable[str]:
    """A heading, a table with a row for each mistake, and an empty line."""
    cells = ["key", *columns.split(" | "), "replaces"]
    yield f"## {title}\n"
    yield f"| {' | '.join(cells)} |"
    yield "|---" * len(cells) + "|"
    for m in mistakes:
        seen_in = [m.seen_in] if "seen in" in cells else []
        rules = ", ".join(f"`{rule}`" for rule in m.replaces)
        row = [f"`{m.key}`", m.text.replace("|", "\\|"), *seen_in, rules]
        yield f"| {' | '.join(row)} |"
    yield ""


if __name__ == "__main__":
    Path(__file__).with_name("mistakes.md").write_text(page(), "utf-8", newline="\n")
