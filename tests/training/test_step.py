"""A training step: it never waits for the GPU, workers change nothing, one batch is learnt."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaForPreTraining
from minizha.backend import to_host
from minizha.errors import ArgumentError, MinizhaError
from minizha.interrupts import ENDING
from minizha.training.optimizer import AdamW, clip_by_global_norm
from minizha.training.step import batch_metrics, items_in, loss_and_gradients, sum_parts
from minizha.training.workers import Workers
from tests.support import standin
from tests.support.paths import ROOT

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
        # the control: reading a number waits for the device, and is counted
        assert len(list(waits)) == 1


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_parts_of_a_batch_add_up_to_it(dtype):
    """The rows have very different numbers of labels, so a mean of means would differ."""
    model = NezhaForPreTraining(CONFIG, dtype=dtype)
    batch = make_batch(np.random.default_rng(1), uneven=True)
    expected = loss_and_gradients(model, batch)
    halves = [{n: a[rows] for n, a in batch.items()} for rows in (slice(None, 2), slice(2, None))]
    items = items_in(batch)
    found = sum_parts([loss_and_gradients(model, half, items) for half in halves])
    assert_agree(found, expected, 1e-13 if dtype == "float64" else 1e-5)
    # negative control: the average of the halves' means is not the mean of the batch
    own = [loss_and_gradients(model, half)[0].word_loss for half in halves]
    assert abs(float(own[0] + own[1]) / 2 - float(expected[0].word_loss)) > 1e-3


def assert_agree(found, expected, bound):
    (counts, gradients), (right_counts, right) = found, expected
    assert np.allclose([float(c) for c in counts], [float(c) for c in right_counts], rtol=bound)
    assert gradients.keys() == right.keys()
    for name, gradient in right.items():
        assert np.abs(gradients[name] - gradient).max() < bound, name


def test_three_workers_give_the_gradients_of_one():
    model = NezhaForPreTraining(CONFIG, dtype="float64")
    with Workers(model, 3) as team:
        for seed in range(3):
            batch = make_batch(np.random.default_rng(seed), uneven=True)
            assert_agree(team.loss_and_gradients(batch), loss_and_gradients(model, batch), 1e-13)
            one_row = {name: array[:1] for name, array in batch.items()}
            assert_agree(
                team.loss_and_gradients(one_row), loss_and_gradients(model, one_row), 1e-13
            )
            # the workers must use the current parameters, not the first ones
            model.load_state_dict({n: p * 1.1 for n, p in model.state_dict().items()})


def test_a_worker_that_ends_is_an_error_and_not_a_wait():
    model = NezhaForPreTraining(CONFIG)
    batch = make_batch(np.random.default_rng(0))
    with Workers(model, 2) as team:
        team._processes[0].kill()
        team._processes[0].join()
        with pytest.raises(
            MinizhaError, match=r"a worker process ended \(out of memory\?"
        ) as caught:
            team.loss_and_gradients(batch)
    assert 'without if __name__ == "__main__":' in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [EOFError(), ConnectionResetError(104, "reset"), OSError("got end of file during message")],
)
def test_a_worker_that_ends_while_it_sends(error, monkeypatch):
    def fail():
        raise error

    with Workers(NezhaForPreTraining(CONFIG), 2) as team:
        monkeypatch.setattr(team, "_connections", [SimpleNamespace(send=len, recv=fail)])
        with pytest.raises(MinizhaError, match="a worker process ended"):
            team.loss_and_gradients(make_batch(np.random.default_rng(0)))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_stopped_worker_does_not_hang_the_end():
    with Workers(NezhaForPreTraining(CONFIG), 2) as team:
        (process,) = team._processes
        os.kill(process.pid, signal.SIGSTOP)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_signals_for_the_whole_group_leave_the_workers_alone():
    """From their first moment on: a terminal that closes, a system that shuts down."""
    model = NezhaForPreTraining(CONFIG)
    with Workers(model, 2) as team:
        for number in (signal.SIGINT, *ENDING):
            os.kill(team._processes[0].pid, number)
        batch = make_batch(np.random.default_rng(0))
        assert_agree(team.loss_and_gradients(batch), loss_and_gradients(model, batch), 1e-5)
        for number in (signal.SIGINT, *ENDING):
            os.kill(team._processes[0].pid, number)
        team.loss_and_gradients(batch)


SCRIPT = """
import sys
from minizha import NezhaForPreTraining
from minizha.training.workers import Workers
from tests.training.test_step import CONFIG, make_batch, np
{guard}team = Workers(NezhaForPreTraining(CONFIG), 2)
{guard}print(team.loss_and_gradients(make_batch(np.random.default_rng(0)))[0].words > 0)
"""


@pytest.mark.parametrize("guard", ["if __name__ == '__main__': ", ""])
def test_a_script_ends_without_closing_its_workers(guard, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.format(guard=guard))
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    if guard:
        assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    else:
        assert done.returncode == 1
        assert 'a script without if __name__ == "__main__":' in done.stderr


@pytest.mark.usefixtures("on_the_standin")
def test_a_gpu_takes_one_worker():
    with pytest.raises(ArgumentError, match="workers: expected 1 with backend 'cupy', found 2"):
        Workers(NezhaForPreTraining(CONFIG, backend="cupy"), 2)


def test_the_models_own_gradients_are_left_alone():
    model = NezhaForPreTraining(CONFIG)
    loss_and_gradients(model, make_batch(np.random.default_rng(2)))
    assert all(not g.any() for g in model.gradients().values())


def test_a_step_leaves_earlier_outputs_as_they_were():
    """Logits are computed when they are read, with the parameters of their own pass."""
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
    counts = batch_metrics(model(**batch).record)
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
    counts = batch_metrics(model(**batch).record)
    assert int(counts.right_words) < counts.words / 2


def test_a_step_frees_the_activations_of_each_layer_once_they_are_read(backend):
    """The caches of a step's record serve one backward pass; those of a call by the user serve many."""
    model, batch = (
        NezhaForPreTraining(CONFIG, backend=backend),
        make_batch(np.random.default_rng(0)),
    )
    step, call = (m(**batch) for m in (model.replica(None), model))
    for out in (step, call):
        assert all(cache is not None for cache in tuple(out.record.nezha.encoder))
        out.backward()
    assert [*step.record.nezha.encoder] == [None] * model.config.num_hidden_layers
    assert all(cache is not None for cache in call.record.nezha.encoder)
    call.backward()
    with pytest.raises(MinizhaError, match="a replica's activations serve one backward pass"):
        step.backward()
