"""Sentence pairs for pre-training: does B continue A, or is it from another document?

    [CLS] A … [SEP] B … [SEP]        label 0: B continues A        label 1: B is random

All tokens are stored in one flat array. A segment is a pair of offsets, and a few array operations
cut out a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from minizha.backend import refuse_masked
from minizha.checks import integer
from minizha.errors import ArgumentError
from minizha.text.arguments import MOST_TOKENS, check_generator, check_tokenizer
from minizha.text.corpus import Document, check_documents, split_sentences


def tokenize_documents(documents: Sequence[Document], tokenizer: Any) -> list[list[np.ndarray]]:
    """Each document as its sentences, each sentence as its ids, (n,) int64, without [CLS], [SEP].

    Convention: "[MASK]" and the like in a document are text, not special tokens.

    ``tokenizer`` is a :class:`~minizha.text.tokenizer.NezhaTokenizer`.

    Raises:
        ArgumentError: an argument is not as described here.
    """
    check_documents(documents)
    check_tokenizer(tokenizer)
    split = [[s for p in document.paragraphs for s in split_sentences(p)] for document in documents]
    return [
        tokenizer.plain_ids(sentences, special_tokens=False) if sentences else []
        for sentences in split
    ]


class PairSampler:
    """Packs consecutive sentences into pairs of segments (A, B); in half of them, B is random.

    A row has room for T = max_length − 3 tokens. A consists of the whole sentences that fit into a
    length drawn from T/4 … 3T/4, at least one; a sentence longer than 3T/4 loses its beginning, so
    that A always ends where the next sentence begins. B fills the rest of the row from the next
    sentence on and may end inside a sentence. A row is padded only where B's document ends.

    A random B is the continuation of another A, in another document. For both labels, A and B thus
    come from the same distributions, and only the relation between the two tells the labels apart.

    Args:
        documents: sentences as (n,) integer arrays; documents of one sentence are left out, because
            nothing continues it.
        max_length: L, the length of a row with its special tokens; at least 5.
        cls_id, sep_id, pad_id: the ids of [CLS], [SEP] and [PAD].
        extra_documents: more documents, from which a random B may come but no A.

    Source: Devlin et al. 2018, section 3.1, task 2; label 0 is "continues", as in
    NezhaForPreTraining's ``next_sentence_label``.

    Raises:
        ArgumentError: fewer than two documents of at least two sentences, max_length below 5.
    """

    def __init__(
        self,
        documents: Sequence[Sequence[Any]],
        max_length: int,
        cls_id: int,
        sep_id: int,
        pad_id: int,
        extra_documents: Sequence[Sequence[Any]] = (),
    ):
        self.max_length = integer("max_length", max_length, 5)
        names = ("cls_id", "sep_id", "pad_id")
        ids = (cls_id, sep_id, pad_id)
        self._special = [integer(n, i, 0, MOST_TOKENS) for n, i in zip(names, ids, strict=True)]
        main = _of_two_sentences("documents", documents)
        extra = _of_two_sentences("extra_documents", extra_documents)
        usable = main + extra
        if not main or len(usable) < 2:
            raise ArgumentError(
                "documents: expected at least 2 documents of 2 or more sentences each, "
                f"found {len(usable)} (a random sentence comes from another document)"
            )
        sentences = [s for document in usable for s in document]
        self._tokens = np.concatenate(sentences).astype(np.int64)
        # of each sentence: its start and end, and the first and last sentence of its document
        counts = np.array([len(document) for document in usable])
        self._ends = np.cumsum([len(s) for s in sentences])
        self._starts = np.concatenate([[0], self._ends[:-1]])
        self._first = np.repeat(np.cumsum(counts) - counts, counts)
        self._last = np.repeat(np.cumsum(counts) - 1, counts)
        # an A may begin at every sentence but the last of a document, which nothing continues
        self._openers = np.flatnonzero(np.arange(len(sentences)) < self._last)
        # extra_documents come last, so the sentences below this number may begin an A of a pair
        self._main_sentences = int(counts[: len(main)].sum())
        self._main_openers = self._openers[self._openers < self._main_sentences]

    def batch(self, batch_size: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """A random batch. Half of its labels are 1; of an odd number, the half is rounded at random.

        Returns:
            input_ids, token_type_ids (0 for ``[CLS] A [SEP]``, 1 for ``B [SEP]``), attention_mask,
            each (B, L) int64, and next_sentence_label (B,) int64.

        Raises:
            ArgumentError: ``batch_size`` below 1, or an ``rng`` that is not a Generator.
        """
        check_generator(rng)
        batch_size = integer("batch_size", batch_size, 1)
        try:
            labels = rng.permutation(np.arange(batch_size) + rng.integers(2)) % 2
            sentence = rng.choice(self._main_openers, batch_size)
            return self._examples(*self._segment_a(sentence, rng), labels, rng)
        except (MemoryError, OverflowError, ValueError) as error:  # beyond the address space
            raise ArgumentError(f"batch_size: {batch_size} rows do not fit into memory") from error

    def all(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Every sentence about once, in order, as one dict like that of :meth:`batch`; for evaluation.

        Convention: the labels alternate. If B continues A, the next A begins after B (with the
        sentence that B cut, if any), else after A. A document's last sentence can be left out.
        """
        check_generator(rng)
        rows = []
        sentence, label = 0, int(rng.integers(2))
        while sentence < self._main_sentences:
            last = self._last[sentence]
            if sentence == last:
                sentence += 1
                continue
            start, end, following = self._segment_a(sentence, rng)
            rows.append((start, end, following, label))
            sentence = following
            if label == 0:
                uncut = np.searchsorted(self._ends, start + self.max_length - 3, side="right")
                sentence = np.clip(uncut, following, last + 1)
            label = 1 - label
        return self._examples(*np.array(rows, dtype=np.int64).T, rng)

    def _segment_a(self, sentence: Any, rng: np.random.Generator) -> tuple[Any, Any, Any]:
        """An A from ``sentence`` on: its start, its end, and the sentence after it."""
        room = self.max_length - 3
        shortest = max(1, room // 4)
        start = self._starts[sentence]
        length = rng.integers(shortest, room - shortest, size=np.shape(sentence), endpoint=True)
        following = np.searchsorted(self._ends, start + length, side="right")
        following = np.clip(following, sentence + 1, self._last[sentence])
        end = self._starts[following]
        return np.maximum(start, end - (room - shortest)), end, following

    def _random_continuation(self, sentence: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """For each sentence, a sentence that continues an A in another document."""
        # draw from the openers of the other documents by skipping those of this document
        skipped = self._last[sentence] - self._first[sentence]
        begin = np.searchsorted(self._openers, self._first[sentence])
        draw = rng.integers(0, len(self._openers) - skipped)
        opener = self._openers[draw + skipped * (draw >= begin)]
        return self._segment_a(opener, rng)[2]

    def _examples(
        self,
        a_start: np.ndarray,
        a_end: np.ndarray,
        following: np.ndarray,
        labels: np.ndarray,
        rng: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        b_sentence = np.where(labels == 1, self._random_continuation(following, rng), following)
        b_start = self._starts[b_sentence]
        a_length = a_end - a_start
        b_length = self._ends[self._last[b_sentence]] - b_start
        b_length = np.minimum(b_length, self.max_length - 3 - a_length)

        cls_id, sep_id, pad_id = self._special
        position = np.arange(self.max_length)  # (L,); the columns below are (B, 1)
        first_sep = (1 + a_length)[:, None]
        last_sep = first_sep + (1 + b_length)[:, None]
        in_b = position > first_sep
        source = position + np.where(in_b, b_start[:, None] - first_sep - 1, a_start[:, None] - 1)
        # at special tokens and padding, source may be out of range; these ids are overwritten
        ids = self._tokens[np.clip(source, 0, len(self._tokens) - 1)]
        ids[:, 0] = cls_id
        ids[(position == first_sep) | (position == last_sep)] = sep_id
        ids[position > last_sep] = pad_id
        return {
            "input_ids": ids,
            "token_type_ids": (in_b & (position <= last_sep)).astype(np.int64),
            "attention_mask": (position <= last_sep).astype(np.int64),
            "next_sentence_label": labels.astype(np.int64),
        }


def _of_two_sentences(name: str, documents: Any) -> list[list[np.ndarray]]:
    """The documents of two sentences or more, as arrays; all sentences are checked."""
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
