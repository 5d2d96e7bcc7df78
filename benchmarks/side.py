"""One side in a process of its own: it does what the pipe says, and idles in between.

``python -m benchmarks.side SIDE CASE FOLDER THREADS`` answers each line of stdin with a line of JSON:
``run N``, ``memory N``, ``results FILE``. What libraries print goes to stderr.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from typing import Any, TextIO

import numpy as np

from benchmarks.cases import find
from benchmarks.peers import SIDES

SPARE = 0.85
"""The share of the free memory that a process may take: running out ends it and nothing else."""


def main(side: str, case: str, folder: str, threads: str) -> None:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    limit_memory()
    answer(answers, lambda: serve(SIDES[side](find(case), folder, int(threads)), answers))


def serve(side: Any, answers: TextIO) -> dict[str, Any]:
    """Say that the side is ready, then obey."""
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        order, value = line.rstrip("\n").split(" ", 1)
        answer(answers, lambda order=order, value=value: ORDERS[order](side, value))
    return {}


def answer(answers: TextIO, work: Any) -> None:
    """Print what work returns, or its error; after running out of memory there is no going on."""
    try:
        found = work()
    except Exception as error:  # noqa: BLE001  # of a library: it belongs into the report
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        found = {"error": "out of memory" if ran_out(error) else text}
    print(json.dumps(found), file=answers, flush=True)


def ran_out(error: Exception) -> bool:
    """Whether an allocation failed; torch and ONNX Runtime have no type of their own for it."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(
        words in text for words in ("can't allocate memory", "not enough memory", "bad allocation")
    )


def run(side: Any, times: str) -> dict[str, float]:
    """Seconds of one run, a mean over several without a pause."""
    start = time.perf_counter()
    for _ in range(int(times)):
        side.run()
    return {"seconds": (time.perf_counter() - start) / int(times)}


def results(side: Any, path: str) -> dict[str, str]:
    """Write the arrays that are compared."""
    with open(path, "wb") as file:
        np.savez(file, **side.results())
    return {"file": path}


def memory(side: Any, times: str) -> dict[str, float | None]:
    """Megabytes resident before the runs, at their peak, and after them; None where nothing tells."""
    gc.collect()
    before = resident("VmRSS")
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts again from here
    except OSError:
        return {"before": None, "peak": None, "after": None}
    for _ in range(int(times)):
        side.run()
    peak = resident("VmHWM")
    gc.collect()
    return {"before": before, "peak": peak, "after": resident("VmRSS")}


def resident(name: str) -> float:
    """A row of Linux's account of this process, in megabytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        (line,) = (line for line in file if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024 / 1e6


def limit_memory() -> None:
    """Let an allocation fail before the machine runs out."""
    try:
        import resource

        with open("/proc/meminfo", encoding="ascii") as file:
            (line,) = (line for line in file if line.startswith("MemAvailable:"))
        limit = int(int(line.split()[1]) * 1024 * SPARE)
        resource.setrlimit(
            resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1])
        )
    except (ImportError, OSError, ValueError):
        pass  # not Linux


ORDERS = {"run": run, "results": results, "memory": memory}

if __name__ == "__main__":
    main(*sys.argv[1:])
