"""A dry run prints sizes, memory and time, and writes nothing."""

import os
import re

import pytest

from minizha.cli import main
from tests.support.short_runs import DOCUMENT

SIZES = ["--hidden-size", "8", "--layers", "1", "--heads", "2", "--intermediate-size", "8"]
SIZES += ["--length", "16", "--batch-size", "4", "--accumulate", "2"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_dry_run_writes_nothing(workers, tmp_path, capsys):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(DOCUMENT * 4, "utf-8")
    out = tmp_path / "m"
    command = ["pretrain", "--corpus", str(corpus), "--out", str(out), *SIZES, "--workers", workers]
    assert main([*command, "--dry-run", "--steps", "100000"]) == 0
    printed = capsys.readouterr().out
    assert os.listdir(tmp_path) == ["corpus.txt"]
    assert "100,000 steps of 8 pairs, 16 tokens each\n" in printed
    (parameters,) = re.findall(r"model ([\d,]+) parameters", printed)
    size = 4 * int(parameters.replace(",", "")) / 1e6
    assert f"parameters, moments, gradients: {4 * size:,.1f} MB; memory at its peak: " in printed
    assert ("for each other process" in printed) == (workers == "2")
    assert (
        f"checkpoints: 3 of {3 * size:,.1f} MB each, besides the model of {size:,.1f} MB" in printed
    )
    step, tokens, duration, unit = re.search(
        r"([\d,]+) ms a step, ([\d,]+) tokens a second: about ([\d.]+) (\w+)", printed
    ).groups()
    ms = float(step.replace(",", ""))
    seconds = float(duration) * {"seconds": 1, "minutes": 60, "hours": 3600}[unit]
    assert abs(seconds - 100 * ms) <= 0.5 * 100 + 60
    assert 128 / (ms + 0.6) <= float(tokens.replace(",", "")) / 1000 <= 128 / max(ms - 0.6, 0.01)
    assert printed.endswith("dry run: nothing was written\n")


def test_a_dry_run_finds_what_the_run_would(tmp_path, capsys):
    """A folder that holds a model is refused here, too."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(DOCUMENT * 4, "utf-8")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    command = ["pretrain", "--corpus", str(corpus), "--out", str(tmp_path / "m"), *SIZES]
    assert main([*command, "--dry-run"]) == 2
    assert "m: already holds config.json; --overwrite" in capsys.readouterr().err
