"""The mathematics: one operation a file, forward and backward on one screen.

Follow the reading order in README.md. ``@operation`` marks the pairs, so that a trace can show what they
compute; ``@replaceable`` those that have an optimised version in :mod:`minizha.kernels`, too. The
operations here are complete without them.

Every operation is a pair of pure functions. ``y, cache = op(x, …)`` is the forward pass; the cache
is a NamedTuple of the values that the backward pass needs. ``dx, … = op_backward(dy, cache)`` takes
the upstream gradient, that of a scalar loss with respect to y, and returns the gradient with respect
to each input: ``dy`` has the shape of ``y``, ``dx`` that of ``x``. No argument is changed, and
there is no hidden state.

Axes, here and everywhere: B batch, L length (Lq queries, Lk keys), D hidden, N heads, d head
size, K max relative position, V vocabulary, F intermediate, M labelled tokens; I and O are a
linear map's inputs and outputs, T any number of rows, C the columns of a classifier; P tokens were
read by a decoder in earlier calls, S tokens by its encoder. At the end of a line, ``# (B, L, D)`` is
the shape of the assigned array.
"""
