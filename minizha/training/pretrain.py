"""Pre-training from a text file to a trained model: what ``minizha pretrain`` runs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import numpy as np

from minizha.config import NezhaConfig
from minizha.errors import ArgumentError, FileError
from minizha.model.pretraining import NezhaForPreTraining
from minizha.text.corpus import (
    Document,
    character_vocabulary,
    embedded_corpus,
    hold_out,
    read_corpus,
)
from minizha.text.masking import mask_tokens
from minizha.text.pairs import PairSampler, tokenize_documents
from minizha.text.tokenizer import NezhaTokenizer
from minizha.text.vocabulary import SPECIAL_TOKENS
from minizha.training.options import PretrainOptions
from minizha.training.state import TrainingState
from minizha.training.step import Batch, BatchMetrics
from minizha.training.workers import Workers

HELD_OUT_SEED = 2019  # fixed, so that runs with the same corpus and length have the same masks


class Data(NamedTuple):
    """A corpus prepared for training: the sampler draws from it, ``held_out`` is the evaluation."""

    tokenizer: NezhaTokenizer
    sampler: PairSampler
    held_out: Batch
    held_out_documents: list[Document]
    documents: int
    characters: int
    digest: str  # of the documents: runs with the same one, and the same options, see the same data
    left_out: str = ""  # what of the corpus is not trained on, with counts


def prepare(corpus: str | os.PathLike | None, options: PretrainOptions) -> Data:
    """Read a corpus (None: the embedded novel), hold out documents, build the vocabulary.

    Raises:
        FileError: the corpus can't be read or is too small.
    """
    _check_type("options", options, PretrainOptions)
    if corpus is None:
        documents = embedded_corpus()
    else:
        titles = {"auto": None, "yes": True, "no": False}[options.titles]
        per_line = options.document_per_line
        documents = read_corpus(corpus, titles=titles, document_per_line=per_line)
    try:
        return _prepare(documents, options)
    except ArgumentError as error:  # raised where the file's name is not known
        name = "三国演义" if corpus is None else os.fspath(corpus)
        raise FileError(f"{name}: {error}") from error


def _prepare(documents: list[Document], options: PretrainOptions) -> Data:
    train, held_out = hold_out(documents, options.held_out)
    # the held-out documents don't enter the vocabulary either
    tokenizer = NezhaTokenizer(character_vocabulary(train, options.min_count))
    if len(tokenizer) == len(SPECIAL_TOKENS):
        raise ArgumentError(f"min_count: no character occurs {options.min_count} times")

    train_ids = tokenize_documents(train, tokenizer)
    held_out_ids = tokenize_documents(held_out, tokenizer)

    def sampler(main: list, extra: list) -> PairSampler:
        special = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
        return PairSampler(main, options.length, *special, extra)

    rng = np.random.default_rng(HELD_OUT_SEED)
    # one or two held-out documents may be too few for random sentences from another document
    extra = train_ids if len(held_out) < 3 else []
    evaluation = mask(sampler(held_out_ids, extra).all(rng), tokenizer, options, rng)
    return Data(
        tokenizer,
        sampler(train_ids, []),
        evaluation,
        held_out,
        len(documents),
        sum(len(p) for d in documents for p in d.paragraphs),
        digest(documents),
        _left_out(documents, train_ids + held_out_ids, tokenizer, options.min_count),
    )


def digest(documents: list[Document]) -> str:
    """The SHA-256 of titles and paragraphs, with a line break after each and a NUL after a document."""
    found = hashlib.sha256()
    for document in documents:
        found.update("\n".join((document.title, *document.paragraphs, "\0")).encode("utf-8"))
    return found.hexdigest()


def _left_out(
    documents: list[Document],
    ids: list[list[np.ndarray]],
    tokenizer: NezhaTokenizer,
    min_count: int,
) -> str:
    """One line that counts what of the corpus is not trained on; "" if nothing is left out."""
    titles = [document.title for document in documents if document.title]
    # a sentence of control characters has no tokens
    short = [document for document in ids if sum(len(sentence) > 0 for sentence in document) < 2]
    lost = sum(len(sentence) for document in short for sentence in document)
    tokens = np.concatenate([s for d in ids for s in d] or [np.zeros(0, np.int64)])
    unknown = int((tokens == tokenizer.unk_token_id).sum())
    parts = {
        f"{len(titles)} titles ({sum(map(len, titles)):,} characters)": titles,
        f"{len(short)} documents of fewer than 2 sentences ({lost:,} tokens)": short,
        f"{unknown:,} of {len(tokens):,} tokens, which have characters that the training documents "
        f"hold fewer than {min_count} times (they become [UNK])": unknown,
    }
    said = [part for part, any_left_out in parts.items() if any_left_out]
    return "left out: " + ", ".join(said) if said else ""


def new_model(data: Data, options: PretrainOptions, backend: str = "numpy") -> NezhaForPreTraining:
    """A fresh model with the options' sizes and the data's vocabulary."""
    _check_type("data", data, Data)
    _check_type("options", options, PretrainOptions)
    config = NezhaConfig(
        vocab_size=len(data.tokenizer),
        hidden_size=options.hidden_size,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        intermediate_size=options.intermediate_size,
        max_relative_position=options.max_relative_position,
        max_position_embeddings=max(512, options.length),
        initializer_range=options.initializer_range,
        hidden_dropout_prob=options.dropout,
        attention_probs_dropout_prob=options.dropout,
        pad_token_id=data.tokenizer.pad_token_id,
    )
    return NezhaForPreTraining(config, seed=options.seed, backend=backend)


def train(
    model: NezhaForPreTraining,
    data: Data,
    options: PretrainOptions,
    workers: int = 1,
    state: TrainingState | None = None,
) -> Generator[BatchMetrics, None, None]:
    """Take the steps up to ``options.steps`` on ``workers`` processes; after each, yield its metrics.

    The iteration may be stopped after any step. The model then is in train mode and has the
    parameters of that step; after the last step it is in eval mode.

    Args:
        state: that of ``model``, from which the training goes on; None begins with step 1.

    Raises:
        DivergenceError: many steps in a row had a loss or a gradient that is not finite.
    """
    state = TrainingState(model, options) if state is None else state
    with Workers(model, workers) as processes:
        while state.step < options.steps:
            batch = data.sampler.batch(options.batch_size * options.accumulate, state.rng)
            batch = mask(batch, data.tokenizer, options, state.rng)
            metrics, gradients = processes.loss_and_gradients(batch, options.accumulate)
            state.complete_step(metrics, gradients)
            yield metrics
    model.eval()


def mask(
    examples: Batch,
    tokenizer: NezhaTokenizer,
    options: PretrainOptions,
    rng: np.random.Generator,
) -> Batch:
    """The examples with masked words, and their ``labels``."""
    if not isinstance(examples, Mapping) or "input_ids" not in examples:
        raise ArgumentError(f"examples: expected a batch, found {type(examples).__name__}")
    _check_type("tokenizer", tokenizer, NezhaTokenizer)
    _check_type("options", options, PretrainOptions)
    input_ids, labels = mask_tokens(
        examples["input_ids"],
        tokenizer.special_ids,
        rng,
        mask_token_id=tokenizer.mask_token_id,
        vocab_size=len(tokenizer),
        probability=options.mask_probability,
    )
    return examples | {"input_ids": input_ids, "labels": labels}


def _check_type(name: str, value: Any, expected: type) -> None:
    if not isinstance(value, expected):
        raise ArgumentError(f"{name}: expected {expected.__name__}, found {type(value).__name__}")
