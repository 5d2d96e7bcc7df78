"""The command line as a process: its streams, its exit status, its signals."""

import os
import signal
import subprocess
import sys
import time

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


def interrupted(seconds=30):
    """Start a very long pretrain, and press Ctrl-C once the progress bar moves."""
    process = subprocess.Popen(
        [*COMMAND, "pretrain", *TINY, "--steps", "1000000", "--corpus", "corpus.txt", "--out", "m"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8"},
    )
    try:
        seen, deadline = "", time.monotonic() + seconds
        while " tok/s" not in seen and time.monotonic() < deadline:
            seen += process.stderr.read(1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out, seen + err


def test_ctrl_c_saves_what_there_is_and_says_where():
    status, out, err = interrupted()
    assert status == 130
    assert out.endswith("interrupted; the model so far is in m\n")
    assert "Traceback" not in out + err
    names = {"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json", "loss.csv"}
    assert names <= set(os.listdir("m"))
    assert not any(name.startswith(".") for name in os.listdir("m"))
    NezhaForPreTraining.from_pretrained("m")
    assert main(["fill-mask", "一[MASK]三", "--model", "m"]) == 0
