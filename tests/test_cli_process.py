"""The command line as a process: its streams, its exit status, its signals."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from minizha import NezhaForPreTraining
from minizha.cli import main
from tests.support.short_runs import COMMAND, DOCUMENT, TINY, command, train_into

COMMANDS = ("pretrain", "fill-mask", "next-sentence", "info")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text(DOCUMENT * 4, "utf-8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_into(tmp_path_factory.mktemp("trained"))


def test_without_cupy_one_line_says_what_to_install(trained):
    code = COMMAND[2].replace("import sys;", "import sys; sys.modules['cupy'] = None;")
    for arguments in (
        ["fill-mask", "[MASK]", "--model", trained],
        ["pretrain", *TINY, "--corpus", "corpus.txt", "--out", "m"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments, "--backend", "cupy"],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(
            "minizha: error: backend 'cupy' needs CuPy: `pip install cupy"
        )
        assert done.stderr.count("\n") == 1
    assert not os.path.exists("m")


def test_errors_and_guesses_through_the_command(trained):
    done = command("fill-mask", "一二三", "--model", trained)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("minizha: error: text: expected [MASK]")
    assert done.stderr.count("\n") == 1
    # a terminal without Chinese characters
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONWARNINGS": "error"}
    done = command("fill-mask", "一[MASK]", "--model", trained, "--top-k", 35, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  \\u4e00\t" in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_output_that_goes_nowhere(trained):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*COMMAND, "info", trained], stdout=full, stderr=subprocess.PIPE, text=True
        )
    line = "minizha: error: can't write the output: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, line)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "info", trained], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_needs_no_numpy():
    code = (
        "import sys\nsys.modules['numpy'] = sys.modules['tokenizers'] = None\n"
        "from minizha.cli import main\n"
        f"for command in {COMMANDS!r}:\n"
        "    try: main([command, '--help'])\n"
        "    except SystemExit as stop: assert stop.code == 0\n"
        "try: main(['--version'])\n"
        "except SystemExit as stop: sys.exit(stop.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    for name in COMMANDS:
        assert f"usage: minizha {name}" in done.stdout


def interrupted(*signals, options=(), seconds=30):
    """Start a very long pretrain, and send the signals once the progress bar moves."""
    arguments = ["--steps", "1000000", "--corpus", "corpus.txt", "--out", "m", *options]
    process = subprocess.Popen(
        [*COMMAND, "pretrain", *TINY, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8"},
    )
    try:
        seen, deadline = "", time.monotonic() + seconds
        while " tok/s" not in seen and time.monotonic() < deadline:
            seen += process.stderr.read(1)
        for number in signals:
            process.send_signal(number)
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out, seen + err


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        ([signal.SIGINT], 130),
        ([signal.SIGTERM], 143),
        ([signal.SIGHUP], 129),
        ([signal.SIGHUP, signal.SIGHUP, signal.SIGTERM], 129),
    ],
)
def test_a_signal_saves_what_there_is_and_says_where(signals, expected):
    status, out, err = interrupted(*signals)
    assert status == expected
    assert re.search(r"\ninterrupted after step (\d+); --resume goes on after step \1\n", out)
    assert out.endswith("\nthe model so far is in m\n")
    assert "Traceback" not in out + err
    names = {"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "loss.csv"}
    assert names <= set(os.listdir("m"))
    assert not any(name.startswith(".") for name in os.listdir("m"))
    NezhaForPreTraining.from_pretrained("m")
    assert main(["fill-mask", "一[MASK]三", "--model", "m"]) == 0


def group_of(process):
    """The processes that a pretrain has started to compute."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((path / "stat").read_text().rsplit(")", 1)[1].split()[1])
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == process and b"spawn_main" in command:
            yield int(path.name)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
@pytest.mark.parametrize(
    ("to_worker", "to_main", "expected"),
    [
        (signal.SIGKILL, None, 2),
        (signal.SIGSTOP, signal.SIGINT, 130),
        (signal.SIGTERM, signal.SIGTERM, 143),  # as a service is stopped
    ],
)
def test_a_worker_that_is_killed_or_stopped(to_worker, to_main, expected):
    arguments = ["--steps", "1000000", "--corpus", "corpus.txt", "--out", "m", "--workers", "2"]
    with subprocess.Popen(
        [*COMMAND, "pretrain", *TINY, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while " tok/s" not in (seen := process.stderr.read(200)):
                assert seen
            workers = list(group_of(process.pid))
            assert len(workers) == 1
            os.kill(workers[0], to_worker)
            if to_main:
                process.send_signal(to_main)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == expected
    assert "the model so far is in m" in (err if to_main is None else out)
    assert "Traceback" not in out + err
    NezhaForPreTraining.from_pretrained("m")
    assert not os.path.exists(f"/proc/{workers[0]}")


def test_an_interrupted_run_spares_the_old_model(trained):
    shutil.copytree(trained, "m")
    before = {path.name: path.read_bytes() for path in Path("m").iterdir() if path.is_file()}
    status, out, _ = interrupted(signal.SIGINT, options=["--overwrite"])
    assert status == 130
    (so_far,) = re.findall(r"\nthe model so far is in (m/checkpoints/step-\d+)\n$", out)
    after = {path.name: path.read_bytes() for path in Path("m").iterdir() if path.is_file()}
    assert after.pop("log.jsonl") != before.pop("log.jsonl")  # that of the new run
    assert after == before
    NezhaForPreTraining.from_pretrained(so_far)


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full", "2>&- >&- <&-"])
@pytest.mark.parametrize("workers", [1, 2])
def test_training_needs_no_stream(workers, closed):
    """Without /dev/null in its place, the first file opened would become the standard stream."""
    train = [*COMMAND, "pretrain", *TINY, "--steps", "20", "--corpus", "corpus.txt", "--out", "m"]
    line = shlex.join([*train, "--workers", str(workers)])
    done = subprocess.run(["/bin/sh", "-c", f"{line} {closed}"], capture_output=True, text=True)
    assert done.returncode == 0, done
    NezhaForPreTraining.from_pretrained("m")


def test_without_stderr_an_error_is_not_on_stdout():
    line = shlex.join([*COMMAND, "info", "."])
    done = subprocess.run(["/bin/sh", "-c", f"{line} 2>&-"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
