"""Pre-training from a text file to a trained model: what ``minizha pretrain`` runs."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

import numpy as np

from minizha.config import NezhaConfig
from minizha.errors import ArgumentError, FileError
from minizha.model.pretraining import NezhaForPreTraining
from minizha.text.corpus import Document
from minizha.text.masking import mask_tokens
from minizha.text.pairs import PairSampler
from minizha.text.tokenized import TokenizedCorpus
from minizha.text.tokenizer import NezhaTokenizer
from minizha.training.corpora import corpus_name, open_corpus
from minizha.training.options import PretrainOptions
from minizha.training.state import TrainingState
from minizha.training.step import Batch, BatchMetrics
from minizha.training.workers import Workers

HELD_OUT_SEED = 2019  # fixed, so that runs with the same corpus and length have the same masks
MOST_PAIRS = 4096
"""The most held-out pairs that are evaluated: 300,000 characters make more."""


class Data(NamedTuple):
    """A corpus prepared for training: the sampler draws from it, ``held_out`` is the evaluation."""

    tokenizer: NezhaTokenizer
    sampler: PairSampler
    held_out: Batch
    held_out_documents: list[Document]
    held_out_count: int
    documents: int
    characters: int
    digest: str  # runs with the same one, and the same options, see the same data
    left_out: str = ""  # what of the corpus is not trained on, with counts


def prepare(corpus: str | os.PathLike | None, options: PretrainOptions) -> Data:
    """Read a corpus (None: the embedded novel; a text; a folder that was prepared), hold out documents,
    build the vocabulary.

    Raises:
        FileError: the corpus can't be read or is too small.
        ArgumentError: a folder was prepared with other options.
    """
    _check_type("options", options, PretrainOptions)
    data = open_corpus(corpus, options)
    try:
        special = special_ids(data.tokenizer)
        short = options.short_probability
        sampler = PairSampler(data.train_part(), options.length, *special, short_probability=short)
        examples = held_out_examples(data, options.length, options.mask_probability)
    except ArgumentError as error:  # raised where the file's name is not known
        raise FileError(f"{corpus_name(corpus)}: {error}") from error
    return Data(
        data.tokenizer,
        sampler,
        examples,
        data.held_out_documents,
        data.held_out,
        data.counts.documents,
        data.counts.characters,
        data.digest,
        data.left_out,
    )


def held_out_examples(
    data: TokenizedCorpus, length: int, probability: float, seed: int = HELD_OUT_SEED
) -> Batch:
    """The pairs of the held-out documents with their masks, at most ``MOST_PAIRS``: the same for the same
    corpus, length, vocabulary and seed."""
    rng = np.random.default_rng(seed)
    sampler = PairSampler(
        data.held_out_part(), length, *special_ids(data.tokenizer), data.extra_part()
    )
    return _mask(sampler.all(rng, MOST_PAIRS), data.tokenizer, probability, rng)


def special_ids(tokenizer: NezhaTokenizer) -> tuple[int, int, int]:
    """The ids of [CLS], [SEP] and [PAD]."""
    return tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id


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
    return _mask(examples, tokenizer, options.mask_probability, rng)


def _mask(
    examples: Mapping[str, np.ndarray],
    tokenizer: NezhaTokenizer,
    probability: float,
    rng: np.random.Generator,
) -> Batch:
    input_ids, labels = mask_tokens(
        examples["input_ids"],
        tokenizer.special_ids,
        rng,
        mask_token_id=tokenizer.mask_token_id,
        vocab_size=len(tokenizer),
        probability=probability,
    )
    return {**examples, "input_ids": input_ids, "labels": labels}


def _check_type(name: str, value: Any, expected: type) -> None:
    if not isinstance(value, expected):
        raise ArgumentError(f"{name}: expected {expected.__name__}, found {type(value).__name__}")
