"""A tokenized corpus in flat arrays: three numbers find a sentence, and the arrays may lie in files.

Memory holds what is read of a mapped file, so a corpus may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import refuse_masked
from minizha.errors import ArgumentError


class Packed(NamedTuple):
    """Documents of two or more sentences, T tokens in S sentences in D documents; or a part of them.

    ``tokens`` (T,): the ids, in any integer type. ``sentences`` (S + 1,) int64: where each sentence
    begins among the tokens, then T. ``documents`` (D + 1,) int64: the number of each document's first
    sentence, then S. ``openers`` (D + 1,) int64: how many sentences before each document have a
    successor in their own document, documents[d] − d. The part consists of the documents from
    ``first`` up to but not including ``last``.
    """

    tokens: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    openers: np.ndarray
    first: int
    last: int

    def part(self, first: int, last: int) -> Packed:
        """The documents from ``first`` up to ``last``, in the same arrays."""
        return self._replace(first=first, last=last)

    def count_tokens(self) -> int:
        """The number of tokens in this part."""
        first, last = self.sentences[self.documents[[self.first, self.last]]]
        return int(last - first)


def pack(documents: Sequence[Sequence[np.ndarray]], vocab_size: int | None = None) -> Packed:
    """Documents of two or more non-empty sentences, each (n,) integers, as flat arrays.

    Args:
        vocab_size: the ids are below it, and have the smallest type for that; None: int64.
    """
    sentences = [sentence for document in documents for sentence in document]
    dtype = np.dtype(np.int64) if vocab_size is None else token_type(vocab_size)
    tokens = np.concatenate([np.zeros(0, np.int64), *sentences]).astype(dtype)
    bounds = _bounds([len(document) for document in documents])
    return Packed(
        tokens,
        _bounds([len(sentence) for sentence in sentences]),
        bounds,
        bounds - np.arange(len(bounds)),
        0,
        len(documents),
    )


def token_type(vocab_size: int) -> np.dtype:
    """The smallest unsigned integer type, little-endian, that holds 0 … V − 1."""
    return np.min_scalar_type(vocab_size - 1).newbyteorder("<")


def of_two_sentences(name: str, documents: Any) -> list[list[np.ndarray]]:
    """The documents that have two or more non-empty sentences, as arrays; all sentences are checked.

    Nothing continues the only sentence of a document.

    Raises:
        ArgumentError: not documents of sentences of integers; ``name`` is the argument's.
    """
    refuse_masked(documents, name)
    expected = f"{name}: expected each sentence as an (n,) array of integers"
    try:
        split = [[np.asarray(s) for s in document] for document in documents]
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{expected}: {error}") from error
    if any(s.ndim != 1 or (s.size and s.dtype.kind not in "iu") for d in split for s in d):
        raise ArgumentError(expected)
    nonempty = [[s for s in document if s.size] for document in split]
    return [document for document in nonempty if len(document) > 1]


def check_enough(own: int, all_documents: int) -> None:
    """Raise an ArgumentError if pairs can't be made from so many documents, ``own`` of which may begin
    one."""
    if own < 1 or all_documents < 2:
        raise ArgumentError(
            "documents: expected at least 2 documents of 2 or more sentences each, "
            f"found {all_documents if own else 0} (a random sentence comes from another document)"
        )


def _bounds(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
