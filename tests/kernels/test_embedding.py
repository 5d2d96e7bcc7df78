"""The sum of rows that share an id, the kernel of embedding's backward pass, on NumPy and CuPy."""

import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from minizha.backend import namespace, to_host
from minizha.kernels import embedding
from tests.support import standin

cupy = standin.cupy


@pytest.fixture(autouse=True)
def stand_in_for_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy)


def by_definition(ids, rows, count):
    out = np.zeros((count, rows.shape[1]), dtype=rows.dtype)
    np.add.at(out, ids, rows)
    return out


def on_both(ids, rows, count):
    """``add_rows`` on NumPy and on the stand-in for CuPy, where it must not synchronise."""
    on_numpy = embedding.add_rows(ids, rows, count)
    device = cupy.asarray(ids), cupy.asarray(rows)
    with standin.count_synchronisations() as synchronisations:
        on_cupy = embedding.add_rows(*device, count)
        again = embedding.add_rows(*device, count)
    assert synchronisations == []
    assert isinstance(on_cupy, cupy.ndarray)
    np.testing.assert_array_equal(on_cupy.get(), again.get())
    np.testing.assert_array_equal(on_numpy, embedding.add_rows(ids, rows, count))
    return on_numpy, on_cupy.get()


@st.composite
def rows_to_add(draw):
    T, D, count = draw(st.integers(0, 40)), draw(st.integers(0, 4)), draw(st.integers(1, 12))
    highest = draw(st.integers(1, count))  # few ids: many repeats, and rows that no id names
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    ids = rng.integers(0, highest, size=T).astype(draw(st.sampled_from(["i4", "i8"])))
    rows = rng.normal(size=(T, D)) + draw(st.sampled_from([0, 1j])) * rng.normal(size=(T, D))
    return ids, rows, count


@given(rows_to_add(), st.sampled_from(["f4", "f8", "c16"]))
def test_whole_numbers_add_up_exactly(drawn, dtype):
    ids, rows, count = drawn
    rows = np.round(10 * rows.real).astype(dtype)  # sums of whole numbers are exact in any order
    for result in on_both(ids, rows, count):
        assert result.dtype == rows.dtype
        np.testing.assert_array_equal(result, by_definition(ids, rows, count))


@given(rows_to_add())
def test_any_numbers_add_up_to_rounding(drawn):
    ids, rows, count = drawn
    for result in on_both(ids, rows, count):
        np.testing.assert_allclose(result, by_definition(ids, rows, count), rtol=1e-12, atol=1e-13)


@given(rows_to_add(), st.sampled_from([np.nan, np.inf]))
@example((np.array([0, 1, 2]), np.ones((3, 2)), 3), np.inf)
def test_a_bad_row_spoils_its_own_sum_only(drawn, bad):
    ids, rows, count = drawn
    rows = np.round(10 * rows.real)
    rows[: rows.shape[0] // 2] = bad
    for result in on_both(ids, rows, count):
        np.testing.assert_array_equal(result, by_definition(ids, rows, count))


def test_layouts_and_arguments_stay_as_they_are():
    ids = np.array([4, 0, 4, 2, 0, 9])[::-2]
    rows = np.arange(36.0).reshape(6, 6)[::2, ::3]
    ids.flags.writeable = rows.flags.writeable = False
    ids_before, rows_before = ids.copy(), rows.copy()
    for result in on_both(ids, rows, 10):
        np.testing.assert_array_equal(result, by_definition(ids, rows, 10))
    np.testing.assert_array_equal(ids, ids_before)
    np.testing.assert_array_equal(rows, rows_before)


def loses_repeats(ids, rows, count):
    out = namespace(ids, rows).zeros((count, rows.shape[1]), dtype=rows.dtype)
    out[ids] += rows
    return out


def synchronises(ids, rows, count):
    xp = namespace(ids, rows)
    out = xp.zeros((count, rows.shape[1]), dtype=rows.dtype)
    for i, r in enumerate(to_host(ids)):
        out[int(r)] += rows[i]
    return out


@pytest.mark.parametrize("wrong", [loses_repeats, synchronises])
def test_a_wrong_add_rows_is_noticed(wrong, monkeypatch):
    monkeypatch.setattr(embedding, "add_rows", wrong)
    with pytest.raises(AssertionError):
        test_whole_numbers_add_up_exactly.hypothesis.inner_test(
            (np.array([1, 0, 1]), np.ones((3, 2)), 2), "f8"
        )
