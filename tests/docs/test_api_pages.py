"""Every public name is documented in the pages of the API."""

import importlib
import re

import pytest

import minizha
from tests.support.paths import REFERENCE, ROOT

PAGES = "\n".join(p.read_text("utf-8") for p in sorted((REFERENCE / "api").glob("*.md")))
AUTO = re.compile(r"^\.\. auto(\w+):: (\S+)$(?:\n   :(members|special-members):(.*))?", re.M)


def documented(text):
    """The full names that the directives of a page document."""
    found = set()
    for kind, name, option, listed in AUTO.findall(text):
        found.add(name)
        if kind == "module" and option == "members":
            names = [n.strip() for n in listed.split(",") if n.strip()] or public(name)
            found |= {f"{name}.{n}" for n in names}
    return found


def public(name):
    """The names that a module defines, without an underscore."""
    if name.startswith("minizha.crosscheck.adapters."):
        return []  # most need torch
    module = importlib.import_module(name)
    return [
        n
        for n, thing in vars(module).items()
        if n[0] != "_" and getattr(thing, "__module__", None) == name
    ]


def required():
    """The names that must be documented."""
    found = {f"minizha.{n}" for n in minizha.__all__ if n != "crosscheck"}
    found |= {f"minizha.crosscheck.{n}" for n in minizha.crosscheck.__all__}
    for path in [*ROOT.glob("minizha/ops/*.py"), *ROOT.glob("minizha/nezha/*.py")]:
        if path.stem != "__init__":
            found.add(f"minizha.{path.parent.name}.{path.stem}")
    found |= {"minizha.training.optimizer", "minizha.training.step"}
    modules = [name for name in found if name.rpartition(".")[0] != "minizha"]
    for name in modules:
        if not name.startswith("minizha.crosscheck"):
            found |= {f"{name}.{n}" for n in public(name)}
    for path in ROOT.glob("minizha/crosscheck/adapters/*.py"):
        if path.stem != "__init__":
            found.add(f"minizha.crosscheck.adapters.{path.stem}")
    return found


def test_every_public_name_is_documented():
    needed = required()
    assert len(needed) > 150
    assert needed - documented(PAGES) == set()


@pytest.mark.parametrize(
    "name", ["minizha.NezhaModel", "minizha.crosscheck.check_pair", "minizha.ops.gelu"]
)
def test_a_name_that_is_left_out_is_seen(name):
    page = re.sub(rf"^\.\. auto\w+:: {re.escape(name)}$(\n   .*)*", "", PAGES, flags=re.M)
    assert page != PAGES
    assert name in required() - documented(page)


def test_the_modules_are_in_reading_order():
    readme = (ROOT / "README.md").read_text("utf-8")
    for package in ("ops", "nezha"):
        order = dict.fromkeys(re.findall(rf"\]\(minizha/{package}/(\w+)\.py\)", readme))
        page = (REFERENCE / "api" / f"{package}.md").read_text("utf-8")
        assert re.findall(r"^## (\w+)$", page, re.M) == list(order)
