"""The progress bar: shown where there is a stderr, and never a reason to stop."""

import fcntl
import io
import os
import pty
import struct
import sys
import termios

import pytest

from minizha.progress import progress_bar


class Broken(io.StringIO):
    """A stream whose reader leaves after ``good`` writes."""

    def __init__(self, good, error):
        super().__init__()
        self.good, self.error = good, error

    def write(self, text):
        if self.good <= 0:
            raise self.error
        self.good -= 1
        return super().write(text)


def run():
    with progress_bar(3, "name") as show:
        for done in (1, 2, 3):
            show(done, f"loss {done}")


def test_what_it_shows(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    run()
    last = stream.getvalue().split("\r")[-1]
    assert last.startswith("name: 100%")
    assert "3/3" in last
    assert "loss 3" in last


def test_a_bar_that_goes_on(monkeypatch):
    """It begins at the steps that were finished earlier."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_bar(4, "name", initial=2) as show:
        show(3, "loss 3")
    first, *_, last = stream.getvalue().split("\r")[1:]
    assert first.startswith("name:  50%")
    assert "2/4" in first
    assert "3/4" in last


def test_without_stderr(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    run()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("good", range(5))
@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space"), ValueError("closed")]
)
def test_a_stderr_that_fails(good, error, monkeypatch):
    stream = Broken(good, error)
    monkeypatch.setattr(sys, "stderr", stream)
    run()
    assert stream.good == 0  # the control: it did fail
    with pytest.raises(type(error)):
        stream.write("x")


def test_the_bar_is_as_wide_as_the_terminal(monkeypatch):
    for width in (50, 70):
        leading, following = pty.openpty()
        fcntl.ioctl(following, termios.TIOCSWINSZ, struct.pack("4H", 24, width, 0, 0))
        with open(following, "w") as stream:
            monkeypatch.setattr(sys, "stderr", stream)
            run()
            monkeypatch.undo()
            shown = os.read(leading, 10_000).decode()
        os.close(leading)
        assert max(map(len, shown.rstrip().split("\r"))) in (width - 1, width)


def test_errors_of_the_block_pass(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Broken(0, OSError(28, "No space")))
    with pytest.raises(OSError, match="of the block"), progress_bar(3, "name"):
        raise OSError(5, "of the block")
