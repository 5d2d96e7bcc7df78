"""A decoder that draws its tokens: with the right probabilities, and by the seed alone."""

import numpy as np
import pytest

from minizha.backend import to_host
from minizha.model.generation import GenerationOptions, next_tokens
from tests.support.generating_decoder import IDS, V, generated, model_of

SAMPLINGS = {
    "plain": {},
    "warm": {"temperature": 1.7},
    "cold": {"temperature": 0.4},
    "the likeliest five": {"top_k": 5},
    "half of the probability": {"top_p": 0.5},
    "all together": {"temperature": 1.4, "top_k": 6, "top_p": 0.8},
}


@pytest.mark.parametrize("name", SAMPLINGS)
def test_a_seed_repeats_a_text_with_cache_or_without(name, backend):
    model, options = model_of(backend), {"do_sample": True, "seed": 3, **SAMPLINGS[name]}
    first = generated(model, **options)
    assert np.array_equal(generated(model, **options), first)
    assert np.array_equal(generated(model, **options, use_cache=False), first)
    assert any(
        not np.array_equal(generated(model, **(options | {"seed": seed})), first)
        for seed in range(4, 8)
    )


def test_the_seed_is_of_the_drawing_alone(backend):
    model = model_of(backend)
    assert np.array_equal(generated(model, seed=1), generated(model, seed=2))
    assert np.array_equal(
        generated(model, do_sample=True), generated(model, do_sample=True, seed=0)
    )
    # the options of drawing change nothing where the likeliest token is taken
    assert np.array_equal(generated(model, temperature=3.0, top_k=2, top_p=0.1), generated(model))


@pytest.mark.parametrize(
    "options", [{"top_k": 1}, {"top_p": 1e-9}, {"temperature": 1e-6}, {"temperature": 1e-320}]
)
def test_what_leaves_one_choice_takes_the_likeliest(options, backend):
    model = model_of(backend)
    assert np.array_equal(generated(model, do_sample=True, **options), generated(model))


def test_what_leaves_all_changes_nothing(backend):
    model = model_of(backend)
    expected = generated(model, do_sample=True, seed=5)
    for options in ({"top_k": V}, {"top_k": 10**30}, {"top_p": 1.0}, {"temperature": 1}):
        assert np.array_equal(generated(model, do_sample=True, seed=5, **options), expected)


def probabilities(logits, temperature=1.0, top_k=None, top_p=None):
    """By the definition, one token after the other, the likeliest first."""
    p = np.exp(np.asarray(logits, dtype=float) / temperature)
    order = sorted(range(len(p)), key=lambda token: (-logits[token], token))
    kept = order[:top_k]
    p = np.where(np.isin(np.arange(len(p)), kept), p, 0.0)
    p /= p.sum()
    if top_p is not None:
        few, total = [], 0.0
        for token in kept:
            if total < top_p:
                few.append(token)
                total += p[token]
        p = np.where(np.isin(np.arange(len(p)), few), p, 0.0)
        p /= p.sum()
    return p


def chi_squared(tokens, p):
    """χ² of the counts; for k tokens its mean is k − 1, its deviation √(2k − 2)."""
    counts = np.bincount(tokens, minlength=len(p))
    assert (counts[p == 0] == 0).all()
    there = p > 0
    expected = len(tokens) * p[there]
    return float(((counts[there] - expected) ** 2 / expected).sum())


LOGITS = np.array([0.3, -1.0, 2.0, 1.1, 0.3, -0.4, 1.9, 0.0])
DRAWS = 20_000
BOUND = 7 + 8 * np.sqrt(14)


def drawn(options, logits=LOGITS, n=DRAWS, seed=0):
    rows = np.repeat(logits[None], n, axis=0)
    return next_tokens(
        rows, GenerationOptions(do_sample=True, **options).check(V), np.random.default_rng(seed)
    )


@pytest.mark.parametrize("name", SAMPLINGS)
def test_the_frequencies_are_the_probabilities(name):
    options = SAMPLINGS[name]
    assert chi_squared(drawn(options), probabilities(LOGITS, **options)) < BOUND


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ({}, {"temperature": 1.1}),
        ({"temperature": 2.0}, {"temperature": 0.5}),
        ({"top_k": 5}, {"top_k": 6}),
        ({"top_k": 4}, {"top_k": 4, "temperature": 1.1}),
        ({"top_p": 0.8}, {"top_p": 0.9}),
    ],
)
def test_other_frequencies_would_show(right, wrong):
    """Negative control of the bound."""
    p = probabilities(LOGITS, **wrong)
    assert chi_squared(drawn(right), np.maximum(p, 1e-12)) > BOUND


def test_of_equals_the_smaller_id_is_the_likelier():
    logits = np.array([0.0, 1.0, 1.0, 1.0])
    assert set(drawn({"top_k": 2}, logits, 100)) == {1, 2}
    assert set(drawn({"top_p": 0.2}, logits, 100)) == {1}
    assert next_tokens(logits[None], GenerationOptions(), np.random.default_rng())[0] == 1


def test_the_rows_of_a_batch_draw_for_themselves_from_the_models_logits(backend):
    model, n = model_of(backend, "float32"), 4000
    logits = to_host(model(IDS[:1]).logits)[0, -1]
    rows = np.repeat(IDS[:1], n, axis=0)
    tokens = generated(model, rows, do_sample=True, temperature=1.5, max_new_tokens=1)[:, -1]
    p = probabilities(logits, 1.5)
    rare = p * n < 5  # too few for χ², so they are counted as one
    merged = np.append(np.where(rare, 0.0, p), p[rare].sum())
    assert chi_squared(np.where(rare[tokens], V, tokens), merged) < V + 8 * np.sqrt(2 * V)
