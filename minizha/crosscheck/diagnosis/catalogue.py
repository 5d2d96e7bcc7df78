"""What a known mistake is, the catalogue of all of them, and how a row is added to it."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, NamedTuple

from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.errors import ArgumentError

Wrong = Callable[..., Any]
"""A function in place of a rule: its parameters are the right rules, then those of the rule."""


class Mistake(NamedTuple):
    """A mistake that ports make.

    ``text`` says what it is, ``seen_in`` in which ports it was found ("" for none); ``rules`` is the
    class of rules that makes it, and ``replaces`` the names of those that it replaces.
    """

    key: str
    text: str
    seen_in: str
    rules: type[Rules]
    replaces: tuple[str, ...]


CATALOGUE: dict[str, Mistake] = {}
"""The known mistakes by key, from positions, attention, layers, heads and gradients."""


def mistakes() -> dict[str, str]:
    """What each known mistake is, by its key."""
    return {key: mistake.text for key, mistake in CATALOGUE.items()}


def known_mistake(key: str) -> Mistake:
    """The mistake with this key.

    Raises:
        ArgumentError: there is none.
    """
    if not isinstance(key, str) or key not in CATALOGUE:
        near = difflib.get_close_matches(str(key), CATALOGUE, 3)
        hint = f"; the nearest are {', '.join(near)}" if near else ""
        raise ArgumentError(
            f"key: expected that of a known mistake (crosscheck.mistakes()), found {key!r}{hint}"
        )
    return CATALOGUE[key]


def mistake(rule: str, text: str, seen_in: str = "") -> Callable[[Wrong], Wrong]:
    """A decorator: the function takes the place of the rule. Its name is the key."""

    def decorator(function: Wrong) -> Wrong:
        add(function.__name__, text, seen_in, **{rule: function})
        return function

    return decorator


def add(key: str, text: str, seen_in: str = "", **wrong: Wrong) -> None:
    """Add a mistake that replaces each rule named in ``wrong`` by a function."""
    assert key not in CATALOGUE, f"two mistakes are called {key}"
    assert wrong, f"{key} replaces no rule"
    rules = type(key, (Rules,), {"__doc__": text})
    for rule, function in wrong.items():
        assert hasattr(Rules, rule), f"{key} replaces {rule}, which is no rule"
        setattr(rules, rule, _method(rules, function))
    CATALOGUE[key] = Mistake(key, text, seen_in, rules, tuple(wrong))


def _method(rules: type[Rules], function: Wrong) -> Wrong:
    # super() is the rules without this mistake, and whatever else the instance does and knows
    return lambda self, *arguments: function(super(rules, self), *arguments)


def times(factor: Callable[..., Any], *rules: str) -> dict[str, Wrong]:
    """Each of the rules with its result times ``factor(*arguments)``."""

    def wrong(rule: str) -> Wrong:
        return lambda right, *arguments: getattr(right, rule)(*arguments) * factor(*arguments)

    return {rule: wrong(rule) for rule in rules}


def skipped(rule: str, *modules: str) -> dict[str, Wrong]:
    """LayerNorm or activation that is left out in the ``modules``."""

    def wrong(right: Rules, x: Any, *rest: Any) -> Any:
        return x if rest[-1] in modules else getattr(right, rule)(x, *rest)

    return {rule: wrong}
