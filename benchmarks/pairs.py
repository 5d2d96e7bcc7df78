"""Several sides measured in turn, A B C A B C: each ratio is of two neighbours in time.

A machine's speed drifts, by other programs or by its clock. Two programs measured one after the other
differ by the drift, too; so each round runs every side once, and the ratio of a round is that of times
that were taken within seconds. The median of the ratios is reported.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.cases import Case, gigaflops
from minizha.errors import MinizhaError

TURN = 0.3
"""Seconds that a turn takes at least: what is short runs several times in one turn."""
PAUSE = 0.1
"""Seconds between two turns, in which the threads of the last side go to sleep."""
MEMORY_RUNS = 3
TOLERANCE, FLOOR = 2e-3, 1e-3
"""How far results may differ, relative in norm; arrays that are small beside the others count for less."""
CHANGE_TOLERANCE = 0.05
"""The same for AdamW's first step, where the sign alone of a gradient near rounding decides."""

Show = Callable[[str], None]


class SideError(MinizhaError):
    """A side stopped or could not begin: the text says why."""


class Process:
    """A side in its process, which computes when it is told to."""

    def __init__(self, side: str, case: Case, folder: str, threads: int) -> None:
        self.side = side
        names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
        environment = os.environ | {name: str(threads) for name in names}
        # as minizha's commands set it; torch and ONNX Runtime have no OpenBLAS
        environment.setdefault("OPENBLAS_THREAD_TIMEOUT", "8")
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.side", side, case.name, folder, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            encoding="utf-8",
            env=environment,
            cwd=Path(__file__).resolve().parents[1],
        )

    def ready(self) -> Process:
        """Wait until the model is loaded."""
        self._answer()
        return self

    def ask(self, order: str, value: Any) -> dict[str, Any]:
        """Give an order and wait for its answer."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{order} {value}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the answer says why
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.log.seek(0)
            last = (self.log.read().strip().splitlines() or [f"exit status {status}"])[-1]
            raise SideError(f"{self.side}: {last}")
        found = json.loads(line)
        if "error" in found:
            raise SideError(f"{self.side}: {found['error']}")
        return found

    def close(self) -> None:
        """End the process; an answer that is under way is not awaited."""
        self.process.kill()
        self.process.communicate()
        self.log.close()


def save_model(case: Case, folder: str) -> None:
    """The model of a case, new from seed 0, in the form that all sides read."""
    from minizha import NezhaConfig, NezhaForPreTraining, NezhaModel

    model_class = NezhaModel if case.task == "body" else NezhaForPreTraining
    model_class(NezhaConfig(**case.config), seed=0).save_pretrained(folder)


def measure(
    case: Case, sides: list[str], rounds: int, threads: int, show: Show = lambda text: None
) -> dict[str, Any]:
    """Seconds, ratios and memory of a case; the first side is the one that the others are divided by.

    A side that can't run is named in "failed", and the others go on.

    Raises:
        SideError: of the first side.
        MinizhaError: two sides disagree.
    """
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        save_model(case, folder)
        failed: dict[str, str] = {}

        def attempt(side: str, work: Callable[[], Any]) -> Any:
            if side in failed:
                return None
            show(side)
            try:
                return work()
            except SideError as error:
                if side == sides[0]:
                    raise
                failed[side] = str(error).removeprefix(f"{side}: ")
                return None

        times, memory = _in_turn(case, sides, rounds, threads, folder, attempt)
    return summary(case, times, memory, failed)


def _in_turn(
    case: Case,
    sides: list[str],
    rounds: int,
    threads: int,
    folder: str,
    attempt: Callable[[str, Callable[[], Any]], Any],
) -> tuple[dict[str, list[float]], dict[str, dict[str, float | None]]]:
    """Of each new process the memory, then its results, then the times round by round."""
    processes: dict[str, Process] = {}
    memory: dict[str, dict[str, float | None]] = {}
    repeats: dict[str, int] = {}
    times: dict[str, list[float]] = {side: [] for side in sides}
    reference = os.path.join(folder, "results")

    def start(side: str) -> None:
        processes[side] = Process(side, case, folder, threads)
        processes[side].ready()
        memory[side] = processes[side].ask("memory", 1 if case.task == "loading" else MEMORY_RUNS)
        if side == sides[0]:
            processes[side].ask("results", reference)
        elif side != "products":
            path = os.path.join(folder, "others")
            processes[side].ask("results", path)
            with np.load(reference) as ours, np.load(path) as theirs:
                check_agreement(case, side, ours, theirs)
        seconds = processes[side].ask("run", 1)["seconds"]
        repeats[side] = max(1, math.ceil(TURN / max(seconds, 1e-6)))

    def turn(side: str) -> float:
        time.sleep(PAUSE)
        return processes[side].ask("run", repeats[side])["seconds"]

    try:
        for side in sides:
            attempt(side, lambda side=side: start(side))
        for _ in range(rounds):
            for side in sides:
                times[side].append(attempt(side, lambda side=side: turn(side)))
    finally:
        for process in processes.values():
            process.close()
    return times, memory


def check_agreement(
    case: Case, side: str, ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]
) -> None:
    """Two sides compute the same thing, up to the rounding of float32.

    Raises:
        MinizhaError: an array is missing, has another shape or is further away than its tolerance.
    """
    if ours.keys() != theirs.keys():
        names = ", ".join(sorted(ours.keys() ^ theirs.keys())[:3])
        raise MinizhaError(f"{case.name}: only one of minizha and {side} has {names}")
    gradients = [name for name in ours if name.startswith("gradient of ")]
    # sums of float64: with float32, 10⁸ squares would be rounded away
    largest = math.sqrt(sum(_norm(ours[name]) ** 2 for name in gradients))
    for name in ours:
        a, b = ours[name], theirs[name]
        if a.shape != b.shape:
            raise MinizhaError(f"{case.name}: {name}: minizha has {a.shape}, {side} {b.shape}")
        scale = max(_norm(a), FLOOR * largest if name in gradients else 0.0)
        allowed = CHANGE_TOLERANCE if name == "change" else TOLERANCE
        difference = _norm(a - b)
        if not difference <= allowed * scale:  # NaN is no agreement
            raise MinizhaError(
                f"{case.name}: {name}: minizha and {side} differ by {difference / scale:.1e}, "
                f"expected at most {allowed:g}"
            )


def _norm(x: np.ndarray) -> float:
    return float(np.sqrt(np.sum(np.square(x, dtype=np.float64))))


def pair_ratios(theirs: list[float], ours: list[float]) -> list[float]:
    """Their time over ours, round by round: above 1, ours is faster."""
    return [t / o for t, o in zip(theirs, ours, strict=True)]


def summary(
    case: Case,
    times: Mapping[str, list[float]],
    memory: Mapping[str, dict[str, float | None]],
    failed: Mapping[str, str],
) -> dict[str, Any]:
    """The figures of a case as JSON: all times, medians, ratios, memory, and what follows from them."""
    (first, ours), *_ = times.items()
    done = {side: seconds for side, seconds in times.items() if side not in failed}
    found: dict[str, Any] = {
        "task": case.task,
        "batch": case.B,
        "length": case.L,
        "layers": case.layers,
        "seconds": {side: _short(median(seconds)) for side, seconds in done.items()},
        "rounds": {side: [_short(s) for s in seconds] for side, seconds in done.items()},
        "ratios": {
            side: _short(median(pair_ratios(seconds, ours)))
            for side, seconds in done.items()
            if side != first
        },
        "memory": {
            side: {name: mb and round(mb) for name, mb in figures.items()}
            for side, figures in memory.items()
            if side in done and side != "products"
        },
    }
    if case.task != "loading":
        middle = median(ours)
        found["tokens_per_second"] = round(case.B * case.L / middle)
        found["gigaflops_per_second"] = round(gigaflops(case) / middle, 1)
    if failed:
        found["failed"] = dict(failed)
    return found


def _short(number: float) -> float:
    """Four digits."""
    return float(f"{number:.4g}")
