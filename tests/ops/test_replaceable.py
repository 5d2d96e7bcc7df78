"""When an operation runs its kernel (real floats), and when the plain pair."""

import inspect
import subprocess
import sys

import numpy as np
import pytest

import minizha.kernels
from minizha import NezhaConfig, NezhaForMaskedLM
from minizha.backend import get_backend, to_host
from minizha.crosscheck.recorder import record_operations
from minizha.kernels.gelu import SlopeCache
from minizha.ops.gelu import GeluCache, gelu, gelu_backward
from minizha.ops.replaceable import (
    KERNELS,
    NEEDED,
    Kernel,
    Needed,
    caches_needed_for,
    replaceable,
    unread,
)
from tests.support.op_cases import BACKWARDS, FORWARDS, leaves, typical_case, upstream

OPS = sorted({op for (op, _), kernel in KERNELS.items() if kernel.takes is None} & FORWARDS.keys())


@pytest.fixture
def calls(monkeypatch):
    """The name of each forward or backward function of a kernel, as it is called."""
    found = []

    def counted(half, name):
        return lambda *arguments, **options: (found.append(name), half(*arguments, **options))[1]

    for (op, library), kernel in list(KERNELS.items()):
        forward = counted(kernel.forward, op)
        backward = counted(kernel.backward, f"{op}_backward")
        counting = kernel._replace(forward=forward, backward=backward)
        monkeypatch.setitem(KERNELS, (op, library), counting)
    return found


CONFIG = NezhaConfig(
    vocab_size=19,
    hidden_size=12,
    num_hidden_layers=1,
    num_attention_heads=3,
    intermediate_size=11,
    max_relative_position=2,
)


def a_step(backend, dtype, **options):
    model = NezhaForMaskedLM(CONFIG, backend=backend).astype(dtype)
    model([[4, 5, 6, 7, 8]], labels=[[4, -100, 6, -100, -100]], **options).backward()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_float_model_runs_the_kernels(dtype, backend, calls):
    expected = {op for op, library in KERNELS if library == backend}
    if backend == "numpy":  # these two are steps of attention, whose kernel makes them itself
        expected -= {"relative_key", "relative_value"}
    a_step(backend, dtype)
    assert set(calls) == {*expected, *(f"{op}_backward" for op in expected)}


def test_a_record_that_is_read_has_no_kernels_that_keep_less(backend, calls):
    expected = {op for (op, _), kernel in KERNELS.items() if kernel.takes is None}
    a_step(backend, "float32", record=True)
    assert {name for name in calls if not name.endswith("_backward")} <= expected
    assert "relative_key" in calls


def test_a_complex_model_runs_the_plain_operations(backend, calls):
    model = NezhaForMaskedLM(CONFIG, backend=backend).astype("complex128")
    model([[4, 5, 6, 7, 8]], labels=[[4, -100, 6, -100, -100]])
    assert calls == []


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("dtype", ["float32", "complex128"])
def test_an_operation_chooses_by_its_arrays(name, dtype, backend, calls):
    case = typical_case(name).on(get_backend(backend), dtype)
    operation = marked(FORWARDS[name])
    y, cache = operation(**case.variables, **case.constants)
    kernel = KERNELS.get((name, backend))
    fast = kernel is not None and dtype == "float32"
    assert calls == [name] * fast
    assert (kernel is not None and type(cache) is kernel.cache) == fast
    if not fast and (name, backend) != (
        "embedding",
        "cupy",
    ):  # CuPy's add.at takes no complex numbers
        dx = marked(BACKWARDS[name])(upstream(y), cache)
        right, plain_cache = FORWARDS[name](**case.variables, **case.constants)
        expected = BACKWARDS[name](upstream(y), plain_cache)
        for found, equal in zip(leaves((y, dx)), leaves((right, expected)), strict=True):
            assert (to_host(found) == to_host(equal)).all()
        assert calls == []


def marked(plain):
    """The function that the module has under a plain function's name."""
    return getattr(sys.modules[plain.__module__], plain.__name__)


@pytest.mark.parametrize("x", [np.float64(2.0), np.array(2.0 + 0j), np.arange(3)])
def test_neither_scalars_nor_complex_numbers_nor_integers_have_a_kernel(x):
    assert type(gelu(x)[1]) is GeluCache
    assert type(gelu(x=x)[1]) is GeluCache
    assert type(gelu(np.array(2.0))[1]) is type(gelu(x=np.array(2.0))[1]) is SlopeCache


def test_one_complex_argument_suffices():
    seen = []

    @replaceable
    def two(x, y, z=None):
        seen.append("plain")
        return x, None

    real, step = np.ones(2), np.ones(2) + 1e-30j
    with pytest.MonkeyPatch.context() as patch:
        kernel = Kernel(lambda x, y, z=None: seen.append("kernel"), None, tuple)
        patch.setitem(KERNELS, ("two", "numpy"), kernel)
        for arguments in ((real, step), (step, real), (real, real, step), (1, None, "x")):
            two(*arguments)
        two(real, y=real, z=step)
        assert seen == ["plain"] * 5
        two(real, y=np.arange(3), z=None)
    assert seen[5:] == ["kernel"]


def test_a_marked_function_is_its_plain_one_from_outside():
    for half in (gelu, gelu_backward):
        assert half.plain is inspect.unwrap(half) is not half
        assert (half.__name__, half.__doc__) == (half.plain.__name__, half.plain.__doc__)


ALONE = """
import importlib, pkgutil, sys
import numpy, minizha.ops
for module in pkgutil.iter_modules(minizha.ops.__path__, "minizha.ops."):
    importlib.import_module(module.name)
from minizha.ops.gelu import gelu
from minizha.ops.replaceable import KERNELS
print(len(KERNELS), "minizha.kernels" in sys.modules, type(gelu(numpy.ones(3))[1]).__name__)
import minizha.kernels
print(len(KERNELS), type(gelu(numpy.ones(3))[1]).__name__)
"""


def test_the_operations_alone_are_the_plain_ones():
    process = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True)
    assert process.stderr == ""
    assert process.stdout.splitlines() == ["0 False GeluCache", f"{len(KERNELS)} SlopeCache"]


def test_a_cache_of_another_pair_is_not_taken_for_its_own():
    """The plain cache of gelu, while a kernel replaces gelu."""
    x = np.ones(3)
    for forward, backward in (
        (gelu, minizha.kernels.gelu.gelu_backward),
        (gelu.plain, gelu_backward.plain),
    ):
        _, cache = forward(x)
        assert (gelu_backward(x, cache) == backward(x, cache)).all()


# --- what caches are needed for -------------------------------------------------------------------

NOTHING, BACKWARD, EVERYTHING = Needed.NOTHING, Needed.BACKWARD, Needed.EVERYTHING


def test_a_kernel_says_what_it_takes():
    seen = []

    @replaceable
    def negate(x, *, limit=0):
        seen.append("plain")
        return -x, None

    with pytest.MonkeyPatch.context() as patch:
        kernel = Kernel(lambda x, *, limit=0: seen.append("kernel"), None, tuple)
        for takes, expected in (
            (None, "kernel"),
            (lambda x, *, limit=0: limit < 2, "kernel"),
            (lambda x, *, limit=0: limit < 1, "plain"),
            (unread, "plain"),  # here the caller has the cache
        ):
            patch.setitem(KERNELS, ("negate", "numpy"), kernel._replace(takes=takes))
            negate(np.ones(2), limit=1)
            assert seen.pop() == expected
        for needed in (NOTHING, BACKWARD):
            with caches_needed_for(needed):
                negate(np.ones(2))
            assert seen.pop() == "kernel"
    assert NEEDED.get() is EVERYTHING


@pytest.fixture
def needs(monkeypatch):
    """What caches were needed for, each time that an activation was computed."""
    found = []

    def spy(x):
        found.append(NEEDED.get())
        return gelu.plain(x)

    for library in ("numpy", "cupy"):
        kernel = Kernel(spy, gelu_backward.plain, GeluCache)
        monkeypatch.setitem(KERNELS, ("gelu", library), kernel)
    return found


LABELS = {"labels": [[4, -100, 6, -100, -100]]}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, NOTHING),
        ({"record": False}, NOTHING),
        (LABELS, BACKWARD),
        (LABELS | {"record": False}, NOTHING),
        (LABELS | {"record": True}, EVERYTHING),
        ({"record": True}, EVERYTHING),
        ({"output_attentions": True}, EVERYTHING),
        ({"output_hidden_states": True}, NOTHING),
    ],
)
def test_a_call_says_what_its_caches_are_needed_for(options, expected, backend, needs):
    model = NezhaForMaskedLM(CONFIG, backend=backend)
    out = model([[4, 5, 6, 7, 8]], **options)
    assert out.logits is not None  # computed when it is read: the head's activation
    assert set(needs) == {expected}
    assert len(needs) == (3 if "labels" in options else 2)
    assert NEEDED.get() is EVERYTHING


def test_train_mode_needs_caches_for_the_backward_pass_and_a_trace_needs_everything(backend, needs):
    model = NezhaForMaskedLM(CONFIG, backend=backend).train(seed=0)
    model([[4, 5, 6, 7, 8]])
    assert set(needs) == {BACKWARD}
    needs.clear()
    with record_operations():
        model([[4, 5, 6, 7, 8]])
    assert set(needs) == {EVERYTHING}


def test_what_is_computed_again_in_the_backward_pass_has_the_need_of_the_call(backend, needs):
    model = NezhaForMaskedLM(CONFIG, backend=backend).copy_with(chunk_size_feed_forward=2)
    out = model([[4, 5, 6, 7, 8]], **LABELS)
    needs.clear()
    out.backward()
    assert needs == [BACKWARD] * 3
