"""Checks of array arguments: once, on the host, with conversion to one library and dtype.

After these checks no index is out of range, no shape is wrong and every mask is a number to add. They
are worth their microseconds: without them, NumPy raises an IndexError deep inside or, for a negative
id, reads the wrong row; CuPy silently wraps every index around.
"""

from __future__ import annotations

import reprlib
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array, is_array, refuse_masked, to_backend, to_host
from minizha.config import NezhaConfig
from minizha.errors import ArgumentError, BackendError
from minizha.ops.cross_entropy import IGNORED


class ArgumentChecker(NamedTuple):
    """Checks arguments against a configuration, and converts them to one library and dtype."""

    config: NezhaConfig
    xp: ModuleType
    dtype: str

    def integers(self, name: str, value: Any, shape: tuple, below: int) -> Array:
        """Ids of ``shape`` in [0, below)."""
        return self.xp.asarray(self.host_integers(name, value, shape, below))

    def host_integers(
        self,
        name: str,
        value: Any,
        shape: tuple,
        below: int,
        *,
        ignored: bool = False,
        low: int = 0,
    ) -> np.ndarray:
        """The same in [low, below), but on the host; with ``ignored``, −100 is allowed too."""
        array = self._host_array(name, value)
        # NumPy makes an empty list a float64 array
        if array.dtype.kind not in "iu" and not (
            array.size == 0 and isinstance(value, (list, tuple))
        ):
            raise ArgumentError(f"{name}: expected integers, found {_content(array)}")
        _expect_shape(name, array.shape, shape)
        bad = (array < low) | (array >= below)
        if ignored:
            bad &= array != IGNORED
        if bad.any():
            expected = f"values in [{low}, {below})" + (f" or {IGNORED}" if ignored else "")
            raise _bad_entry(name, expected, array, bad)
        # always a copy: the caller may change the array before the backward pass
        return array.astype(np.int64)

    def chosen(self, name: str, value: Any, shape: tuple) -> Array:
        """The indices of the True entries in booleans of ``shape``, in C order."""
        array = self._host_array(name, value)
        if array.dtype.kind != "b":
            raise ArgumentError(
                f"{name}: expected True or False for each token, found {_content(array)}"
            )
        _expect_shape(name, array.shape, shape)
        return to_backend(np.flatnonzero(array), self.xp)

    def floats(self, name: str, value: Any, shape: tuple) -> Array:
        """A float array of ``shape`` in the model's dtype; complex128 stays complex in float64.

        Arrays on the host are checked to be finite. Arrays on the device are not, because the check
        would wait for the device.
        """
        array = self.array(name, value)
        if array.dtype.kind not in "iufc":
            raise ArgumentError(f"{name}: expected numbers, found {_content(array)}")
        _expect_shape(name, array.shape, shape)
        dtype = self.dtype
        if array.dtype.kind == "c":
            if dtype == "float32":
                raise ArgumentError(
                    f"{name}: expected real numbers in a float32 model, found complex"
                )
            dtype = "complex128"
        # a copy, as above
        if not isinstance(array, np.ndarray):
            return self.xp.array(array, dtype=dtype)
        with np.errstate(over="ignore"):
            cast = np.array(array, dtype=dtype)
        bad = ~np.isfinite(cast)
        if bad.any():
            raise _bad_entry(name, f"finite numbers in the range of {dtype}", array, bad)
        return to_backend(cast, self.xp)

    def targets(self, name: str, value: Any, shape: tuple, low: float, high: float) -> Array:
        """The targets of a loss: real numbers in [low, high], of ``shape``."""
        array = self._host_numbers(name, value)
        _expect_shape(name, array.shape, shape)
        bad = ~((array >= low) & (array <= high))  # also catches NaN
        if bad.any():
            raise _bad_entry(name, f"numbers in [{low:g}, {high:g}]", array, bad)
        return to_backend(array.astype(self.real_dtype), self.xp)

    @property
    def real_dtype(self) -> str:
        """The dtype of constants: masks and targets."""
        return "float32" if self.dtype == "float32" else "float64"

    @property
    def largest(self) -> float:
        """The largest number of that dtype."""
        return float(np.finfo(self.real_dtype).max)

    def mask(self, name: str, value: Any, shapes: dict[str, tuple]) -> np.ndarray:
        """A mask of one of ``shapes``, whose keys describe them; on the host."""
        array = self._host_numbers(name, value)
        if array.shape not in shapes.values():
            text = " or ".join(f"{axes} = {shape}" for axes, shape in shapes.items())
            raise ArgumentError(f"{name}: expected shape {text}, found {array.shape}")
        array = array.astype(np.float64)
        bad = ~((array >= 0) & (array <= 1))  # also catches NaN
        if bad.any():
            raise _bad_entry(name, "1 for a visible token and 0 for a masked one", array, bad)
        return array

    def additive_mask(self, visible: np.ndarray | None) -> Array | None:
        """``(1 − visible) · lowest number``, in the model's library; None if all is visible."""
        if visible is None or (visible == 1).all():
            return None
        return to_backend(((1.0 - visible) * -self.largest).astype(self.real_dtype), self.xp)

    def head_masks(self, value: Any) -> tuple[Array | None, ...]:
        """For each layer factors (1, N, 1, 1), or None; N includes the pruned heads. For a
        complex128 model they may be complex."""
        layers, N = self.config.num_hidden_layers, self.config.num_attention_heads
        if value is None:
            return (None,) * layers
        dtype = self.real_dtype
        array = self._host_array("head_mask", value)
        if array.dtype.kind == "c" and self.dtype == "complex128":  # for the complex step
            dtype = "complex128"
        elif array.dtype.kind not in "biuf":
            raise ArgumentError(f"head_mask: expected numbers, found {_content(array)}")
        if array.shape not in ((N,), (layers, N)):
            raise ArgumentError(
                f"head_mask: expected shape (N,) = {(N,)} or (layers, N) = {(layers, N)}, "
                f"found {array.shape}"
            )
        wide = array.astype(np.result_type(dtype, np.float64))
        if not (np.abs(wide) <= self.largest).all():  # also catches NaN
            raise ArgumentError(
                "head_mask: expected finite numbers, 1 to keep a head and 0 to drop it, found "
                f"{array.tolist()}"
            )
        each = np.broadcast_to(array, (layers, N)).astype(dtype)
        return tuple(to_backend(row.reshape(1, N, 1, 1), self.xp) for row in each)

    def array(self, name: str, value: Any) -> Array:
        """``value`` as an array, on the host or on the device as it was passed."""
        refuse_masked(value, name)
        if not isinstance(value, (list, tuple, np.ndarray)) and is_array(value):
            if self.xp is np:
                raise BackendError(
                    f"{name}: expected a NumPy array for a NumPy model, found a CuPy array; nothing "
                    "is copied to the host implicitly: pass value.get()"
                )
            return value
        try:
            # a plain array also for subclasses such as np.matrix, whose operators differ
            return np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: tensors of torch
            raise ArgumentError(f"{name}: expected an array or nested lists: {error}") from error

    def _host_array(self, name: str, value: Any) -> np.ndarray:
        array = self.array(name, value)
        return array if isinstance(array, np.ndarray) else to_host(array)

    def _host_numbers(self, name: str, value: Any) -> np.ndarray:
        array = self._host_array(name, value)
        if array.dtype.kind not in "biuf":
            raise ArgumentError(f"{name}: expected numbers, found {_content(array)}")
        return array


def _bad_entry(name: str, expected: str, array: np.ndarray, bad: np.ndarray) -> ArgumentError:
    """The error that names the first bad entry."""
    index = tuple(int(i) for i in np.argwhere(bad)[0])
    return ArgumentError(f"{name}: expected {expected}, found {array[index]} at {list(index)}")


def _content(array: np.ndarray) -> str:
    """The dtype of the array; of Python objects, the first that is not a number of 64 bits."""
    if array.dtype != object:
        return str(array.dtype)
    bad = (x for x in array.flat if not isinstance(x, (int, float)) or abs(x) >= 2**63)
    return reprlib.repr(next(bad, "Python objects"))


def _expect_shape(name: str, found: tuple[int, ...], expected: tuple) -> None:
    fits = len(found) == len(expected) and all(
        isinstance(e, str) or e == f for e, f in zip(expected, found, strict=False)
    )
    if not fits:
        text = ", ".join(str(e) for e in expected) + ("," if len(expected) == 1 else "")
        raise ArgumentError(f"{name}: expected shape ({text}), found {found}")
