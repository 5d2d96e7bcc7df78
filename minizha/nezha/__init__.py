"""The network: how the operations of :mod:`minizha.ops` make NEZHA. Functions only.

Read parameters, embeddings, attention, feed_forward, encoder, heads, losses, body.

Functions come in pairs, as in :mod:`minizha.ops`. ``y, cache = f(p, config, x, …)`` computes from the
parameters p, a tree of arrays under their checkpoint names; ``dx = f_backward(dy, cache, g)`` returns
the gradient of the input and adds those of the parameters to g, a tree of the same shape. p is the
subtree of the module; in predictions and in losses it is that of the whole model. Where several
arrays go in or come out, NamedTuples (…Upstream, …Gradients, Scores) take the place of dy and dx.
"""

import minizha.kernels  # noqa: F401 (from here on, the operations run their optimised versions)
