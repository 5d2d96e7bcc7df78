"""The feed-forward network of a layer, for all tokens at once or in pieces of the sequence."""

from __future__ import annotations

from typing import Any, NamedTuple

from minizha.backend import Array, namespace
from minizha.config import NezhaConfig
from minizha.nezha.parameters import Tree, accumulate
from minizha.ops.activation import ACTIVATIONS
from minizha.ops.linear import LinearCache, linear, linear_backward


class FeedForwardCache(NamedTuple):
    """The caches of the three steps, the second and third of width F; and the name of the
    activation."""

    intermediate: LinearCache
    activation: Any
    dense: LinearCache
    hidden_act: str


class ChunkedFeedForwardCache(NamedTuple):
    """The input and the parameters: the backward pass recomputes the arrays of width F. The numbers
    are the same, since parameters are replaced, never changed in place."""

    x: Array
    p: Tree
    hidden_act: str
    chunk: int


def feed_forward(
    p: Tree, config: NezhaConfig, x: Array
) -> tuple[Array, FeedForwardCache | ChunkedFeedForwardCache]:
    """``y = act(x W₁ᵀ + b₁) W₂ᵀ + b₂``, for each token independently

    Shapes: x (B, L, D) → y (B, L, D).

    Convention: with ``chunk_size_feed_forward`` = n > 0, n tokens of each row at a time. The arrays
    of width F are then at most (B, n, F), in the backward pass too, which recomputes each piece.
    n need not divide L.

    Source: NezhaIntermediate and the first step of NezhaOutput.
    """
    act, chunk = config.hidden_act, config.chunk_size_feed_forward
    if chunk == 0:
        return feed_forward_piece(p, act, x)
    starts = range(0, x.shape[1], chunk)
    pieces = [feed_forward_piece(p, act, x[:, i : i + chunk])[0] for i in starts]
    return namespace(x).concatenate(pieces, axis=1), ChunkedFeedForwardCache(x, p, act, chunk)


def feed_forward_backward(
    dy: Array, cache: FeedForwardCache | ChunkedFeedForwardCache, g: Tree
) -> Array:
    """Add the gradients of the parameters to g; return dx

    In the forward pass each piece was computed independently. All pieces share the parameters,
    whose gradients therefore add up over the pieces.

    Shapes: dy (B, L, D) → dx (B, L, D).
    """
    if isinstance(cache, FeedForwardCache):
        return feed_forward_piece_backward(dy, cache, g)
    dx = []
    for i in range(0, dy.shape[1], cache.chunk):
        piece = slice(None), slice(i, i + cache.chunk)
        _, piece_cache = feed_forward_piece(cache.p, cache.hidden_act, cache.x[piece])
        dx.append(feed_forward_piece_backward(dy[piece], piece_cache, g))
    return namespace(dy).concatenate(dx, axis=1)


def feed_forward_piece(p: Tree, hidden_act: str, x: Array) -> tuple[Array, FeedForwardCache]:
    """``y = act(x W₁ᵀ + b₁) W₂ᵀ + b₂``

    Shapes: x (B, T, D) → y (B, T, D).
    """
    wide, narrow = p.intermediate.dense, p.output.dense
    inner, inner_cache = linear(x, wide.weight, wide.bias)  # (B, T, F)
    activated, activation_cache = ACTIVATIONS[hidden_act].forward(inner)
    y, dense_cache = linear(activated, narrow.weight, narrow.bias)
    return y, FeedForwardCache(inner_cache, activation_cache, dense_cache, hidden_act)


def feed_forward_piece_backward(dy: Array, cache: FeedForwardCache, g: Tree) -> Array:
    """Add the gradients of the parameters to g; return dx

    In the forward pass this was linear, activation, linear; so now in reverse.

    Shapes: dy (B, T, D) → dx (B, T, D).
    """
    dactivated, dweight, dbias = linear_backward(dy, cache.dense)  # (B, T, F), (D, F), (D)
    accumulate(g.output.dense, weight=dweight, bias=dbias)
    dinner = ACTIVATIONS[cache.hidden_act].backward(dactivated, cache.activation)
    dx, dweight, dbias = linear_backward(dinner, cache.intermediate)  # (B, T, D), (F, D), (F)
    accumulate(g.intermediate.dense, weight=dweight, bias=dbias)
    return dx
