"""Data parallelism: the rows of a batch are dealt out to several processes.

Why not threads: NumPy does let other threads run while it computes, but a training step is some
thousand short calls, and handing the interpreter back and forth between them eats what the second
core gains (measured on two cores: threads 1.45 times one, processes 1.6).
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import signal
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

import numpy as np

from minizha.config import NezhaConfig
from minizha.errors import ArgumentError, MinizhaError
from minizha.model.pretraining import NezhaForPreTraining
from minizha.nezha.parameters import unflatten
from minizha.training.step import (
    Batch,
    BatchMetrics,
    Gradients,
    items_in,
    loss_and_gradients,
    sum_parts,
)


class Workers:
    """``count`` processes that compute a step together, this one among them.

    In each step every other process is sent the parameters and its rows and sends its gradients
    back: a few megabytes for a small model, little beside the step. Processes are started afresh
    ("spawn"), so a script that uses them needs ``if __name__ == "__main__":``.

    Args:
        model: whose gradients are wanted.
        count: 1 computes everything here.

    Raises:
        ArgumentError: more than one process for a model on a GPU, which they would only share.
    """

    def __init__(self, model: NezhaForPreTraining, count: int = 1) -> None:
        if count > 1 and model.backend != "numpy":
            raise ArgumentError(
                f"workers: expected 1 with backend {model.backend!r}, found {count}"
            )
        _keep_freed_memory()
        self._model = model
        self._connections: list[Connection] = []
        self._processes = []
        context = multiprocessing.get_context("spawn")
        for _ in range(count - 1):
            here, there = context.Pipe()
            process = context.Process(
                target=_serve, args=(there, model.config, model.dtype), daemon=True
            )
            process.start()
            there.close()  # or the end of the process would not end the connection
            self._connections.append(here)
            self._processes.append(process)

    def loss_and_gradients(self, batch: Batch) -> tuple[BatchMetrics, Gradients]:
        """:func:`~minizha.training.step.loss_and_gradients`, the rows dealt out to all processes.

        Raises:
            MinizhaError: a process has ended.
        """
        items, size = items_in(batch), len(batch["input_ids"])
        places = np.array_split(np.arange(size), min(1 + len(self._connections), size))
        mine, *others = [{name: a[rows] for name, a in batch.items()} for rows in places]
        model, asked = self._model, self._connections[: len(others)]
        try:
            for connection, rows in zip(asked, others, strict=True):
                seed = int(model._rng.integers(2**63)) if model.training else None
                connection.send((model.state_dict(), rows, items, seed))
            parts = [loss_and_gradients(model, mine, items)]
            parts += [connection.recv() for connection in asked]
        except (EOFError, ConnectionError) as error:
            raise MinizhaError("a worker process ended (out of memory?)") from error
        return sum_parts(parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for connection in self._connections:
            connection.close()
        for process in self._processes:
            process.terminate()
            process.join()


def _serve(connection: Connection, config: NezhaConfig, dtype: str) -> None:
    """A worker's life: parameters and rows in, figures and gradients out, until the line closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    _keep_freed_memory()
    model = NezhaForPreTraining(config, dtype=dtype)
    try:
        while True:
            parameters, rows, items, seed = connection.recv()
            model.parameters = unflatten(parameters)
            if seed is None:
                model.eval()
            else:
                model.train(seed)
            connection.send(loss_and_gradients(model, rows, items))
    except (EOFError, ConnectionError):
        pass


def _keep_freed_memory() -> None:
    """Ask glibc not to hand freed arrays back to the system, which it does in every step, only to
    be given zeroed pages again in the next: a tenth of the time. Elsewhere, do nothing."""
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    with contextlib.suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)
