"""Ctrl-C, and the signals by which a system ends a program: each is one KeyboardInterrupt."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Iterator

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals of a shutdown, of a batch system and of a terminal that closes."""
PAUSE = 2.0


@contextlib.contextmanager
def ending_signals_interrupt() -> Iterator[list[int]]:
    """In the block, ``ENDING`` raise KeyboardInterrupt, as Ctrl-C does.

    Yields the list of the signals received. One that comes within ``PAUSE`` seconds of another does
    not raise: a terminal that closes sends two, and the second one must not stop the save that the
    first one begins. A signal that is ignored, as SIGHUP is under nohup, or that has a handler stays
    as it is.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # the only one with handlers
        yield received
        return

    last = -math.inf

    def interrupt(number: int, _: object) -> None:
        nonlocal last
        received.append(number)
        before, last = last, time.monotonic()
        if last - before > PAUSE:
            raise KeyboardInterrupt(signal.Signals(number).name)

    taken = [number for number in ENDING if signal.getsignal(number) is signal.SIG_DFL]
    try:
        for number in taken:
            signal.signal(number, interrupt)
        yield received
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextlib.contextmanager
def delay_interrupts() -> Iterator[None]:
    """Delay Ctrl-C and ``ENDING`` until the block ends: between two renamings one would leave a new
    file beside an old one. Only the main thread receives signals and can delay them.

    Signals without a handler in Python are not delayed: ignored, they do nothing, and else they kill
    the program at once.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[tuple] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, *ENDING)}
    handlers = {number: handler for number, handler in handlers.items() if callable(handler)}
    try:
        for number in handlers:
            signal.signal(number, lambda *arguments: interrupts.append(arguments))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if interrupts:
            handler = handlers[interrupts[0][0]]
            assert callable(handler)
            handler(*interrupts[0])


@contextlib.contextmanager
def blocked_signals() -> Iterator[None]:
    """A process that starts in the block never receives Ctrl-C and ``ENDING``: its parent does."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, *ENDING))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)
