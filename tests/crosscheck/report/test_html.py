"""The HTML page of a comparison: well-formed, safe to open, with pictures that show the numbers."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from minizha.crosscheck.comparing import compare
from minizha.crosscheck.report.html import as_html
from minizha.crosscheck.report.style import STYLE
from minizha.crosscheck.report.text import as_text
from tests.support.report_cases import (
    HOSTILE,
    SCORES,
    different,
    equal,
    every_report,
    hostile,
    names,
    with_nan,
)


class Page(HTMLParser):
    """The tags of a page, and every error in their nesting."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.faults, self.tags, self.classes, self.text = [], [], [], set(), []
        self.attributes = []
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> stays open" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.classes |= set((dict(attrs).get("class") or "").split())

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes another")

    def handle_data(self, data):
        self.text.append(data)


ALLOWED_ATTRIBUTES = {
    "lang",
    "charset",
    "http-equiv",
    "content",
    "name",
    "class",
    "viewbox",
    "width",
    "height",
    "role",
    "aria-label",
    "x",
    "y",
    "d",
    "cx",
    "cy",
    "r",
    "transform",
}


def dangers(text):
    """Tags and attributes that could run code or load another page."""
    page = Page(text)
    found = {"script", "img", "link", "iframe", "object", "embed", "use", "image"} & set(page.tags)
    found |= set(page.attributes) - ALLOWED_ATTRIBUTES
    style = text[text.index("<style>") : text.index("</style>")] if "<style>" in text else ""
    return found | set(re.findall(r"url\(|@import|https?:", style))


@every_report
def test_page_is_whole_and_harmless(build):
    text = as_html(build())
    page = Page(text)
    assert page.faults == []
    assert dangers(text) == set()
    assert len(text.encode()) < 1_000_000
    assert text.startswith("<!DOCTYPE html>")
    assert text == build().to_html()
    for picture in re.findall(r"<svg.*?</svg>", text, re.S):
        root = ElementTree.fromstring(picture)
        assert root.get("aria-label")
        assert root.find("title").text
    defined = set(re.findall(r"\.([a-z]\w*)", STYLE))
    assert page.classes <= defined


def test_the_checks_of_pages_can_fail():
    assert Page("<p><b></p></b>").faults
    assert Page("<p>").faults
    assert dangers("<script>x</script>") == {"script"}
    assert dangers('<img src="http://x">') == {"img", "src"}
    assert dangers("<style>a { background: url(http://x) }</style>") == {"url(", "http:"}
    assert dangers("<p onclick=x>") == {"onclick"}
    assert "http" not in as_html(different()).replace("http-equiv", "")


def test_hostile_names_can_still_be_read():
    text = "".join(Page(as_html(hostile())).text)
    assert HOSTILE[0] in text
    assert HOSTILE[1] in text
    assert "\x1b" not in text
    listed = as_text(replace(hostile(), findings=(), remarks=(), location=None), every=True)
    assert len(listed) < 20_000


def test_page_says_what_the_text_says():
    text = " ".join(Page(as_html(different())).text)
    for part in (
        "the first array to differ is encoder.layer.0.attention.scores",
        "layer 0 scores match: 1/√d missing — seen in bert4torch 0.6.2",
        "heads: 2 of 4 (0, 3)",
        "[B 1, N 3, L 0, J 12]: ours 0.125, theirs 1",
        "bert.position_ids",
        "2 names were matched by shape and value",
        "All 28 arrays",
    ):
        assert part in text
    assert "first to differ" not in as_html(equal())


def test_colours_for_light_and_dark():
    light, dark = (set(re.findall(r"(--\w+):", part)) for part in STYLE.split("@media")[:2])
    assert light == dark
    assert set(re.findall(r"var\((--\w+)\)", STYLE)) == light


def pictures(report):
    found = [ElementTree.fromstring(p) for p in re.findall(r"<svg.*?</svg>", as_html(report), re.S)]
    return found if report.location else [None, *found]


def test_heat_map():
    root = pictures(different())[0]
    cells = [r for r in root.iter("rect") if r.find("title") is not None]
    assert [c.get("class") for c in cells] == ["h1", "hn", "h6", "h0", "hx", "h8"]
    texts = [t.text for t in root.iter("text")]
    assert {"query i", "key j", "equal", "NaN or ∞", "≤ 10⁻⁴", "10²"} <= set(texts)
    assert cells[2].find("title").text == "query i 0, key j 64 to 95: 0.5"
    positions = {(float(c.get("x")), float(c.get("y"))) for c in cells}
    assert positions == {(36.0 * x, 36.0 * y) for x in range(3) for y in range(2)}


def test_depth_chart():
    report = different()
    root = pictures(report)[1]
    points = [c for c in root.iter("circle") if c.find("title") is not None]
    assert [p.get("class") for p in points] == ["same" if d.ok else "other" for d in report]
    heights = [float(p.get("cy")) for p in points]
    order = np.argsort([d.error for d in report], kind="stable")
    assert all(np.diff(np.array(heights)[order]) <= 0)  # y points down
    ring = next(c for c in root.iter("circle") if c.get("class") == "first")
    first = points[names(2).index(SCORES)]
    assert (ring.get("cx"), ring.get("cy")) == (first.get("cx"), first.get("cy"))
    forward, backward = (
        next(r for r in root.iter("rect") if r.get("class") == direction)
        for direction in ("forward", "backward")
    )
    end = float(forward.get("x")) + float(forward.get("width"))
    assert end == pytest.approx(float(backward.get("x")), abs=0.1)
    assert float(points[13].get("cx")) < end < float(points[14].get("cx"))
    texts = [t.text for t in root.iter("text")]
    assert [t for t in texts if t in ("0", "1")] == ["0", "1", "1", "0"]
    assert {"embeddings", "forward pass →", "backward pass →"} <= set(texts)
    assert f"first to differ: {SCORES}" in texts


def test_chart_of_arrays_without_a_number():
    root = pictures(with_nan())[1]
    points = [c for c in root.iter("circle") if c.find("title") is not None]
    assert min(float(p.get("cy")) for p in points) == float(points[1].get("cy"))
    assert "NaN, ∞" in [t.text for t in root.iter("text")]
    assert "nan" not in " ".join(p.get("d") for p in root.iter("path")).lower()


@pytest.mark.parametrize("largest", [1.7e308, -1.7e308, 1e-320])
def test_the_largest_and_smallest_differences_have_a_page(largest):
    ours = {"embeddings": np.zeros((1, 3, 4))}
    theirs = {"embeddings": np.full((1, 3, 4), largest)}
    page = compare(ours, theirs).to_html()
    assert "embeddings" in page
    assert not Page(page).faults
