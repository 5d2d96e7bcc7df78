"""The layouts that ports use for an array: separate heads, tokens first, transposed, and so on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """How an array of theirs is laid out, in words ("" for like ours); ``read`` gives it like ours."""

    text: str
    read: Callable[[np.ndarray], np.ndarray]


SAME = Layout("", lambda array: array)
TRANSPOSED = Layout("transposed", lambda array: array.T)


def layouts(ours: Shape, theirs: Shape) -> list[Layout]:
    """The layouts by which an array of shape ``theirs`` can be read as one of shape ``ours``, the
    likeliest first; an empty list if there is none.

    ===================  =========================================  =========================
    ours                 theirs                                     in words
    ===================  =========================================  =========================
    any                  the same                                   (nothing)
    (B, L, N·d)          (B, N, L, d)                               heads first
    (B, L, N·d)          (B, L, N, d)                               heads apart
    (B, N, L, J)         (B·N, L, J)                                axes joined
    (B, L, D)            (B·L, D)                                   axes joined
    (B, L, D)            (L, B, D)                                  tokens first
    (O, I)               (I, O)                                     transposed
    any                  the same except for axes of length 1       axes of length 1
    ===================  =========================================  =========================

    Convention: an array of the same shape is taken as it is. The shape does not show whether a square
    matrix is transposed; a mapping can say so.
    """
    if ours == theirs:
        return [SAME]
    if math.prod(ours) != math.prod(theirs):
        return []
    candidates = []
    if _squeezed(ours) == _squeezed(theirs):
        candidates.append(Layout("axes of length 1", lambda array: array.reshape(ours)))
    if len(ours) == 3 and len(theirs) == 4:
        B, L, A = ours
        if (theirs[0], theirs[2], theirs[1] * theirs[3]) == (B, L, A):
            candidates.append(Layout("heads first", lambda a: a.swapaxes(1, 2).reshape(ours)))
        if theirs[:2] == (B, L):
            candidates.append(Layout("separate heads", lambda array: array.reshape(ours)))
    if (
        len(ours) == len(theirs) + 1 >= 2
        and ours[0] * ours[1] == theirs[0]
        and ours[2:] == theirs[1:]
    ):
        candidates.append(Layout("axes joined", lambda array: array.reshape(ours)))
    if len(ours) == 3 and theirs == (ours[1], ours[0], ours[2]):
        candidates.append(Layout("tokens first", lambda array: array.swapaxes(0, 1)))
    if len(ours) == 2 and theirs == ours[::-1]:
        candidates.append(TRANSPOSED)
    return candidates


def _squeezed(shape: Shape) -> Shape:
    return tuple(n for n in shape if n != 1)
