"""What ``minizha evaluate`` does: the held-out figures of a model that is in a folder."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

from minizha.errors import ArgumentError, FileError, MinizhaError
from minizha.model.pretraining import NezhaForPreTraining
from minizha.predict import load_for_text
from minizha.progress import progress_bar
from minizha.text.data_folder import read_data
from minizha.text.tokenized import TokenizedCorpus, tokenize_corpus, tokenize_parts
from minizha.text.tokenizer import NezhaTokenizer
from minizha.training.corpora import NOVEL, read_documents
from minizha.training.evaluation import Metrics, evaluate
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import held_out_examples


class Evaluation(NamedTuple):
    """The metrics, what they are of, and the share of the corpus' tokens that are [UNK]."""

    metrics: Metrics
    source: str
    unknown: float

    def as_json(self) -> dict[str, dict[str, float | int]]:
        """The metrics as ``--json`` prints them."""
        m = self.metrics
        words, pairs = (
            (m.word_accuracy, m.word_loss, m.words),
            (m.pair_accuracy, m.pair_loss, m.pairs),
        )
        keys = ("accuracy", "loss", "count")
        return {
            "masked_words": dict(zip(keys, words, strict=True)),
            "next_sentence": dict(zip(keys, pairs, strict=True)),
        }


def evaluate_folder(
    folder: str,
    corpus: str | None,
    options: PretrainOptions,
    seed: int,
    every: int | None,
    backend: str = "numpy",
) -> Evaluation:
    """Evaluate the model in ``folder``, with a progress bar.

    Convention: of the embedded novel the held-out chapters are evaluated, of a prepared folder its
    held-out documents, and of a text all documents, or every n-th with ``every``. Pairs and masks are
    those of ``minizha pretrain`` for the same documents, vocabulary, length and seed.

    Args:
        corpus: a text or a prepared folder; None is the novel.
        options: how to read the text, the length of a row, and the share of masked words.
        every: None, or the ``held_out`` of the training whose held-out documents are wanted.

    Raises:
        FileError: the model or the corpus can't be read.
        MinizhaError: the model lacks a head, its logits are not finite, or no token of the corpus is in
            its vocabulary.
    """
    try:
        model, tokenizer = load_for_text(NezhaForPreTraining, folder, backend)
    except MinizhaError as error:
        if isinstance(error, FileError):
            raise
        raise MinizhaError(
            f"{error}: an evaluation needs the heads for masked words and for sentence pairs"
        ) from error
    name = NOVEL if corpus is None else corpus
    try:
        source, data = _open(corpus, tokenizer, options, every)
        examples = held_out_examples(data, options.length, options.mask_probability, seed)
    except ArgumentError as error:  # raised where the file's name is not known
        raise FileError(f"{name}: {error}") from error
    tokens = int(examples["attention_mask"].sum()) - 3 * len(examples["labels"])
    unknown = int((examples["input_ids"] == tokenizer.unk_token_id).sum()) / tokens
    with progress_bar(len(examples["labels"]), "evaluate") as show:
        metrics = evaluate(model, examples, show=show)
    if not metrics.words:
        raise MinizhaError(
            f"{name}: expected words of the model's vocabulary to mask, found none: {unknown:.1%} of "
            f"the {tokens:,} tokens are [UNK]"
        )
    if not all(map(math.isfinite, metrics)):
        raise MinizhaError(
            f"{folder}: expected finite losses, found NaN or infinity; the model is damaged"
        )
    return Evaluation(metrics, source, unknown)


def _open(
    corpus: str | None, tokenizer: NezhaTokenizer, options: PretrainOptions, every: int | None
) -> tuple[str, TokenizedCorpus]:
    """What is evaluated, in words and as ids."""
    if corpus is not None and os.path.isdir(corpus):
        data, _ = read_data(Path(corpus))
        if _tokens(data.tokenizer) != _tokens(tokenizer):
            raise FileError(
                f"{corpus}: expected a folder prepared with the model's vocabulary of {len(tokenizer)} "
                f"tokens, found another one of {len(data.tokenizer)}; the text itself fits any model"
            )
        return f"{corpus}: {data.held_out:,} held-out documents", data
    documents = read_documents(corpus, options, min_documents=2)
    if corpus is None or every:
        data = tokenize_corpus(documents, every or options.held_out, 1, tokenizer)
        what = "held-out documents"
    else:
        data, what = tokenize_parts([], documents, tokenizer), "documents"
    return f"{corpus or f'{NOVEL} (embedded)'}: {data.held_out:,} {what}", data


def _tokens(tokenizer: NezhaTokenizer) -> list[str]:
    return tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
