"""What a known mistake is, and the list that each of them enters."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from minizha.crosscheck.diagnosis.backward_rules import Rules


class Mistake(NamedTuple):
    """A mistake that ports make: a key, what it is in words, where it was seen (or ""), and the
    rules as they are with it."""

    key: str
    text: str
    seen_in: str
    rules: type[Rules]


CATALOGUE: dict[str, Mistake] = {}
"""By key. The files positions, attention, layers, heads and gradients fill it."""


def mistake(key: str, text: str, seen_in: str = "") -> Callable[[type[Rules]], type[Rules]]:
    """Enter the decorated rules into the catalogue."""

    def enter(rules: type[Rules]) -> type[Rules]:
        assert key not in CATALOGUE, f"two mistakes are called {key}"
        CATALOGUE[key] = Mistake(key, text, seen_in, rules)
        return rules

    return enter
