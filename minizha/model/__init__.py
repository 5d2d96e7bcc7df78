"""Parameters and composition: how the operations of :mod:`minizha.ops` make NEZHA.

Read in this order: parameters, embeddings, attention, encoder, heads, nezha, masked_lm,
pretraining; then the plumbing: inputs, outputs, base, pretrained.
"""

import minizha.kernels  # noqa: F401 - from here on, operations on floats run the kernels
