"""Each backward function of an operation is derived in the book, or is in the list of those that wait."""

import importlib
import pkgutil
import re
from pathlib import Path

from minizha_book.proofs import named_labels

import minizha.ops

ROOT = Path(__file__).resolve().parents[2]
WAIT = {
    "attention_backward",
    "relative_key_backward",
    "relative_value_backward",
}
"""Backward functions that no chapter derives yet."""


def backward_functions():
    for module in pkgutil.iter_modules(minizha.ops.__path__, "minizha.ops."):
        loaded = importlib.import_module(module.name)
        for name, function in vars(loaded).items():
            if (
                name.endswith("_backward")
                and not name.startswith("_")
                and function.__module__ == module.name
            ):
                yield name, function.__doc__ or ""


def labels_of_the_book():
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "docs/book").glob("*.md")]
    return {label for text in texts for label in re.findall(r"^\s*:label: ([\w-]+)$", text, re.M)}


def test_every_backward_function_names_its_equation():
    labels = labels_of_the_book()
    waiting = set()
    for name, docstring in backward_functions():
        named = named_labels(docstring)
        assert set(named) <= labels, name
        if not named:
            waiting.add(name)
    assert waiting == WAIT
