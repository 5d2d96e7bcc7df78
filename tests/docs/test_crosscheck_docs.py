"""The pages on traces, comparisons and known mistakes agree with the code."""

import re

import numpy as np
import pytest

from minizha.crosscheck.diagnosis import CATALOGUE
from minizha.crosscheck.names import ATTENTION, EMBEDDINGS, FEED_FORWARD, HEADS
from minizha.crosscheck.report.text import JSON_VERSION
from tests.support.paths import DOCS, ROOT


def page(name):
    return (DOCS / name).read_text("utf-8")


def rows(text):
    """The cells of each row of the tables in a page."""
    lines = [line.strip("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


def named_axes(text):
    """{name: axes} of the table of names."""
    found = {}
    for cells in rows(text):
        for name in re.findall(r"`([\w.…]+)`", cells[0]):
            found[name] = cells[1] if len(cells) == 3 else ""
    return found


def test_the_table_of_names_is_that_of_the_code():
    known = named_axes(page("traces.md").split("## Names")[1].split("In train mode")[0])
    for entries, prefix in (
        (EMBEDDINGS, ""),
        (ATTENTION, "attention."),
        (FEED_FORWARD, ""),
        (HEADS, ""),
    ):
        for entry in entries:
            name = (prefix + entry.name) or "encoder.layer.0"
            assert name in known, name
            axes = " ".join(entry.axes)
            assert axes in known[name] or "…" in axes, name
    assert "attention.logits" not in known


def test_the_page_of_known_mistakes_is_the_catalogue():
    text = page("mistakes.md")
    listed = {
        cells[0].strip("`"): (cells[1].replace("\\|", "|"), cells[2])
        for cells in rows(text)
        if cells[0].startswith("`")
    }
    assert listed == {m.key: (m.text, m.seen_in) for m in CATALOGUE.values()}
    assert f"The {len(CATALOGUE)} mistakes" in text


def test_the_version_of_the_json_report_is_documented():
    assert f"has a key `version`. It is {JSON_VERSION}:" in page("crosscheck.md")


@pytest.mark.parametrize("name", ["traces.md", "crosscheck.md"])
def test_the_python_of_the_pages_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page(name), re.S)
    assert blocks
    names = {}
    for block in blocks:
        exec(block, names)
    if name == "crosscheck.md":
        out = capsys.readouterr().out
        shown = re.search(r"```\n(different: .*?)```", page(name), re.S)[1].splitlines()
        for line in shown:
            # sentences are compared; numbers depend on the BLAS
            assert line == "…" or line.startswith(("array ", "    remaining")) or line in out, line
        assert "it is 0.5 times what it should be" in out
    else:
        assert isinstance(names["trace"]["encoder.layer.0.attention.scores"], np.ndarray)
        assert (tmp_path / "ours.safetensors").exists()


def test_the_code_and_the_hints_of_check_pair_are_as_shown():
    section = page("crosscheck.md").split("## Gradients of your own functions")[1]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(compile(code, "crosscheck.md", "exec"), {})
    sources = "".join(
        (ROOT / "minizha" / "crosscheck" / f"{name}.py").read_text("utf-8")
        for name in ("relations", "pair_entries")
    )
    hints = [hint for cells in rows(section)[2:] for hint in cells[0].split("; ")]
    assert len(hints) > 10
    for hint in hints:
        # what a call puts in: axes, numbers, arguments, terms
        parts = re.split(
            r"axis \d|\b0\.2\b|\b\d\b|\[0, 1\], …|argument 1 \(\w\)|(?<=[y)]) is missing", hint
        )
        assert all(part.strip(" ,") in sources for part in parts), hint
