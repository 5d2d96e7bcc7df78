"""Inference: the likeliest tokens for a mask, and whether one sentence follows another."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import to_host
from minizha.checkpoint.folder import WEIGHTS_NAMES
from minizha.checkpoint.hub import MODEL_FILES, local_folder
from minizha.checks import integer
from minizha.config_files import CONFIG_NAMES
from minizha.errors import ArgumentError, MinizhaError
from minizha.files import read_together
from minizha.model.loading import LoadingInfo, check_vocabulary_size
from minizha.model.pretrained import NezhaPreTrainedModel
from minizha.model.pretraining import (
    NezhaForMaskedLM,
    NezhaForNextSentencePrediction,
    NezhaForPreTraining,
)
from minizha.ops.softmax import softmax
from minizha.text.arguments import check_tokenizer
from minizha.text.tokenizer import NezhaTokenizer
from minizha.text.tokenizer_files import TOKENIZER_FILES

_DAMAGED = "expected finite logits, found NaN or infinity; the model is damaged"


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

    Rows of the word embeddings beyond the tokenizer's tokens are left out.

    Args:
        model: a NezhaForMaskedLM or NezhaForPreTraining.

    Raises:
        ArgumentError: the text is not a str or has no [MASK], top_k is not in [1, V], or the model
            has no head for masked words or fewer words than the tokenizer.
        MinizhaError: the logits are not finite.
    """
    _check_model("fill_mask", model, NezhaForMaskedLM, NezhaForPreTraining)
    check_tokenizer(tokenizer)
    _check_text("text", text)
    top_k = integer("top_k", top_k, 1, len(tokenizer))
    if len(tokenizer) > model.config.vocab_size:
        raise ArgumentError(
            f"tokenizer: expected at most {model.config.vocab_size} tokens, the model's vocab_size, "
            f"found {len(tokenizer)}"
        )
    batch = tokenizer(text, truncation=False)
    positions = np.flatnonzero(batch["input_ids"][0] == tokenizer.mask_token_id)
    if not len(positions):
        raise ArgumentError(
            f"text: expected [MASK] where a token is to be predicted, found {reprlib.repr(text)}"
        )
    return guess_tokens(model, tokenizer, batch, positions, top_k)


def guess_tokens(
    model: NezhaForMaskedLM | NezhaForPreTraining,
    tokenizer: NezhaTokenizer,
    batch: Mapping[str, Any],
    positions: np.ndarray,
    top_k: int,
) -> list[list[Guess]]:
    """The ``top_k`` likeliest tokens at the ``positions`` (n,), in rising order, of a batch of one row.

    Raises:
        MinizhaError: the logits are not finite.
    """
    wanted = np.zeros(np.shape(batch["input_ids"]), bool)
    wanted[0, positions] = True
    out = model(**batch, logits_for=wanted, return_dict=True)
    logits = out["prediction_logits" if "prediction_logits" in out else "logits"]  # (n, V)
    # word embeddings may have more rows than there are tokens, to be a multiple of 8 or 64
    probs = to_host(softmax(logits[:, : len(tokenizer)])[0])
    if not np.isfinite(probs).all():
        raise MinizhaError(f"fill_mask: {_DAMAGED}")
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
        ArgumentError: a text is not a str, or the model has no head for sentence pairs.
        MinizhaError: the logits are not finite.
    """
    name = "next_sentence_probability"
    _check_model(name, model, NezhaForNextSentencePrediction, NezhaForPreTraining)
    check_tokenizer(tokenizer)
    _check_text("first", first)
    _check_text("second", second)
    out = model(**tokenizer(first, second, truncation=False), return_dict=True)
    logits = out["seq_relationship_logits" if "seq_relationship_logits" in out else "logits"]
    probability = float(to_host(softmax(logits)[0])[0, 0])
    if not math.isfinite(probability):
        raise MinizhaError(f"{name}: {_DAMAGED}")
    return probability


def load_for_text(
    model_class: type[NezhaPreTrainedModel], folder: str, backend: str = "numpy"
) -> tuple[Any, NezhaTokenizer]:
    """A model and its tokenizer from one folder or hub id, both complete and of one save.

    Raises:
        FileError: a file is missing or damaged, or the vocabulary's size is not the model's.
        MinizhaError: the folder lacks parameters of ``model_class``. The predictions would be
            meaningless.
    """
    path = local_folder(folder, (TOKENIZER_FILES[:2], *MODEL_FILES), TOKENIZER_FILES[2:])

    def read() -> tuple[NezhaTokenizer, tuple[Any, LoadingInfo]]:
        return NezhaTokenizer.from_pretrained(path), model_class.from_pretrained(
            path, backend=backend, output_loading_info=True
        )

    files = [path / name for name in (*CONFIG_NAMES, *WEIGHTS_NAMES, *TOKENIZER_FILES)]
    tokenizer, (model, info) = read_together(files, read)
    if info.missing:
        raise MinizhaError(
            f"{folder}: expected a complete {model_class.__name__}, found no "
            + ", ".join(info.missing)
        )
    check_vocabulary_size(folder, len(tokenizer), model.config.vocab_size)
    return model, tokenizer


def _check_text(name: str, text: Any) -> None:
    if not isinstance(text, str):
        raise ArgumentError(f"{name}: expected a string, found {type(text).__name__}")


def _check_model(function: str, model: Any, *classes: type) -> None:
    if not isinstance(model, classes):
        expected = " or ".join(c.__name__ for c in classes)
        raise ArgumentError(
            f"{function}: model: expected a {expected}, found {type(model).__name__}"
        )
