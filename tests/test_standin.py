"""The stand-in for CuPy refuses what CuPy refuses, and counts every wait for the device.

A stand-in that is more lenient than CuPy would let the suite pass here and fail on a GPU. So the
rules below also run on the real CuPy if it is installed: without a GPU, those that raise before CuPy
needs the device (an array at a made-up address is enough); with a GPU, all of them.
"""

import inspect
import math
import operator
import re
import sys
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import standin
from tests.support.standin.table import CONSTANTS, FUNCTIONS, METHODS, NOT_IN_CUPY, UFUNCS

ours = standin.cupy
POSITIONAL = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD


def arrays(xp, make):
    """The operands of the rules: x (2, 3), ids (4,), mask (2, 3), zero () and host, a NumPy array."""
    return SimpleNamespace(
        x=make((2, 3), "f4"),
        column=make((3, 1), "f4"),
        ids=make((4,), "i8"),
        z=make((2, 3), "c16"),
        mask=make((2, 3), "?"),
        zero=make((), "i8"),
        host=np.ones((2, 3), "f4"),
        host_ids=np.zeros(4, "i8"),
    )


@pytest.fixture
def a():
    return arrays(ours, lambda shape, dtype: ours.ones(shape, dtype=dtype))


# --- what CuPy refuses; `error` is also the error of the real one ---------------------------------

REFUSED = {
    # raised before CuPy needs the device, so they are checked without a GPU
    "conversion": (TypeError, lambda xp, a: np.asarray(a.x)),
    "conversion in a list": (TypeError, lambda xp, a: np.asarray([a.x, a.x])),
    "array interface": (AttributeError, lambda xp, a: a.x.__array_interface__),
    "buffer": (TypeError, lambda xp, a: memoryview(a.x)),
    "hash": (TypeError, lambda xp, a: hash(a.x)),
    "index of a list": (TypeError, lambda xp, a: [1, 2][a.zero]),
    "range": (TypeError, lambda xp, a: range(a.zero)),
    "shape on the device": (TypeError, lambda xp, a: xp.zeros(a.zero)),
    "truth of many": (ValueError, lambda xp, a: bool(a.x)),
    "item of many": (ValueError, lambda xp, a: a.x.item()),
    "length of 0-d": (TypeError, lambda xp, a: len(a.zero)),
    "iterating 0-d": (TypeError, lambda xp, a: iter(a.zero).__next__()),
    "assigning NumPy": (ValueError, lambda xp, a: operator.setitem(a.x, ..., a.host)),
    "assigning a list": (ValueError, lambda xp, a: operator.setitem(a.x, 0, [1.0, 2.0, 3.0])),
    "filling with NumPy": (ValueError, lambda xp, a: a.x.fill(a.host)),
    "index beyond the end": (IndexError, lambda xp, a: a.x[2]),
    "float index": (IndexError, lambda xp, a: a.x[a.x]),
    "too many indices": (IndexError, lambda xp, a: a.x[0, 0, 0]),
    "where=": (TypeError, lambda xp, a: xp.sum(a.x, where=a.mask)),
    "where= of a method": (TypeError, lambda xp, a: a.x.mean(where=a.mask)),
    "initial=": (TypeError, lambda xp, a: xp.max(a.x, initial=0.0)),
    "keepdims by position": (TypeError, lambda xp, a: xp.max(a.x, -1, True)),
    "quicksort": (ValueError, lambda xp, a: xp.argsort(a.x, kind="quicksort")),
    "x @ NumPy": (TypeError, lambda xp, a: a.x @ a.host.T),
    "NumPy @ x": (TypeError, lambda xp, a: a.host.T @ a.x),
    "x @ scalar": ((TypeError, AttributeError), lambda xp, a: a.x @ 1.0),
    "matmul": (TypeError, lambda xp, a: xp.matmul(a.x, a.host.T)),
    "dot": (TypeError, lambda xp, a: a.x.dot(a.host.T)),
    "tensordot": (TypeError, lambda xp, a: xp.tensordot(a.x, a.host, 2)),
    "stack": (TypeError, lambda xp, a: xp.stack([a.host, a.host])),
    "broadcast_to": (TypeError, lambda xp, a: xp.broadcast_to(a.host, (4, 2, 3))),
    "expand_dims": (TypeError, lambda xp, a: xp.expand_dims(a.host, 0)),
    "ascontiguousarray": (TypeError, lambda xp, a: xp.ascontiguousarray(a.host)),
    "flatnonzero": (TypeError, lambda xp, a: xp.flatnonzero(a.host)),
    "cumsum": (TypeError, lambda xp, a: xp.cumsum(a.host)),
    "any": (TypeError, lambda xp, a: xp.any(a.host)),
    "take from NumPy": (TypeError, lambda xp, a: xp.take(a.host, a.ids)),
    "add.at of complex numbers": (
        TypeError,
        lambda xp, a: xp.add.at(a.z, a.ids, a.z[0]),
    ),
    "add.at of booleans": (TypeError, lambda xp, a: xp.add.at(a.mask, a.ids, True)),
    "add.at a float index": (IndexError, lambda xp, a: xp.add.at(a.x, a.x, 1.0)),
    # these need the device first, so the real CuPy is tested on a GPU only
    "x + NumPy": (TypeError, lambda xp, a: a.x + a.host),
    "NumPy + x": (TypeError, lambda xp, a: a.host + a.x),
    "x += NumPy": (TypeError, lambda xp, a: operator.iadd(a.x, a.host)),
    "NumPy += x": (TypeError, lambda xp, a: operator.iadd(a.host, a.x)),
    "x + list": (TypeError, lambda xp, a: operator.add(a.x, [1.0, 2.0, 3.0])),
    "list + x": (TypeError, lambda xp, a: operator.add([1.0, 2.0, 3.0], a.x)),
    "x * None": (TypeError, lambda xp, a: a.x * None),
    "x == None": (TypeError, lambda xp, a: a.x == None),  # noqa: E711
    "x < NumPy": (TypeError, lambda xp, a: a.x < a.host),
    "exp": (TypeError, lambda xp, a: xp.exp(a.host)),
    "maximum": (TypeError, lambda xp, a: xp.maximum(a.x, a.host)),
    "where": (TypeError, lambda xp, a: xp.where(a.mask, a.x, a.host)),
    "out= NumPy": (TypeError, lambda xp, a: xp.exp(a.x, out=a.host)),
    "einsum": (TypeError, lambda xp, a: xp.einsum("ij,ij->i", a.x, a.host)),
    "concatenate": (TypeError, lambda xp, a: xp.concatenate([a.x, a.host])),
    "object dtype": (ValueError, lambda xp, a: xp.asarray([None])),
}

STRICTER = {
    "numpy.exp": lambda xp, a: np.exp(a.x),
    "numpy.sum": lambda xp, a: np.sum(a.x),
    "numpy.concatenate": lambda xp, a: np.concatenate([a.x, a.x]),
    "NumPy index": lambda xp, a: a.x[a.host_ids],
    "NumPy index assigned to": lambda xp, a: operator.setitem(a.x, a.host_ids, 1.0),
    "list index": lambda xp, a: a.x[[0, 1]],
    "NumPy rows": lambda xp, a: operator.setitem(a.x, a.ids, a.host[[0, 0, 0, 0]]),
    "take": lambda xp, a: xp.take(a.x, a.host_ids, axis=0),
    "take_along_axis": lambda xp, a: xp.take_along_axis(a.x, a.host.astype(int), axis=0),
    "swapaxes": lambda xp, a: xp.swapaxes(a.host, 0, 1),
    "sum": lambda xp, a: xp.sum(a.host),
    "max": lambda xp, a: xp.max(a.host),
    "argsort": lambda xp, a: xp.argsort(a.host),
    "clip": lambda xp, a: xp.clip(a.host, 0, 1),
    "add.at NumPy rows": lambda xp, a: xp.add.at(a.x, a.ids, a.host[[0, 0, 0, 0]]),
    "add.at a NumPy index": lambda xp, a: xp.add.at(a.x, a.host_ids, 1.0),
    "add.at in NumPy": lambda xp, a: xp.add.at(a.host, a.ids, 1.0),
    "zeros_like": lambda xp, a: xp.zeros_like(a.host),
    "array in a list": lambda xp, a: xp.asarray([a.zero, a.zero]),
}


@pytest.mark.parametrize("rule", REFUSED)
def test_refuses_what_cupy_refuses(rule, a):
    error, attempt = REFUSED[rule]
    with pytest.raises(error):
        attempt(ours, a)


def test_numpy_itself_breaks_these_rules():
    # the control: NumPy breaks most of the rules, all those in which the two differ
    plain = arrays(np, lambda shape, dtype: np.ones(shape, dtype))
    refused = set()
    for rule, (error, attempt) in REFUSED.items():
        try:
            attempt(np, plain)
        except (TypeError, ValueError, IndexError) as found:
            refused |= {rule} if isinstance(found, error) else set()
    assert refused == {
        *("hash", "truth of many", "item of many", "length of 0-d", "iterating 0-d", "x * None"),
        *("index beyond the end", "float index", "too many indices", "keepdims by position"),
        *("filling with NumPy", "add.at a float index"),
    }


@pytest.mark.parametrize("rule", STRICTER)
def test_is_stricter_on_purpose(rule, a):
    with pytest.raises(TypeError):
        STRICTER[rule](ours, a)


# --- what it computes -----------------------------------------------------------------------------


def added(xp, x, index, values):
    out = x.copy()
    xp.add.at(out, index, values)
    return out


COMPUTED = {
    "scalars": lambda xp, x, ids: (2.0 * x - 1) ** 2 / np.float32(3) + True,
    "NumPy scalar first": lambda xp, x, ids: np.float32(2) * x,
    "in place": lambda xp, x, ids: operator.imul(x.copy(), x),
    "comparison": lambda xp, x, ids: (x > 0.5) | ~(x == 2),
    "matmul": lambda xp, x, ids: x @ x.T,
    "sum": lambda xp, x, ids: x.sum(axis=-1, keepdims=True) + xp.sum(x),
    "max": lambda xp, x, ids: x.max(axis=(0, 1)),
    "mean dtype": lambda xp, x, ids: xp.mean(x, dtype=xp.float64),
    "var": lambda xp, x, ids: x.var(axis=-1, keepdims=True),
    "element": lambda xp, x, ids: x[1, 2],
    "rows": lambda xp, x, ids: x[ids % 2],
    "pairs": lambda xp, x, ids: x[ids % 2, ids % 3],
    "mixed index": lambda xp, x, ids: x[None, ..., ids % 3],
    "row by 0-d": lambda xp, x, ids: x[ids[0] % 2],
    "mask": lambda xp, x, ids: x[x > 1.0],
    "where": lambda xp, x, ids: xp.where(x > 1.0, x, 0.0),
    "clip": lambda xp, x, ids: xp.clip(x, None, 1.0) + x.clip(0.5, 1.5),
    "concatenate": lambda xp, x, ids: xp.concatenate([x, 2 * x], axis=1),
    "stack": lambda xp, x, ids: xp.stack([x, 2 * x]).swapaxes(0, 1).reshape(4, -1),
    "transpose": lambda xp, x, ids: x[:, :, None].transpose(2, 0, 1),
    "einsum": lambda xp, x, ids: xp.einsum("ij,kj->ik", x, x),
    "argsort": lambda xp, x, ids: xp.argsort(ids, kind="stable"),
    "argmax": lambda xp, x, ids: x.argmax(axis=1),
    "take_along_axis": lambda xp, x, ids: xp.take_along_axis(x, x.argmax(axis=1)[:, None], axis=1),
    "complex": lambda xp, x, ids: xp.exp(x.astype(complex) + 1j).imag,
    "int to float": lambda xp, x, ids: ids / 2,
    "full": lambda xp, x, ids: xp.full((2,), x.sum()) + xp.full_like(x[0, :2], 3),
    "tril": lambda xp, x, ids: xp.tril(xp.ones((3, 3), dtype=bool)),
    "arange": lambda xp, x, ids: xp.arange(3, dtype="f4") + xp.arange(1, 4),
    "split": lambda xp, x, ids: xp.split(x, 3, axis=1)[1],
    "iteration": lambda xp, x, ids: sum(row.sum() for row in x),
    "add.at rows": lambda xp, x, ids: added(xp, x, ids % 2, x[ids % 2]),
    "add.at pairs": lambda xp, x, ids: added(xp, x, (ids % 2, ids % 3), 2.0),
    "add.at columns": lambda xp, x, ids: added(xp, x, (..., -1 - ids % 2), x[:, ids % 3]),
    "out=": lambda xp, x, ids: xp.exp(x, out=xp.empty_like(x)),
    "division by zero": lambda xp, x, ids: x / (x - x),
}


@pytest.mark.parametrize("name", COMPUTED)
def test_computes_as_numpy_does(name):
    x, ids = np.linspace(0.25, 2, 6, dtype="f4").reshape(2, 3), np.array([3, 1, 0, 2])
    with np.errstate(all="ignore"):
        expected = np.asarray(COMPUTED[name](np, x, ids))
    result = COMPUTED[name](ours, ours.asarray(x), ours.asarray(ids))
    assert isinstance(result, ours.ndarray)
    assert (result.shape, result.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(result.get(), expected)


def test_results_are_arrays_never_scalars(a):
    for result in (a.x.sum(), a.x[0, 0], ours.count_nonzero(a.x), ours.allclose(a.x, a.x), -a.zero):
        assert isinstance(result, ours.ndarray)
        assert result.shape == ()


def test_views_share_memory_and_copies_do_not(a):
    views = [a.x[1:], a.x.T, a.x.reshape(-1), a.x.swapaxes(0, 1), a.x[:, None], a.x.transpose(1, 0)]
    views += [ours.squeeze(a.x[:1]), ours.split(a.x, 3, axis=1)[0], a.x.real]
    for value, view in enumerate(views, start=2):
        view[...] = value
        assert float(a.x.max()) == value
    before = a.x.get()
    for copy in (a.x[a.ids], a.x[a.ids[0] * 0], a.x.copy(), a.x.astype("f4"), ours.array(a.x)):
        copy[...] = -1.0
    np.testing.assert_array_equal(a.x.get(), before)
    assert ours.asarray(a.x) is a.x


def test_a_copy_lies_as_order_says(a):
    turned = a.x.T
    for order, c_contiguous in (("C", True), ("F", False), ("K", False)):
        for copy in (ours.array(turned, order=order), ours.array(a.host.T, order=order)):
            assert copy.flags.c_contiguous is c_contiguous
            assert copy.tolist() == turned.tolist()
    assert not ours.array(turned).flags.c_contiguous
    assert ours.array(turned, order="K", copy=False) is turned
    assert ours.array(turned, order="C", copy=False) is not turned


def test_host_and_device_have_separate_memory(a):
    x = ours.asarray(a.host)
    a.host[...] = 7.0
    x.get()[...] = 8.0
    assert x.tolist() == [[1.0] * 3] * 2


@given(st.lists(st.integers(-100, 100), min_size=1, max_size=8), st.integers(1, 7))
def test_integer_indices_wrap_around(indices, n):
    x, ids = ours.arange(n), ours.asarray(indices)
    expected = [i % n for i in indices]
    assert x[ids].tolist() == x.take(ids).tolist() == expected
    assert ours.stack([x, x])[:, ids].tolist() == ours.stack([x, x])[..., ids].tolist()
    assert ours.take_along_axis(x, ids, axis=0).tolist() == expected
    y = ours.zeros((n,), dtype=int)
    y[ids] = 1
    assert set(ours.flatnonzero(y).tolist()) == set(expected)


def test_of_repeated_indices_the_last_value_need_not_win():
    indices, values = [0, 1, 0], [1.0, 2.0, 3.0]
    numpys = np.zeros(2)
    numpys[indices] = values
    x = ours.zeros((2,))
    x[ours.asarray(indices)] = ours.asarray(values)
    assert x.tolist() == [1.0, 2.0]
    assert numpys.tolist() == [3.0, 2.0]


def test_assignment_through_slices_and_masks(a):
    a.x[0] = 2
    a.x[:, 1] = ours.asarray([3.0, 4.0])
    a.x[a.x == 2] = 5.0
    assert a.x.tolist() == [[5.0, 3.0, 5.0], [1.0, 4.0, 1.0]]


def test_empty_holds_rubbish():
    assert np.isnan(ours.empty((2,)).get()).all()
    assert (ours.empty_like(ours.zeros((2,), dtype=int)).get() != 0).all()


def test_names_that_are_missing_say_why():
    with pytest.raises(AttributeError, match=r"no attribute 'errstate'$"):
        ours.errstate  # noqa: B018
    with pytest.raises(AttributeError, match=r"yet in tests/standin/table\.py"):
        ours.hypot  # noqa: B018
    with pytest.raises(AttributeError, match="at"):
        ours.multiply.at  # noqa: B018
    assert not hasattr(ours, "RawKernel")


# --- synchronisations -----------------------------------------------------------------------------

SYNCHRONISING = {
    "get": lambda a: a.x.get(),
    "asnumpy": lambda a: ours.asnumpy(a.x),
    "item": lambda a: a.zero.item(),
    "float": lambda a: float(a.zero),
    "math": lambda a: math.exp(a.zero),
    "int": lambda a: int(a.zero),
    "bool": lambda a: bool(a.zero),
    "if": lambda a: 1 if a.x.sum() > 0 else 2,
    "tolist": lambda a: a.x.tolist(),
    "repr": lambda a: repr(a.x),
    "print": lambda a: f"{a.zero:.2f}",
    "mask": lambda a: a.x[a.mask],
    "mask assigned to": lambda a: operator.setitem(a.x, a.mask, 0.0),
    "flatnonzero": lambda a: ours.flatnonzero(a.x),
    "nonzero": lambda a: a.x.nonzero(),
    "where of one": lambda a: ours.where(a.mask),
    "unique": lambda a: ours.unique(a.ids),
}

NOT_SYNCHRONISING = {
    "reduction": lambda a: a.x.sum() + a.x.max(axis=0),
    "asarray": lambda a: ours.asarray(a.host),
    "rows": lambda a: a.x[a.ids],
    "where": lambda a: ours.where(a.mask, a.x, 0.0),
    "sort": lambda a: ours.argsort(a.ids),
    "shape": lambda a: len(a.x) + a.x.size,
    "assignment": lambda a: operator.setitem(a.x, a.ids, 0.0),
    "iteration": lambda a: list(a.x),
}


@pytest.mark.parametrize("what", SYNCHRONISING)
def test_every_wait_is_logged_with_its_line(what, a):
    here = SYNCHRONISING[what].__code__
    with standin.count_synchronisations() as found:
        SYNCHRONISING[what](a)
    assert [place for _, place in found] == [f"{__file__}:{here.co_firstlineno}"]
    assert standin.synchronisations[-1] == found[0]


@pytest.mark.parametrize("what", NOT_SYNCHRONISING)
def test_nothing_else_is_logged(what, a):
    with standin.count_synchronisations() as found:
        NOT_SYNCHRONISING[what](a)
    assert found == []


def test_counting_can_be_nested_and_ends(a):
    with standin.count_synchronisations() as outer:
        with standin.count_synchronisations() as inner:
            a.x.get()
        a.x.get()
    a.x.get()
    assert (len(inner), len(outer)) == (1, 2)


# --- does the table tell the truth? ---------------------------------------------------------------


def complaints(module, name, row):
    """The parameters of ``row`` that the function of ``module`` does not accept."""
    function = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if function is None:
        return [f"{name}: missing"]
    mine = standin.parse(row)[0].parameters.values()
    if name in UFUNCS:  # every ufunc takes "~x1 ~x2 / * out dtype"
        given = [p for p in mine if p.kind in POSITIONAL]
        nin = getattr(function, "nin", len(given))
        return [] if nin == len(given) else [f"{name}: {nin} operands"]
    try:
        theirs = inspect.signature(function).parameters
    except ValueError:
        return []  # written in C, without a signature
    return [f"{name}: {p.name}" for i, p in enumerate(mine) if not accepts(theirs, i, p)]


def accepts(theirs, place, parameter):
    kinds = [p.kind for p in theirs.values()]
    if inspect.Parameter.VAR_POSITIONAL in kinds:  # (*args, dtype=None, **kwargs)
        anything = inspect.Parameter.VAR_KEYWORD in kinds
        return parameter.kind != parameter.KEYWORD_ONLY or anything or parameter.name in theirs
    if parameter.kind == parameter.KEYWORD_ONLY:
        return parameter.name in theirs
    there = list(theirs.values())[place : place + 1]
    fits = bool(there) and there[0].kind in POSITIONAL
    return fits and (parameter.kind == parameter.POSITIONAL_ONLY or there[0].name == parameter.name)


NOT_IN_NUMPY = {"asnumpy", "take_along_axis", "array", "asarray"}
"""Rows that NumPy cannot confirm: a name that only CuPy has, and functions of the stand-in itself."""


def test_numpy_accepts_the_table():
    rows = {name: row for name, row in FUNCTIONS.items() if name not in NOT_IN_NUMPY}
    assert [c for name, row in rows.items() for c in complaints(np, name, row)] == []


def test_a_wrong_row_is_noticed():
    wrong = {
        "sum": "@a axis where",
        "max": "@a axis keepdims",
        "exp": "~x ~y / * out",
        "gelu": "@a",
    }
    wrong |= {"argsort": "@a axis order", "swapaxes": "@a axis2 axis1", "tril": "@a k"}
    for name, row in wrong.items():
        assert complaints(np, name, row) or complaints(ours, name, row), name


REAL = []
"""The real CuPy once it was imported: a second import of its compiled parts fails."""


@pytest.fixture
def real(monkeypatch):
    """The real CuPy, which needs no GPU to be imported, even where the stand-in is installed."""
    if getattr(sys.modules.get("cupy"), "__version__", None) == ours.__version__:
        monkeypatch.delitem(sys.modules, "cupy")  # the end of the test puts it back
        if REAL:
            sys.modules["cupy"] = REAL[0]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import cupy
    except ImportError as error:
        pytest.skip(f"the real CuPy is not installed: {' '.join(str(error).split())}")
    REAL[:] = [cupy]
    return cupy


def has_gpu(real):
    try:
        return real.is_available()
    except RuntimeError:  # CuPy 13 without a driver
        return False


@pytest.fixture
def b(real):
    """Real CuPy arrays; without a GPU they have an address that is never read."""
    if has_gpu(real):
        return arrays(real, lambda shape, dtype: real.ones(shape, dtype=dtype))
    if real.__version__.startswith("13."):
        pytest.skip("CuPy 13 makes no array without a GPU")
    memory = real.cuda.UnownedMemory(1 << 20, 1 << 20, None, 0)
    pointer = real.cuda.MemoryPointer(memory, 0)
    return arrays(real, lambda shape, dtype: real.ndarray(shape, dtype, memptr=pointer))


def test_cupy_accepts_the_table(real):
    assert [c for name, row in FUNCTIONS.items() for c in complaints(real, name, row)] == []
    assert complaints(real, "sum", "@a axis where") == ["sum: where"]
    assert complaints(real, "max", "@a axis keepdims") == ["max: keepdims"]


def test_cupy_has_the_constants_and_lacks_what_the_table_says(real):
    assert [
        name for name in CONSTANTS.split() if getattr(real, name) is not getattr(np, name)
    ] == []
    assert [name for name in NOT_IN_CUPY.split() if hasattr(real, name)] == []


def test_cupy_has_the_arrays_attributes(real):
    public = [name for name in dir(ours.ndarray) if not name.startswith("_")]
    assert [name for name in public if not hasattr(real.ndarray, name)] == []
    special = [
        name for name in vars(ours.ndarray) if name.startswith("__") and name[2:-2] != "slots"
    ]
    assert [name for name in special if not hasattr(real.ndarray, name)] == ["__weakref__"]


def test_cupys_methods_take_what_the_table_says(real):
    for name in METHODS.split():
        text = getattr(real.ndarray, name).__doc__.splitlines()[0]  # "_ndarray_base.sum(self, …)"
        theirs = re.findall(r"(\w+)(?:=[^,)]*)?[,)]", text.split("(", 1)[1])[1:]
        mine = list(standin.parse(FUNCTIONS[name])[0].parameters)[1:]
        assert set(mine) <= set(theirs), name


@pytest.mark.parametrize("rule", REFUSED)
def test_cupy_refuses_it_too(rule, real, b):
    error, attempt = REFUSED[rule]
    try:
        with pytest.raises(error):
            attempt(real, b)
    except real.cuda.runtime.CUDARuntimeError:
        assert not has_gpu(real)
        pytest.skip("CuPy asks the device first")


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[1],
        lambda x: x[0, 0],
        lambda x: x[:, ::-1],
        lambda x: x[..., None],
        lambda x: x.T,
        lambda x: x.reshape(3, -1),
        lambda x: x[:, :2].swapaxes(0, 1),
        lambda x: x[None].transpose(2, 0, 1),
        lambda x: x[:, :1].squeeze(1),
    ],
)
def test_cupys_views_have_the_same_layout(view, a, b):
    mine, theirs = view(a.x), view(b.x)
    assert (mine.shape, mine.strides) == (theirs.shape, theirs.strides)
    assert mine.flags.c_contiguous == theirs.flags.c_contiguous


@pytest.mark.gpu
@pytest.mark.parametrize("name", COMPUTED)
def test_cupy_computes_the_same(name, real):
    if not has_gpu(real):
        pytest.skip("no GPU")
    x, ids = np.linspace(0.25, 2, 6, dtype="f4").reshape(2, 3), np.array([3, 1, 0, 2])
    mine = COMPUTED[name](ours, ours.asarray(x), ours.asarray(ids))
    theirs = COMPUTED[name](real, real.asarray(x), real.asarray(ids))
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_allclose(mine.get(), theirs.get(), rtol=1e-6)
