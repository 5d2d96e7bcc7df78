"""Other implementations under our names: what they compute, ready for a comparison.

======================  ==========================================================================
``transformers``        records a live Transformers model (4.37 to 4.57), forward and gradients
``bert4torch``          builds, loads and records a live bert4torch model (0.6.2)
``paddle``              PaddleNLP's names beside ours: a mapping file, nothing to install
``torch_recorder``      what the first two are made of, for a port in torch of your own
======================  ==========================================================================

Each is imported by its own name; all but ``paddle`` need torch (``pip install "minizha[peers]"``).
docs/adapters.md says how to write one for another framework.
"""
