"""The mathematics: one operation a file, forward and backward on one screen.

Read relative_position, softmax, dropout, attention; then linear, layer_norm, gelu, activation,
embedding, cross_entropy. ``@replaceable`` marks the pairs that :mod:`minizha.kernels` has faster forms
of; what is written here is complete without them.

Every operation is a pair of pure functions. ``y, cache = op(x, …)`` computes; the cache is a
NamedTuple that keeps what the way back needs. ``dx, … = op_backward(dy, cache)`` takes the
gradient of a scalar loss with respect to y and returns that with respect to each input:
``dy`` has the shape of ``y``, ``dx`` that of ``x``. Nothing is mutated, nothing is remembered.

Axes, here and everywhere: B batch, L length (Lq queries, Lk keys), D hidden, N heads, d head
size, K max relative position, V vocabulary, F intermediate, M labelled tokens; I and O are a
linear map's inputs and outputs, T any number of rows, C the columns of a classifier; a decoder has
read P tokens before, and S tokens of another text. At the end of a line, ``# (B, L, D)`` is the shape of
what the line assigns.
"""
