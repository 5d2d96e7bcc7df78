"""Signals: those that end a program raise once, a delay loses none, and nohup stays nohup."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from minizha.interrupts import (
    ENDING,
    PAUSE,
    blocked_signals,
    delay_interrupts,
    ending_signals_interrupt,
)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_raises_once(number):
    with ending_signals_interrupt() as received:
        with pytest.raises(KeyboardInterrupt, match=signal.Signals(number).name):
            signal.raise_signal(number)
        for second in ENDING:  # would end the program without the block
            signal.raise_signal(second)
    assert received == [number, *ENDING]
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_later_signal_raises_again(monkeypatch):
    """Python drops an exception that is raised while an object is deleted: then a second one is
    needed."""
    with ending_signals_interrupt():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        later = time.monotonic() + 1.01 * PAUSE
        monkeypatch.setattr(time, "monotonic", lambda: later)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_handlers_of_others_stay():
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_signals_interrupt() as received:
            signal.raise_signal(signal.SIGHUP)
        assert (received, signal.getsignal(signal.SIGHUP)) == ([], signal.SIG_IGN)
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_other_threads_have_no_handlers():
    found = []

    def run():
        with ending_signals_interrupt() as received, delay_interrupts():
            found.append((received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [([], signal.SIG_DFL)]


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_a_delayed_signal_is_not_lost(number):
    done = []

    def run():
        with delay_interrupts():
            signal.raise_signal(number)
            done.append("the block goes on")
        done.append("never")

    with ending_signals_interrupt(), pytest.raises(KeyboardInterrupt):
        run()
    assert done == ["the block goes on"]


def test_without_a_handler_a_signal_ends_the_program_at_once():
    code = (
        "import signal\nfrom minizha.interrupts import delay_interrupts\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "with delay_interrupts(): signal.raise_signal(signal.SIGINT); print('lost')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, "")


@pytest.mark.parametrize("number", [signal.SIGINT, *ENDING])
def test_a_process_that_starts_in_the_block_gets_no_signal(number):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with blocked_signals():
        child = subprocess.Popen(["sleep", "60"])
    try:
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
        os.kill(child.pid, number)
        time.sleep(0.1)
        assert child.poll() is None
    finally:
        child.kill()
    assert child.wait() == -signal.SIGKILL
