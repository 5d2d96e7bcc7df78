"""Evaluation: the metrics of a model on held-out text, and examples of its guesses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minizha.checks import integer
from minizha.model.pretraining import NezhaForPreTraining
from minizha.predict import Guess, guess_tokens
from minizha.text.arguments import check_tokenizer
from minizha.text.corpus import Document, check_documents, short_sentences
from minizha.text.tokenizer import NezhaTokenizer
from minizha.training.step import (
    Batch,
    BatchMetrics,
    batch_metrics,
    batch_rows,
    check_pretraining_model,
)


class Metrics(NamedTuple):
    """Mean losses in nats, shares of right answers, and the numbers of words and pairs."""

    word_loss: float
    word_accuracy: float
    pair_loss: float
    pair_accuracy: float
    words: int
    pairs: int


def evenly_spaced(batch: Batch, most: int) -> Batch:
    """At most ``most`` (2 or more) rows of a batch, evenly spaced: the same ones each time.

    Convention: they are couples of neighbours. The sentence labels of held-out examples alternate, so
    single rows at an even distance would all have the same label.
    """
    size = len(batch["labels"])
    every = max(1, math.ceil(math.ceil(size / 2) / (most // 2)))
    rows = np.flatnonzero(np.arange(size) // 2 % every == 0)
    return {name: array[rows] for name, array in batch.items()}


def mean_metrics(batches: list[BatchMetrics]) -> Metrics:
    """The means over all words and pairs of several batches; waits for a GPU."""
    rows = np.array([[float(x) for x in metrics] for metrics in batches])
    word_loss, pair_loss, right_words, words, right_pairs, pairs = rows.T
    all_words, all_pairs = max(1.0, words.sum()), max(1.0, pairs.sum())
    return Metrics(
        float((word_loss * words).sum() / all_words),
        float(right_words.sum() / all_words),
        float((pair_loss * pairs).sum() / all_pairs),
        float(right_pairs.sum() / all_pairs),
        int(words.sum()),
        int(pairs.sum()),
    )


def describe_metrics(metrics: Metrics) -> str:
    """The metrics in two lines."""
    return (
        f"  masked words    accuracy {metrics.word_accuracy:.3f}, loss {metrics.word_loss:.3f} nats "
        f"({metrics.words:,} words)\n"
        f"  next sentence   accuracy {metrics.pair_accuracy:.3f}, loss {metrics.pair_loss:.3f} nats "
        f"({metrics.pairs:,} pairs)"
    )


def evaluate(
    model: NezhaForPreTraining,
    examples: Batch,
    batch_size: int = 64,
    *,
    show: Callable[[int, str], None] = lambda done, text: None,
) -> Metrics:
    """The metrics over all examples. The model is in eval mode afterwards.

    Args:
        show: is called after each batch with the number of examples done and an empty text.

    Raises:
        ArgumentError: not a NezhaForPreTraining, not a batch with both labels, or ``batch_size`` below 1.
    """
    check_pretraining_model(model)
    examples = batch_rows(examples)
    batch_size = integer("batch_size", batch_size, 1)
    model.eval()
    batches = []
    for start in range(0, len(examples["labels"]), batch_size):
        batch = {name: array[start : start + batch_size] for name, array in examples.items()}
        out = model(**batch, return_dict=True)
        batches.append(batch_metrics(out.record))
        show(start + len(batch["labels"]), "")
    return mean_metrics(batches)


class Example(NamedTuple):
    """A held-out sentence with one token hidden, that token, and the model's guesses."""

    text: str
    answer: str
    guesses: list[Guess]


def examples_from(
    model: NezhaForPreTraining,
    tokenizer: NezhaTokenizer,
    documents: list[Document],
    count: int = 5,
    seed: int = 0,
) -> list[Example]:
    """``count`` random sentences of the documents, with one token of letters hidden in each.

    Convention: the sentence is tokenized first, so that a continuation such as ``##n`` can be hidden
    and guessed.
    """
    check_pretraining_model(model)
    check_documents(documents)
    check_tokenizer(tokenizer)
    count = integer("count", count, 0)
    rng = np.random.default_rng(integer("seed", seed, 0))
    sentences = short_sentences(documents)
    examples = []
    for i in rng.permutation(len(sentences)):
        if len(examples) == count:
            break
        sentence = sentences[i]
        pieces = tokenizer.pieces(sentence)
        tokens = tokenizer.convert_ids_to_tokens([i for i, *_ in pieces])
        hidden = [
            k
            for k, token in enumerate(tokens)
            if token.removeprefix("##").isalpha() and pieces[k][0] != tokenizer.unk_token_id
        ]
        if hidden:
            k = hidden[int(rng.integers(len(hidden)))]
            _, start, end = pieces[k]
            text = sentence[:start] + "[MASK]" + sentence[end:]
            guesses = _guess_hidden(model, tokenizer, [i for i, *_ in pieces], k)
            examples.append(Example(text, tokens[k], guesses))
    return examples


def _guess_hidden(
    model: NezhaForPreTraining, tokenizer: NezhaTokenizer, ids: list[int], k: int
) -> list[Guess]:
    """The guesses for the k-th of the tokens ``ids``."""
    row = np.array([[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]])
    row[0, 1 + k] = tokenizer.mask_token_id
    (guesses,) = guess_tokens(model, tokenizer, {"input_ids": row}, np.array([1 + k]), 5)
    return guesses
