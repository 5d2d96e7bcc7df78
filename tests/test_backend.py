"""backend.py: the choice of the array library, and the functions that differ between the two."""

import sys
from types import ModuleType

import numpy as np
import pytest

from minizha import backend
from minizha.errors import BackendError, MinizhaError
from tests.support import standin

cupy = standin.cupy


@pytest.fixture(autouse=True)
def stand_in_for_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy)


# --- choosing a library ---------------------------------------------------------------------------


def refusal(name):
    with pytest.raises(BackendError) as caught:
        backend.get_backend(name)
    assert isinstance(caught.value, MinizhaError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_get_backend_by_name():
    assert backend.get_backend("numpy") is np
    assert backend.get_backend("cupy") is cupy


@pytest.mark.parametrize("name", ["torch", "CuPy", "", None, 1, np])
def test_unknown_backend_names_the_known(name):
    message = refusal(name)
    assert repr(name) in message
    assert "numpy, cupy" in message


def test_missing_cupy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "pip install cupy-cuda12x" in refusal("cupy")


def test_broken_cupy_fits_on_one_line(monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "cupy":
                raise ImportError(
                    "\n=====\nFailed to import CuPy.\n\nlibnvrtc.so.12 is missing\n=====\n"
                )

    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert "libnvrtc.so.12 is missing" in refusal("cupy")


def no_driver():
    raise RuntimeError("cudaErrorInsufficientDriver")


@pytest.mark.parametrize("answer", [lambda: False, no_driver])
def test_cupy_without_a_gpu_says_so(answer, monkeypatch):
    fake = ModuleType("cupy")
    fake.is_available = answer
    monkeypatch.setitem(sys.modules, "cupy", fake)
    assert "no usable GPU" in refusal("cupy")


# --- which library an array belongs to ------------------------------------------------------------


def test_namespace_follows_the_arrays():
    x, y = np.ones(2), cupy.ones((2,))
    assert backend.namespace(x) is backend.namespace(None, 2.0, x, x[:1]) is np
    assert backend.namespace(x.sum()) is np  # NumPy's reductions are scalars
    assert backend.namespace(y) is backend.namespace(None, y, True, y.sum()) is cupy


def test_namespace_without_cupy(monkeypatch):
    monkeypatch.delitem(sys.modules, "cupy")
    assert backend.namespace(np.ones(2)) is np
    monkeypatch.setitem(sys.modules, "cupy", None)  # a failed import leaves this
    assert backend.namespace(np.ones(2)) is np
    assert "cupy" not in sys.modules or sys.modules["cupy"] is None


def test_namespace_of_two_libraries_says_how_to_move():
    x, y = np.ones(2), cupy.ones((2,))
    for mix in ((x, y), (y, x), (None, y, 1.0, x)):
        with pytest.raises(BackendError, match="to_backend"):
            backend.namespace(*mix)


@pytest.mark.parametrize("arguments", [(), (None,), (1.0, None), ([1.0],)])
def test_namespace_of_no_array(arguments):
    with pytest.raises(BackendError, match="expected NumPy or CuPy arrays"):
        backend.namespace(*arguments)


def test_is_array():
    assert backend.is_array(np.ones(2))
    assert backend.is_array(cupy.ones((2,)))
    assert not any(map(backend.is_array, (None, 1.0, [1.0], "x", np.float32(1))))


# --- moving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [np.asarray, cupy.asarray, np.ndarray.tolist])
@pytest.mark.parametrize("xp", [np, cupy])
@pytest.mark.parametrize("dtype", [None, np.float32])
def test_to_backend_and_back(make, xp, dtype):
    values = np.arange(6.0).reshape(2, 3)
    moved = backend.to_backend(make(values), xp, dtype)
    assert isinstance(moved, xp.ndarray)
    assert moved.dtype == (dtype or np.float64)
    back = backend.to_host(moved)
    assert type(back) is np.ndarray
    np.testing.assert_array_equal(back, values)


def test_only_leaving_the_device_waits():
    with standin.count_synchronisations() as found:
        x = backend.to_backend([1.0, 2.0], cupy)
        backend.to_backend(x, cupy)
        backend.to_host([1.0])
    assert found == []
    with standin.count_synchronisations() as found:
        backend.to_backend(x, np)
        backend.to_host(x)
    assert [what for what, _ in found] == ["get", "get"]
