"""The default pre-training reaches README's result; it takes minutes: ``pytest -m heavy``."""

import os
import re
import subprocess
import sys
import time

import pytest

COMMAND = [sys.executable, "-c", "import sys; from minizha.cli import main; sys.exit(main())"]


@pytest.mark.heavy
def test_the_default_pretrain_reaches_one_third_in_five_minutes(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    started = time.monotonic()
    done = subprocess.run(
        [*COMMAND, "pretrain"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    took = time.monotonic() - started
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    accuracy = float(re.search(r"masked words +accuracy ([\d.]+)", done.stdout).group(1))
    assert accuracy >= 0.33
    assert took <= 300, f"{took:.0f} s (was the machine busy?)"
