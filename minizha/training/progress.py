"""The progress bar of a run. A run does not need one: it goes on where stderr is closed or full."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress_bar(total: int, name: str) -> Iterator[Callable[[int, str], None]]:
    """A function that shows the number of finished steps and a text on stderr.

    Without a stderr it does nothing, and so it does from the first failed write on: the reader of a
    pipe may be gone, the disk of a log full.
    """
    from tqdm import tqdm

    layout = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
    works = sys.stderr is not None
    bar = None
    with contextlib.suppress(OSError, ValueError):  # ValueError: a closed file
        if works:
            bar = tqdm(total=total, bar_format=layout, desc=name, file=sys.stderr)

    def show(done: int, text: str) -> None:
        nonlocal bar
        try:
            if bar is not None:
                bar.set_postfix_str(text, refresh=False)
                bar.update(done - bar.n)
        except (OSError, ValueError):
            bar.disable, bar = True, None  # else tqdm tries again when the bar is deleted

    try:
        yield show
    finally:
        with contextlib.suppress(OSError, ValueError):
            if bar is not None:
                bar.close()
