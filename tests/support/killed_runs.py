"""A run that is killed at random moments and resumed, until it is finished.

As a process of its own, which forks: a process that starts anew needs a second for its imports.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from minizha.training.options import PretrainOptions, RunOptions
from minizha.training.run import run

OPTIONS = PretrainOptions(
    steps=60,
    hidden_size=8,
    layers=1,
    heads=2,
    intermediate_size=8,
    length=16,
    batch_size=4,
    held_out=3,
    min_count=1,
    dropout=0.1,
)
KEEP = RunOptions(evaluate_every=7)
OFTEN = RunOptions(checkpoint_minutes=0, evaluate_every=7)


def resume(corpus: str, out: str) -> None:
    """Go on with the run in ``out``, or begin it."""
    run(corpus, out, OPTIONS, "numpy", 1, resume=True, keep=OFTEN)


def in_a_child(corpus: str, out: str) -> int:
    """:func:`resume` in a forked process; its id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        for descriptor in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        resume(corpus, out)
        status = 0
    finally:
        os._exit(status)


def main(corpus: str, folder: str, kills: int) -> None:
    """Kill ``kills`` times; print the steps that each kill found, and the folders of finished runs."""
    rng = random.Random(7)
    found: list[int] = []
    finished: list[str] = []
    started = time.monotonic()
    os.waitpid(in_a_child(corpus, f"{folder}/whole"), 0)
    longest = (
        time.monotonic() - started
    ) / 2  # seconds until a kill; as fast as the machine is now
    while len(found) < kills or not finished:
        out = f"{folder}/run{len(finished)}"
        child = in_a_child(corpus, out)
        if len(found) < kills:
            time.sleep(rng.uniform(0.0, longest))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            steps = [p.name for p in Path(out, "checkpoints").glob("step-*")]
            step = max((int(name[5:]) for name in steps), default=-1)
            longest *= 1.2 if found and step == found[-1] else 1.0
            found.append(step)
        elif status == 0:
            longest *= 0.7 if len(found) < kills else 1.0
            finished.append(out)
        else:
            sys.exit(f"{out}: status {status}")
    print(json.dumps({"kills": found, "finished": finished}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
