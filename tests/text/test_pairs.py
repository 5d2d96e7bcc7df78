"""Sentence pairs: each token encodes its position in the corpus, so a batch proves each claim."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.errors import ArgumentError
from minizha.text.corpus import Document
from minizha.text.packed import pack
from minizha.text.pairs import PairSampler, tokenize_documents
from minizha.text.tokenizer import NezhaTokenizer
from minizha.text.vocabulary import SPECIAL_TOKENS

CLS, SEP, PAD = 1, 2, 0
FIRST = 1000
DOCUMENT = 100_000


def corpus(rng, documents, sentences=12, length=20):
    """Documents whose t-th token is ``FIRST + document·DOCUMENT + t``."""
    out = []
    for d in range(documents):
        lengths = rng.integers(1, length + 1, rng.integers(2, sentences + 1))
        ids = FIRST + d * DOCUMENT + np.arange(lengths.sum())
        out.append(np.split(ids, np.cumsum(lengths)[:-1]))
    return out


def sampler(documents, max_length):
    return PairSampler(documents, max_length, cls_id=CLS, sep_id=SEP, pad_id=PAD)


def check_batch(batch, documents, max_length):
    """Check every claim of PairSampler about its examples."""
    rows = zip(
        *(batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")), strict=True
    )
    starts = {int(s[0]) for document in documents for s in document}
    ends = {int(document[-1][-1]) for document in documents}
    room = max_length - 3
    for (ids, types, mask), label in zip(rows, batch["next_sentence_label"], strict=True):
        n = mask.sum()
        assert ids.shape == (max_length,)
        assert (mask == (np.arange(max_length) < n)).all()
        assert (ids[n:] == PAD).all()
        first_sep, last_sep = np.flatnonzero(ids == SEP)
        assert ids[0] == CLS
        assert last_sep == n - 1
        assert (types == ((np.arange(max_length) > first_sep) & (mask == 1))).all()
        a, b = ids[1:first_sep], ids[first_sep + 1 : last_sep]
        assert 1 <= len(a) <= room - max(1, room // 4)
        assert len(b) >= 1
        assert (np.diff(a) == 1).all()
        assert (np.diff(b) == 1).all()
        assert int(a[-1]) + 1 in starts
        assert int(b[0]) in starts
        assert n == max_length or int(b[-1]) in ends
        if label == 0:
            assert b[0] == a[-1] + 1
        else:
            assert (a[0] - FIRST) // DOCUMENT != (b[0] - FIRST) // DOCUMENT


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(2, 5), st.integers(5, 70), st.integers(1, 9))
def test_batches(seed, count, max_length, batch_size):
    rng = np.random.default_rng(seed)
    documents = corpus(rng, count)
    batch = sampler(documents, max_length).batch(batch_size, rng)
    assert all(array.dtype == np.int64 for array in batch.values())
    assert batch["input_ids"].shape == (batch_size, max_length)
    check_batch(batch, documents, max_length)
    assert batch["next_sentence_label"].sum() in (batch_size // 2, (batch_size + 1) // 2)


@pytest.mark.parametrize("wrong", ["label", "types", "mask", "same document", "last token"])
def test_the_check_sees_a_wrong_batch(wrong):
    rng = np.random.default_rng(0)
    documents = corpus(rng, 3)
    batch = sampler(documents, 40).batch(16, rng)
    check_batch(batch, documents, 40)
    if wrong == "label":
        batch["next_sentence_label"] = 1 - batch["next_sentence_label"]
    elif wrong == "types":
        batch["token_type_ids"] = np.roll(batch["token_type_ids"], 1, axis=1)
    elif wrong == "mask":
        batch["attention_mask"][:, -1] ^= 1
    elif wrong == "same document":
        real = batch["input_ids"] >= FIRST
        batch["input_ids"][real] = (batch["input_ids"][real] - FIRST) % DOCUMENT + FIRST
    else:
        batch["input_ids"][:, 3] += 1
    with pytest.raises((AssertionError, ValueError)):
        check_batch(batch, documents, 40)


def test_labels_over_many_batches():
    rng = np.random.default_rng(0)
    s = sampler(corpus(rng, 4), 32)
    labels = np.array([s.batch(1, rng)["next_sentence_label"][0] for _ in range(2000)])
    assert abs(labels.mean() - 0.5) < 0.04
    rows = np.array([s.batch(4, rng)["next_sentence_label"] for _ in range(1000)])
    assert (rows.sum(1) == 2).all()
    assert np.abs(rows.mean(0) - 0.5).max() < 0.06


def test_length_does_not_give_the_label_away():
    rng = np.random.default_rng(0)
    s = sampler(corpus(rng, 20, sentences=40), 64)
    batch = s.batch(20_000, rng)
    lengths = batch["attention_mask"].sum(1), batch["token_type_ids"].sum(1)
    for n in lengths:
        by_label = [n[batch["next_sentence_label"] == label].mean() for label in (0, 1)]
        assert abs(by_label[0] - by_label[1]) < 1.0


def test_a_takes_as_many_sentences_as_fit_the_drawn_length():
    # T = 8, so lengths 2 … 6 are drawn; sentences of two tokens fill 2, 4 and 6 of them
    rng = np.random.default_rng(0)
    documents = [list(np.arange(FIRST, FIRST + 100).reshape(50, 2) + d * DOCUMENT) for d in (0, 1)]
    batch = sampler(documents, 11).batch(5000, rng)
    a_lengths = (batch["input_ids"] == SEP).argmax(1) - 1
    found, counts = np.unique(a_lengths, return_counts=True)
    assert found.tolist() == [2, 4, 6]
    # the last opener has but one sentence before its document's last
    assert np.abs(counts / 5000 - [0.4, 0.4, 0.2]).max() < 0.05


def test_random_segments_come_from_all_other_documents():
    rng = np.random.default_rng(0)
    documents = corpus(rng, 5)
    batch = sampler(documents, 32).batch(4000, rng)
    random = batch["next_sentence_label"] == 1
    ids, types = batch["input_ids"][random], batch["token_type_ids"][random]
    a = (ids[:, 1] - FIRST) // DOCUMENT
    b = (ids[np.arange(len(ids)), types.argmax(1)] - FIRST) // DOCUMENT
    pairs = {(int(x), int(y)) for x, y in zip(a, b, strict=True)}
    assert pairs == {(x, y) for x in range(5) for y in range(5) if x != y}


@given(seeds, st.integers(2, 4), st.integers(5, 70))
def test_all(seed, count, max_length):
    rng = np.random.default_rng(seed)
    documents = corpus(rng, count)
    s = sampler(documents, max_length)
    examples = s.all(np.random.default_rng(seed))
    check_batch(examples, documents, max_length)
    labels = examples["next_sentence_label"]
    assert (np.diff(labels) != 0).all()
    again = s.all(np.random.default_rng(seed))
    assert all((again[name] == examples[name]).all() for name in examples)


def in_order(examples):
    """How often each token occurs as an A or as a B that continues one."""
    random_b = (examples["token_type_ids"] == 1) & (examples["next_sentence_label"][:, None] == 1)
    ids = examples["input_ids"][~random_b]
    return np.unique(ids[ids >= FIRST], return_counts=True)


def test_all_covers_the_corpus_about_once():
    rng = np.random.default_rng(3)
    documents = corpus(rng, 6, sentences=80)
    tokens = sum(len(s) for document in documents for s in document)
    found, times = in_order(sampler(documents, 64).all(rng))
    assert len(found) > 0.97 * tokens
    assert times.max() <= 2
    assert times.mean() < 1.2
    # the control: random batches of the same size do not
    s = sampler(documents, 64)
    found, _ = in_order(s.batch(len(s.all(rng)["input_ids"]), rng))
    assert len(found) < 0.9 * tokens


def test_lenders_give_random_segments_and_nothing_else():
    """With a single document, every A is from it, and every random B from the others."""
    rng = np.random.default_rng(0)
    own = [[np.full(7, 10 + i) for i in range(20)]]  # ids 10 … 29
    extra = [[np.full(7, 100 + i) for i in range(30)]]
    s = PairSampler(own, 32, 1, 2, 0, extra_documents=extra)
    for examples in (s.all(rng), s.batch(40, rng)):
        for ids, types, label in zip(
            examples["input_ids"],
            examples["token_type_ids"],
            examples["next_sentence_label"],
            strict=True,
        ):
            first = ids[(types == 0) & (ids >= 10)]
            second = ids[(types == 1) & (ids >= 10)]
            assert len(first) > 0
            assert (first < 100).all()
            assert ((second >= 100) == (label == 1)).all()
        assert set(examples["next_sentence_label"].tolist()) == {0, 1}


def test_long_documents_leave_little_padding():
    rng = np.random.default_rng(0)
    documents = corpus(rng, 4, sentences=400, length=36)
    assert sampler(documents, 128).batch(256, rng)["attention_mask"].mean() > 0.95


def test_fast_enough_to_feed_a_training_step():
    rng = np.random.default_rng(0)
    s = sampler(corpus(rng, 100, sentences=300, length=36), 64)
    s.batch(32, rng)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        s.batch(32, rng)
        times.append(time.perf_counter() - start)
    assert min(times) < 2e-3


def test_tokenize_documents():
    tokenizer = NezhaTokenizer([*SPECIAL_TOKENS, *"一二三。！"])
    documents = [Document("三", ("一。二！", "三")), Document("二", ())]
    ids = tokenize_documents(documents, tokenizer)
    assert [[s.tolist() for s in document] for document in ids] == [[[5, 8], [6, 9], [7]], []]


@pytest.mark.parametrize(
    ("documents", "max_length", "message"),
    [
        ([], 16, "at least 2 documents of 2 or more sentences each, found 0"),
        ([[[5], [6]]], 16, "found 1"),
        ([[[5], [6]], [[7]]], 16, "found 1"),
        ([[[5], [6]], [[7], []]], 16, "found 1"),
        ([[[5], [6]], [[7], [8.0]]], 16, "each sentence as an .* array of integers"),
        ([[[5], [6]], [[7], [[8]]]], 16, "each sentence as an .* array of integers"),
        ([[[5], [6]], [[7], [8]]], 4, "max_length: expected an integer of at least 5, found 4"),
        ([[[5], [6]], [[7], [8]]], 16.0, "max_length: expected an integer"),
    ],
)
def test_bad_corpora(documents, max_length, message):
    with pytest.raises(ArgumentError, match=message):
        sampler(documents, max_length)


def test_bad_calls():
    s = sampler([[[5], [6]], [[7], [8]]], 5)
    rng = np.random.default_rng(0)
    for call, message in (
        (lambda: s.batch(0, rng), "batch_size: expected an integer of at least 1, found 0"),
        (lambda: s.batch(1.5, rng), "batch_size: expected an integer"),
        (lambda: s.batch(2, 0), "rng: expected a numpy.random.Generator"),
        (lambda: s.all(None), "rng: expected"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


# --- packed documents, short pairs ---------------------------------------------------------------


@given(seeds, st.integers(2, 5), st.integers(1, 3), st.integers(5, 40), st.sampled_from([0.0, 0.4]))
def test_a_part_of_packed_documents_is_like_its_documents(seed, count, more, max_length, short):
    documents = corpus(np.random.default_rng(seed), count + more)
    packed = pack(documents, 10**6)
    assert packed.tokens.dtype == np.uint32
    ids = {"cls_id": CLS, "sep_id": SEP, "pad_id": PAD, "short_probability": short}
    plain = PairSampler(documents[:count], max_length, **ids)
    mapped = PairSampler(packed.part(0, count), max_length, **ids)
    late = PairSampler(packed.part(more, count + more), max_length, **ids)
    later = PairSampler(documents[more:], max_length, **ids)
    lent = PairSampler(
        packed.part(0, 1), max_length, extra_documents=packed.part(1, count + more), **ids
    )
    lending = PairSampler(documents[:1], max_length, extra_documents=documents[1:], **ids)
    for a, b in ((plain, mapped), (later, late), (lending, lent)):
        for draw in (lambda s, rng: s.batch(7, rng), lambda s, rng: s.all(rng)):
            one, other = (draw(s, np.random.default_rng(seed)) for s in (a, b))
            assert all((one[name] == other[name]).all() for name in one)


def test_short_pairs():
    rng = np.random.default_rng(0)
    documents = corpus(rng, 6, sentences=60, length=3)
    ids = {"cls_id": CLS, "sep_id": SEP, "pad_id": PAD}
    shares = {}
    for probability in (0.0, 0.1, 1.0):
        s = PairSampler(documents, 43, short_probability=probability, **ids)
        batch = s.batch(8000, rng)
        lengths = batch["attention_mask"].sum(1) - 3
        shares[probability] = (lengths < 20).mean()
        assert lengths.min() >= 2
        first_sep = (batch["input_ids"] == SEP).argmax(1)
        following = batch["input_ids"][np.arange(8000), first_sep + 1]
        a_last = batch["input_ids"][np.arange(8000), first_sep - 1]
        continues = batch["next_sentence_label"] == 0
        assert (following[continues] == a_last[continues] + 1).all()  # whole sentences, in order
        assert ((following - FIRST) // DOCUMENT != (a_last - FIRST) // DOCUMENT)[~continues].all()
    # 18 of the lengths 2 … 40 are below 20; documents that end are short, too
    added = (shares[1.0] - shares[0.0]) / (1 - shares[0.0])
    assert abs(added - 18 / 39) < 0.05
    assert abs(shares[0.1] - 0.9 * shares[0.0] - 0.1 * shares[1.0]) < 0.02


def test_without_short_pairs_nothing_more_is_drawn():
    documents = corpus(np.random.default_rng(0), 4)
    ids = {"cls_id": CLS, "sep_id": SEP, "pad_id": PAD}
    states = []
    for options in ({}, {"short_probability": 0.0}, {"short_probability": 1e-9}):
        rng = np.random.default_rng(1)
        PairSampler(documents, 20, **ids, **options).batch(5, rng)
        states.append(rng.bit_generator.state)
    assert states[0] == states[1] != states[2]
    with pytest.raises(ArgumentError, match="short_probability: expected a number in"):
        PairSampler(documents, 20, short_probability=1.1, **ids)


def test_a_limited_evaluation_reads_evenly_spaced_documents():
    rng = np.random.default_rng(0)
    documents = corpus(rng, 40, sentences=30)
    s = sampler(documents, 32)
    everything = s.all(np.random.default_rng(0))
    size = len(everything["input_ids"])
    same = s.all(np.random.default_rng(0), most=2 * size)
    assert all((same[name] == everything[name]).all() for name in same)
    limited = s.all(np.random.default_rng(0), most=size // 4)
    assert size // 8 < len(limited["input_ids"]) <= size // 4
    check_batch(limited, documents, 32)
    seen = np.unique((limited["input_ids"][:, 1] - FIRST) // DOCUMENT)
    assert seen.max() - seen.min() > 25  # of 40: not only the first ones
    with pytest.raises(ArgumentError, match="most: expected an integer of at least 1"):
        s.all(rng, most=0)
