"""The arrays of other implementations under our names, for a comparison.

======================  ==========================================================================
``transformers``        records a Transformers model (4.37 to 4.57), activations and gradients
``bert4torch``          builds, loads and records a bert4torch model (0.6.2)
``paddle``              makes a mapping file from PaddleNLP's names to ours; does not need Paddle
``torch_recorder``      the base of the first two, for other ports in torch
======================  ==========================================================================

Import each by its name; all but ``paddle`` need torch (``pip install "minizha[peers]"``).
docs/reference/adapters.md says how to write one for another framework.
"""
