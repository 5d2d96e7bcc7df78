"""Work shared by threads: who does what, how many threads BLAS has meanwhile, and afterwards."""

import os
import platform
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minizha.kernels import cores
from minizha.kernels.cores import available_threads, one_thread, share
from minizha.ops.replaceable import NEEDED, Needed, caches_needed_for

if cores._set_threads is None:
    pytest.skip("NumPy's BLAS is not OpenBLAS: nothing is shared", allow_module_level=True)


@pytest.fixture(params=[2, 3])
def threads(request, monkeypatch):
    """BLAS with so many threads, on as many cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(request.param), raising=False)
    before = cores._get_threads()
    cores._set_threads(request.param)
    yield request.param
    assert cores._get_threads() == request.param
    cores._set_threads(before)


def parts_of(count):
    """The parts of work, and the number of BLAS's threads in each; the parts wait for each other."""
    found, everyone = [], threading.Barrier(min(count, available_threads()), timeout=20)

    def work(start, stop):
        everyone.wait()  # raises if one thread does two parts, one after the other
        found.append((start, stop, cores._get_threads()))

    share(count, work)
    return sorted(found)


@pytest.mark.parametrize("count", [2, 3, 4, 7, 100])
def test_each_core_has_an_equal_part_at_once_and_one_blas_thread(threads, count):
    parts = parts_of(count)
    assert len(parts) == min(count, threads)
    assert [i for start, stop, _ in parts for i in range(start, stop)] == list(range(count))
    sizes = [stop - start for start, stop, _ in parts]
    assert max(sizes) - min(sizes) <= 1
    assert {blas for _, _, blas in parts} == {1}
    assert parts_of(count) == parts


def test_one_piece_of_work_is_not_cut_and_has_all_of_blas(threads):
    assert parts_of(1) == [(0, 1, threads)]
    share(0, lambda start, stop: range(start, stop)[0:0])


def test_inside_of_a_part_there_are_no_parts(threads):
    found = []
    share(2, lambda start, stop: found.append((available_threads(), parts_of(5))))
    assert found == [(1, [(0, 5, 1)])] * 2


def test_with_one_thread_there_is_one_part(threads):
    with one_thread():
        with one_thread():
            assert parts_of(8) == [(0, 8, 1)]
        assert cores._get_threads() == 1
    assert len(parts_of(8)) == threads


@pytest.mark.parametrize("set_by_user", [1, 5])
def test_the_number_that_is_put_back_is_the_one_from_before(threads, set_by_user):
    cores._set_threads(set_by_user)
    assert available_threads() == min(set_by_user, threads)
    parts_of(9)
    assert cores._get_threads() == set_by_user
    cores._set_threads(threads)


@pytest.mark.parametrize("faulty", [0, 1])
def test_an_error_of_any_part_is_raised_when_all_are_done(threads, faulty):
    done, started = [], threading.Event()

    def work(start, stop):
        if start == faulty * (6 // threads):
            started.wait(20)
            raise ZeroDivisionError
        started.set()
        threading.Event().wait(0.05)
        done.append(start)

    with pytest.raises(ZeroDivisionError):
        share(6, work)
    assert len(done) == threads - 1


def test_a_part_has_the_context_of_its_caller(threads):
    found = []

    def work(start, stop):
        with pytest.raises(FloatingPointError):
            np.float32(1) / np.zeros(1, np.float32)
        found.append(NEEDED.get())

    with caches_needed_for(Needed.NOTHING), np.errstate(divide="raise"):
        share(threads, work)
    assert found == [Needed.NOTHING] * threads
    assert NEEDED.get() is Needed.EVERYTHING


def test_several_threads_may_share_at_once(threads):
    """Each caller has its own parts, also beside others; the last one puts the number back."""
    meet = threading.Barrier(4, timeout=20)

    def one_call():
        found = []
        share(7, lambda start, stop: found.append((start, stop, cores._get_threads())))
        return sorted(found)

    def calls(_):
        meet.wait()
        return [one_call() for _ in range(50)]

    expected = one_call()
    assert len(expected) == threads
    with ThreadPoolExecutor(4) as callers:
        assert list(callers.map(calls, range(4))) == [[expected] * 50] * 4


def test_without_openblas_there_is_one_part(threads, monkeypatch):
    found = []
    with monkeypatch.context() as patch:
        patch.setattr(cores, "_set_threads", None)
        with one_thread():
            assert cores._get_threads() == threads
        assert available_threads() == 1
        share(9, lambda *part: found.append(part))
    assert found == [(0, 9)]


# --- processes ------------------------------------------------------------------------------------

HEAD = """
import os, sys
os.sched_getaffinity = lambda _: range(2)
from minizha.kernels import cores
def parts():
    found = []
    cores.share(8, lambda *part: found.append(part))
    return sorted(found)
"""
IN_TWO, IN_ONE = "[(0, 4), (4, 8)]", "[(0, 8)]"


def run(code, **environment):
    process = subprocess.run(
        [sys.executable, "-c", HEAD + code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.stderr == ""
    return process.stdout.splitlines()


@pytest.mark.parametrize(("number", "expected"), [("1", IN_ONE), ("2", IN_TWO)])
def test_openblas_num_threads_is_obeyed(number, expected):
    code = "print(parts(), cores._get_threads())"
    assert run(code, OPENBLAS_NUM_THREADS=number) == [f"{expected} {number}"]


FORK = """
import threading
parts()
go_on, inside = threading.Event(), threading.Event()
def other():
    with cores.one_thread():
        inside.set()
        go_on.wait()
thread = threading.Thread(target=other)
thread.start()
inside.wait()
if os.fork() == 0:
    print(parts(), cores._get_threads(), flush=True)
    os._exit(0)
os.wait()
print(cores._get_threads(), flush=True)
go_on.set()
thread.join()
print(parts(), cores._get_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_process_shares_too():
    environment = {"OPENBLAS_NUM_THREADS": "2", "PYTHONWARNINGS": "ignore"}
    assert run(FORK, **environment) == [f"{IN_TWO} 2", "1", f"{IN_TWO} 2"]


FORK_INSIDE = """
with cores.one_thread():
    child = os.fork()
if child == 0:
    print(cores._blas.users, cores.available_threads())
    with cores.one_thread():
        print(cores._blas.users, cores._get_threads(), flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(cores._blas.users, cores.available_threads())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_process_forked_inside_one_thread_begins_anew():
    environment = {"OPENBLAS_NUM_THREADS": "2", "PYTHONWARNINGS": "ignore"}
    assert run(FORK_INSIDE, **environment) == ["0 2", "1 1", "0 2"]


@pytest.mark.parametrize("before", ["parts()", ""])
def test_at_the_end_of_the_interpreter_no_thread_is_started(before):
    code = f"import atexit\n{before}\natexit.register(lambda: print(parts(), cores._get_threads()))"
    assert run(code, OPENBLAS_NUM_THREADS="2") == [f"{IN_TWO} 2"]


FAULTS = """
import resource
import numpy as np
from minizha import NezhaConfig, NezhaModel
model = NezhaModel(NezhaConfig(vocab_size=9, hidden_size=12, num_hidden_layers=1,
                               num_attention_heads=3, intermediate_size=11))
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        np.ones(1 << 21)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
given_back = faults()
model([[1, 2]])
faults()
print(faults() < 100 < given_back)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps memory on request")
def test_after_a_models_first_call_freed_memory_is_kept():
    assert run(FAULTS) == ["True"]


def test_keeping_memory_needs_no_glibc(monkeypatch):
    class Other:
        """A C library without mallopt."""

    monkeypatch.setattr(cores.ctypes, "CDLL", lambda _: Other())
    cores.keep_freed_memory.__wrapped__()
