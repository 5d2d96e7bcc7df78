"""The few names of torch that the examples in this folder use, here for NumPy arrays.

minizha neither needs nor knows torch. This file lets the examples of Transformers' documentation run
line by line; in programs of your own use NumPy. (Part of minizha, MIT licence.)
"""

from contextlib import nullcontext
from typing import Any

import numpy as np

no_grad = nullcontext
"""Nothing is recorded unless labels are given, so there is nothing to switch off."""


class Tensor(np.ndarray):
    """A NumPy array whose ``nonzero`` takes ``as_tuple``."""

    def nonzero(self, as_tuple: bool = True) -> Any:
        """The indices of the nonzero entries: an array for each axis, or a row for each entry."""
        # torch's default is False; NumPy's functions call this method without the argument and expect True
        return super().nonzero() if as_tuple else np.argwhere(np.asarray(self))


def tensor(values: Any, dtype: Any = None) -> Tensor:
    """``values``, an array or nested lists, as a Tensor; an array is not copied."""
    return np.asarray(values, dtype=dtype).view(Tensor)


def LongTensor(values: Any) -> Tensor:
    """``values`` as integers of 64 bits."""
    return tensor(values, np.int64)


def where(condition: Any, x: Any, y: Any) -> Tensor:
    """x where the condition holds, y elsewhere."""
    return tensor(np.where(condition, x, y))
