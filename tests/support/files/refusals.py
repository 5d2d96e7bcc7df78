"""A bad file is refused in one line, quickly, and with little memory."""

import re
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from minizha.errors import MinizhaError

# the most that a refusal may take; the bytes are in addition to twice the size of the files
SECONDS, EXTRA_BYTES = 1.0, 10_000_000


def measured(
    read: Callable[[Path], dict | None], path: Path
) -> tuple[float, int, MinizhaError | None]:
    """Seconds of processor time, peak bytes and error of reading every tensor at ``path``.

    It is read twice, because tracing the memory takes time.
    """
    error = None

    def attempt():
        nonlocal error
        try:
            for tensor in (read(path) or {}).values():
                tensor.read()
        except MinizhaError as caught:
            error = caught

    start = time.process_time()  # other processes do not count
    attempt()
    seconds = time.process_time() - start
    tracemalloc.start()
    try:
        attempt()
        return seconds, tracemalloc.get_traced_memory()[1], error
    finally:
        tracemalloc.stop()


def check_refusal(
    read: Callable[[Path], dict | None], path: Path, message: str, named: Path | None = None
) -> None:
    """``read(path)`` is refused quickly and with little memory, in one line that begins with
    ``named`` (or ``path``) and matches ``message``."""
    files = list(path.iterdir()) if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files if file.is_file())
    seconds, peak, error = measured(read, path)
    assert error is not None, "it was read as if it were valid"
    assert re.match(re.escape(str(named or path)) + "[:,/]", str(error))
    assert str(error).isprintable()
    assert len(str(error)) < 1000
    with pytest.raises(type(error), match=message):
        raise error
    assert seconds < SECONDS
    assert peak < 2 * size + EXTRA_BYTES
