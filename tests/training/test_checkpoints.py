"""Checkpoints: which are written and kept, and that a full disk or a kill leaves none in part."""

import errno
import json
import os

import numpy as np
import pytest

from minizha import NezhaForPreTraining, NezhaTokenizer
from minizha.errors import CheckpointWarning, FileError
from minizha.training import checkpoints as checkpoints_module
from minizha.training.checkpoints import (
    find_checkpoints,
    prune,
    read_checkpoint,
    read_newest,
    remove_checkpoints,
    write_checkpoint,
)
from minizha.training.options import PretrainOptions, RunOptions
from minizha.training.pretrain import new_model, prepare, train
from minizha.training.run import run
from minizha.training.state import TrainingState
from tests.support.killed_runs import KEEP, OPTIONS
from tests.support.short_runs import DOCUMENT


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(DOCUMENT * 6, "utf-8")
    return str(path)


@pytest.fixture
def state_and_data(corpus, backend):
    data = prepare(corpus, OPTIONS)
    model = new_model(data, OPTIONS, backend)
    state = TrainingState(model, OPTIONS)
    with_steps = train(model, data, OPTIONS, 1, state)
    for _ in range(3):
        next(with_steps)
    with_steps.close()
    return state, data


def names(folder):
    return [path.name for path in find_checkpoints(folder)]


def test_what_is_written_is_read(state_and_data, tmp_path):
    state, data = state_and_data
    path = write_checkpoint(tmp_path, state, data.tokenizer, {"more": ["一", 0.1]})
    assert path == tmp_path / "step-000003"
    assert sorted(os.listdir(tmp_path)) == ["corpus.txt", path.name]
    checkpoint = read_checkpoint(path)
    assert (checkpoint.step, checkpoint.path) == (3, path)
    assert checkpoint.record["more"] == ["一", 0.1]
    assert {n: checkpoint.record[n] for n in state.numbers()} == state.numbers()
    for name, array in state.arrays().items():
        assert np.array_equal(checkpoint.moments[name], array)
    # it is a model folder, too
    model = NezhaForPreTraining.from_pretrained(path)
    assert all(np.array_equal(model.state_dict()[n], p) for n, p in checkpoint.parameters.items())
    assert len(NezhaTokenizer.from_pretrained(path)) == model.config.vocab_size


def test_the_newest_and_the_best_are_kept(state_and_data, tmp_path):
    state, data = state_and_data
    folder = tmp_path / "checkpoints"
    for step in (3, 4, 100, 1_000_000, 1_000_001):
        state.step = step
        write_checkpoint(folder, state, data.tokenizer, {})
    (folder / "step-notes").mkdir()
    prune(folder, 2, best_step=4)
    assert names(folder) == ["step-1000001", "step-1000000", "step-000004"]
    prune(folder, 1, best_step=None)
    assert names(folder) == ["step-1000001"]
    remove_checkpoints(folder)
    assert os.listdir(folder) == ["step-notes"]
    assert read_newest(folder) == (None, [])
    assert read_newest(tmp_path / "nowhere") == (None, [])


def test_what_a_kill_leaves_is_no_checkpoint(state_and_data, tmp_path):
    """The folder without a name in which one was being written; the next one that is written clears it."""
    state, data = state_and_data
    folder = tmp_path / "checkpoints"
    half = folder / ".minizha-0123456789abcdef.tmp"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half")
    assert read_newest(folder) == (None, [])
    write_checkpoint(folder, state, data.tokenizer, {})
    assert os.listdir(folder) == ["step-000003"]


def test_another_format_is_named(state_and_data, tmp_path):
    state, data = state_and_data
    path = write_checkpoint(tmp_path, state, data.tokenizer, {})
    record = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps(record | {"format": 2}))
    with pytest.raises(FileError, match=r"run.json: expected format 1, found 2$"):
        read_checkpoint(path)


def failing_at(monkeypatch, count):
    """The n-th file of a checkpoint, and all that follow, find a full disk."""
    write, calls = checkpoints_module.write_synced, []

    def full(path, data):
        calls.append(path)
        if len(calls) >= count:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(checkpoints_module, "write_synced", full)


@pytest.mark.parametrize("count", range(1, 7))
def test_a_full_disk_leaves_no_part(count, state_and_data, tmp_path, monkeypatch):
    state, data = state_and_data
    folder = tmp_path / "checkpoints"
    state.step = 2
    write_checkpoint(folder, state, data.tokenizer, {})
    state.step = 3
    failing_at(monkeypatch, count)
    with pytest.raises(FileError, match=r"step-000003: can't be written: No space left"):
        write_checkpoint(folder, state, data.tokenizer, {})
    assert os.listdir(folder) == ["step-000002"]
    read_checkpoint(folder / "step-000002")


def test_a_full_disk_ends_no_training(corpus, tmp_path, monkeypatch):
    failing_at(monkeypatch, 10)  # the first checkpoint has six files
    with pytest.warns(CheckpointWarning, match=r"no checkpoint was written: .*No space left"):
        assert run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 1, keep=KEEP) is True
    assert names(tmp_path / "m" / "checkpoints") == ["step-000000"]
    lines = [json.loads(x) for x in (tmp_path / "m" / "log.jsonl").read_text().splitlines()]
    assert {x["step"] for x in lines if x.get("event") == "no checkpoint"} >= {7, 60}


def test_a_disk_that_is_full_before_the_first_step(corpus, tmp_path, monkeypatch):
    failing_at(monkeypatch, 1)
    with pytest.raises(FileError, match=r"step-000000: can't be written: No space left"):
        run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 1)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        (RunOptions(checkpoint_minutes=0, evaluate_every=99), [6, 5]),
        (RunOptions(checkpoint_minutes=0, evaluate_every=99, keep_last=4), [6, 5, 4, 3]),
        (RunOptions(evaluate_every=99), [6, 0]),
        (RunOptions(evaluate_every=99, keep_last=1), [6]),
    ],
)
def test_options_of_a_run(keep, expected, corpus, tmp_path):
    options = PretrainOptions(**(vars(OPTIONS) | {"steps": 6}))
    run(corpus, str(tmp_path / "m"), options, "numpy", 1, keep=keep)
    assert names(tmp_path / "m" / "checkpoints") == [f"step-{step:06d}" for step in expected]


def test_the_best_checkpoint_outlives_the_last_ones(corpus, tmp_path, monkeypatch, capsys):
    """A learning rate that is too large: the loss of the held-out sample rises."""
    options = PretrainOptions(**(vars(OPTIONS) | {"learning_rate": 0.9, "max_norm": 100}))
    keep = RunOptions(checkpoint_minutes=0, evaluate_every=5, keep_last=1)
    run(corpus, str(tmp_path / "m"), options, "numpy", 1, keep=keep)
    rows = (tmp_path / "m" / "held_out.csv").read_text().splitlines()
    assert rows[0] == "step,word_loss,word_accuracy,pair_loss,pair_accuracy,words,pairs"
    points = [[float(x) for x in row.split(",")] for row in rows[1:]]
    assert [int(point[0]) for point in points] == list(range(5, 61, 5))
    best = int(min(points, key=lambda point: point[1] + point[3])[0])
    assert best < 60
    assert names(tmp_path / "m" / "checkpoints") == ["step-000060", f"step-{best:06d}"]
    said = f"smallest loss on the held-out sample was that of {tmp_path / 'm' / 'checkpoints'}"
    assert f"{said}/step-{best:06d}\n" in capsys.readouterr().out
