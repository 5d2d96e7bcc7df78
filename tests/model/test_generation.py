"""A decoder continues a text: which tokens, and when it ends. test_sampling.py tests drawing."""

import numpy as np
import pytest

from minizha import NezhaForMaskedLM
from minizha.backend import to_backend, to_host
from tests.support import wrong_decoders
from tests.support.generating_decoder import (
    CONFIG,
    CROSS,
    ENCODER,
    IDS,
    B,
    L,
    S,
    V,
    by_hand,
    generated,
    model_of,
)

DIFFERENT = {
    "plain": {},
    "K is 0": {"max_relative_position": 0},
    "K above the text": {"max_relative_position": 64},
    "pruned": {"pruned_heads": {0: [1], 1: [0, 3]}},
    "untied": {"tie_word_embeddings": False},
    "chunked": {"chunk_size_feed_forward": 2},
    "cross-attention to nothing": {"add_cross_attention": True},
}


# --- the likeliest --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DIFFERENT)
def test_with_or_without_cache_or_by_hand_the_text_is_the_same(name, backend):
    model = model_of(backend, **DIFFERENT[name])
    expected = by_hand(model, IDS)
    assert len(np.unique(expected[:, L:])) > 2, "a text of one word would prove little"
    for use_cache in (True, False):
        found = generated(model, use_cache=use_cache)
        assert found.dtype == np.int64
        assert np.array_equal(found, expected)


def test_without_its_places_a_text_would_be_another(backend, monkeypatch):
    """Negative control: positions that start at 0 in each call."""
    model = model_of(backend)
    expected = generated(model)
    wrong_decoders.positions_that_start_anew_in_each_call(monkeypatch)
    assert not np.array_equal(generated(model), expected)


def test_each_step_reads_one_token_or_all_of_them(backend):
    lengths = []

    class Counting(NezhaForMaskedLM):
        def __call__(self, input_ids, *arguments, **options):
            lengths.append(np.shape(input_ids)[1])
            return super().__call__(input_ids, *arguments, **options)

    model = Counting(CONFIG, backend=backend)
    generated(model, max_new_tokens=4)
    assert lengths == [L, 1, 1, 1]
    lengths.clear()
    generated(model, max_new_tokens=4, use_cache=False)
    assert lengths == [L, L + 1, L + 2, L + 3]


@pytest.mark.parametrize("use_cache", [True, False])
def test_padding_on_the_left_does_not_matter(use_cache, backend):
    model, real = model_of(backend), [4, 1, 2, 3, 4, 2]
    mask = np.array([[0] * (L - n) + [1] * n for n in real])
    garbage = np.where(mask == 1, IDS, 5)
    found = generated(model, garbage, mask, use_cache=use_cache)
    assert np.array_equal(found[:, :L], garbage)
    for row, n, ids in zip(found, real, IDS, strict=True):
        assert np.array_equal(row[L - n :], by_hand(model, [ids[L - n :]])[0])
    assert not np.array_equal(generated(model, garbage), found)


def test_an_encoder_may_be_listened_to(backend):
    model = model_of(backend, **CROSS)
    expected = by_hand(model, IDS, **ENCODER)
    for use_cache in (True, False):
        assert np.array_equal(generated(model, **ENCODER, use_cache=use_cache), expected)
    assert not np.array_equal(generated(model), expected)
    other = {"encoder_hidden_states": -ENCODER["encoder_hidden_states"]}
    assert not np.array_equal(generated(model, **other), expected)


def test_what_the_encoders_mask_hides_does_not_matter(backend):
    model, mask = (
        model_of(backend, **CROSS),
        np.array([[1] * n + [0] * (S - n) for n in (5, 2, 1, 3, 5, 4)]),
    )
    expected = by_hand(model, IDS, **ENCODER, encoder_attention_mask=mask)
    hidden = np.where(mask[..., None] == 1, ENCODER["encoder_hidden_states"], 9.0)
    for use_cache in (True, False):
        found = generated(
            model, encoder_hidden_states=hidden, encoder_attention_mask=mask, use_cache=use_cache
        )
        assert np.array_equal(found, expected)


def test_a_row_is_the_same_in_any_batch(backend):
    model = model_of(backend)
    expected = generated(model)
    for i in range(B):
        assert np.array_equal(generated(model, IDS[i : i + 1]), expected[i : i + 1])


def test_the_smallest_calls(backend):
    model = model_of(backend)
    assert generated(model, [[3]], max_new_tokens=1).shape == (1, 2)
    assert np.array_equal(generated(model, max_new_tokens=1), by_hand(model, IDS, 1))
    assert np.array_equal(generated(model, max_new_tokens=np.int32(1)), by_hand(model, IDS, 1))
    assert generated(model, np.zeros((0, L), dtype=int)).shape[0] == 0
    assert model.generate(IDS).shape == (B, L + 20)
    on_device = model.generate(to_backend(IDS, model.xp), max_new_tokens=2)
    assert isinstance(on_device, model.xp.ndarray)
    assert np.array_equal(to_host(on_device), by_hand(model, IDS, 2))


def test_the_model_is_as_it_was(backend):
    model = model_of(backend, "float32")
    before = {name: to_host(array).copy() for name, array in model.state_dict().items()}
    expected = generated(model)
    assert not model.training
    assert all((to_host(array) == before[name]).all() for name, array in model.state_dict().items())
    assert not any(to_host(d).any() for d in model.gradients().values())
    assert np.array_equal(generated(model), expected)


# --- the end --------------------------------------------------------------------------------------


def ended(text, eos, pad):
    """The text with each row ended at its first ``eos`` after the prompt, padded, and cut where the
    last row ends."""
    text, last = text.copy(), L
    for row in text:
        ends = [i for i in range(L, len(row)) if row[i] == eos]
        stop = ends[0] if ends else len(row) - 1
        row[stop + 1 :] = pad
        last = max(last, stop)
    return text[:, : last + 1]


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_row_ends_and_is_filled_up(use_cache, backend):
    model = model_of(backend)
    text, seen = by_hand(model, IDS), set()
    for eos in np.unique(text):
        expected = ended(text, eos, 0)
        found = generated(model, eos_token_id=int(eos), use_cache=use_cache)
        assert np.array_equal(found, expected)
        seen.add((found[:, L:] == eos).any(axis=1).sum())
    assert len(seen) > 2, "words of no row, of some, of more"


def test_it_ends_when_all_rows_have(backend):
    model = model_of(backend)
    text = by_hand(model, IDS[:1])
    eos = int(text[0, L + 1])
    first = L + list(text[0, L:]).index(eos)
    same = np.repeat(IDS[:1], B, axis=0)
    assert np.array_equal(generated(model, same, eos_token_id=eos), same_rows(text[:, : first + 1]))


def same_rows(text):
    return np.repeat(text, B, axis=0)


def test_a_prompt_may_hold_the_end(backend):
    """The attention mask is for the prompt, and does not hide new tokens."""
    model = model_of(backend)
    text = by_hand(model, IDS)
    absent = sorted(set(IDS.flat) - set(text[:, L:].flat))
    assert absent
    assert np.array_equal(generated(model, eos_token_id=int(absent[0])), text)
    assert np.array_equal(generated(model, eos_token_id=-1), text)


def test_the_configurations_end_and_padding(backend):
    plain = model_of(backend)
    text = by_hand(plain, IDS)
    eos = int(text[0, L + 2])
    model = model_of(backend, eos_token_id=eos)
    assert np.array_equal(generated(model), ended(text, eos, 0))
    other = int(text[1, L + 1])
    assert np.array_equal(generated(model, eos_token_id=other), ended(text, other, 0))
    # without a padding token, eos is repeated
    for no_padding in (None, -1):
        model.config = model.config.replace(pad_token_id=no_padding)
        assert np.array_equal(generated(model), ended(text, eos, eos))
    model.config = model.config.replace(eos_token_id=-1)
    assert np.array_equal(generated(model), text)
    # 3, the default, may be beyond a small vocabulary, and is then never generated
    model.config = model.config.replace(eos_token_id=V + 5)
    assert np.array_equal(generated(model), text)
