"""Inference: the likeliest tokens for a mask, and whether one sentence follows another."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minizha.backend import to_host
from minizha.checks import integer
from minizha.errors import ArgumentError, MinizhaError
from minizha.model.pretrained import NezhaPreTrainedModel
from minizha.model.pretraining import (
    NezhaForMaskedLM,
    NezhaForNextSentencePrediction,
    NezhaForPreTraining,
)
from minizha.ops.softmax import softmax
from minizha.text.tokenizer import NezhaTokenizer


class Guess(NamedTuple):
    """A token and its probability."""

    token: str
    probability: float


def fill_mask(
    model: NezhaForMaskedLM | NezhaForPreTraining,
    tokenizer: NezhaTokenizer,
    text: str,
    top_k: int = 5,
) -> list[list[Guess]]:
    """For each ``[MASK]`` in the text, the ``top_k`` likeliest tokens, best first.

    Args:
        model: a NezhaForMaskedLM or NezhaForPreTraining.

    Raises:
        ArgumentError: the text is no str or has no [MASK], or top_k is not in [1, V].
        MinizhaError: the logits are not finite.
    """
    _check_text("text", text)
    top_k = integer("top_k", top_k, 1, len(tokenizer))
    batch = tokenizer(text, truncation=False)
    places = np.flatnonzero(batch["input_ids"][0] == tokenizer.mask_token_id)
    if not len(places):
        raise ArgumentError(
            f"text: expected [MASK] where a token is to be predicted, found {text!r}"
        )
    out = model(**batch, return_dict=True)
    logits = out["prediction_logits" if "prediction_logits" in out else "logits"]
    probs = to_host(softmax(logits[0])[0])[places]
    if not np.isfinite(probs).all():
        raise MinizhaError("fill_mask: the logits are no longer numbers; the model is damaged")
    best = np.argsort(-probs, axis=-1, kind="stable")[:, :top_k]
    return [
        [Guess(tokenizer.convert_ids_to_tokens([int(i)])[0], float(row[i])) for i in ids]
        for row, ids in zip(probs, best, strict=True)
    ]


def next_sentence_probability(
    model: NezhaForNextSentencePrediction | NezhaForPreTraining,
    tokenizer: NezhaTokenizer,
    first: str,
    second: str,
) -> float:
    """The probability that ``second`` continues ``first``.

    Args:
        model: a NezhaForNextSentencePrediction or NezhaForPreTraining.

    Raises:
        ArgumentError: a text is no str.
    """
    _check_text("first", first)
    _check_text("second", second)
    out = model(**tokenizer(first, second, truncation=False), return_dict=True)
    logits = out["seq_relationship_logits" if "seq_relationship_logits" in out else "logits"]
    return float(to_host(softmax(logits)[0])[0, 0])


def load_for_text(
    kind: type[NezhaPreTrainedModel], folder: str, backend: str = "numpy"
) -> tuple[Any, NezhaTokenizer]:
    """A model and its tokenizer from one folder, both whole.

    Raises:
        FileError: a file is missing or damaged.
        MinizhaError: the folder lacks the head that ``kind`` needs, or the vocabulary's size is not
            the model's: either would answer with nonsense.
    """
    tokenizer = NezhaTokenizer.from_pretrained(folder)
    model, info = kind.from_pretrained(folder, backend=backend, output_loading_info=True)
    if info.missing:
        raise MinizhaError(
            f"{folder}: not a whole {kind.__name__}: missing " + ", ".join(info.missing)
        )
    if len(tokenizer) != model.config.vocab_size:
        raise MinizhaError(
            f"{folder}: vocab.txt has {len(tokenizer)} tokens, but config.json says vocab_size = "
            f"{model.config.vocab_size}"
        )
    return model, tokenizer


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise ArgumentError(f"{name}: expected one text, found {type(text).__name__}")
