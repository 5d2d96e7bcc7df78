"""The reader's code, executed: an error in it becomes words, with the line at which it happened.

The code runs in the process of the caller. It is the reader's own, on the reader's own machine.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

LONGEST_OUTPUT = 4000
"""How many characters are kept of what the reader's code prints."""
THE_CODE = "the code"
"""What raises an error outside of all functions."""


class CodeError(Exception):
    """The reader's code can't be judged; its text says why, with the line."""


class Output(io.TextIOBase):
    """Keeps the first characters that are written, and drops the others."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        """Keep what there is room for."""
        self.text += text[: LONGEST_OUTPUT - len(self.text)]
        return len(text)


@contextlib.contextmanager
def caught_output() -> Iterator[tuple[Output, list[warnings.WarningMessage]]]:
    """What the block prints, and its warnings, in place of showing them; there is no input for it."""
    output, stdin = Output(), sys.stdin
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("default")
            sys.stdin = io.StringIO()  # input() would wait, and nobody would see what for
            try:
                yield output, found
            finally:
                sys.stdin = stdin


class Code:
    """A text of Python, executed in a namespace of its own, in which ``np`` is NumPy.

    Raises:
        CodeError: it is no Python, or raises.
    """

    def __init__(self, text: str, file_name: str) -> None:
        self.file_name = file_name
        # with it, tracebacks and inspect find the lines, although there may be no such file
        lines = text.splitlines(keepends=True)
        linecache.cache[file_name] = (len(text), None, lines, file_name)
        # a module that is not in sys.modules: inspect then looks for the file by its name
        self.names: dict[str, Any] = {"__name__": file_name.removesuffix(".py"), "np": np}
        with self.errors_in_words(THE_CODE):
            exec(compile(text, file_name, "exec", dont_inherit=True), self.names)

    def function(self, name: str) -> Callable[..., Any]:
        """The function of a name."""
        found = self.names.get(name)
        if callable(found):
            return found
        what = "found none" if name not in self.names else f"found {type(found).__name__}"
        raise CodeError(f"expected a function {name}, {what}")

    def call(self, name: str, *arguments: Any) -> Any:
        """What the function of a name returns for copies of the arguments."""
        function = self.function(name)
        copies = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        with self.errors_in_words(name):
            return function(*copies)

    @contextlib.contextmanager
    def errors_in_words(self, what: str) -> Iterator[None]:
        """Whatever is raised in the block becomes a :class:`CodeError`, but for Ctrl-C."""
        try:
            yield
        except (KeyboardInterrupt, CodeError):
            raise
        except BaseException as error:  # SystemExit, too: the reader may write exit()
            raise CodeError(self.in_words(error, what)) from error

    def in_words(self, error: BaseException, what: str) -> str:
        """``rms_norm raised ValueError: …, at line 3: `y = x @ w` ``

        ``what`` was called; it is named if the error is raised before a function of the reader runs.
        """
        kind = type(error).__name__
        if isinstance(error, SyntaxError) and error.filename == self.file_name:
            return f"{kind}: {error.msg}{_place(error.lineno, error.text or '')}"
        ours = [
            (frame.f_code.co_name, line)
            for frame, line in traceback.walk_tb(error.__traceback__)
            if frame.f_code.co_filename == self.file_name
        ]
        place = ""
        if ours:
            what = ours[0][0] if ours[0][0] != "<module>" else THE_CODE
            place = _place(ours[-1][1], linecache.getline(self.file_name, ours[-1][1]))
        return f"{what} raised {kind}: {error}".rstrip(": ") + place


def _place(line: int | None, source: str) -> str:
    if not line:
        return ""
    return f", at line {line}" + (f": `{source.strip()}`" if source.strip() else "")
