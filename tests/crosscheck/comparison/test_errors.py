"""Wrong arrays, grouped by their causes."""

import types

import pytest

from minizha.crosscheck.comparison import errors
from minizha.crosscheck.comparison.differences import Finding
from minizha.crosscheck.comparison.errors import find_errors, float32_table
from minizha.crosscheck.diagnosis.diagnose import Diagnosis

FIRST, SECOND = "encoder.layer.0.intermediate", "encoder.layer.1.intermediate"
SCORES, TENTH = "encoder.layer.2.attention.scores", "encoder.layer.10.attention.scores"


def finding(mistake, array):
    return Finding(mistake, f"what {mistake} is", array, 1e-15, 1e-3)


@pytest.fixture
def explained(monkeypatch):
    """Replaces the diagnosis: ``causes`` {array: mistakes} are found; ``calls`` are its options."""
    found = types.SimpleNamespace(causes={}, calls=[])

    def explain(ours, theirs, name, **options):
        found.calls.append((name, options))
        mistakes = found.causes.get(name, ())
        return Diagnosis(tuple(finding(m, name) for m in mistakes), (f"on {name}", "of each"))

    monkeypatch.setattr(errors, "diagnose", explain)
    return found


def find(wrong, diagnose=True, precisions=None, allowed=None):
    precisions = dict.fromkeys(wrong, "float64") if precisions is None else precisions
    return find_errors(None, {}, wrong, precisions, allowed or {}, diagnose=diagnose)


def test_arrays_of_one_mistake_are_one_error(explained):
    explained.causes = {FIRST: ("gelu_tanh",), SECOND: ("gelu_tanh",), SCORES: ("no_scale",)}
    found = find([FIRST, SCORES, SECOND])
    assert [e.arrays for e in found.found] == [(FIRST, SECOND), (SCORES,)]
    causes = [[f.mistake for f in e.findings] for e in found.found]
    assert causes == [["gelu_tanh"], ["no_scale"]]
    assert found.found[0].findings[0].array == FIRST
    assert not any(e.benign for e in found.found)


def test_other_mistakes_of_the_same_array_are_another_error(explained):
    explained.causes = {FIRST: ("gelu_tanh",), SECOND: ("gelu_relu",)}
    assert [e.arrays for e in find([FIRST, SECOND]).found] == [(FIRST,), (SECOND,)]
    explained.causes = {FIRST: ("gelu_tanh",)}  # the second is explained by nothing
    assert [e.arrays for e in find([FIRST, SECOND]).found] == [(FIRST,), (SECOND,)]


@pytest.mark.parametrize("diagnose", [False, True])
def test_without_a_cause_the_same_array_of_all_layers_is_one_error(explained, diagnose):
    found = find([FIRST, SCORES, SECOND, "pooler", TENTH], diagnose)
    assert [e.arrays for e in found.found] == [(FIRST, SECOND), (SCORES, TENTH), ("pooler",)]
    assert not any(e.findings for e in found.found)


def test_without_diagnosis_none_is_asked_for(explained):
    assert find([FIRST], diagnose=False).remarks == ()
    assert not explained.calls
    assert find([]) == find([], diagnose=False) == ((), ())


def test_what_the_diagnosis_is_told(explained):
    explained.causes = {FIRST: ("gelu_tanh", "gelu_quick")}
    precisions = {FIRST: "float32", SCORES: "float16"}
    find([FIRST, SCORES], precisions=precisions, allowed={SCORES: 1e-6})
    (first, options), (second, others) = explained.calls
    assert (first, second) == (FIRST, SCORES)
    assert (options["precision"], options["allowed"], options["known"]) == ("float32", None, [])
    assert (others["precision"], others["allowed"]) == ("float16", 1e-6)
    assert others["known"] == ["gelu_tanh", "gelu_quick"]
    assert 0 < others["seconds"] <= options["seconds"] <= errors.SECONDS


def test_remarks_are_those_on_the_first_array(explained):
    explained.causes = {SCORES: ("no_scale",), TENTH: ("no_scale",)}
    assert find([FIRST, SECOND, SCORES, TENTH]).remarks == (f"on {FIRST}", "of each")


def test_an_array_of_another_shape_is_not_explained(explained):
    """It has no precision, since it was not measured."""
    found = find([FIRST, SECOND], precisions={SECOND: "float64"})
    assert [e.arrays for e in found.found] == [(FIRST,), (SECOND,)]
    assert [name for name, _ in explained.calls] == [SECOND]


def test_of_many_errors_without_a_cause_not_all_are_searched(explained):
    names = [f"array {k}" for k in range(errors.MOST_UNEXPLAINED + 3)]
    assert [e.arrays for e in find(names).found] == [(name,) for name in names]
    assert [name for name, _ in explained.calls] == names[: errors.MOST_UNEXPLAINED]


def test_a_float32_table_is_no_mistake():
    error = float32_table((SCORES, TENTH))
    assert error.benign
    assert error.arrays == (SCORES, TENTH)
    assert "float32" in error.text
    assert not error.findings
