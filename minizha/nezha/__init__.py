"""The network: how the operations of :mod:`minizha.ops` make NEZHA. Functions only.

Follow the reading order in README.md.

Functions come in pairs, as in :mod:`minizha.ops`. ``y, cache = f(p, config, x, …)`` computes from the
parameters p, a tree of arrays under their checkpoint names; ``dx = f_backward(dy, cache, g)`` returns
the gradient of the input and adds those of the parameters to g, a tree of the same shape. p is the
subtree of the module; in predictions and losses it is the tree of the whole model. Functions with
several inputs or outputs have NamedTuples (…Upstream, …Gradients, Scores) in place of dy and dx.
"""

import minizha.kernels  # noqa: F401 (switches the optimised operations on)
