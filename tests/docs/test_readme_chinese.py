"""README.zh-CN.md says what README.md says: a change of one without the other fails."""

import re

import pytest

from tests.support.paths import ROOT

ENGLISH, CHINESE = ((ROOT / name).read_text("utf-8") for name in ("README.md", "README.zh-CN.md"))
SWITCHES = ("README.md", "README.zh-CN.md")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
HEADING = re.compile(r"^#+ (.+)$", re.M)
LINK = re.compile(r"\]\(([^)]+)\)")
CODE = re.compile(r"`([^`]+)`")
FIGURE = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*(?:e-\d+)?")


def anchor(heading):
    """What a link to a heading is called: in small letters, hyphens for spaces."""
    return "#" + re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def blocks(text):
    """The code blocks with their languages; in Python without comments, which are translated."""
    return [
        (language, re.sub(r" +#.*", "", code) if language == "python" else code)
        for language, code in BLOCK.findall(text)
    ]


def links(part, headings):
    """The targets, but those of the other language; of a heading of the page its number."""
    anchors = {anchor(heading): number for number, heading in enumerate(headings)}
    return [
        anchors[target] if target.startswith("#") else target
        for target in LINK.findall(part)
        if target not in SWITCHES
    ]


def figures(part):
    """The numbers of a text, but those in the targets of links."""
    return set(FIGURE.findall(LINK.sub("]", part)))


def rows(part):
    """The rows of the tables, without the heads' words."""
    return [line for line in part.splitlines() if line.startswith("|")]


def outline(text):
    """All that the two pages have in common, as ``{what: …}``."""
    headings = [re.sub(r"[*`]", "", heading) for heading in HEADING.findall(BLOCK.sub("", text))]
    prose = BLOCK.sub("", text)
    sections = re.split(r"^##+ .+$", prose, flags=re.M)
    return {
        "levels of headings": [len(h) for h in re.findall(r"^#+(?= )", prose, re.M)],
        "code blocks": blocks(text),
        "links": [sorted(map(str, links(section, headings))) for section in sections],
        "figures": [figures(section) for section in sections],
        "cells of tables": [row.count("|") for row in rows(prose)],
        "links of tables": [links(row, headings) for row in rows(prose)],
        "figures of tables": [figures(row) for row in rows(prose)],
        "code in sentences": [sorted(CODE.findall(" ".join(part.split()))) for part in sections],
        "code in tables": [sorted(CODE.findall(row)) for row in rows(prose)],
    }


def differences(english, chinese):
    """In what the two pages differ."""
    there, here = outline(english), outline(chinese)
    return {what for what in there if there[what] != here[what]}


def test_both_say_the_same():
    there, here = outline(ENGLISH), outline(CHINESE)
    for what in there:
        assert here[what] == there[what], what
    assert len(there["code blocks"]) > 8
    assert len(there["figures of tables"]) > 35


def test_each_links_to_the_other():
    assert "\nEnglish | [简体中文](README.zh-CN.md)\n" in ENGLISH[:80]
    assert "\n[English](README.md) | 简体中文\n" in CHINESE[:80]


ALONE = {
    "a heading": (
        "## Tests",
        "## More\n\n## Tests",
        {"levels of headings", "links", "figures", "code in sentences"},
    ),
    "a command": ("minizha exercise list", "minizha exercise lists", {"code blocks"}),
    "an order": (
        "minizha exercise start 5.2\nminizha exercise check 5.2",
        "minizha exercise check 5.2\nminizha exercise start 5.2",
        {"code blocks"},
    ),
    "code": ("dy * 2 * x", "dy * 3 * x", {"code blocks"}),
    "a link": ("(docs/reference/gpu.md)", "(docs/reference/decoders.md)", {"links"}),
    "an anchor": ("(#run-it)", "(#learn-it)", {"links"}),
    "a name in a sentence": ("`list` shows", "`show` shows", {"code in sentences"}),
    "a figure": ("145 tests", "146 tests", {"figures"}),
    "a figure of a table": ("| 1.8e-15 |", "| 1.9e-15 |", {"figures", "figures of tables"}),
    "a row's link": (
        "(minizha/ops/linear.py)",
        "(minizha/ops/softmax.py)",
        {"links", "links of tables"},
    ),
    "a formula": ("`x Φ(x)`", "`x Φ(x) / x`", {"code in sentences", "code in tables"}),
}


@pytest.mark.parametrize("change", ALONE)
def test_a_change_of_one_alone_is_seen(change):
    old, new, seen = ALONE[change]
    assert old in ENGLISH
    assert differences(ENGLISH.replace(old, new, 1), CHINESE) == seen
