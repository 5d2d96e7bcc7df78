"""A corpus as ids, divided into training and held-out documents: made in memory, or read from a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minizha.errors import ArgumentError
from minizha.text.corpus import Document, character_vocabulary, hold_out
from minizha.text.packed import Packed, check_enough, of_two_sentences, pack
from minizha.text.pairs import tokenize_documents
from minizha.text.tokenizer import NezhaTokenizer
from minizha.text.vocabulary import SPECIAL_TOKENS

DIGESTED = ("tokens.bin", "sentences.bin", "documents.bin", "vocab.txt")
"""The files of a prepared folder from which its digest is made; in memory, the arrays of that content."""
FEW = 3
"""Fewer held-out documents take the random sentences of their pairs from the training documents too."""


class Counts(NamedTuple):
    """What is in a corpus, and what of it is not trained on. Characters are those without titles."""

    documents: int = 0
    characters: int = 0
    titles: int = 0
    title_characters: int = 0
    short_documents: int = 0
    short_tokens: int = 0
    tokens: int = 0
    unknown: int = 0

    def plus(self, other: Counts) -> Counts:
        """The counts of two parts together."""
        return Counts._make(a + b for a, b in zip(self, other, strict=True))

    def left_out(self, min_count: int | None) -> str:
        """One line that says what is not trained on, "" if nothing; ``min_count`` is that of a
        vocabulary made of the corpus, None of another one."""
        if min_count is None:
            reason = "the vocabulary lacks"
        else:
            reason = (
                f"have characters that the training documents hold fewer than {min_count} times"
            )
        parts = {
            f"{self.titles} titles ({self.title_characters:,} characters)": self.titles,
            f"{self.short_documents} documents of fewer than 2 sentences ({self.short_tokens:,} "
            "tokens)": self.short_documents,
            f"{self.unknown:,} of {self.tokens:,} tokens, which {reason} (they become [UNK])": (
                self.unknown
            ),
        }
        said = [part for part, any_left_out in parts.items() if any_left_out]
        return "left out: " + ", ".join(said) if said else ""


class TokenizedCorpus(NamedTuple):
    """``packed`` holds the training documents, ``train_documents`` of them, then those held out.

    ``held_out`` is the number of documents that were held out, those too short to be packed among
    them; ``held_out_documents`` are their texts, or of a folder some of their sentences. Equal
    ``digest``s mean equal ids, vocabulary and division.
    """

    tokenizer: NezhaTokenizer
    packed: Packed
    train_documents: int
    held_out: int
    held_out_documents: list[Document]
    counts: Counts
    left_out: str
    digest: str

    def train_part(self) -> Packed:
        """The training documents."""
        return self.packed.part(0, self.train_documents)

    def held_out_part(self) -> Packed:
        """The held-out documents."""
        return self.packed.part(self.train_documents, self.packed.last)

    def extra_part(self) -> Packed:
        """The documents from which the random sentences of held-out pairs may come, too: none, or the
        training documents if few are held out."""
        return self.train_part() if self.held_out < FEW else self.packed.part(0, 0)


def tokenize_corpus(
    documents: Sequence[Document], every: int, min_count: int, tokenizer: NezhaTokenizer | None
) -> TokenizedCorpus:
    """Hold out every n-th document, make a vocabulary of the others' characters, tokenize all.

    Args:
        tokenizer: is used as it is, and ``min_count`` is not.

    Raises:
        ArgumentError: fewer than two documents, or no character that occurs ``min_count`` times.
    """
    train, held_out = hold_out(documents, every)
    if tokenizer is not None:
        return tokenize_parts(train, held_out, tokenizer)
    tokens = check_characters(character_vocabulary(train, min_count), min_count)
    return tokenize_parts(train, held_out, NezhaTokenizer(tokens), min_count)


def tokenize_parts(
    train: Sequence[Document],
    held_out: Sequence[Document],
    tokenizer: NezhaTokenizer,
    min_count: int | None = None,
) -> TokenizedCorpus:
    """Tokenize training and held-out documents, either of which may be none.

    Args:
        min_count: that of the vocabulary, if it consists of the characters of ``train``.
    """
    train_ids, train_counts = usable_ids(train, tokenizer)
    held_out_ids, held_out_counts = usable_ids(held_out, tokenizer)
    counts = train_counts.plus(held_out_counts)
    packed = pack(train_ids + held_out_ids, len(tokenizer))
    vocabulary = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    hashed = (packed.tokens, packed.sentences, packed.documents, vocabulary_file(vocabulary))
    sums = (hashlib.sha256(data).hexdigest() for data in hashed)
    return TokenizedCorpus(
        tokenizer,
        packed,
        len(train_ids),
        len(held_out),
        list(held_out),
        counts,
        counts.left_out(min_count),
        corpus_digest(len(train_ids), *sums),
    )


def corpus_digest(train_documents: int, *sums: str) -> str:
    """The digest of a corpus, of the SHA-256 of what ``DIGESTED`` names."""
    return hashlib.sha256(" ".join((str(train_documents), *sums)).encode()).hexdigest()


def vocabulary_file(tokens: Sequence[str]) -> bytes:
    """The content of the vocab.txt of a prepared folder."""
    return "".join(f"{token}\n" for token in tokens).encode("utf-8")


def usable_ids(
    documents: Sequence[Document], tokenizer: NezhaTokenizer
) -> tuple[list[list[np.ndarray]], Counts]:
    """The ids of the documents that have at least two sentences, and the counts of all documents."""
    ids = tokenize_documents(documents, tokenizer)
    usable = of_two_sentences("documents", ids)
    # a sentence of control characters has no tokens
    short = [document for document in ids if sum(len(s) > 0 for s in document) < 2]
    flat = np.concatenate([np.zeros(0, np.int64), *(s for document in ids for s in document)])
    titles = [document.title for document in documents if document.title]
    return usable, Counts(
        len(documents),
        sum(len(p) for document in documents for p in document.paragraphs),
        len(titles),
        sum(map(len, titles)),
        len(short),
        sum(len(s) for document in short for s in document),
        len(flat),
        int((flat == tokenizer.unk_token_id).sum()),
    )


def check_parts(train: int, all_documents: int, held_out: int) -> None:
    """Raise an ArgumentError if pairs can't be made of both parts of a corpus.

    Args:
        train, all_documents: how many of the training documents, and of all, are long enough.
        held_out: how many were held out, long enough or not.
    """
    check_enough(train, train)
    own = all_documents - train
    check_enough(own, all_documents if held_out < FEW else own)


def check_characters(vocabulary: list[str], min_count: int) -> list[str]:
    """``vocabulary``, made of the characters that occur ``min_count`` times; refused if none does."""
    if len(vocabulary) == len(SPECIAL_TOKENS):
        raise ArgumentError(f"min_count: no character occurs {min_count} times")
    return vocabulary
