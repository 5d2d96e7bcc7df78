"""What a model knows: its figures on held-out text, its guesses at hidden words."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minizha.backend import to_host
from minizha.errors import ArgumentError, MinizhaError
from minizha.model.pretraining import NezhaForPreTraining
from minizha.ops.softmax import softmax
from minizha.text.corpus import Document, split_sentences
from minizha.text.tokenizer import NezhaTokenizer
from minizha.training.step import Batch, Counts, count


class Figures(NamedTuple):
    """Mean losses in nats, shares of right answers, and over how many words and pairs."""

    word_loss: float
    word_accuracy: float
    pair_loss: float
    pair_accuracy: float
    words: int
    pairs: int


def figures(counts: list[Counts]) -> Figures:
    """The means over several batches whose losses are means over each; waits for a GPU."""
    rows = np.array([[float(x) for x in c] for c in counts])
    word_loss, pair_loss, right_words, words, right_pairs, pairs = rows.T
    all_words, all_pairs = max(1.0, words.sum()), max(1.0, pairs.sum())
    return Figures(
        float((word_loss * words).sum() / all_words),
        float(right_words.sum() / all_words),
        float((pair_loss * pairs).sum() / all_pairs),
        float(right_pairs.sum() / all_pairs),
        int(words.sum()),
        int(pairs.sum()),
    )


def evaluate(model: NezhaForPreTraining, examples: Batch, batch_size: int = 64) -> Figures:
    """The figures over all examples, in eval mode, which the model is left in."""
    model.eval()
    counts = []
    for start in range(0, len(examples["input_ids"]), batch_size):
        batch = {name: array[start : start + batch_size] for name, array in examples.items()}
        out = model(**batch, record=True, return_dict=True)
        counts.append(count(out.record))
    return figures(counts)


class Guess(NamedTuple):
    """A token and its probability."""

    token: str
    probability: float


def fill_mask(
    model: Any, tokenizer: NezhaTokenizer, text: str, top_k: int = 5
) -> list[list[Guess]]:
    """For each ``[MASK]`` in the text, the ``top_k`` likeliest tokens, best first.

    Args:
        model: a NezhaForMaskedLM or NezhaForPreTraining.

    Raises:
        ArgumentError: no [MASK] in the text, or top_k is not in [1, V].
    """
    if not isinstance(text, str):
        raise ArgumentError(f"text: expected one text, found {type(text).__name__}")
    if not isinstance(top_k, int) or not 1 <= top_k <= len(tokenizer):
        raise ArgumentError(f"top_k: expected 1 to {len(tokenizer)}, found {top_k}")
    batch = tokenizer(text, truncation=False)
    places = np.flatnonzero(batch["input_ids"][0] == tokenizer.mask_token_id)
    if not len(places):
        raise ArgumentError(f"text: expected [MASK] where a word is to be guessed, found {text!r}")
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


def follows(model: Any, tokenizer: NezhaTokenizer, first: str, second: str) -> float:
    """The probability that ``second`` continues ``first``.

    Args:
        model: a NezhaForNextSentencePrediction or NezhaForPreTraining.
    """
    for name, text in (("first", first), ("second", second)):
        if not isinstance(text, str):
            raise ArgumentError(f"{name}: expected one text, found {type(text).__name__}")
    out = model(**tokenizer(first, second, truncation=False), return_dict=True)
    logits = out["seq_relationship_logits" if "seq_relationship_logits" in out else "logits"]
    return float(to_host(softmax(logits)[0])[0, 0])


class Example(NamedTuple):
    """A held-out sentence with one character masked, that character, and the guesses at it."""

    text: str
    answer: str
    guesses: list[Guess]


def examples_from(
    model: NezhaForPreTraining,
    tokenizer: NezhaTokenizer,
    documents: list[Document],
    number: int = 5,
    seed: int = 0,
) -> list[Example]:
    """Sentences drawn from the documents, a character of the vocabulary masked in each."""
    rng = np.random.default_rng(seed)
    sentences = [
        s for d in documents for p in d.paragraphs for s in split_sentences(p) if 12 <= len(s) <= 40
    ]
    chosen = []
    for i in rng.permutation(len(sentences)):
        if len(chosen) == number:
            break
        sentence = sentences[i]
        places = [k for k, c in enumerate(sentence) if c.isalpha() and _known(c, tokenizer)]
        if places:
            k = places[int(rng.integers(len(places)))]
            text = sentence[:k] + "[MASK]" + sentence[k + 1 :]
            chosen.append(Example(text, sentence[k], fill_mask(model, tokenizer, text)[0]))
    return chosen


def _known(character: str, tokenizer: NezhaTokenizer) -> bool:
    return tokenizer.convert_tokens_to_ids(character) != tokenizer.unk_token_id


def load_for_text(kind: type, folder: str, backend: str = "numpy") -> tuple[Any, NezhaTokenizer]:
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
