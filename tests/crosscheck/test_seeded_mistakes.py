"""Each seeded mistake is found in the array in which it was made, and most are named.

The negative control: the same models without a mistake, also in float32, pass.
"""

import functools

import pytest

from minizha import crosscheck
from minizha.crosscheck.diagnosis import CATALOGUE
from tests.support.seeded.all_mistakes import BACKWARD, FORWARD, SEEDS
from tests.support.seeded.seeding import CASES

TOO_SMALL = {
    "layer_norm_eps_1e_6",
    "layer_norm_eps_1e_7",
    "loss_count_epsilon",
    "loss_log_epsilon",
    "mask_minus_1e9",
    "table_float32",
}
"""Too small for float32: a relative 1e-5, or the digits of a score that remain after adding −1e9."""
BENIGN = {"table_float32"}
"""No mistake in float64, but a matter of precision."""
UNKNOWN = {
    "dropout_factor_unscaled",
    "key_value_gradients_swapped",
    "qa_outputs_swapped",
    "query_key_gradients_swapped",
}
"""Seeds whose name is not in the catalogue of the diagnosis."""
KNOWN = [seed for seed in SEEDS if seed.key and seed.key not in UNKNOWN]
NAMED = [seed for seed in KNOWN if seed.key not in BENIGN]


def trace(case, dtype="float64"):
    return crosscheck.trace(CASES[case].model("numpy", dtype), CASES[case].inputs())


@functools.cache
def right_trace(case):
    return trace(case)


def wrong_trace(seed, dtype="float64"):
    with pytest.MonkeyPatch.context() as monkeypatch:
        seed.make(monkeypatch)
        return trace(seed.case, dtype)


@functools.cache
def report(seed):
    return crosscheck.compare(right_trace(seed.case), wrong_trace(seed))


def of_seeds(seeds):
    return pytest.mark.parametrize("seed", seeds, ids=lambda seed: seed.name)


@pytest.mark.parametrize("case", CASES)
def test_without_a_mistake_nothing_is_found(case):
    found = crosscheck.compare(right_trace(case), trace(case))
    assert found.ok
    assert found.first_divergence is None
    assert not found.findings
    assert not found.missing
    assert len(found.differences) == len(right_trace(case))


@pytest.mark.parametrize("case", CASES)
def test_float32_is_no_mistake(case):
    found = crosscheck.compare(right_trace(case), trace(case, "float32"))
    assert found.ok, found.divergence
    assert not found.findings


@of_seeds([seed for seed in SEEDS if seed.key not in BENIGN])
def test_a_mistake_is_found_where_it_was_made(seed):
    found = report(seed)
    assert not found.ok
    assert found.first_divergence == seed.first


@of_seeds([seed for seed in SEEDS if seed.key not in TOO_SMALL])
def test_a_mistake_in_float32_is_found_where_it_was_made(seed):
    found = crosscheck.compare(right_trace(seed.case), wrong_trace(seed, "float32"))
    assert not found.ok
    assert found.first_divergence == seed.first


@of_seeds(NAMED)
def test_a_mistake_is_named(seed):
    """No other mistake is named."""
    assert [f.mistake for f in report(seed).findings] == [seed.key]


@of_seeds([seed for seed in NAMED if seed.key not in TOO_SMALL | {"layer_norm_eps_1e_5"}])
def test_a_mistake_in_float32_is_named(seed):
    """One more may be named that float32 can't distinguish from it, such as an eps of 1e-12 and of 1e-7."""
    found = crosscheck.compare(right_trace(seed.case), wrong_trace(seed, "float32"))
    assert seed.key in {f.mistake for f in found.findings}


@of_seeds([seed for seed in SEEDS if seed.key in UNKNOWN])
def test_what_is_unknown_is_given_no_other_name(seed):
    assert not report(seed).findings


@of_seeds([seed for seed in SEEDS if seed.key in BENIGN])
def test_a_matter_of_precision_is_told_where_it_begins(seed):
    found = report(seed)
    assert found.ok
    assert found.first_divergence is None
    assert not found.findings
    (error,) = found.errors
    assert error.benign
    assert error.arrays[0] == seed.first
    assert "made in float32" in error.text


def test_every_known_mistake_is_seeded():
    assert CATALOGUE.keys() == {seed.key for seed in KNOWN}
    assert {seed.key for seed in SEEDS} >= BENIGN
    assert not CATALOGUE.keys() & UNKNOWN


def test_the_seeds_are_many_and_all_different():
    assert len({seed.name for seed in SEEDS}) == len(SEEDS) >= 230
    assert len({seed.key for seed in NAMED}) >= 140
    assert len(FORWARD) >= 130
    assert len(BACKWARD) >= 90
    assert {seed.case for seed in SEEDS} == CASES.keys()


def test_what_a_mistake_on_the_way_back_leaves_right():
    """A seed in a backward pass tests the gradients only if the forward values are equal."""
    for seed in BACKWARD:
        right, wrong = right_trace(seed.case), wrong_trace(seed)
        values = [name for name in right if not name.endswith(".grad")]
        assert all((right[name] == wrong[name]).all() for name in values)
