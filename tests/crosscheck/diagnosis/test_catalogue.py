"""The catalogue of known mistakes: their number, their texts, and that each replaces a rule."""

import pytest

from minizha.crosscheck.diagnosis import CATALOGUE, catalogue
from minizha.crosscheck.diagnosis.backward_rules import Rules


def test_the_catalogue_is_large_and_in_words():
    assert len(CATALOGUE) >= 100
    assert len({m.text for m in CATALOGUE.values()}) == len(CATALOGUE)
    for key, mistake in CATALOGUE.items():
        assert mistake.key == key == key.lower().replace("-", "_")
        assert 5 < len(mistake.text) < 120
        assert not mistake.text.endswith(".")


def unused_methods_and_rules(mistake):
    """A mistake's public methods that replace no rule and that it never calls; the rules it replaces."""
    own = [cls for cls in mistake.__mro__ if issubclass(cls, Rules) and cls is not Rules]
    methods = {n for cls in own for n, value in vars(cls).items() if callable(value)}
    used = {
        word
        for cls in own
        for value in vars(cls).values()
        if hasattr(value, "__code__")
        for word in value.__code__.co_names
    }
    rules = methods & set(dir(Rules))
    return {n for n in methods - rules - used if not n.startswith("_")}, rules


@pytest.mark.parametrize("key", CATALOGUE)
def test_what_a_mistake_overrides_is_a_rule(key):
    unused, rules = unused_methods_and_rules(CATALOGUE[key].rules)
    assert not unused
    assert rules


def test_a_rule_with_a_typo_would_be_found():
    class Typo(Rules):
        def score(self, q, k, a):
            return q

    assert unused_methods_and_rules(Typo) == ({"score"}, set())


def test_no_two_mistakes_have_one_key():
    with pytest.raises(AssertionError, match="no_scale"):
        catalogue.mistake("no_scale", "…")(Rules)
