"""What README and docs say is so: named tests exist, links lead somewhere, code runs."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaForPreTraining
from minizha.crosscheck.diagnosis import CATALOGUE
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import new_model, prepare
from seeded_mistakes import SEEDS
from test_seeded_mistakes import NAMED
from tiny_heads import HEADS
from tiny_models import TINY
from wrong_backwards import WRONG

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("vectors/*.md"),
        *ROOT.glob("vectors/v1/*.md"),
    ]
)
NAMED_TEST = re.compile(r"`(test_\w+)`")
LINK = re.compile(r"\]\(([^)#]+)\)")


def test_tox_tests_the_lower_bounds_of_the_dependencies():
    content = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    bounds = [bound.replace(">=", "==") for bound in content["project"]["dependencies"]]
    assert content["tool"]["tox"]["env"]["lower"]["deps"] == bounds


def names_of_tests():
    sources = "".join(path.read_text("utf-8") for path in ROOT.glob("tests/**/*.py"))
    return set(re.findall(r"def (test_\w+)\(", sources))


def missing_tests(text, known):
    return sorted(set(NAMED_TEST.findall(text)) - known)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_test_that_a_page_names_exists(page):
    known = names_of_tests()
    assert missing_tests(page.read_text("utf-8"), known) == []
    assert missing_tests("`test_that_nobody_wrote`", known) == ["test_that_nobody_wrote"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_link_leads_to_a_file(page):
    targets = [t for t in LINK.findall(page.read_text("utf-8")) if "://" not in t]
    assert [t for t in targets if not (page.parent / t).exists()] == []


def unlike_typed(text):
    """Shell commands that a shell does not take as shown: an interactive zsh knows no comments, and
    brackets without quotes are a pattern of file names."""
    commands = re.findall(r"^(?:minizha|pip|pytest|python3?|node) .*$", text, re.M)
    bare = [re.sub(r"'[^']*'|\"[^\"]*\"", "", command) for command in commands]
    return [c for c, b in zip(commands, bare, strict=True) if "#" in b or "[" in b]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_command_can_be_typed_as_shown(page):
    assert unlike_typed(page.read_text("utf-8")) == []


@pytest.mark.parametrize("line", ["minizha fill-mask 一[MASK]", "minizha info m  # what it has"])
def test_a_command_that_a_shell_misreads_is_seen(line):
    assert unlike_typed(f"```\n{line}\n```") == [line]


def follow(record, path):
    """What a path such as ``record.nezha.encoder[0].pooler`` leads to."""
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
    with pytest.raises(AttributeError):  # as it was called once
        follow(out.record, ".nezha.encoder[0].self_attention.attention.scores")


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    options = PretrainOptions(hidden_size=8, layers=2, heads=2, intermediate_size=8, steps=1)
    data = prepare(None, options)
    new_model(data, options).save_pretrained(tmp_path / "minizha-sanguo")
    data.tokenizer.save_pretrained(tmp_path / "minizha-sanguo")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.S)
    names = {}
    for block in blocks:
        exec(block, names)
    assert names["out"].prediction_logits.shape == (1, 14, len(data.tokenizer))
    assert names["out"].seq_relationship_logits.shape == (1, 2)
    assert names["model"].gradients().keys() == names["model"].state_dict().keys()


def test_the_counts_of_the_readme_are_right():
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    vectors = json.loads((ROOT / "vectors/transformers-4.37.2/manifest.json").read_text("utf-8"))
    own = json.loads((ROOT / "vectors/v1/manifest.json").read_text("utf-8"))
    negative = json.loads((ROOT / "vectors/v1/negative.json").read_text("utf-8"))
    live = (ROOT / "tests/test_transformers_live.py").read_text("utf-8")
    seeds = int(re.search(r"^SEEDS = (\d+)$", live, re.M)[1])
    wrong = sum(map(len, WRONG.values()))
    models = len(vectors["cases"]) - 1  # and the one that an optimizer trains
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
        f"{len(NAMED)} of {len(NAMED)} that are known ones are named",
    ):
        assert count in text
