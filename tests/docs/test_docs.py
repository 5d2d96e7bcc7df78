"""README and docs are true: named tests and linked files exist, code and commands run."""

import json
import re

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaForPreTraining
from minizha.cli import _parser
from minizha.crosscheck.diagnosis import CATALOGUE
from tests.crosscheck.test_seeded_mistakes import NAMED
from tests.support.paths import ROOT, TUTORIALS
from tests.support.seeded.all_mistakes import SEEDS
from tests.support.shell_commands import (
    commands_of,
    faults,
    markdown_of,
    run_in_shell,
    shells,
    shown_commands,
)
from tests.support.tiny_heads import HEADS
from tests.support.tiny_models import TINY
from tests.support.wrong_backwards import WRONG

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/reference/**/*.md"),
        *ROOT.glob("vectors/*.md"),
        *ROOT.glob("vectors/v1/*.md"),
        *ROOT.glob("tests/**/*.md"),
    ]
)
NAMED_TEST = re.compile(r"`(test_\w+)`")
NAMED_FILE = re.compile(r"\btest_\w+\.py\b")
LINK = re.compile(r"\]\(([^)#]+)\)")


def names_of_tests():
    paths = list(ROOT.glob("tests/**/*.py"))
    sources = "".join(path.read_text("utf-8") for path in paths)
    return set(re.findall(r"def (test_\w+)\(", sources)) | {path.name for path in paths}


def missing_tests(text, known):
    return sorted({*NAMED_TEST.findall(text), *NAMED_FILE.findall(text)} - known)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_test_that_a_page_names_exists(page):
    known = names_of_tests()
    assert missing_tests(page.read_text("utf-8"), known) == []
    assert missing_tests("`test_that_is_missing`", known) == ["test_that_is_missing"]
    assert missing_tests("tests/test_missing.py", known) == ["test_missing.py"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_to_a_file(page):
    targets = [t for t in LINK.findall(page.read_text("utf-8")) if "://" not in t]
    assert [t for t in targets if not (page.parent / t).exists()] == []


# --- every shell command runs as shown -----------------------------------------------------------

SHELLS = shells()
# the history names commands and options that are gone
WITH_COMMANDS = [page for page in PAGES if page.name != "CHANGELOG.md"] + sorted(
    TUTORIALS.glob("*.py")
)


def faults_of_commands(text, shell, folder, page_folder=ROOT):
    """What is wrong with the commands of a text when a shell runs them in an empty folder."""
    found = []
    for shown in shown_commands(text):
        try:
            found += faults(shown, run_in_shell(shown.command, SHELLS[shell], folder), page_folder)
        except AssertionError as error:
            found.append(str(error))
    return found


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_command_can_be_typed_as_shown(page, shell, tmp_path):
    assert faults_of_commands(markdown_of(page), shell, tmp_path / "run", page.parent) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_every_command_in_the_help_can_be_typed_as_shown(shell, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    parsers = [_parser()]
    for parser in parsers:
        parsers += commands_of(parser).values()
        lines = [f"    {line.strip()}" for line in parser.format_help().splitlines()]
        assert faults_of_commands("\n".join(lines), shell, tmp_path / "run") == []
    assert len(parsers) > 8


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("minizha fill-mask 一[MASK]", "[MASK]"),
        ("minizha info m  # what it has", "comment"),
        ("minizha info m --depth 3", "--depth"),
        ("minizha inform m", "inform"),
        ("minizha compare ours.safetensors", "THEIRS"),
        ("python -m minizha convert SRC", "DIR"),
        ("python -m benchmarks --cases", "--cases"),
        ("python -m benchmarks rite", "rite"),
        ("pip install -e .[test]", ".[test]"),
        ("pip install -e '.[tests]'", "no extra tests"),
        ("pytest tests/test_everything.py", "no file"),
        ("pip install . && tool", "tool"),
    ],
)
def test_a_command_that_cannot_be_typed_as_shown_is_seen(line, fault, shell, tmp_path):
    for text in (f"```\n{line}\n```", f"    {line}", f"say `{line}` and"):
        (found,) = faults_of_commands(text, shell, tmp_path / "run")
        assert fault in found


def test_commands_are_found_where_pages_show_them():
    text = "as `minizha\ninfo m` says\n```\n$ pip \\\n  install .\nequal\n```\n\n    pytest\n"
    text += "```python\npip\n```\nminizha runs `minizha/ops` and `minizha-sanguo`\n"
    assert [s.command for s in shown_commands(text)] == [
        "pip install .",
        "pytest",
        "minizha info m",
    ]


def follow(record, path):
    """The value at a path such as ``record.nezha.encoder[0].pooler``."""
    for name, place in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        record = getattr(record, name) if name else record[int(place)]
    return record


def test_every_path_through_the_record_leads_to_an_array():
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 9}
    out = NezhaForPreTraining(NezhaConfig(**sizes))([[1, 2]], record=True)
    pages = "".join(page.read_text("utf-8") for page in PAGES)
    paths = re.findall(r"`out\.record((?:\.\w+|\[\d+\])+)`", pages)
    assert paths
    for path in paths:
        assert isinstance(follow(out.record, path), np.ndarray), path
    with pytest.raises(AttributeError):  # a former name
        follow(out.record, ".nezha.encoder[0].self_attention.attention.scores")


def test_the_python_of_the_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["out"].prediction_logits.shape == (1, 14, len(names["tokenizer"]))
    assert names["out"].seq_relationship_logits.shape == (1, 2)
    assert names["model"].gradients().keys() == names["model"].state_dict().keys()


RESULTS = ("passes", "refused by design", "fails", "not run")


def counts_of_results(page):
    """What the first table of transformers-tests.md says, and what its other tables add up to."""
    first, rest = page.split("## How it was run")
    said = dict(re.findall(r"^\| ([a-z ]+) \| (\d+) \|$", first, re.M))
    rows = re.findall(r"^\| test_\w+ \| ([a-z ]+) \|", rest, re.M)
    groups = re.findall(r"^\| [^|]+ \| (\d+) \| (test_[^|]+) \|$", rest, re.M)
    assert all(int(count) == len(set(names.split(", "))) for count, names in groups)
    found = {name: rows.count(name) for name in RESULTS}
    found["form does not apply"] = sum(int(count) for count, _ in groups)
    return {name: int(count) for name, count in said.items()}, found | {"all": sum(found.values())}


def test_the_counts_of_transformers_own_tests_are_right():
    page = (ROOT / "docs/reference/transformers-tests.md").read_text("utf-8")
    said, found = counts_of_results(page)
    assert said == found
    altered = page.replace("| test_training | passes |", "| test_training | fails |")
    assert counts_of_results(altered)[1] != said
    reach = sum(said[name] for name in RESULTS) - said["not run"]
    assert f"{reach} tests reach minizha" in page
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert f"Of the {said['all']} tests" in readme
    assert (
        f"{reach} reach minizha: {said['passes']} pass, {said['refused by design']} expect"
        in readme
    )
    assert said["fails"] == 0 or f"{said['fails']} fails ([" in readme


def test_the_counts_of_the_readme_are_right():
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    vectors = json.loads((ROOT / "vectors/transformers-4.37.2/manifest.json").read_text("utf-8"))
    own = json.loads((ROOT / "vectors/v1/manifest.json").read_text("utf-8"))
    negative = json.loads((ROOT / "vectors/v1/negative.json").read_text("utf-8"))
    live = (ROOT / "tests/model/test_transformers_live.py").read_text("utf-8")
    seeds = int(re.search(r"^SEEDS = (\d+)$", live, re.M)[1])
    wrong = sum(map(len, WRONG.values()))
    models = len(vectors["cases"]) - 1  # the last one is that of the optimizer
    for count in (
        f"of {models} models,",
        f"computes for {models} small models",
        f"{len(own['cases'])} small models with every activation",
        f"{len(negative['cases'])} inputs that must be refused",
        f"{len(CATALOGUE)} [known mistakes]",
        f"| {seeds} random models,",
        f"of {len(TINY) + len(HEADS)} models, 24,085 derivatives",
        f"({wrong} wrong backward functions of operations",
        f"of {len(SEEDS)} mistakes seeded into the model",
        f"{len(NAMED)} of {len(NAMED)} known ones among them are named",
    ):
        assert count in text
