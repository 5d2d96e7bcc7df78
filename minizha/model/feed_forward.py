"""The feed-forward network of a layer, whole or in pieces along the sequence."""

from __future__ import annotations

from typing import Any, NamedTuple

from minizha.backend import Array, namespace
from minizha.config import NezhaConfig
from minizha.model.parameters import Tree, accumulate
from minizha.ops.activation import ACTIVATIONS
from minizha.ops.linear import LinearCache, linear, linear_backward


class FeedForwardCache(NamedTuple):
    """The caches of the three steps; the second and third are F wide."""

    intermediate: LinearCache
    activation: Any
    dense: LinearCache


class ChunkedFeedForwardCache(NamedTuple):
    """The input and the parameters: what is F wide is computed once more on the way back, from the
    same numbers, since parameters are replaced and never written into."""

    x: Array
    p: Tree
    chunk: int


def feed_forward(
    p: Tree, config: NezhaConfig, x: Array
) -> tuple[Array, FeedForwardCache | ChunkedFeedForwardCache]:
    """``y = act(x W₁ᵀ + b₁) W₂ᵀ + b₂``, each token alone

    Shapes: x (B, L, D) → y (B, L, D); F wide inside.

    Convention: with ``chunk_size_feed_forward`` = n > 0, n tokens of each row at a time. Nothing
    F wide is then larger than (B, n, F), in the backward pass neither, which computes each piece
    once more. n need not divide L.

    Source: NezhaIntermediate and the first step of NezhaOutput.
    """
    chunk = config.chunk_size_feed_forward
    if chunk == 0:
        return _piece(p, config, x)
    pieces = [_piece(p, config, part)[0] for part in _parts(x, chunk)]
    return namespace(x).concatenate(pieces, axis=1), ChunkedFeedForwardCache(x, p, chunk)


def feed_forward_backward(
    dy: Array, cache: FeedForwardCache | ChunkedFeedForwardCache, config: NezhaConfig, g: Tree
) -> Array:
    """Fill the gradients in g; return dx

    In the forward pass this was linear, activation, linear, for each token alone; so now in
    reverse. All pieces share the parameters, whose gradients add up over the pieces.

    Shapes: dy (B, L, D) → dx (B, L, D).
    """
    if isinstance(cache, FeedForwardCache):
        return _piece_backward(dy, cache, config, g)
    dx = []
    for x, d in zip(_parts(cache.x, cache.chunk), _parts(dy, cache.chunk), strict=True):
        _, again = _piece(cache.p, config, x)
        dx.append(_piece_backward(d, again, config, g))
    return namespace(dy).concatenate(dx, axis=1)


def _piece(p: Tree, config: NezhaConfig, x: Array) -> tuple[Array, FeedForwardCache]:
    inner, inner_cache = linear(x, p.intermediate.dense.weight, p.intermediate.dense.bias)
    activated, activation_cache = ACTIVATIONS[config.hidden_act].forward(inner)
    y, dense_cache = linear(activated, p.output.dense.weight, p.output.dense.bias)
    return y, FeedForwardCache(inner_cache, activation_cache, dense_cache)


def _piece_backward(dy: Array, cache: FeedForwardCache, config: NezhaConfig, g: Tree) -> Array:
    dactivated, dweight, dbias = linear_backward(dy, cache.dense)
    accumulate(g.output.dense, weight=dweight, bias=dbias)
    dinner = ACTIVATIONS[config.hidden_act].backward(dactivated, cache.activation)
    dx, dweight, dbias = linear_backward(dinner, cache.intermediate)
    accumulate(g.intermediate.dense, weight=dweight, bias=dbias)
    return dx


def _parts(x: Array, chunk: int) -> list[Array]:
    return [x[:, start : start + chunk] for start in range(0, x.shape[1], chunk)]
