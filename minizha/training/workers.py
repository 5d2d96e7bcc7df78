"""Data parallelism: the rows of a batch are divided among several processes.

Threads gain less: on two cores, two threads are 1.45 times as fast as one, two processes 1.6 times.
NumPy releases the interpreter's lock while it computes, but a training step is some thousand short
calls, and passing the lock between threads costs time at each.
"""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import nullcontext
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from types import TracebackType
from typing import Self

import numpy as np

from minizha.checks import integer
from minizha.config import NezhaConfig
from minizha.errors import ArgumentError, MinizhaError
from minizha.interrupts import ENDING, blocked_signals
from minizha.kernels.cores import one_thread
from minizha.model.pretraining import NezhaForPreTraining
from minizha.nezha.parameters import unflatten
from minizha.training.row_generators import row_generators
from minizha.training.step import (
    Batch,
    BatchMetrics,
    Gradients,
    accumulate,
    batch_rows,
    check_pretraining_model,
    items_in,
    sum_parts,
)


class Workers:
    """``count`` processes that compute a step together, this one among them.

    In each step, every other process receives the parameters and its rows and returns its
    gradients: a few megabytes for a small model, which takes little time beside the step. If there are
    several, each has one BLAS thread while it computes. The start method is "spawn", so a script that
    uses this class needs ``if __name__ == "__main__":``.

    Args:
        model: the model to train.
        count: the number of processes; 1 computes everything in this one.

    Raises:
        ArgumentError: ``model`` is not a NezhaForPreTraining, ``count`` not an integer of at least 1,
            or there is more than one process for a model on a GPU, which they would only share.
    """

    def __init__(self, model: NezhaForPreTraining, count: int = 1) -> None:
        check_pretraining_model(model)
        count = integer("count", count, 1)
        if count > 1 and model.backend != "numpy":
            raise ArgumentError(
                f"workers: expected 1 with backend {model.backend!r}, found {count}"
            )
        self._model = model
        self._connections: list[Connection] = []
        self._processes: list[BaseProcess] = []
        # also at the end of the program, before it waits for its processes
        self._end = Finalize(self, _end, (self._connections, self._processes), exitpriority=1)
        context = multiprocessing.get_context("spawn")
        for _ in range(count - 1):
            connection, worker_end = context.Pipe()
            process = context.Process(
                target=_serve, args=(worker_end, model.config, model.dtype), daemon=True
            )
            resource_tracker.ensure_running()  # it unblocks signals
            with blocked_signals():
                process.start()
                self._processes.append(process)
            worker_end.close()  # while it is open here, recv() does not notice that the worker ended
            self._connections.append(connection)

    def loss_and_gradients(self, batch: Batch, parts: int = 1) -> tuple[BatchMetrics, Gradients]:
        """:func:`~minizha.training.step.loss_and_gradients`, with the rows divided among the processes.

        Args:
            batch: the whole batch.
            parts: in how many parts each process computes its rows, one after the other.

        Convention: each row draws its own dropout, so that the number of processes changes the result
        by no more than the rounding of its sums.

        Raises:
            MinizhaError: a process has ended.
            ArgumentError: an array of the batch has not one row for each row of the labels.
        """
        batch = batch_rows(batch)
        items, size = items_in(batch), len(batch["labels"])
        rows_of = np.array_split(np.arange(size), min(1 + len(self._connections), size))
        own_share, *shares = [{name: a[rows] for name, a in batch.items()} for rows in rows_of]
        model, connections = self._model, self._connections[: len(shares)]
        generators = row_generators(model)
        try:
            for connection, share, rows in zip(connections, shares, rows_of[1:], strict=True):
                own = generators and generators.part(int(rows[0]))
                connection.send((model.state_dict(), share, parts, items, own))
            with one_thread() if connections else nullcontext():
                results = [accumulate(model, own_share, parts, items, generators)]
            results += [connection.recv() for connection in connections]
        except (EOFError, OSError) as error:  # OSError: it ended while it was sending
            raise MinizhaError(
                'a worker process ended (out of memory? a script without if __name__ == "__main__":?)'
            ) from error
        return sum_parts(results)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()


def _end(connections: list[Connection], processes: list[BaseProcess]) -> None:
    for connection in connections:
        connection.close()
    for process in processes:
        process.kill()  # it has nothing to save; SIGTERM would wait for a stopped process
        process.join()


def _serve(connection: Connection, config: NezhaConfig, dtype: str) -> None:
    """Receive parameters and rows and send metrics and gradients until the connection closes."""
    for number in (signal.SIGINT, *ENDING):  # the main process handles them
        signal.signal(number, signal.SIG_IGN)
    model = NezhaForPreTraining(config, dtype=dtype)
    try:
        with one_thread():
            while True:
                parameters, *arguments = connection.recv()
                model.parameters = unflatten(parameters)
                connection.send(accumulate(model, *arguments))
    except (EOFError, OSError):
        pass
