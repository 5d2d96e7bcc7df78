"""A run that is killed, ended or interrupted goes on to the same bits; another run is refused."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest

from minizha import NezhaForPreTraining
from minizha.cli import main
from minizha.errors import ArgumentError, CheckpointWarning, FileError, MinizhaError
from minizha.kernels import adamw
from minizha.training import pretrain as pretrain_module
from minizha.training import session as session_module
from minizha.training.checkpoints import find_checkpoints
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import train
from minizha.training.run import run
from minizha.training.workers import Workers
from tests.support.killed_runs import KEEP, OPTIONS
from tests.support.paths import ROOT
from tests.support.short_runs import DOCUMENT

SAME = ("model.safetensors", "loss.csv", "held_out.csv", "vocab.txt", "config.json")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    path.write_text(DOCUMENT * 6, "utf-8")
    return str(path)


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    """The folder of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OPENBLAS_NUM_THREADS", "1")
        assert run(corpus, str(folder), OPTIONS, "numpy", 1, keep=KEEP)
    return folder


def resumed(corpus, folder, workers=1, options=OPTIONS):
    assert run(corpus, str(folder), options, "numpy", workers, resume=True, keep=KEEP) is True


def assert_same(folder, whole):
    for name in SAME:
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    newest, other = (find_checkpoints(each / "checkpoints")[0] for each in (folder, whole))
    name = "optimizer.safetensors"
    assert (newest / name).read_bytes() == (other / name).read_bytes()


# --- killed ---------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked")
@pytest.mark.parametrize("kills", [20, pytest.param(100, marks=pytest.mark.heavy)])
def test_killed_at_random_moments_and_resumed(kills, corpus, tmp_path):
    script = [sys.executable, "-m", "tests.support.killed_runs", corpus, tmp_path, str(kills)]
    path = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(
        script, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    print(report)
    assert len(report["kills"]) >= kills
    assert (
        len(set(report["kills"])) >= 4
    )  # at different moments; a busy machine makes fewer of them
    for folder in report["finished"]:
        assert_same(tmp_path / folder, tmp_path / "whole")
        steps = [json.loads(x) for x in (tmp_path / folder / "log.jsonl").read_text().splitlines()]
        trained = [line["step"] for line in steps if "word_loss" in line]
        assert trained == [10, 20, 30, 40, 50, 60]


# --- ended ----------------------------------------------------------------------------------------


def signal_at(monkeypatch, owner, name, call, number):
    """The function ``owner.name`` sends ``number`` to this process at its n-th call."""
    right, calls = getattr(owner, name), []

    def function(*arguments, **options):
        calls.append(1)
        if len(calls) == call:
            signal.raise_signal(number)
        return right(*arguments, **options)

    monkeypatch.setattr(owner, name, function)


COMMAND = [
    "--steps",
    "60",
    "--dropout",
    "0.1",
    "--hidden-size",
    "8",
    "--layers",
    "1",
    "--heads",
    "2",
]
COMMAND += ["--intermediate-size", "8", "--length", "16", "--batch-size", "4", "--held-out", "3"]
COMMAND += ["--min-count", "1", "--workers", "1", "--evaluate-every", "7", "--resume"]


@pytest.mark.parametrize("where", ["a batch", "the gradients", "the update", "the points"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_at_any_moment_of_a_step(name, where, corpus, whole, tmp_path, monkeypatch, capsys):
    number = getattr(signal, name)
    owner, function, call = {
        "a batch": (pretrain_module, "mask", 12),  # the first one is the evaluation's
        "the gradients": (Workers, "loss_and_gradients", 23),
        "the update": (adamw, "_update", 1000),  # in the middle of the parameters
        "the points": (session_module, "mean_metrics", 4),
    }[where]
    command = ["pretrain", "--corpus", corpus, "--out", str(tmp_path / "m"), *COMMAND]
    with monkeypatch.context() as patched:
        signal_at(patched, owner, function, call, number)
        assert main(command) == 128 + number
    printed = capsys.readouterr().out
    assert "no checkpoint in " in printed
    said = (
        r"\ninterrupted after step (\d+); --resume goes on after step \1\nthe model so far is in "
    )
    step = int(re.search(said, printed)[1])
    assert 0 < step < 60
    NezhaForPreTraining.from_pretrained(tmp_path / "m")
    assert main(command) == 0
    assert f"resumed after step {step}, from " in capsys.readouterr().out
    assert_same(tmp_path / "m", whole)
    # the same command once more: there is nothing left to do
    assert main(command) == 0
    assert "is finished: 60 steps\n" in capsys.readouterr().out
    assert_same(tmp_path / "m", whole)


def test_a_lost_worker(corpus, tmp_path, monkeypatch):
    assert run(corpus, str(tmp_path / "whole"), OPTIONS, "numpy", 2, keep=KEEP)
    right, calls = Workers.loss_and_gradients, []

    def lose(self, *arguments):
        calls.append(1)
        if len(calls) == 9:
            self._processes[0].kill()
            self._processes[0].join()
        return right(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Workers, "loss_and_gradients", lose)
        with pytest.raises(MinizhaError, match=r"a worker process ended .* goes on after step 8"):
            run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 2, keep=KEEP)
    resumed(corpus, tmp_path / "m", workers=None)  # None: as many as before
    assert_same(tmp_path / "m", tmp_path / "whole")


# --- what has to be the same ----------------------------------------------------------------------


def interrupted(corpus, folder, monkeypatch, step=20, workers=1):
    with monkeypatch.context() as patched:
        signal_at(patched, Workers, "loss_and_gradients", step + 1, signal.SIGINT)
        assert run(corpus, str(folder), OPTIONS, "numpy", workers, keep=KEEP) is False


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "--seed: expected 0 as recorded, found 1"),
        ({"layers": 2}, "--layers: expected 1 as recorded, found 2"),
        (
            {"steps": 61, "learning_rate": 0.1},
            "--steps: expected 60 as recorded, found 61; --learning-rate: expected 0.003",
        ),
        ({"accumulate": 2}, "--accumulate: expected 1 as recorded, found 2"),
    ],
)
def test_another_run_is_refused_by_name(changed, message, corpus, tmp_path, monkeypatch):
    interrupted(corpus, tmp_path / "m", monkeypatch)
    before = {p: p.read_bytes() for p in (tmp_path / "m").rglob("*") if p.is_file()}
    other = PretrainOptions(**(vars(OPTIONS) | changed))
    with pytest.raises(ArgumentError, match="--resume continues the same run only") as caught:
        run(corpus, str(tmp_path / "m"), other, "numpy", 1, resume=True)
    assert message in str(caught.value)
    assert {p: p.read_bytes() for p in (tmp_path / "m").rglob("*") if p.is_file()} == before


def test_another_corpus_is_refused(corpus, tmp_path, monkeypatch):
    interrupted(corpus, tmp_path / "m", monkeypatch)
    other = tmp_path / "other.txt"
    other.write_text(DOCUMENT * 5 + DOCUMENT.replace("你", "您"), "utf-8")
    with pytest.raises(
        ArgumentError, match="--corpus: expected the corpus as recorded, of SHA-256"
    ):
        run(str(other), str(tmp_path / "m"), OPTIONS, "numpy", 1, resume=True)


def test_resume_and_overwrite_are_two_wishes(corpus, tmp_path, capsys):
    command = ["pretrain", "--corpus", corpus, "--out", str(tmp_path / "m"), *COMMAND]
    assert main([*command, "--overwrite"]) == 2
    assert "--resume, --overwrite: expected one of them, found both" in capsys.readouterr().err


def test_a_model_without_checkpoints_is_not_replaced(corpus, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "m", ignore=shutil.ignore_patterns("step-*"))
    with pytest.raises(FileError, match=r"m: already holds .*; there is no checkpoint to resume"):
        resumed(corpus, tmp_path / "m")


def test_a_run_in_the_folder_is_not_begun_again(corpus, tmp_path, monkeypatch):
    interrupted(corpus, tmp_path / "m", monkeypatch)
    with pytest.raises(FileError, match=r"checkpoints.*; --resume continues its run, --overwrite"):
        run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 1)


@pytest.mark.skipif(sys.platform == "win32", reason="locks of POSIX")
@pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}])
def test_two_runs_in_one_folder(options, corpus, tmp_path, monkeypatch):
    """The second one is refused, and the first one goes on."""

    def train_while_another_begins(*arguments):
        with pytest.raises(FileError, match=r"m: expected a folder of its own: another process"):
            run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 1, **options)
        yield from train(*arguments)

    monkeypatch.setattr(session_module, "train", train_while_another_begins)
    assert run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 1) is True


def test_overwrite_begins_anew(corpus, tmp_path, monkeypatch):
    interrupted(corpus, tmp_path / "m", monkeypatch)
    other = PretrainOptions(**(vars(OPTIONS) | {"steps": 5}))
    run(corpus, str(tmp_path / "m"), other, "numpy", 1, overwrite=True)
    steps = [path.name for path in find_checkpoints(tmp_path / "m" / "checkpoints")]
    assert steps == ["step-000005", "step-000000"]


# --- what need not be the same --------------------------------------------------------------------


def parameters(folder):
    state = NezhaForPreTraining.from_pretrained(folder).state_dict()
    return np.concatenate([a.ravel() for n, a in state.items() if not n.endswith("key.bias")])


def test_another_number_of_workers_is_said(corpus, whole, tmp_path, monkeypatch, capsys):
    interrupted(corpus, tmp_path / "m", monkeypatch)
    capsys.readouterr()
    resumed(corpus, tmp_path / "m", workers=2)
    assert "not to the same bits, only up to rounding: workers 1 → 2\n" in capsys.readouterr().out
    assert np.abs(parameters(tmp_path / "m") - parameters(whole)).max() < 1e-4
    # the control: the bits do differ
    assert (parameters(tmp_path / "m") != parameters(whole)).any()


def test_other_threads_are_said(corpus, whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    interrupted(corpus, tmp_path / "m", monkeypatch)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    capsys.readouterr()
    resumed(corpus, tmp_path / "m")
    assert "only up to rounding: OPENBLAS_NUM_THREADS 1 → 3\n" in capsys.readouterr().out


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["model.safetensors", "optimizer.safetensors", "run.json", "vocab.txt"]
)
@pytest.mark.parametrize("damage", ["a bit", "cut", "gone"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    damage, name, corpus, whole, tmp_path, monkeypatch, capsys
):
    interrupted(corpus, tmp_path / "m", monkeypatch)
    newest, before, *_ = find_checkpoints(tmp_path / "m" / "checkpoints")
    data = (newest / name).read_bytes()
    if damage == "gone":
        (newest / name).unlink()
    elif damage == "cut":
        (newest / name).write_bytes(data[: len(data) // 2])
    else:
        middle = len(data) // 2
        (newest / name).write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    capsys.readouterr()
    with pytest.warns(CheckpointWarning, match=f"{newest / name}.*; an older checkpoint is used"):
        resumed(corpus, tmp_path / "m")
    assert f"from {before}\n" in capsys.readouterr().out
    assert_same(tmp_path / "m", whole)


def test_if_all_are_damaged_nothing_is_begun_anew(corpus, tmp_path, monkeypatch):
    interrupted(corpus, tmp_path / "m", monkeypatch)
    for path in find_checkpoints(tmp_path / "m" / "checkpoints"):
        (path / "run.json").write_text("{}")
    with pytest.raises(
        FileError, match=r"expected a whole checkpoint, but all are damaged: .*None"
    ):
        resumed(corpus, tmp_path / "m")
