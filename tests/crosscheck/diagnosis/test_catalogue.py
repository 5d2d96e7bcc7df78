"""The catalogue of known mistakes: their number, their texts, what they replace, their dtypes."""

import functools

import numpy as np
import pytest

from minizha import crosscheck
from minizha.crosscheck.diagnosis import CATALOGUE, catalogue
from minizha.crosscheck.diagnosis.backward import backward_steps
from minizha.crosscheck.diagnosis.backward_rules import Rules
from minizha.crosscheck.diagnosis.facts import Facts
from minizha.crosscheck.diagnosis.forward import evaluate, forward_steps
from minizha.errors import ArgumentError
from tests.support.seeded.seeding import CASES
from tests.support.traces import model_and_inputs


@functools.cache
def traced(case):
    return crosscheck.trace(*model_and_inputs(CASES[case]))


def test_the_catalogue_is_large_and_in_words():
    assert len(CATALOGUE) >= 170
    assert len({m.text for m in CATALOGUE.values()}) == len(CATALOGUE)
    for key, mistake in CATALOGUE.items():
        assert mistake.key == key == key.lower().replace("-", "_")
        assert 5 < len(mistake.text) < 120
        assert not mistake.text.endswith(".")


def test_the_public_face():
    known = crosscheck.mistakes()
    assert known["no_scale"] == "1/√d missing"
    assert known.keys() == CATALOGUE.keys()
    trace = traced("bare")
    theirs = crosscheck.mistaken(trace, "no_scale")
    assert crosscheck.compare(trace, theirs).findings[0].mistake == "no_scale"


@pytest.mark.parametrize(
    ("key", "nearest"), [("no_scal", "no_scale"), ("gelu-tanh", "gelu_tanh"), ("xyz", None)]
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(key, nearest):
    with pytest.raises(ArgumentError, match=f"found '{key}'") as caught:
        crosscheck.mistaken(None, key)
    assert ("nearest" in str(caught.value)) == (nearest is not None)
    assert (nearest or "") in str(caught.value)


def test_a_mistake_replaces_rules_and_no_more():
    for mistake in CATALOGUE.values():
        assert mistake.replaces
        assert set(mistake.replaces) == {n for n in vars(mistake.rules) if n in dir(Rules)} - {
            n for n in dir(Rules) if n.startswith("_")
        }


def test_a_row_that_can_not_be_is_refused(monkeypatch):
    monkeypatch.setattr(catalogue, "CATALOGUE", dict(CATALOGUE))
    with pytest.raises(AssertionError, match="two mistakes are called no_scale"):
        catalogue.add("no_scale", "…", scores=lambda right, q, k, a: q)
    with pytest.raises(AssertionError, match="score, which is no rule"):
        catalogue.add("typo", "…", score=lambda right, q, k, a: q)
    with pytest.raises(AssertionError, match="replaces no rule"):
        catalogue.add("nothing", "…")


def test_the_function_gets_the_right_rules(monkeypatch):
    """Those of the class that it is mixed with, if that has rules of its own."""
    monkeypatch.setattr(catalogue, "CATALOGUE", {})

    @catalogue.mistake("tanh", "twice")
    def doubled(right, x):
        return 2.0 * right.tanh(x)

    class Thirds(Rules):
        def tanh(self, x):
            return super().tanh(x) / 3.0

    rules, x = catalogue.CATALOGUE["doubled"].rules, np.ones(1)
    assert doubled(Rules(), x) == rules().tanh(x) == 2.0 * np.tanh(x)
    assert type("", (rules, Thirds), {})().tanh(x) == 2.0 * (np.tanh(x) / 3.0)


# --- a mistake keeps the dtype of what it gets ----------------------------------------------------


def float32(value):
    """Arrays and named tuples of them in float32; integers as they are."""
    if isinstance(value, np.ndarray | np.floating):
        return np.asarray(value, np.float32) if value.dtype.kind == "f" else value
    if isinstance(value, tuple) and hasattr(value, "_replace"):
        return value._replace(**{n: float32(v) for n, v in value._asdict().items()})
    return {n: float32(v) for n, v in value.items()} if isinstance(value, dict) else value


def _float32_rule(name):
    right = getattr(Rules, name)
    return lambda self, *a, **named: float32(right(self, *map(float32, a), **named))


NAMES = [n for n in [*vars(Rules.__base__), *vars(Rules)] if not n.startswith("_")]
Float32Rules = type("Float32Rules", (Rules,), {name: _float32_rule(name) for name in NAMES})
DTYPE_CASES = ("masked", "dropout", "decoder", "cross", "answer", "multi label", "regression")


@functools.cache
def calls():
    """``{rule: [arguments]}`` of the right rules in float32."""
    found = {name: [] for name in NAMES}

    def recording(name):
        def call(self, *arguments, **named):
            found[name].append(tuple(map(float32, arguments)))
            return getattr(super(Recording, self), name)(*arguments, **named)

        return call

    Recording = type("Recording", (Float32Rules,), {n: recording(n) for n in NAMES})
    for case in DTYPE_CASES:
        facts, memory = Facts(traced(case)), {}
        steps = forward_steps(facts, Recording()) | backward_steps(facts, Recording())
        for name in traced(case):
            if name in steps and name not in memory:
                memory[name] = evaluate(steps, name, {}, memory)
    return found


def wide_results(rules, replaced):
    """The replaced rules that give float64 where all that they get is float32."""
    instance, wide = type("Mixed", (rules, Float32Rules), {})(), set()
    for name in replaced:
        assert calls()[name], f"no case uses {name}"
        for arguments in calls()[name]:
            found = getattr(instance, name)(*arguments)
            arrays = found if isinstance(found, tuple) else (found,)
            wide.update(name for a in arrays if getattr(a, "dtype", None) == np.float64)
    return wide


@pytest.mark.parametrize("key", CATALOGUE)
def test_a_mistake_keeps_float32(key):
    with np.errstate(all="ignore"):
        assert not wide_results(CATALOGUE[key].rules, CATALOGUE[key].replaces)


def test_a_mistake_that_makes_float64_would_be_found():
    class Wide(Rules):
        def scores(self, q, k, a):
            return super().scores(q, k, a) * np.ones(1)

    assert wide_results(Wide, ("scores",)) == {"scores"}
