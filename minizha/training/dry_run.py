"""What a run would take: its sizes, memory and time, from a few steps that are thrown away."""

from __future__ import annotations

import contextlib
import sys
import time

from minizha.model.pretraining import NezhaForPreTraining
from minizha.training.options import PretrainOptions, RunOptions
from minizha.training.pretrain import Data, train
from minizha.training.state import TrainingState

TIMED = 2  # steps, after one that is not: it fills caches and starts the processes


def print_dry_run(
    model: NezhaForPreTraining,
    data: Data,
    options: PretrainOptions,
    workers: int,
    keep: RunOptions,
) -> None:
    """Take three steps and print what they say of the whole run; ``model`` is of no use afterwards."""
    rows = options.batch_size * options.accumulate
    parameter_bytes = sum(array.nbytes for array in model.state_dict().values())
    state = TrainingState(model, options)
    # generators end their processes when they are closed
    with contextlib.closing(train(model, data, options, workers, state)) as steps:
        next(steps)
        timed = min(TIMED, options.steps - 1)
        started = time.monotonic()
        for _ in range(timed):
            next(steps)
        if model.backend == "cupy":
            model.xp.cuda.Device().synchronize()
        took = (time.monotonic() - started) / timed if timed else None
    print(
        f"{options.steps:,} steps of {rows:,} pairs, {options.length} tokens each\n"
        f"parameters, moments, gradients: {_size(4 * parameter_bytes)}; "
        f"{_memory(model, workers)}\n"
        f"checkpoints: {keep.keep_last + 1} of {_size(3 * parameter_bytes)} each, besides the model of "
        f"{_size(parameter_bytes)}"
    )
    if took is not None:
        tokens = rows * options.length / took
        print(
            f"{took * 1000:,.0f} ms a step, {tokens:,.0f} tokens a second: about "
            f"{_duration(took * options.steps)}, and the evaluation at the end"
        )
    print("dry run: nothing was written")


def _memory(model: NezhaForPreTraining, workers: int) -> str:
    """The most memory that was used so far, by this process and by the others, which have ended."""
    if model.backend == "cupy":
        return f"memory of the GPU: {_size(model.xp.get_default_memory_pool().total_bytes())}"
    try:
        import resource
    except ImportError:  # Windows
        return "memory: not known on this system"
    unit = 1 if sys.platform == "darwin" else 1024
    own, other = (
        resource.getrusage(who).ru_maxrss * unit
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    others = f" and {_size(other)} for each other process" if workers > 1 else ""
    return f"memory at its peak: {_size(own)}{others}"


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
