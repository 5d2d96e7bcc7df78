"""A step of training: the GPU is never waited for, threads change nothing, one batch is learnt."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import standin
from minizha import NezhaConfig, NezhaForPreTraining
from minizha.backend import to_host
from minizha.training.optimizer import AdamW, clip_by_global_norm
from minizha.training.step import count, loss_and_gradients

V, B, L = 31, 6, 12
CONFIG = NezhaConfig(
    vocab_size=V,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=24,
    max_relative_position=4,
    hidden_dropout_prob=0.0,
    attention_probs_dropout_prob=0.0,
    initializer_range=0.1,
)


def make_batch(rng, uneven=False):
    input_ids = rng.integers(5, V, (B, L))
    chance = np.linspace(0.0, 0.9, B)[:, None] if uneven else 0.3
    mask = np.ones((B, L), dtype=np.int64)
    mask[0, -3:] = 0
    return {
        "input_ids": input_ids,
        "attention_mask": mask,
        "token_type_ids": np.tile(np.arange(L) >= L // 2, (B, 1)).astype(np.int64),
        "labels": np.where(rng.random((B, L)) < chance, input_ids, -100),
        "next_sentence_label": np.arange(B) % 2,
    }


@pytest.fixture
def on_the_standin(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", standin.cupy)


@pytest.mark.usefixtures("on_the_standin")
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_a_training_step_never_waits_for_the_device(dropout):
    config = CONFIG.replace(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    model = NezhaForPreTraining(config, backend="cupy").train(seed=0)
    optimizer = AdamW(model)
    batch = make_batch(np.random.default_rng(0))
    with standin.count_synchronisations() as waits:
        counts, gradients = loss_and_gradients(model, batch)
        gradients, _ = clip_by_global_norm(gradients, 1.0)
        optimizer.step(gradients, 1e-3)
        assert list(waits) == []
        float(counts.word_loss)
        assert len(list(waits)) == 1  # the control: reading a figure is a wait, and is seen


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_two_threads_give_the_gradients_of_one(dtype):
    """The rows have very different numbers of labels, so a mean of means would be seen."""
    model = NezhaForPreTraining(CONFIG, dtype=dtype)
    batch = make_batch(np.random.default_rng(1), uneven=True)
    one, expected = loss_and_gradients(model, batch)
    with ThreadPoolExecutor(3) as pool:
        for threads in (2, 3, 50):
            many, found = loss_and_gradients(model, batch, threads, pool)
            bound = 1e-13 if dtype == "float64" else 1e-5
            assert abs(float(many.word_loss) - float(one.word_loss)) < bound
            assert abs(float(many.pair_loss) - float(one.pair_loss)) < bound
            assert [int(x) for x in many[2:]] == [int(x) for x in one[2:]]
            for name, gradient in expected.items():
                assert np.abs(found[name] - gradient).max() < bound, name
    # negative control: halves that each take their own mean do not average to the whole
    halves = [
        loss_and_gradients(model, {n: a[rows] for n, a in batch.items()})[0].word_loss
        for rows in (slice(None, 3), slice(3, None))
    ]
    assert abs(float(halves[0] + halves[1]) / 2 - float(one.word_loss)) > 1e-3


def test_the_models_own_gradients_are_left_alone():
    model = NezhaForPreTraining(CONFIG)
    loss_and_gradients(model, make_batch(np.random.default_rng(2)))
    assert all(not g.any() for g in model.gradients().values())


def test_a_step_leaves_earlier_outputs_as_they_were():
    """Logits are computed when read: by then the parameters must still be those of the pass."""
    batch = make_batch(np.random.default_rng(3))
    model = NezhaForPreTraining(CONFIG)
    at_once = model(**batch).prediction_logits
    out = model(**batch)
    out.backward()
    AdamW(model).step(model.gradients(), 0.1)
    assert np.array_equal(out.prediction_logits, at_once)
    assert not np.allclose(model(**batch).prediction_logits, at_once)


def test_one_batch_is_learnt_by_heart(backend):
    """Accuracy 1.0 for masked words and next sentences: nothing in the gradient is missing."""
    model = NezhaForPreTraining(CONFIG, backend=backend)
    batch = make_batch(np.random.default_rng(4))
    optimizer = AdamW(model, weight_decay=0.0)
    for _ in range(60):
        _, gradients = loss_and_gradients(model, batch)
        optimizer.step(gradients, 1e-2)
    counts = count(model(**batch).record)
    assert int(to_host(counts.right_words)) == counts.words > 15
    assert int(to_host(counts.right_pairs)) == counts.pairs == B
    assert float(counts.word_loss) < 0.1


def test_without_gradients_nothing_is_learnt():
    """The control of the test above."""
    model = NezhaForPreTraining(CONFIG)
    batch = make_batch(np.random.default_rng(4))
    optimizer = AdamW(model, weight_decay=0.0)
    for _ in range(5):
        optimizer.step({n: np.zeros_like(p) for n, p in model.state_dict().items()}, 1e-2)
    counts = count(model(**batch).record)
    assert int(counts.right_words) < counts.words / 2
