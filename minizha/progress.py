"""Progress bars on stderr. No work needs one: it goes on where stderr is closed, full or broken."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any


def bar_options() -> dict[str, Any]:
    """The arguments of tqdm for a bar that never raises: nothing is shown without a stderr, and a
    write that fails is left out. The reader of a pipe may be gone, the disk of a log full."""
    from tqdm.utils import ObjectWrapper

    class Stream(ObjectWrapper):
        def write(self, text: str) -> None:
            with contextlib.suppress(OSError, ValueError):  # ValueError: a closed file
                self._wrapped.write(text)

        def flush(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                self._wrapped.flush()

    if sys.stderr is None:
        return {"disable": True}
    # tqdm knows the terminal's width if the file is stderr itself, or if it is told to ask
    return {"file": Stream(sys.stderr), "dynamic_ncols": True}


@contextlib.contextmanager
def progress_bar(total: int, name: str, initial: int = 0) -> Iterator[Callable[[int, str], None]]:
    """A function that shows the number of finished steps and a text on stderr.

    ``initial`` steps were finished earlier: the time that is left is estimated from the others.
    """
    from tqdm import tqdm

    layout = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
    with tqdm(total=total, initial=initial, bar_format=layout, desc=name, **bar_options()) as bar:

        def show(done: int, text: str) -> None:
            bar.set_postfix_str(text, refresh=False)
            bar.update(done - bar.n)

        yield show
