"""What type checkers see: the public names are annotated, and a wrong use of them is refused."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import minizha
from minizha import crosscheck

pytest.importorskip("mypy")

ROOT = Path(minizha.__file__).parents[1]
EXAMPLES = Path(__file__).parent / "typed"
MARKED = re.compile(r"# refused: ([a-z-]+)$")
FOUND = re.compile(r"^.*?(\w+\.py):(\d+): error: .*\[([a-z-]+)\]$")
IGNORED = re.compile(r"# type: ignore(.*)$")


@pytest.fixture(scope="module")
def found():
    """``{(file, line): code}`` of the errors in both examples. They are checked with the options of
    pyproject.toml, so that what ``mypy`` has found out about minizha is not found out again."""
    examples = [str(path) for path in sorted(EXAMPLES.glob("*.py"))]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-error-summary", *examples],
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=ROOT,
        timeout=300,
    )
    assert done.stderr == ""
    lines = [line for line in done.stdout.splitlines() if ": note: " not in line]
    matches = [FOUND.match(line) for line in lines]
    assert all(matches), done.stdout
    return {(m[1], int(m[2])): m[3] for m in matches}


def test_documented_use_is_accepted(found):
    assert {place: code for place, code in found.items() if place[0] == "accepted.py"} == {}


def test_each_mistake_is_refused_in_its_line(found):
    lines = (EXAMPLES / "refused.py").read_text("utf-8").splitlines()
    marked = {
        ("refused.py", i): m[1] for i, line in enumerate(lines, 1) if (m := MARKED.search(line))
    }
    assert len(marked) > 15
    assert {place: code for place, code in found.items() if place[0] == "refused.py"} == marked


def checked_files():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    files = set()
    for pattern in project["tool"]["mypy"]["files"]:
        paths = list(ROOT.glob(pattern))
        assert paths, f"pyproject.toml: tool.mypy: files: nothing is called {pattern}"
        files |= {
            file for path in paths for file in ([path] if path.is_file() else path.glob("*.py"))
        }
    return files


def test_the_home_of_every_public_name_is_checked():
    homes = {
        getattr(minizha, name).__module__ for name in minizha.__all__ if name != "crosscheck"
    } | {getattr(crosscheck, name).__module__ for name in crosscheck.__all__ if name != "adapters"}
    homes |= {
        "minizha",
        "minizha.crosscheck",
        "minizha.training.optimizer",
        "minizha.training.step",
    }
    files = checked_files()
    assert {home for home in homes if Path(import_module(home).__file__) not in files} == set()
    assert (
        Path(import_module("minizha.ops.gelu").__file__) not in files
    )  # so the set is not everything


def test_type_checkers_are_told_that_there_are_annotations():
    assert (ROOT / "minizha" / "py.typed").read_bytes() == b""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "Typing :: Typed" in project["project"]["classifiers"]


def without_reason(source):
    """What stands after each ``type: ignore`` that has no code, or no reason after it."""
    rests = [m[1] for line in source.splitlines() if (m := IGNORED.search(line))]
    return [rest for rest in rests if not re.fullmatch(r"\[[a-z, -]+\]  # \w.+", rest)]


def test_every_ignored_error_has_its_code_and_a_reason():
    sources = [path.read_text("utf-8") for path in sorted((ROOT / "minizha").rglob("*.py"))]
    assert [rest for source in sources for rest in without_reason(source)] == []
    assert without_reason("x = 1  # type: ignore") == [""]
    assert without_reason("x = 1  # type: ignore[misc]") == ["[misc]"]
