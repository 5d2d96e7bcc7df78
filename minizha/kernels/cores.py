"""All cores in NumPy code: work is cut into equal parts, each for a thread with one BLAS thread.

NumPy's products use all cores; everything else, some half of the time, uses one. NumPy lets go of the
interpreter's lock while it computes, so threads compute at once, if their calls are long enough: 64,000
numbers and more, or two threads are slower than one. In the parts BLAS has one thread, because
products of two threads at a time would wait for each other; outside of them it has all.

The number of BLAS's threads belongs to the whole process, and is set by a call of NumPy's own OpenBLAS,
which takes less than a microsecond. With another BLAS there is one part, and so there is where
``OPENBLAS_NUM_THREADS=1`` asks for one thread. The parts depend on the counts alone, so two runs are
bitwise equal.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import cache
from itertools import pairwise, product

import numpy as np

_BLOCK, _FEW = 393216, 65536  # numbers; measured with GELU and LayerNorm on two cores

_ONE_THREAD: ContextVar[bool] = ContextVar("one_thread", default=False)


def share(count: int, work: Callable[[int, int], object]) -> None:
    """``work(start, stop)`` for equal parts of ``range(count)``, one on each core, at once.

    There are as many parts as BLAS has threads, and one inside of another part. ``work`` must not
    write what another part reads. It may be called from several threads at a time. Returns when all
    parts are done; raises what one of them raised.
    """
    parts = min(count, available_threads())
    if parts < 2:
        work(0, count)
        return
    edges = [count * i // parts for i in range(parts + 1)]
    with one_thread():
        others = [_submit(work, *part) for part in pairwise(edges[1:])]
        try:
            work(0, edges[1])
        finally:
            wait(others)  # they write arrays that the caller goes on to read or to free
    for other in others:
        other.result()


def block_length(count: int, width: int = 1) -> int:
    """How many of ``count`` rows of ``width`` numbers a block has that is computed at once.

    Blocks are equal and an even number, so that two cores end at once; or there is one, where there
    isn't enough for two threads. They stay in the cache, and are long enough for threads: a thread waits
    for the interpreter's lock after each call of NumPy.
    """
    numbers = count * width
    if numbers < _FEW:
        return max(1, count)
    pairs = -(-numbers // (2 * _BLOCK))
    return -(-count // (2 * pairs))


def available_threads() -> int:
    """How many parts :func:`share` would make of enough work: BLAS's threads, at most one a core."""
    if _set_threads is None or _ONE_THREAD.get():
        return 1
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    with _blas.lock:
        return min(cores, _blas.before if _blas.users else _get_threads())


@contextmanager
def one_thread() -> Iterator[None]:
    """In the block BLAS has one thread, and :func:`share` makes one part. Then BLAS has as many as before.

    Several threads may be in such a block; the last one to leave puts the number back.
    """
    token, blas = _ONE_THREAD.set(True), _blas
    blas.enter()
    try:
        yield
    finally:
        if blas is _blas:  # not in a process that was forked in the block: it has begun anew
            blas.leave()
        _ONE_THREAD.reset(token)


@cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory. By default each call of a model returns its arrays to the system, and
    the next one waits for zeroed pages: a tenth to a quarter of the time. Without glibc, do nothing."""
    trim_threshold, mmap_threshold = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h
    with suppress(OSError, AttributeError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_threshold, 1 << 30)
        libc.mallopt(trim_threshold, (1 << 31) - 1)


def _blas_function(verb: str) -> Callable[..., int] | None:
    """``openblas_…_num_threads`` of the library that NumPy has loaded, whatever prefix its build has."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(np.linalg._umath_linalg.__file__)  # finds what this one links, too
        for prefix, suffix in product(("scipy_", ""), ("64_", "")):
            with suppress(AttributeError):
                return getattr(library, f"{prefix}openblas_{verb}_num_threads{suffix}")
    return None


_get_threads, _set_threads = _blas_function("get"), _blas_function("set")


class _Blas:
    """Who uses BLAS with one thread, and how many threads it had before the first of them."""

    def __init__(self) -> None:
        self.lock, self.users, self.before = threading.Lock(), 0, 1
        self.pool: ThreadPoolExecutor | None = None

    def enter(self) -> None:
        with self.lock:
            self.users += 1
            if self.users == 1 and _set_threads is not None:
                self.before = _get_threads()
                _set_threads(1)

    def leave(self) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0 and _set_threads is not None:
                _set_threads(self.before)


_blas = _Blas()


def _submit(work: Callable[[int, int], object], start: int, stop: int) -> Future[object]:
    """Start ``work(start, stop)`` in a thread that has this one's context variables."""
    with _blas.lock:
        if _blas.pool is None:
            _blas.pool = ThreadPoolExecutor(os.cpu_count(), "minizha")  # threads start when needed
        pool = _blas.pool
    try:
        return pool.submit(copy_context().run, work, start, stop)
    except RuntimeError:  # the interpreter is about to end, and starts no threads any more
        done: Future[object] = Future()
        done.set_result(work(start, stop))
        return done


def _after_fork() -> None:
    """A forked process has none of the threads, and no caller inside of :func:`one_thread`."""
    global _blas
    if _blas.users and _set_threads is not None:
        _set_threads(_blas.before)
    _blas = _Blas()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
