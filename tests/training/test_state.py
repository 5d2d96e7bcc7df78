"""Steps that are skipped, and steps in parts: what one step of the training does to the state."""

import json
import math

import numpy as np
import pytest

from minizha import NezhaForPreTraining
from minizha.backend import to_host
from minizha.errors import MinizhaError
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import new_model, prepare, train
from minizha.training.run import run
from minizha.training.state import MOST_SKIPPED, DivergenceError, TrainingState
from minizha.training.step import accumulate, items_in, loss_and_gradients
from minizha.training.workers import Workers
from tests.support.killed_runs import KEEP, OPTIONS
from tests.support.short_runs import DOCUMENT
from tests.training.test_step import CONFIG, assert_agree, make_batch


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(DOCUMENT * 6, "utf-8")
    return str(path)


# --- parts of a step ------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 6, 99])
def test_parts_equal_the_batch_with_unequal_numbers_of_labels(parts, backend):
    config = CONFIG.replace(hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    model = NezhaForPreTraining(config, dtype="float64", backend=backend)
    batch = make_batch(np.random.default_rng(1), uneven=True)
    labels = (batch["labels"] != -100).sum(axis=1)
    assert labels.max() > 2 * labels.min()
    whole, found = (
        on_host(function(model.train(seed=3), batch, *more))
        for function, more in ((loss_and_gradients, ()), (accumulate, (parts,)))
    )
    assert_agree(found, whole, 1e-12)
    # negative control: each part divided by its own number of labels
    own = [
        loss_and_gradients(model.eval(), part, items_in(part))[0].word_loss
        for part in ({n: a[rows] for n, a in batch.items()} for rows in (slice(0, 3), slice(3, 6)))
    ]
    mean_of_means = float(own[0] + own[1]) / 2
    assert abs(mean_of_means - float(loss_and_gradients(model, batch)[0].word_loss)) > 1e-3


def on_host(result):
    metrics, gradients = result
    return metrics, {name: to_host(g) for name, g in gradients.items()}


@pytest.mark.parametrize("workers", [1, 2])
def test_accumulated_steps_are_those_of_large_batches(workers, corpus):
    """Three parts of two pairs, or six pairs at once: the same parameters after ten steps."""
    found = []
    for size, parts in ((6, 1), (2, 3)):
        changed = {"steps": 10, "batch_size": size, "accumulate": parts}
        options = PretrainOptions(**(vars(OPTIONS) | changed))
        data = prepare(corpus, options)
        model = new_model(data, options).astype("float64")
        for _ in train(model, data, options, workers):
            pass
        found.append({n: p for n, p in model.state_dict().items() if not n.endswith("key.bias")})
    large, small = found
    assert max(np.abs(small[name] - p).max() for name, p in large.items()) <= 1e-12


# --- steps that are skipped -----------------------------------------------------------------------


def damaging(monkeypatch, damage, steps):
    """From then on, the results of these steps (counted from 1) are damaged."""
    right, calls = Workers.loss_and_gradients, []

    def function(self, *arguments):
        calls.append(1)
        metrics, gradients = right(self, *arguments)
        if len(calls) in steps:
            if damage == "a loss":
                metrics = metrics._replace(word_loss=float("inf"))
            else:
                next(iter(gradients.values()))[0] = {"NaN": np.nan, "infinity": np.inf}[damage]
        return metrics, gradients

    monkeypatch.setattr(Workers, "loss_and_gradients", function)


@pytest.mark.parametrize("damage", ["a loss", "NaN", "infinity"])
def test_a_step_without_finite_numbers_is_skipped(damage, corpus, monkeypatch, backend):
    data = prepare(corpus, OPTIONS)
    model = new_model(data, OPTIONS, backend)
    state = TrainingState(model, OPTIONS)
    damaging(monkeypatch, damage, {3, 4, 7})
    before, skipped, rates = None, [], []
    for _ in train(model, data, OPTIONS, 1, state):
        now = {name: to_host(p).copy() for name, p in model.state_dict().items()}
        if state.skipped_in_a_row:
            assert all(np.array_equal(now[name], before[name]) for name in now)
            skipped.append((state.step, state.skipped_in_a_row))
        before = now
        rates.append(state.rate)
        if state.step == 9:
            break
    assert skipped == [(3, 1), (4, 2), (7, 1)]
    assert (state.skipped, state.optimizer.steps, len(state.recent)) == (3, 6, 6)
    assert all(np.isfinite(p).all() for p in before.values())
    assert rates == sorted(rates)  # the schedule goes on


def test_a_run_counts_skipped_steps(corpus, tmp_path, monkeypatch, capsys):
    damaging(monkeypatch, "NaN", {12, 13})
    assert run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 1, keep=KEEP) is True
    assert "2 steps were skipped, because a loss or a gradient was not finite" in (
        capsys.readouterr().out
    )
    lines = [json.loads(x) for x in (tmp_path / "m" / "log.jsonl").read_text().splitlines()]
    assert [x["step"] for x in lines if x.get("event") == "skipped"] == [12, 13]
    assert [x["skipped"] for x in lines if "skipped" in x] == [0, 2, 2, 2, 2, 2]


def test_many_skipped_steps_in_a_row_end_the_run(corpus, tmp_path, monkeypatch):
    """The model is that of the newest checkpoint, which has seen finite losses alone."""
    damaging(monkeypatch, "NaN", set(range(18, 99)))
    out = tmp_path / "m"
    with pytest.raises(MinizhaError, match=f"{MOST_SKIPPED} steps in a row were skipped") as caught:
        run(corpus, str(out), OPTIONS, "numpy", 1, keep=KEEP)
    assert str(caught.value).startswith("step 27: ")
    assert (
        f"; the model as it was after step 14 is in {out}. In a new run, a smaller --learning-"
        in (str(caught.value))
    )
    state = NezhaForPreTraining.from_pretrained(out).state_dict()
    kept = NezhaForPreTraining.from_pretrained(out / "checkpoints" / "step-000014").state_dict()
    assert all(np.array_equal(state[name], kept[name]) for name in kept)


def test_a_run_that_ends_so_spares_the_old_model(corpus, tmp_path, monkeypatch):
    out = tmp_path / "m"
    run(corpus, str(out), OPTIONS, "numpy", 1, keep=KEEP)
    before = (out / "model.safetensors").read_bytes()
    damaging(monkeypatch, "NaN", set(range(99)))
    with pytest.raises(MinizhaError, match=r"after step 0 is in .*m/checkpoints/step-000000"):
        run(corpus, str(out), OPTIONS, "numpy", 1, overwrite=True, keep=KEEP)
    assert (out / "model.safetensors").read_bytes() == before


def test_squares_out_of_range_are_skipped_too(corpus):
    options = PretrainOptions(**(vars(OPTIONS) | {"max_norm": 1e30}))
    data = prepare(corpus, options)
    model = new_model(data, options)
    state = TrainingState(model, options)
    metrics, gradients = loss_and_gradients(model, data.held_out)
    gradients = {name: np.full_like(g, 1e25) for name, g in gradients.items()}
    for count in range(1, MOST_SKIPPED):
        state.complete_step(metrics, gradients)
        assert state.skipped_in_a_row == count
    with pytest.raises(DivergenceError, match=r"step 10: .*whose squares are finite in float32"):
        state.complete_step(metrics, gradients)
    assert math.isfinite(state.norm)


def test_a_state_goes_through_numbers_and_arrays(corpus, backend):
    """What a checkpoint holds, as JSON, gives another model the same next steps."""
    data = prepare(corpus, OPTIONS)
    model = new_model(data, OPTIONS, backend)
    state = TrainingState(model, OPTIONS)
    steps = train(model, data, OPTIONS, 1, state)
    for _ in range(5):
        next(steps)
    numbers = json.loads(json.dumps(state.numbers()))
    arrays = {name: a.copy() for name, a in state.arrays().items()}
    parameters = {name: to_host(p).copy() for name, p in model.state_dict().items()}
    other = new_model(data, PretrainOptions(**(vars(OPTIONS) | {"seed": 9})), backend)
    copy = TrainingState(other, OPTIONS)
    copy.restore(parameters, arrays, numbers)
    expected = [[float(x) for x in next(steps)] for _ in range(4)]
    more = train(other, data, OPTIONS, 1, copy)
    assert [[float(x) for x in next(more)] for _ in range(4)] == expected
    assert copy.step == state.step == 9
    steps.close()
    more.close()
