"""What each value of a configuration may be: a check returns the value, or raises ValueError with
what was expected."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

ACTIVATION_NAMES = ("gelu", "gelu_new", "relu", "silu", "swish", "tanh")
PROBLEM_TYPES = (None, "regression", "single_label_classification", "multi_label_classification")


def index(value: Any) -> int:
    """An integer, which as a key of JSON is text; ValueError or TypeError for anything else."""
    if isinstance(value, bool):
        raise TypeError("a bool")
    return int(value) if isinstance(value, str) else operator.index(value)


def _integer(
    low: int, high: int = 2**31 - 1, optional: bool = False
) -> Callable[[Any], int | None]:
    # an upper end, since a damaged or hostile config.json must fail here, not fill the memory
    def check(value: Any) -> int | None:
        if value is None and optional:
            return None
        try:
            number = operator.index(value)
        except TypeError:
            number = None
        if number is None or isinstance(value, bool) or not low <= number <= high:
            raise ValueError(f"an integer in [{low}, {high}]" + (" or None" if optional else ""))
        return number

    return check


def _real(low: float, high: float, text: str, optional: bool = False) -> Callable[[Any], Any]:
    def check(value: Any) -> float | None:
        if value is None and optional:
            return None
        try:
            number = math.nan if isinstance(value, (bool, str)) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not (low <= number < high):  # also False for NaN
            raise ValueError(text + (" or None" if optional else ""))
        return number

    return check


def _positive(value: Any) -> float:
    text = "a finite number above 0"
    number = _real(0.0, math.inf, text)(value)
    if number == 0.0:
        raise ValueError(text)
    return number


def _one_of(choices: tuple) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, (str, type(None))) or value not in choices:
            raise ValueError("one of " + ", ".join(repr(c) for c in choices))
        return value

    return check


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("True or False")
    return value


def _mapping(optional: bool) -> Callable[[Any], Any]:
    def check(value: Any) -> dict | None:
        if not (isinstance(value, Mapping) or (optional and value is None)):
            raise ValueError("a mapping" + (" or None" if optional else ""))
        return None if value is None else dict(value)

    return check


_PROBABILITY = "a probability in [0, 1)"
CHECKS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(
        ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size",
         "max_position_embeddings", "type_vocab_size"), _integer(1)),
    "num_hidden_layers": _integer(1, 1_000),
    "num_labels": _integer(1, 30_000),  # each is given a name: 300 bytes
    "max_relative_position": _integer(0, 100_000),
    "chunk_size_feed_forward": _integer(0),
    **dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id"), _integer(0, optional=True)),
    **dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob"), _real(0.0, 1.0, _PROBABILITY)),
    "classifier_dropout": _real(0.0, 1.0, _PROBABILITY, optional=True),
    "initializer_range": _real(0.0, 1e6, "a number in [0, 1e6)"),
    "layer_norm_eps": _positive,
    "hidden_act": _one_of(ACTIVATION_NAMES),
    "problem_type": _one_of(PROBLEM_TYPES),
    **dict.fromkeys(
        ("use_cache", "is_decoder", "add_cross_attention", "tie_word_embeddings",
         "output_attentions", "output_hidden_states", "return_dict"), _boolean),
    "pruned_heads": _mapping(optional=False),
    **dict.fromkeys(("id2label", "label2id"), _mapping(optional=True)),
}  # fmt: skip
