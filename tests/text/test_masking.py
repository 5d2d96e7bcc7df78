"""Masking: which tokens are chosen, what replaces them, and that special tokens never change."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.errors import ArgumentError
from minizha.text.masking import mask_tokens

SPECIAL = frozenset({0, 2, 3, 4, 5})
V = 50


def mask(ids, seed=0, **changes):
    arguments = {"special_ids": SPECIAL, "mask_token_id": 5, "vocab_size": V} | changes
    arguments.setdefault("rng", np.random.default_rng(seed))
    return mask_tokens(ids, **arguments)


@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 7),
    st.integers(1, 33),
    st.floats(0, 1),
    st.booleans(),
)
def test_properties(seed, rows, length, probability, at_least_one):
    ids = np.random.default_rng(seed).integers(0, V, (rows, length))
    ids.flags.writeable = False
    masked, labels = mask(ids, seed, probability=probability, at_least_one=at_least_one)
    assert masked.dtype == labels.dtype == np.int64
    chosen = labels != -100
    special = np.isin(ids, list(SPECIAL))
    assert not (chosen & special).any()
    assert (labels[chosen] == ids[chosen]).all()
    assert (masked[~chosen] == ids[~chosen]).all()
    assert not np.isin(masked[chosen & (masked != 5)], list(SPECIAL)).any()
    if at_least_one:
        assert (chosen.any(1) == (~special).any(1)).all()
    again = mask(ids, seed, probability=probability, at_least_one=at_least_one)
    assert (again[0] == masked).all()
    assert (again[1] == labels).all()


def shares(masked, labels, ids):
    """The share of ordinary tokens that are chosen; of these, of [MASK], another and the same token."""
    chosen = labels != -100
    fate = masked[chosen]
    return np.array(
        [
            chosen.sum() / (~np.isin(ids, list(SPECIAL))).sum(),
            (fate == 5).mean(),
            ((fate != 5) & (fate != ids[chosen])).mean(),
            (fate == ids[chosen]).mean(),
        ]
    )


def test_shares():
    ids = np.random.default_rng(1).integers(0, V, (400, 500))
    # a random token sometimes equals the original
    repeated = 0.1 / (V - len(SPECIAL))
    expected = np.array([0.15, 0.8, 0.1 - repeated, 0.1 + repeated])
    assert np.abs(shares(*mask(ids), ids) - expected).max() < 0.01
    # the control: hiding 85 % fails the check
    masked, labels = mask(ids)
    hidden = (labels != -100) & (np.random.default_rng(2).random(ids.shape) < 0.25)
    wrong = np.where(hidden, 5, masked)
    assert np.abs(shares(wrong, labels, ids) - expected).max() > 0.02


def test_random_tokens_are_uniform_over_the_ordinary_ones():
    ids = np.full((200, 1000), 7)
    masked, labels = mask(ids, probability=1.0)
    counts = np.bincount(masked[(masked != 5) & (masked != 7)], minlength=V)
    ordinary = np.setdiff1d(np.arange(V), [*SPECIAL, 7])
    assert (counts[list(SPECIAL)] == 0).all()
    expected = 0.1 * ids.size / (V - len(SPECIAL))
    assert np.abs(counts[ordinary] / expected - 1).max() < 0.25
    assert (labels == 7).all()


def test_at_least_one_is_uniform():
    ids = np.tile([3, 10, 11, 12, 13, 4], (20_000, 1))
    _, labels = mask(ids, probability=0.0, at_least_one=True)
    counts = (labels != -100).sum(0)
    assert counts.sum() == len(ids)
    assert counts[[0, 5]].tolist() == [0, 0]
    assert np.abs(counts[1:5] / 5000 - 1).max() < 0.05
    assert (mask(ids, probability=0.0)[1] == -100).all()


@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0)])
def test_nothing_to_mask(shape):
    masked, labels = mask(np.zeros(shape, dtype=np.int64), at_least_one=True)
    assert masked.shape == labels.shape == shape


def test_lists_and_views():
    ids = np.arange(48).reshape(6, 8)
    expected = mask(np.ascontiguousarray(ids.T))
    for same in (ids.T, ids.T.tolist(), ids.T.astype(np.int32)):
        got = mask(same)
        assert (got[0] == expected[0]).all()
        assert (got[1] == expected[1]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ids": [[50]]}, "input_ids: expected ids in 0 … 49, found 50"),
        ({"ids": [[-1]]}, "input_ids: expected ids in 0 … 49, found -1"),
        ({"ids": [[1.0]]}, "input_ids: expected integers, found float64"),
        ({"ids": [[1], [2, 3]]}, "input_ids: expected integers in rows of one length"),
        ({"ids": 7}, "input_ids: expected integers of shape"),
        ({"special_ids": {50}}, r"special_ids: expected an integer in \[0, 49\], found 50"),
        ({"special_ids": {"a"}}, "special_ids: expected an integer"),
        ({"special_ids": range(V)}, "all of the 50 ids are special"),
        ({"mask_token_id": 50}, r"mask_token_id: expected an integer in \[0, 49\], found 50"),
        ({"mask_token_id": None}, "mask_token_id: expected an integer"),
        ({"vocab_size": 0}, "vocab_size: expected an integer of at least 1"),
        ({"probability": 1.5}, r"probability: expected a number in \[0, 1\], found 1.5"),
        ({"probability": float("nan")}, "probability: expected a number"),
        ({"probability": "0.15"}, "probability: expected a number"),
        ({"rng": 0}, "rng: expected a numpy.random.Generator .*found int"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ArgumentError, match=message):
        mask(changes.pop("ids", [[7, 8]]), **changes)
