"""The pages on traces, comparisons and known mistakes agree with the code."""

import re
import runpy

import numpy as np
import pytest

from minizha.crosscheck.diagnosis import CATALOGUE
from minizha.crosscheck.names import ATTENTION, EMBEDDINGS, FEED_FORWARD, HEADS
from minizha.crosscheck.report.text import JSON_VERSION
from tests.support.paths import REFERENCE, ROOT


def page(name):
    return (REFERENCE / name).read_text("utf-8")


def rows(text):
    """The cells of each row of the tables in a page."""
    lines = [line.strip("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


def table_of_names():
    """The table of a trace's arrays, as a page has it, from the rows of the code."""
    lines = ["| name | axes | what |", "|---|---|---|"]

    def add(rows, prefix=""):
        for row in rows:
            name = f"`{prefix}{row.name}`" if row.name else "(the layer itself, `encoder.layer.0`)"
            lines.append(f"| {name} | {' '.join(row.axes)} | {row.text} |".replace("|  |", "| |"))

    add(EMBEDDINGS)
    lines.append("| in each layer, with the prefix `encoder.layer.0.` and so on: | | |")
    add(ATTENTION, "attention.")
    lines.append("| `crossattention.…` | | the same arrays, if there is an encoder |")
    add(FEED_FORWARD)
    lines.append("| and the heads: | | |")
    add(HEADS)
    return "\n".join(lines)


def test_the_table_of_names_is_that_of_the_code():
    assert f"\n\n{table_of_names()}\n\n" in page("traces.md")


def test_the_page_of_known_mistakes_is_that_of_the_catalogue(monkeypatch):
    made = runpy.run_path(str(REFERENCE / "make_mistakes.py"))
    assert made["page"]() == page("mistakes.md"), "run python docs/reference/make_mistakes.py"
    listed = [cells[0].strip("`") for cells in rows(made["page"]()) if cells[0].startswith("`")]
    assert sorted(listed) == sorted(CATALOGUE)
    seen = {key for key, mistake in CATALOGUE.items() if mistake.seen_in}
    assert set(listed[: len(seen)]) == seen
    # the control: another text makes another page
    monkeypatch.setitem(CATALOGUE, "no_scale", CATALOGUE["no_scale"]._replace(text="1/√d lost"))
    assert made["page"]() != page("mistakes.md")


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
        assert "it is 0.5 times (1/2) what it should be" in out
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
            r"axis \d|0\.2 |\(1/5\)|\[0, 1\], …|argument 1 \(\w\)|(?<=is off by )| and (?=a )", hint
        )
        assert all(part.strip(" ,") in sources for part in parts), hint
