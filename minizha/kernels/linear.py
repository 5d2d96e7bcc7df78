"""The linear map on the CPU: the bias is added to the product in place.

The plain operation makes two arrays, the product and its sum with the bias. (There, ``y += bias`` would
not do: in the complex step, bias may be complex while x and weight are not.) This serves every linear
map of the model. Adding the bias inside of the kernel that comes next, such as GELU's, would gain
little more, and both would take more arguments.

Measured on two cores, (8, 128) tokens from 768 to 3072 features in float32: 26.9 ms instead of 28.0, of
which the product takes 25.1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from minizha.ops.linear import linear_backward as marked_backward


class InPlaceLinearCache(NamedTuple):
    """The fields of the plain cache."""

    x: np.ndarray
    weight: np.ndarray


def linear(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, InPlaceLinearCache]:
    """``y = x · weightᵀ + bias``, as in the plain operation."""
    y = x.reshape(-1, x.shape[-1]) @ weight.T
    y += bias
    return y.reshape(*x.shape[:-1], len(weight)), InPlaceLinearCache(x, weight)


linear_backward = marked_backward.plain  # type: ignore[attr-defined]  # it takes either cache
