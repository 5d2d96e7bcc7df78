"""The model in the package: a small NEZHA trained on 三国演义.

Its folder holds a model card, README.md: the data, the command that made it, its figures, and what it
can't do.
"""

from __future__ import annotations

from pathlib import Path

from minizha.model.pretraining import NezhaForPreTraining
from minizha.predict import load_for_text
from minizha.text.tokenizer import NezhaTokenizer

SHIPPED_FOLDER = Path(__file__).parent / "data" / "shipped"


def load_shipped(backend: str = "numpy") -> tuple[NezhaForPreTraining, NezhaTokenizer]:
    """The shipped model, in float32, and its tokenizer.

    Example::

        model, tokenizer = load_shipped()
        fill_mask(model, tokenizer, "曹操引[MASK]来攻")

    Raises:
        FileError: a file of the model is missing or damaged.
        ArgumentError: there is no such backend.
    """
    return load_for_text(NezhaForPreTraining, str(SHIPPED_FOLDER), backend)
