"""The options of a pre-training run. Without NumPy: ``minizha pretrain --help`` reads this file."""

from __future__ import annotations

import math
import reprlib
from dataclasses import Field, dataclass, field, fields
from typing import Any

from minizha.checks import choice, flag, integer, number
from minizha.errors import ArgumentError


def _option(default: float, low: float, text: str, high: float = math.inf) -> Any:
    return field(default=default, metadata={"help": text, "low": low, "high": high})


class _Checked:
    """A dataclass whose values are checked by the metadata of their fields; all faults are named."""

    def __post_init__(self) -> None:
        faults = []
        for f in fields(self):  # type: ignore[arg-type]  # of the dataclasses below
            try:
                object.__setattr__(self, f.name, _checked(f, getattr(self, f.name)))
            except ArgumentError as error:
                faults.append(str(error))
        if not faults:
            faults = self._faults()
        if faults:
            raise ArgumentError("; ".join(faults))

    def _faults(self) -> list[str]:
        """What is wrong with several values together."""
        return []


@dataclass(frozen=True)
class RunOptions(_Checked):
    """What a run keeps and shows. None of this changes the model that it trains.

    Raises:
        ArgumentError: a value is out of range; all faults are named.
    """

    checkpoint_minutes: float = _option(
        1.0, 0.0, "minutes between two checkpoints; 0: one after every step"
    )
    keep_last: int = _option(2, 1, "checkpoints to keep, besides the best one")
    evaluate_every: int = _option(100, 1, "steps between two held-out points of the curve")


@dataclass(frozen=True)
class PretrainOptions(_Checked):
    """Sizes, rates and the reading of the corpus; the defaults fit two cores and a few minutes.

    Lengths are in tokens; each field's meaning and range are in its metadata.

    Raises:
        ArgumentError: a value is out of range; all faults are named.
    """

    steps: int = _option(1300, 1, "optimizer steps", 10**9)
    seed: int = _option(0, 0, "seed of parameters, batches and masks")
    hidden_size: int = _option(128, 1, "features of a token", 16384)
    layers: int = _option(3, 1, "layers", 1000)
    heads: int = _option(4, 1, "attention heads a layer", 1024)
    intermediate_size: int = _option(512, 1, "width inside the feed-forward network", 65536)
    max_relative_position: int = _option(64, 0, "larger distances are clipped to it", 100_000)
    length: int = _option(64, 8, "tokens of a pair of segments", 8192)
    batch_size: int = _option(32, 1, "pairs a step", 65536)
    accumulate: int = _option(
        1, 1, "parts of a step, of --batch-size pairs each; their gradients add up", 65536
    )
    learning_rate: float = _option(3e-3, 0.0, "learning rate at its peak", 1.0)
    warmup: float = _option(0.3, 0.0, "share of the steps in which the rate rises", 1.0)
    weight_decay: float = _option(
        0.01, 0.0, "weight decay of matrices (not of biases and LayerNorm)", 1.0
    )
    beta2: float = _option(0.98, 0.0, "decay rate of AdamW's v", 0.999999)
    initializer_range: float = _option(0.06, 0.0, "standard deviation of the initial matrices")
    dropout: float = _option(0.0, 0.0, "share of activations dropped in training", 0.9)
    max_norm: float = _option(
        1.0, 1e-6, "largest global norm of the gradients; larger ones are scaled"
    )
    mask_probability: float = _option(0.15, 0.01, "share of the tokens to predict", 0.9)
    short_probability: float = _option(
        0.0, 0.0, "share of the pairs that are short, of 2 tokens up to --length; BERT has 0.1", 1.0
    )
    held_out: int = _option(12, 2, "every N-th document is held out for the evaluation")
    min_count: int = _option(2, 1, "rarer characters become [UNK]")
    titles: str = field(
        default="auto",
        metadata={
            "help": "are first lines titles, which are left out? auto: short ones, if most "
            "documents have them",
            "choices": ("auto", "yes", "no"),
        },
    )
    document_per_line: bool = field(
        default=False, metadata={"help": "each line of the corpus is a document", "flag": True}
    )
    json_field: str = field(
        default="",
        metadata={
            "help": "each line of the corpus is a JSON object; the text in its field NAME is a document",
            "metavar": "NAME",
        },
    )
    vocab: str = field(
        default="",
        metadata={
            "help": "a vocab.txt to use, in place of one made of the corpus' characters",
            "metavar": "FILE",
        },
    )

    def _faults(self) -> list[str]:
        if self.hidden_size % self.heads == 0 and (self.hidden_size // self.heads) % 2 == 0:
            return []
        return [
            "hidden_size / heads: expected an even whole number, found "
            f"{self.hidden_size} / {self.heads}"
        ]


CORPUS_OPTIONS = ("held_out", "min_count", "titles", "document_per_line", "json_field", "vocab")
"""The options that say how a corpus is read and divided: those of ``minizha prepare``, too."""


def parser_keywords(f: Field) -> dict[str, Any]:
    """How ``add_argument`` takes an option."""
    text = f.metadata["help"]
    if "flag" in f.metadata:
        return {"action": "store_true", "help": text}
    if "choices" in f.metadata:
        return {
            "choices": f.metadata["choices"],
            "default": f.default,
            "help": f"{text} ({f.default})",
        }
    if "metavar" in f.metadata:
        return {"default": f.default, "metavar": f.metadata["metavar"], "help": text}
    return {
        "type": option_type(f),
        "default": f.default,
        "metavar": "N",
        "help": f"{text} ({f.default:g})",
    }


def option_type(f: Field) -> type:
    """The type of a number, int or float; the annotation is a string."""
    return {"int": int, "float": float}[f.type]


def _checked(f: Field, value: Any) -> Any:
    if "flag" in f.metadata:
        return flag(f.name, value)
    if "choices" in f.metadata:
        return choice(f.name, value, f.metadata["choices"])
    if "metavar" in f.metadata:
        if not isinstance(value, str):
            raise ArgumentError(f"{f.name}: expected a string, found {reprlib.repr(value)}")
        return value
    low, high = f.metadata["low"], f.metadata["high"]
    if option_type(f) is int:
        return integer(f.name, value, low, None if high == math.inf else high)
    return number(f.name, value, f"[{low:g}, {high:g}" + (")" if high == math.inf else "]"))
