"""Which of their arrays matches which of ours: by name, prefix, mapping, shape and value, layout."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.crosscheck.comparison.layouts import layouts
from minizha.crosscheck.comparison.matching import Matched, match, read_array
from minizha.errors import ArgumentError, FileError


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


OURS = {
    "embeddings": normal(2, 5, 12),
    "encoder.layer.0.attention.self.query": normal(2, 5, 12, seed=1),
    "encoder.layer.0.attention.scores": normal(2, 3, 5, 5),
    "encoder.layer.0.attention.self.query.weight.grad": normal(12, 8),
    "encoder.layer.0.intermediate.dense.weight.grad": normal(12, 12),
    "loss": np.array(3.25),
}
QUERY, SCORES, WEIGHT, SQUARE = list(OURS)[1:5]


def their_names(matches):
    return {name: m.their_name for name, m in matches.items()}


def agrees(theirs, mapping=None):
    """Each of our arrays has a match among theirs, with our values in our layout."""
    matches = match(OURS, theirs, mapping)
    matched = Matched(theirs, matches)
    assert list(matches) == list(OURS)
    assert all(np.array_equal(matched[name], OURS[name]) for name in OURS)
    return matches


# --- names ----------------------------------------------------------------------------------------


def test_equal_names():
    matches = agrees(dict(reversed(OURS.items())))
    assert {m.by for m in matches.values()} == {"name"}


@pytest.mark.parametrize("prefix", ["nezha.", "bert.", "module.", "model.", "module.model.bert."])
def test_prefixes(prefix):
    matches = agrees({prefix + name: array for name, array in OURS.items()})
    assert {m.by for m in matches.values()} == {"prefix"}


def test_a_strange_prefix_is_none():
    assert match(OURS, {"net." + n: np.zeros_like(a) for n, a in OURS.items()}) == {}


def test_the_plain_name_wins_over_one_with_a_prefix():
    theirs = {"bert.loss": np.array(1.0), "loss": np.array(2.0)}
    assert their_names(match(OURS, theirs)) == {"loss": "loss"}


def test_two_prefixed_names_for_one_of_ours_are_refused():
    theirs = {"bert.loss": np.array(1.0), "nezha.loss": np.array(2.0)}
    with pytest.raises(ArgumentError, match=r"bert\.loss and nezha\.loss both match loss"):
        match(OURS, theirs)


# --- layouts --------------------------------------------------------------------------------------


def heads_first(x):
    return x.reshape(2, 5, 3, 4).swapaxes(1, 2)


@pytest.mark.parametrize(
    ("name", "turn", "text"),
    [
        (QUERY, heads_first, "heads first"),
        (QUERY, lambda x: x.reshape(2, 5, 3, 4), "separate heads"),
        (QUERY, lambda x: x.reshape(10, 12), "axes joined"),
        (QUERY, lambda x: x.swapaxes(0, 1), "tokens first"),
        (SCORES, lambda x: x.reshape(6, 5, 5), "axes joined"),
        (WEIGHT, lambda x: x.T, "transposed"),
        ("loss", lambda x: x.reshape(1), "axes of length 1"),
        (SCORES, lambda x: x, ""),
    ],
)
def test_layouts(name, turn, text):
    theirs = OURS | {name: turn(OURS[name])}
    assert agrees(theirs)[name].layout.text == text
    agrees({f"array {i}": a for i, a in enumerate(theirs.values())})  # by value, too


@pytest.mark.parametrize("shape", [(12, 5, 2), (2, 60), (2, 4, 12), (120,), (2, 5, 12, 2)])
def test_other_shapes_are_no_layout(shape):
    matches = match(OURS, {QUERY: np.zeros(shape)})
    assert matches[QUERY].layout is None
    assert Matched({QUERY: np.zeros(shape)}, matches)[QUERY].shape == shape


@pytest.mark.parametrize("tokens_first", [False, True])
def test_as_many_heads_as_tokens(tokens_first):
    """Shapes can't tell (B, N, L, d) from (B, L, N, d) where N = L; values can."""
    ours = normal(2, 3, 12)
    theirs = ours.reshape(2, 3, 3, 4)
    theirs = theirs if tokens_first else theirs.swapaxes(1, 2)
    matched = Matched({QUERY: theirs}, match({QUERY: ours}, {QUERY: theirs}))
    assert np.array_equal(matched[QUERY], ours)


@given(
    ours=st.lists(st.integers(1, 4), max_size=4).map(tuple),
    theirs=st.lists(st.integers(1, 4), max_size=4).map(tuple),
)
def test_a_layout_gives_our_shape_and_keeps_every_number(ours, theirs):
    array = np.arange(math.prod(theirs)).reshape(theirs)
    for layout in layouts(ours, theirs):
        read = layout.read(array)
        assert read.shape == ours
        assert sorted(read.flat) == list(range(array.size))
    assert bool(layouts(ours, ours))


# --- a mapping ------------------------------------------------------------------------------------


def test_a_mapping():
    theirs = {f"t{i}": a for i, a in enumerate(OURS.values())}
    mapping = dict(zip(OURS, theirs, strict=True))
    theirs["t4"] = theirs["t4"].T
    mapping[SQUARE] = {"name": "t4", "transpose": True}
    matches = agrees(theirs, mapping)
    assert {m.by for m in matches.values()} == {"mapping"}
    # the control: a square matrix looks the same either way
    mapping[SQUARE] = {"name": "t4"}
    assert not np.array_equal(Matched(theirs, match(OURS, theirs, mapping))[SQUARE], OURS[SQUARE])


def test_a_mapping_wins_over_names():
    theirs = OURS | {"other": OURS["loss"] + 1}
    matches = match(OURS, theirs, {"loss": "other"})
    assert matches["loss"].their_name == "other"
    assert matches["embeddings"].their_name == "embeddings"


FAULTS = {
    "unknown": ({"loos": "loss"}, "loos is not one of our names"),
    "absent": ({"loss": "nothing"}, "loss: nothing is not one of their names"),
    "twice": ({"loss": "loss", QUERY: "loss"}, f"loss is mapped to both loss and {QUERY}"),
    "number": ({"loss": 3}, "loss: expected their name or"),
    "odd key": ({"loss": {"name": "loss", "turn": True}}, "loss: expected their name or"),
    "odd value": ({"loss": {"name": "loss", "transpose": 1}}, "loss: expected their name or"),
    "axes": (
        {"loss": {"name": "loss", "transpose": True}},
        "expected two axes of loss, which is to be transposed",
    ),
}


@pytest.mark.parametrize(("mapping", "text"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("in_file", [False, True])
def test_faults_of_a_mapping(mapping, text, in_file, tmp_path):
    path = tmp_path / "names.json"
    path.write_text(json.dumps(mapping))
    error = FileError if in_file else ArgumentError
    with pytest.raises(error) as raised:
        match(OURS, OURS, path if in_file else mapping)
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)
    assert in_file == (str(path) in str(raised.value))


def test_all_faults_are_reported_at_once():
    with pytest.raises(
        ArgumentError, match=r"a is not one of our names; b is not one of our names"
    ):
        match(OURS, OURS, {"a": "loss", "b": "loss"})


def test_a_mapping_that_is_none(tmp_path):
    with pytest.raises(ArgumentError, match=r"mapping: expected .* found list"):
        match(OURS, OURS, ["loss"])
    with pytest.raises(FileError, match=r"none\.json"):
        match(OURS, OURS, tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("[1]")
    with pytest.raises(FileError, match=r"bad\.json: expected a JSON object"):
        match(OURS, OURS, str(tmp_path / "bad.json"))


# --- shape and value ------------------------------------------------------------------------------


def test_shape_and_value():
    theirs = {f"t{i}": a.astype("f4") for i, a in enumerate(reversed(OURS.values()))}
    theirs["other"] = normal(2, 5, 12, seed=9).astype("f4")
    matches = match(OURS, theirs)
    assert their_names(matches) == dict(
        zip(OURS, [f"t{i}" for i in (5, 4, 3, 2, 1, 0)], strict=True)
    )
    assert {m.by for m in matches.values()} == {"value"}


def test_what_differs_finds_no_partner():
    theirs = {"t": OURS[QUERY] + 1e-3 * normal(2, 5, 12, seed=9)}
    assert match(OURS, theirs) == {}
    assert match(OURS, {"t": OURS[QUERY] * (1 + 1e-6)})  # the control


def test_equal_arrays_are_paired_in_order():
    same = OURS[SCORES]
    ours = {"encoder.layer.0.attention.probs": same, "encoder.layer.0.attention.weights": same}
    probs, weights = ours
    assert their_names(match(ours, {"a": same})) == {probs: "a"}
    assert their_names(match(ours, {"a": same, "b": same})) == {probs: "a", weights: "b"}


def test_two_that_are_alike_but_not_equal_are_left_alone():
    theirs = {"a": OURS[QUERY] * (1 + 1e-5), "b": OURS[QUERY] * (1 - 1e-5)}
    assert match(OURS, theirs) == {}


def test_zeros_prove_nothing():
    ours = {"loss": np.zeros((3, 4)), QUERY: np.full((3, 4), np.nan)}
    assert match(ours, {"a": np.zeros((3, 4)), "b": np.full((3, 4), np.nan)}) == {}


def test_hidden_entries_are_no_reason_against_a_match():
    visible = np.tri(5, dtype=bool)[None, None]
    theirs = {"a": np.where(visible, OURS[SCORES], -1e4)}
    assert match(OURS, theirs) == {}
    seen = match(OURS, theirs, visible=lambda name, shape: visible if name == SCORES else None)
    assert their_names(seen) == {SCORES: "a"}


def test_what_is_no_array_is_no_candidate_but_an_error_under_our_name():
    theirs = OURS | {"notes": "float32, eps 1e-12", "list": object()}
    assert set(match(OURS | {"extra": np.zeros(())}, theirs)) == set(OURS)
    with pytest.raises(ArgumentError, match="theirs: loss: expected numbers"):
        match(OURS, {"loss": "3.25"})


def test_reading():
    assert read_array({"x": [[1.0, 2.0]]}, "x", "theirs").shape == (1, 2)
    assert read_array({"x": np.longdouble(2)}, "x", "theirs").dtype == "float64"
    with pytest.raises(ArgumentError, match="theirs: x: expected an array"):
        read_array({"x": [[1.0], [2.0, 3.0]]}, "x", "theirs")
