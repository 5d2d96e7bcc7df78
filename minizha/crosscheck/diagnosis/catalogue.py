"""What a known mistake is, and the catalogue of all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from minizha.crosscheck.diagnosis.backward_rules import Rules


class Mistake(NamedTuple):
    """A mistake that ports make.

    ``text`` says what it is, ``seen_in`` in which ports it was found ("" for none); ``rules`` is the
    class of rules that makes it.
    """

    key: str
    text: str
    seen_in: str
    rules: type[Rules]


CATALOGUE: dict[str, Mistake] = {}
"""The known mistakes by key, from positions, attention, layers, heads and gradients."""


def mistake(key: str, text: str, seen_in: str = "") -> Callable[[type[Rules]], type[Rules]]:
    """A decorator that adds a class of rules to the catalogue."""

    def add(rules: type[Rules]) -> type[Rules]:
        assert key not in CATALOGUE, f"two mistakes are called {key}"
        CATALOGUE[key] = Mistake(key, text, seen_in, rules)
        return rules

    return add
