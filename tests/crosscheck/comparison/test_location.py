"""Where in an array the differences are: in words, axis by axis, and as a picture."""

import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.crosscheck.comparison import counts as module
from minizha.crosscheck.comparison.location import locate, say_distances, say_places
from minizha.crosscheck.comparison.measure import blocks

SCORES, HIDDEN = "encoder.layer.1.attention.scores", "encoder.layer.0"
WORDS = "embeddings.word_embeddings.weight.grad"


def trace(**inputs):
    config = types.SimpleNamespace(head_size=4, max_relative_position=3, pad_token_id=2)
    return types.SimpleNamespace(config=config, inputs=inputs)


def location_of(name, shape, wrong, visible=None, **inputs):
    """The location of errors of 0.5 in the entries that ``wrong`` selects; others are rounded."""
    ours = np.asarray(np.random.default_rng(0).standard_normal(shape))
    theirs = np.array(ours * (1 + 1e-15))
    theirs[wrong] += 0.5
    return locate(
        name, ours, theirs, (0.0, 1e-9), scale=2.0, visible=visible, trace=trace(**inputs)
    )


def lines(name, shape, wrong, **options):
    return location_of(name, shape, wrong, **options).lines


def distance(L, J, past=0):
    return np.arange(J)[None] - np.arange(L)[:, None] - past


# --- distances ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (lambda d: d > 4, "j − i > 4 only"),
        (lambda d: d < 0, "j − i < 0 only"),
        (lambda d: d < -2, "j − i < -2 only (clipped to 3)"),
        (lambda d: d == 0, "j − i = 0 only (a token and itself)"),
        (lambda d: d != 0, "j − i ≠ 0 only (all but a token and itself)"),
        (lambda d: abs(d) >= 6, "|j − i| ≥ 6 only"),
        (lambda d: abs(d) > 3, "|j − i| ≥ 4 only (clipped to 3)"),
        (lambda d: abs(d) <= 1, "|j − i| ≤ 1 only"),
        (lambda d: d % 2 == 1, "odd j − i only"),
        (lambda d: d == -3, "j − i = -3 only"),
    ],
)
@pytest.mark.parametrize("past", [0, 4])
def test_distances(rule, words, past):
    L, J = 9, 9 + past
    wrong = np.broadcast_to(rule(distance(L, J, past)), (2, 3, L, J))
    inputs = {"past_key_values.0.0": np.zeros((2, 3, past, 4))} if past else {}
    found = lines(SCORES, wrong.shape, wrong, **inputs)
    # with a past, distances beyond the query's own position do not occur
    if rule(distance(L, J, past)).any():
        assert found == (f"distances: {words}",)


def test_a_rule_is_not_seen_where_there_is_none():
    d = distance(9, 9)
    everywhere = np.ones((9, 9), bool)
    assert say_distances(everywhere, everywhere) is None
    assert say_distances(~everywhere, everywhere) is None
    assert say_distances(np.isin(d, (-5, 2, 3)), everywhere) is None


def test_hidden_entries_do_not_make_a_rule():
    """Under a causal mask all visible entries have j ≤ i, so this is no rule."""
    visible = np.tri(9, dtype=bool)[None, None]
    wrong = np.broadcast_to(visible, (2, 3, 9, 9))
    assert lines(SCORES, wrong.shape, wrong, visible=visible) == ()
    assert lines(SCORES, wrong.shape, wrong) == ("distances: j − i < 1 only",)  # the control


@given(
    seed=st.integers(0, 2**32 - 1),
    low=st.integers(-4, 4),
    past=st.integers(0, 3),
    above=st.booleans(),
)
def test_some_entries_may_agree_by_chance(seed, low, past, above):
    d = distance(30, 30 + past, past)
    pattern = (d >= low) if above else (d <= low)
    differ = pattern & (np.random.default_rng(seed).random(d.shape) < 0.95)
    corner = np.unravel_index((d == low).argmax(), d.shape)
    differ[corner] = True
    everywhere = np.ones(d.shape, bool)
    text = say_distances(differ, everywhere, past)
    assert text in {f"j − i > {low - 1} only", f"j − i < {low + 1} only"}
    outside = np.unravel_index((~pattern).argmax(), d.shape)
    differ[outside] = True  # the control: one entry outside the rule
    assert say_distances(differ, everywhere, past) != text


# --- places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("differ", "words"),
    [
        ([0, 3], "2 of 8 (0, 3)"),
        ([1, 2, 3, 6], "4 of 8 (1–3, 6)"),
        ([0, 2, 4, 6], "the even ones only"),
        ([1, 3, 5, 7], "the odd ones only"),
        ([0, 1, 2, 3], "the first half only"),
        ([4, 5, 6, 7], "the second half only"),
        (range(8), None),
        ([], None),
    ],
)
def test_places(differ, words):
    flags = np.isin(np.arange(8), list(differ))
    assert say_places(flags, np.ones(8, bool), halves=True) == words
    if words and "only" in words:  # heads have no halves
        assert "of 8" in say_places(flags, np.ones(8, bool))


def test_places_that_do_not_count():
    counted = np.arange(8) < 4
    assert say_places(counted.copy(), counted) is None
    assert say_places(np.arange(8) < 3, counted) == "3 of 4 (0–2)"


def test_nearly_everywhere_is_everywhere():
    flags = np.arange(100) != 50
    assert say_places(flags, np.ones(100, bool)) is None
    assert say_places(flags[45:55], np.ones(10, bool)) == "9 of 10 (0–4, 6–9)"


# --- axes -----------------------------------------------------------------------------------------


def test_heads_and_rows_of_the_batch():
    wrong = np.zeros((3, 4, 5, 5), bool)
    wrong[1, [0, 3]] = True
    found = lines(SCORES, wrong.shape, wrong)
    assert found == ("rows of the batch: 1 of 3 (1)", "heads: 2 of 4 (0, 3)")


def test_queries_and_keys():
    wrong = np.zeros((1, 2, 6, 6), bool)
    wrong[:, :, 2] = True
    assert lines(SCORES, wrong.shape, wrong) == ("queries: 1 of 6 (2)",)
    assert lines(SCORES, wrong.shape, wrong.swapaxes(2, 3)) == ("keys: 1 of 6 (2)",)


def test_tokens_and_features():
    wrong = np.zeros((2, 5, 8), bool)
    wrong[:, 1:3, 1::2] = True
    assert lines(HIDDEN, wrong.shape, wrong) == (
        "tokens: 2 of 5 (1–2)",
        "features: the odd ones only",
    )


def test_features_of_heads_side_by_side():
    wrong = np.zeros((2, 5, 3, 4), bool)
    wrong[:, :, 1, :2] = True
    found = lines("encoder.layer.0.attention.context", (2, 5, 12), wrong.reshape(2, 5, 12))
    assert found == ("heads: 1 of 3 (1)", "features of a head: the first half only")
    rows = np.zeros((12, 7), bool)
    rows[4:8] = True
    name = "encoder.layer.0.attention.self.query.weight.grad"
    assert lines(name, rows.shape, rows) == ("heads: 1 of 3 (1)",)
    assert lines(HIDDEN + ".output.dense.weight.grad", rows.shape, rows) == ("rows: 4 of 12 (4–7)",)


def test_the_row_of_the_pad_token():
    wrong = np.zeros((20, 8), bool)
    wrong[2] = True
    assert lines(WORDS, wrong.shape, wrong) == ("rows: 1 of 20 (2, the pad token's)",)
    assert lines(WORDS, wrong.shape, wrong[::-1]) == ("rows: 1 of 20 (17)",)


def test_tokens_of_a_kind():
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0]])
    wrong = np.broadcast_to((mask == 0)[..., None], (2, 4, 8))
    found = lines(HIDDEN, wrong.shape, wrong, attention_mask=mask)
    assert found == ("tokens: only those that the attention mask hides",)
    found = lines(HIDDEN, wrong.shape, wrong, token_type_ids=1 - mask)
    assert found == ("tokens: only those of the second sentence",)
    found = lines(HIDDEN, wrong.shape, wrong)
    assert found == ("rows of the batch: 1 of 2 (1)", "tokens: 2 of 4 (2–3)")


def test_everywhere_and_nowhere_nothing_is_said():
    for wrong in (np.ones((2, 5, 8), bool), np.zeros((2, 5, 8), bool)):
        found = location_of(HIDDEN, wrong.shape, wrong)
        assert found.lines == ()
        assert found.share == wrong.mean()


def test_a_number_and_a_row():
    found = location_of("loss", (), ())
    assert (found.share, found.heat_axes, found.heat_lengths) == (1.0, ("all", "all"), (1, 1))
    assert found.heat == ((pytest.approx(0.25),),)
    wrong = np.arange(6) == 4
    found = location_of("encoder.layer.0.output.dense.bias.grad", (6,), wrong)
    assert found.lines == ("rows: 1 of 6 (4)",)
    assert found.heat_lengths == (1, 6)
    assert np.argmax(found.heat[0]) == 4


# --- the picture ----------------------------------------------------------------------------------


@given(
    L=st.integers(1, 70),
    J=st.integers(1, 130),
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 99),
)
def test_a_cell_holds_the_largest_error_of_its_entries(L, J, seed, size):
    rng = np.random.default_rng(seed)
    ours, theirs = rng.standard_normal((2, 2, 2, L, J))
    visible = rng.random((2, 1, L, J)) < 0.7
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(module, "blocks", lambda shape: blocks(shape, size * L))
        found = locate(SCORES, ours, theirs, (0.0, 1.0), scale=2.0, visible=visible)
    off = np.where(visible, abs(ours - theirs) / 2.0, -1.0).max((0, 1))
    rows, columns = min(L, 48), min(J, 48)
    assert (len(found.heat), len(found.heat[0])) == (rows, columns)
    r, c = int(rng.integers(rows)), int(rng.integers(columns))
    cell = off[r * L // rows : (r + 1) * L // rows, c * J // columns : (c + 1) * J // columns]
    np.testing.assert_equal(found.heat[r][c], cell.max() if cell.max() >= 0 else np.nan)
    assert found.heat_axes == ("query i", "key j")
    assert found.heat_lengths == (L, J)
    differ = (abs(ours - theirs) > 1.0) & visible
    assert found.share == pytest.approx(differ.sum() / max(1, 2 * visible.sum()))


def test_numbers_that_are_none_are_seen():
    ours = np.zeros((2, 5, 8))
    theirs = ours.copy()
    theirs[0, 1] = np.nan
    theirs[0, 3, 0] = ours[0, 3, 0] = np.nan  # on both sides: equal
    found = locate(HIDDEN, ours, theirs, (0.0, 1e-9), scale=1.0)
    assert found.share == 0.1
    assert found.lines == ("rows of the batch: 1 of 2 (0)", "tokens: 1 of 5 (1)")
    assert max(map(max, found.heat)) == np.inf


def test_relative_tolerance():
    ours = np.array([[1.0, 100.0, 1.0, 1.0]])
    found = locate("x", ours, ours + 0.5, (0.01, 0.0), scale=1.0)
    assert found.share == 0.75
