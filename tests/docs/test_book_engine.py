"""What is wrong in a page of the book fails the build. Negative controls for each check of the engine."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("myst_nb", reason='needs pip install -e ".[book]"')

ROOT = Path(__file__).resolve().parents[2]
HEAD = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  name: python3
  display_name: Python 3
---

# Page

"""
PROOF = (
    "import numpy as np\nfrom minizha_book.proofs import proves\nx = np.array([0.5, 3.0, -2.0])\n"
)


def cell(code, options=""):
    return f"\n```{{code-cell}} python3\n{options}{code}\n```\n"


EQUATION = "```{math}\n:label: square\ny = x^2\n```\n"
PICTURE = "from minizha_book.pictures import figure\nfig, axes = figure()\nfig"
RIGHT = (
    EQUATION
    + cell(PROOF + 'proves("square", x * x, x**2)')
    + cell(PICTURE, ":mystnb:\n:  image:\n:    alt: An empty plot\n")
    + "\n```{source} minizha.ops.layer_norm.layer_norm\n```\n\n$\\mean(x)$, {eq}`square`\n"
)
FAULTS = {
    "renamed": (
        "```{source} minizha.ops.layer_norm.layer_norms\n```\n",
        "there is no such function",
    ),
    "unproved": (EQUATION, "is shown and never proved"),
    "unlabelled": ("```{math}\ny = x^2\n```\n", "has no label"),
    "not_shown": (cell(PROOF + 'proves("cube", x * x * x, x**3)'), "is proved and never shown"),
    "wrong": (EQUATION + cell(PROOF + 'proves("square", x * x, x**3)'), "the sides differ"),
    "letters": ("$π x$\n", "a formula contains π"),
    "dead_link": ("[there](nowhere.md)\n", "nowhere.md"),
    "dead_reference": ("{eq}`nothing`\n", "nothing"),
    "no_alternative": (cell(PICTURE), "no alternative text"),
    "no_widget": ("```{widget} nothing\n:alt: A picture\n```\n", "there is no _static/nothing.js"),
    "widget_no_alternative": ("```{widget} simplex\n```\n", "alternative text is missing"),
    "no_exercise": ("```{exercise-check} 99.1\n```\n", "99.1"),
}


def build(folder, pages, language="en"):
    book = folder / "docs/book"
    book.mkdir(parents=True, exist_ok=True)
    names = "\n".join(f"book/{name}" for name in pages)
    (folder / "docs/index.md").write_text(
        f"# Index\n\n```{{toctree}}\n:caption: Pages\n:numbered:\n\n{names}\n```\n", "utf-8"
    )
    for name, text in pages.items():
        (book / f"{name}.md").write_text(HEAD + text, "utf-8")
    command = [sys.executable, "-m", "sphinx", "-c", ROOT / "docs/book", "-W", "--keep-going", "-q"]
    command += ["-D", f"nb_execution_cache_path={folder / 'cache'}", "-D", f"language={language}"]
    command += ["-D", f"html_static_path={ROOT / 'docs/book/_static'}", folder, folder / "out"]
    run = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=folder)
    return run.returncode, run.stdout + run.stderr


def test_a_right_page_is_built(tmp_path):
    code, said = build(tmp_path, {"right": RIGHT})
    assert code == 0, said
    page = (tmp_path / "out/docs/book/right.html").read_text("utf-8")
    assert "✓ 0e+00" in page
    assert 'aria-label="An empty plot"' in page
    assert "#line-" in page
    assert "Ba, Kiros" not in page  # the docstring is left out


def test_every_fault_fails_the_build(tmp_path):
    code, said = build(tmp_path, {name: text for name, (text, _) in FAULTS.items()})
    assert code != 0
    for name, (_, words) in FAULTS.items():
        assert words in said, name


def test_an_undefined_macro_fails_the_build(tmp_path):
    code, said = build(tmp_path, {"macro": "$\\nomacro x$\n"})
    assert code != 0
    assert "nomacro" in said


def test_an_untranslated_message_fails_the_build(tmp_path):
    code, said = build(tmp_path, {"words": "A sentence.\n"}, language="zh_CN")
    assert code != 0
    assert "not translated: 'A sentence.'" in said


def build_in_chinese(folder, heading):
    """A page with a numbered heading, and a catalogue with this translation of it."""
    messages = {
        "index": {"Index": "索引", "Pages": "各页"},
        "book/words": {"Page": "页", "1. One": heading},
    }
    for page, entries in messages.items():
        path = folder / f"docs/book/locale/zh_CN/LC_MESSAGES/docs/{page}.po"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = "".join(f'msgid "{en}"\nmsgstr "{zh}"\n\n' for en, zh in entries.items())
        path.write_text(
            f'msgid ""\nmsgstr "Content-Type: text/plain; charset=utf-8"\n\n{lines}', "utf-8"
        )
    return build(folder, {"words": "## 1. One\n"}, language="zh_CN")


def test_a_translated_page_is_built(tmp_path):
    code, said = build_in_chinese(tmp_path, "1\\\\. 一")
    assert code == 0, said
    assert "1. 一" in (tmp_path / "out/docs/book/words.html").read_text("utf-8")


def test_a_translation_that_is_not_applied_fails_the_build(tmp_path):
    code, said = build_in_chinese(tmp_path, "1. 一")  # Markdown takes it for an item of a list
    assert code != 0
    assert "yet not shown so: '1. 一'" in said
