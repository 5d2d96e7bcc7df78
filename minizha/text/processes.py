"""A task for many items, shared by processes, with the results in order and few items in memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from minizha.errors import MinizhaError
from minizha.interrupts import ENDING, blocked_signals

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """The cores that this process may use, at most 8."""
    if hasattr(os, "sched_getaffinity"):
        return min(8, len(os.sched_getaffinity(0)))
    return min(8, os.cpu_count() or 1)


def ordered_map(
    task: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Iterator[Result]:
    """``task(item)`` for every item, in order. Each of ``count`` processes has at most one item; one
    process means this one.

    The start method is "spawn": ``task`` is pickled, and a script that uses this function needs
    ``if __name__ == "__main__":``. Close the iterator to end the processes before its end.

    Raises:
        MinizhaError: a process has ended; and what ``task`` raises of this kind.
    """
    if count == 1:
        yield from map(task, items)
        return
    connections: list[Connection] = []
    processes: list[BaseProcess] = []
    try:
        _start(task, count, connections, processes)
        idle, busy = deque(connections), deque[Connection]()
        for item in items:
            if idle:
                connection, results = idle.popleft(), []
            else:
                connection = busy.popleft()
                results = [_receive(connection)]
            # it waits for an item, so sending one cannot block it
            _send(connection, item)
            busy.append(connection)
            yield from results
        while busy:
            yield _receive(busy.popleft())
    finally:
        for connection in connections:
            connection.close()
        for process in processes:
            process.kill()  # it has nothing to save
            process.join()


def _start(
    task: Any, count: int, connections: list[Connection], processes: list[BaseProcess]
) -> None:
    context = multiprocessing.get_context("spawn")
    for _ in range(count):
        connection, worker_end = context.Pipe()
        connections.append(connection)
        process = context.Process(target=_serve, args=(worker_end,), daemon=True)
        resource_tracker.ensure_running()  # it unblocks signals
        with blocked_signals():
            process.start()
            processes.append(process)
        worker_end.close()  # while it is open here, recv() does not notice that the worker ended
        _send(connection, task)


def _send(connection: Connection, item: Any) -> None:
    try:
        connection.send(item)
    except OSError as error:
        raise MinizhaError(_ENDED) from error


def _receive(connection: Connection) -> Any:
    try:
        result = connection.recv()
    except (EOFError, OSError) as error:
        raise MinizhaError(_ENDED) from error
    if isinstance(result, MinizhaError):
        raise result
    return result


_ENDED = 'a worker process ended (out of memory? a script without if __name__ == "__main__":?)'


def _serve(connection: Connection) -> None:
    """Receive the task, then items, and send results until the connection closes."""
    for number in (signal.SIGINT, *ENDING):  # the main process handles them
        signal.signal(number, signal.SIG_IGN)
    try:
        task = connection.recv()
        while True:
            item = connection.recv()
            try:
                result = task(item)
            except MinizhaError as error:
                result = error
            connection.send(result)
    except (EOFError, OSError):
        pass
