"""The tutorials run unchanged from an empty folder, and are percent scripts."""

import ast
import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from tests.support.paths import TUTORIALS

SCRIPTS = sorted(TUTORIALS.glob("[0-9]*.py"))
NAMES = [path.stem for path in SCRIPTS]
TIME_LIMIT = 120  # seconds
# a cell that draws has metadata for the book: the picture's alternative text
MARKER = re.compile(r"^# %%( \[markdown\]| mystnb=\{.*\})?$")


def run(script, folder, *arguments):
    """Run a copy of ``script`` in ``folder``, where it saves its pictures, from an empty subfolder."""
    copy = folder / script.name
    shutil.copyfile(script, copy)
    here = folder / "here"
    here.mkdir()
    environment = os.environ | {
        "OPENBLAS_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "PYTHONIOENCODING": "utf-8",
    }
    # only warnings that minizha or the tutorial can cause; those of other packages are ignored
    strict = [
        f"-Werror::{category}"
        for category in ("UserWarning", "RuntimeWarning", "DeprecationWarning:__main__")
    ]
    return subprocess.run(
        [sys.executable, *strict, str(copy), *arguments],
        cwd=here,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=TIME_LIMIT,
        check=False,
    )


def cells(text):
    """(kind, lines) of each cell of a percent script; fails if the text is not one."""
    found = []
    for line in text.split("\n"):
        marker = MARKER.match(line)
        if marker:
            found.append(("markdown" if marker[1] == " [markdown]" else "code", []))
        else:
            assert not line.startswith("# %%"), f"not a cell marker: {line!r}"
            assert found, f"text before the first cell: {line!r}"
            found[-1][1].append(line)
    return found


def check_percent_script(text):
    found = cells(text)
    assert found[0][0] == "markdown"
    assert found[0][1][0].startswith("# # "), "the first cell begins with the title"
    for phrase in ("What you'll do", "What you'll learn", "What you need"):
        assert phrase in "\n".join(found[0][1])
    for kind, lines in found:
        if kind == "markdown":
            bare = [line for line in lines if line and not re.match("#( |$)", line)]
            assert not bare, f"a line of text without #: {bare[0]!r}"
        else:
            ast.parse("\n".join(lines))  # each cell is complete, as a notebook requires
            assert any(lines), "an empty cell"
    return found


def test_all_three_are_here():
    assert [name[:2] for name in NAMES] == ["01", "02", "03"]


@pytest.mark.parametrize("path", SCRIPTS, ids=NAMES)
def test_is_a_percent_script(path):
    found = check_percent_script(path.read_text(encoding="utf-8"))
    assert [kind for kind, _ in found].count("code") >= 10


@pytest.mark.parametrize(
    "text",
    [
        "import numpy\n# %% [markdown]\n# # Title\n",
        "# %% [markdown]\n# # What you'll do What you'll learn What you need\nbare text\n",
        "# %% [markdown]\n# # What you'll do What you'll learn What you need\n# %%\nif True:\n",
        "# %% [markdown]\n# # What you'll do What you'll learn What you need\n# %% [Markdown]\n",
        "# %% [markdown]\n# # Title\n",
    ],
    ids=["before the first cell", "bare text", "half a statement", "unknown marker", "no preface"],
)
def test_what_is_no_percent_script_is_refused(text):
    with pytest.raises((AssertionError, SyntaxError)):
        check_percent_script(text)


@pytest.mark.parametrize("path", SCRIPTS, ids=NAMES)
def test_runs(path, tmp_path):
    started = time.monotonic()
    done = run(path, tmp_path)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr}"
    assert done.stderr == ""
    assert time.monotonic() - started < TIME_LIMIT
    assert list((tmp_path / "here").iterdir()) == []  # the current folder stays empty
    pictures = [
        line.split()[1].rstrip(";") for line in done.stdout.splitlines() if "picture: " in line
    ]
    assert bool(pictures) != ("matplotlib is not installed" in done.stdout)
    for name in pictures:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_fill_a_mask_takes_a_trained_model(tmp_path):
    from minizha.training.options import PretrainOptions
    from minizha.training.pretrain import new_model, prepare

    options = PretrainOptions(hidden_size=16, layers=2, heads=2, intermediate_size=16)
    data = prepare(None, options)
    new_model(data, options).save_pretrained(tmp_path / "model")
    data.tokenizer.save_pretrained(tmp_path / "model")
    done = run(SCRIPTS[0], tmp_path, str(tmp_path / "model"))
    assert done.returncode == 0, done.stderr
    assert "using the model in" in done.stdout
    assert "on chapters never seen" in done.stdout
    assert "the tiny model" not in done.stdout  # the last section needs the shipped model


def test_a_claim_that_is_untrue_fails(tmp_path):
    """The negative control: with the distance's sign flipped, tutorial 02 must not pass."""
    text = next(p for p in SCRIPTS if p.stem.startswith("02")).read_text(encoding="utf-8")
    right = "R = table[np.clip(places - places[:, None], -K, K) + K]  # (L, L, d)"
    assert text.count(right) == 1
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        text.replace(right, right.replace("places - places[:, None]", "places[:, None] - places")),
        encoding="utf-8",
    )
    (tmp_path / "run").mkdir()
    done = run(wrong, tmp_path / "run")
    assert done.returncode == 1
    assert "AssertionError" in done.stderr
