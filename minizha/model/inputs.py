"""The door: what a caller hands in is checked on the host, once, and made into arrays.

Past this file no index is out of range, no shape is wrong and every mask is a number to add.
The checks are worth their microseconds: NumPy raises IndexError deep inside or, for a negative
id, reads the wrong row; CuPy wraps every index around in silence.
"""

from __future__ import annotations

import reprlib
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array, is_array, to_backend, to_host
from minizha.config import NezhaConfig
from minizha.errors import ArgumentError, BackendError
from minizha.ops.cross_entropy import IGNORED


class Inputs(NamedTuple):
    """What the embeddings and the encoder read; one of the first two is None."""

    input_ids: Array | None
    inputs_embeds: Array | None
    token_type_ids: Array
    mask: Array | None
    head_masks: tuple[Array | None, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """``(B, L)``."""
        return self.token_type_ids.shape


class Door(NamedTuple):
    """Checks arguments against a configuration, and brings them into one library and dtype."""

    config: NezhaConfig
    xp: ModuleType
    dtype: str

    def inputs(
        self,
        input_ids: Any,
        attention_mask: Any,
        token_type_ids: Any,
        head_mask: Any,
        inputs_embeds: Any,
    ) -> Inputs:
        """Check the arguments that every class takes.

        Raises:
            ArgumentError: names the argument, what was found and what was expected.
        """
        if (input_ids is None) == (inputs_embeds is None):
            both = "neither" if input_ids is None else "both"
            raise ArgumentError(
                f"expected exactly one of input_ids and inputs_embeds, found {both}"
            )
        if input_ids is not None:
            input_ids = self.integers("input_ids", input_ids, ("B", "L"), self.config.vocab_size)
            B, L = input_ids.shape
        else:
            D = self.config.hidden_size
            inputs_embeds = self.floats("inputs_embeds", inputs_embeds, ("B", "L", D))
            B, L, _ = inputs_embeds.shape
        if L == 0:
            raise ArgumentError(
                "input_ids or inputs_embeds: expected at least one token, found L = 0"
            )
        if token_type_ids is None:
            token_type_ids = self.xp.zeros((B, L), dtype=self.xp.int64)
        else:
            types = self.config.type_vocab_size
            token_type_ids = self.integers("token_type_ids", token_type_ids, (B, L), types)
        return Inputs(
            input_ids,
            inputs_embeds,
            token_type_ids,
            self.attention_mask(attention_mask, B, L),
            self.head_masks(head_mask),
        )

    def integers(self, name: str, value: Any, shape: tuple, below: int) -> Array:
        """Ids of ``shape`` in [0, below)."""
        return to_backend(self.host_integers(name, value, shape, below), self.xp)

    def host_integers(
        self, name: str, value: Any, shape: tuple, below: int, ignored: bool = False
    ) -> np.ndarray:
        """The same, still on the host; with ``ignored``, −100 too."""
        array = self._host(name, value)
        # NumPy calls an empty list float64
        if array.dtype.kind not in "iu" and not (
            array.size == 0 and isinstance(value, (list, tuple))
        ):
            raise ArgumentError(f"{name}: expected integers, found {_kind(array)}")
        _expect_shape(name, array.shape, shape)
        bad = (array < 0) | (array >= below)
        if ignored:
            bad &= array != IGNORED
        if bad.any():
            text = f"[0, {below})" + (f" or {IGNORED}" if ignored else "")
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ArgumentError(
                f"{name}: expected values in {text}, found {array[where]} at {list(where)}"
            )
        # always a copy: the record must not follow the caller's array
        return array.astype(np.int64)

    def floats(self, name: str, value: Any, shape: tuple) -> Array:
        """A float array of ``shape`` in the model's dtype; complex128 stays complex in float64."""
        if isinstance(value, self.xp.ndarray):
            array = value
        else:
            array = self._host(name, value)
        if array.dtype.kind not in "iufc":
            raise ArgumentError(f"{name}: expected numbers, found {_kind(array)}")
        _expect_shape(name, array.shape, shape)
        dtype = self.dtype
        if array.dtype.kind == "c":
            if dtype == "float32":
                raise ArgumentError(
                    f"{name}: expected real numbers in a float32 model, found complex"
                )
            dtype = "complex128"
        # a copy, for the same reason as above
        return self.xp.array(to_backend(array, self.xp), dtype=dtype)

    def attention_mask(self, value: Any, B: int, L: int) -> Array | None:
        """``(1 − mask) · lowest number``, of shape (B, 1, 1, L) or (B, 1, L, L); None for all ones."""
        if value is None:
            return None
        array = self._host("attention_mask", value)
        if array.dtype.kind not in "biuf":
            raise ArgumentError(f"attention_mask: expected numbers, found {_kind(array)}")
        if array.shape not in ((B, L), (B, L, L)):
            raise ArgumentError(
                f"attention_mask: expected shape (B, L) = {(B, L)} or (B, L, L) = {(B, L, L)}, "
                f"found {array.shape}"
            )
        array = array.astype(np.float64)
        bad = ~((array >= 0) & (array <= 1))  # also catches NaN
        if bad.any():
            where = tuple(int(i) for i in np.argwhere(bad)[0])
            raise ArgumentError(
                "attention_mask: expected 1 where a token may be seen and 0 where not, found "
                f"{array[where]} at {list(where)}"
            )
        if (array == 1).all():
            return None
        real = "float32" if self.dtype == "float32" else "float64"
        added = ((1.0 - array) * float(np.finfo(real).min)).astype(real)
        return to_backend(added[:, None, None, :] if added.ndim == 2 else added[:, None], self.xp)

    def head_masks(self, value: Any) -> tuple[Array | None, ...]:
        """One factor a layer, of shape (1, N, 1, 1), or None."""
        layers, N = self.config.num_hidden_layers, self.config.num_attention_heads
        if value is None:
            return (None,) * layers
        array = self._host("head_mask", value)
        if array.dtype.kind not in "biuf":
            raise ArgumentError(f"head_mask: expected numbers, found {_kind(array)}")
        if array.shape not in ((N,), (layers, N)):
            raise ArgumentError(
                f"head_mask: expected shape (N,) = {(N,)} or (layers, N) = {(layers, N)}, "
                f"found {array.shape}"
            )
        real = "float32" if self.dtype == "float32" else "float64"
        if not (np.abs(array.astype(np.float64)) <= np.finfo(real).max).all():  # also catches NaN
            raise ArgumentError(
                "head_mask: expected finite numbers, 1 to keep a head and 0 to drop it, found "
                f"{array.tolist()}"
            )
        each = np.broadcast_to(array, (layers, N)).astype(real)
        return tuple(to_backend(row.reshape(1, N, 1, 1), self.xp) for row in each)

    def _host(self, name: str, value: Any) -> np.ndarray:
        if is_array(value):
            if self.xp is np and not isinstance(value, np.ndarray):
                raise BackendError(
                    f"{name}: a CuPy array for a NumPy model; nothing moves between host and device "
                    "silently: pass value.get()"
                )
            return to_host(value)
        try:
            return np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:  # the last one: tensors of torch
            raise ArgumentError(f"{name}: expected an array or nested lists: {error}") from error


def flag(name: str, value: Any, default: bool) -> bool:
    """``value``, or ``default`` where it is None; ArgumentError where it is neither True nor False."""
    if value is not None and not isinstance(value, (bool, np.bool_)):
        raise ArgumentError(f"{name}: expected True, False or None, found {reprlib.repr(value)}")
    return default if value is None else bool(value)


def _kind(array: np.ndarray) -> str:
    """What the array holds; of Python objects the first that is at fault."""
    if array.dtype != object:
        return str(array.dtype)
    odd = (x for x in array.flat if not isinstance(x, (int, float)) or abs(x) >= 2**63)
    return reprlib.repr(next(odd, "Python objects"))


def _expect_shape(name: str, found: tuple[int, ...], expected: tuple) -> None:
    fits = len(found) == len(expected) and all(
        isinstance(e, str) or e == f for e, f in zip(expected, found, strict=False)
    )
    if not fits:
        text = ", ".join(str(e) for e in expected) + ("," if len(expected) == 1 else "")
        raise ArgumentError(f"{name}: expected shape ({text}), found {found}")
