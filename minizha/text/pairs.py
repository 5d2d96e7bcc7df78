"""Sentence pairs for pre-training: does B continue A, or is it from another document?

    [CLS] A … [SEP] B … [SEP]        label 0: B continues A        label 1: B is random

All tokens are stored in one flat array (:class:`~minizha.text.packed.Packed`). A segment is a pair of
offsets, and a few array operations cut out a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from minizha.checks import integer, number
from minizha.errors import ArgumentError
from minizha.text.arguments import MOST_TOKENS, check_generator, check_tokenizer
from minizha.text.corpus import Document, check_documents, split_sentences
from minizha.text.packed import Packed, check_enough, of_two_sentences, pack


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
            nothing continues it. Or a part of a packed corpus.
        max_length: L, the length of a row with its special tokens; at least 5.
        cls_id, sep_id, pad_id: the ids of [CLS], [SEP] and [PAD].
        extra_documents: more documents, from which a random B may come but no A; beside a part of a
            packed corpus, another part of the same one, next to it.
        short_probability: the share of the pairs for which T is drawn anew, from 2 … T.

    Source: Devlin et al. 2018, section 3.1, task 2, and for short pairs section A.2, with the program
    published with it; label 0 is "continues", as in NezhaForPreTraining's ``next_sentence_label``.

    Raises:
        ArgumentError: fewer than two documents of at least two sentences, max_length below 5, or a
            probability outside [0, 1].
    """

    def __init__(
        self,
        documents: Sequence[Sequence[Any]] | Packed,
        max_length: int,
        cls_id: int,
        sep_id: int,
        pad_id: int,
        extra_documents: Sequence[Sequence[Any]] | Packed = (),
        *,
        short_probability: float = 0.0,
    ):
        self.max_length = integer("max_length", max_length, 5)
        names = ("cls_id", "sep_id", "pad_id")
        ids = (cls_id, sep_id, pad_id)
        self._special = [integer(n, i, 0, MOST_TOKENS) for n, i in zip(names, ids, strict=True)]
        self._short_probability = number("short_probability", short_probability, "[0, 1]")
        if not isinstance(documents, Packed):
            own = of_two_sentences("documents", documents)
            extra = of_two_sentences("extra_documents", extra_documents)
            everything = pack(own + extra)
            documents = everything.part(0, len(own))
            extra_documents = everything.part(len(own), len(own) + len(extra))
        parts = [documents]
        if isinstance(extra_documents, Packed) and extra_documents.first < extra_documents.last:
            parts.append(extra_documents)
        self._own = documents
        first, last = min(part.first for part in parts), max(part.last for part in parts)
        check_enough(documents.last - documents.first, last - first)
        self._tokens, self._documents = documents.tokens, documents.documents
        self._starts, self._ends = documents.sentences[:-1], documents.sentences[1:]
        # an A may begin at every sentence but the last of a document, which nothing continues: an
        # opener. Openers are counted from the first document of the arrays on
        self._openers = documents.openers
        self._own_openers = self._openers[documents.first], self._openers[documents.last]
        self._all_openers = self._openers[first], self._openers[last]

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
            first, last = self._own_openers
            sentence = self._opener(first + rng.choice(last - first, batch_size))
            room = self._rooms(batch_size, rng)
            return self._examples(*self._segment_a(sentence, room, rng), labels, room, rng)
        except (MemoryError, OverflowError, ValueError) as error:  # beyond the address space
            raise ArgumentError(f"batch_size: {batch_size} rows do not fit into memory") from error

    def all(self, rng: np.random.Generator, most: int | None = None) -> dict[str, np.ndarray]:
        """Every sentence about once, in order, as one dict like that of :meth:`batch`; for evaluation.
        No pair is short.

        Convention: the labels alternate. If B continues A, the next A begins after B (with the
        sentence that B cut, if any), else after A. A document's last sentence can be left out.

        Args:
            most: the most pairs. If the documents are expected to make more, only every n-th of them
                is used.

        Raises:
            ArgumentError: ``most`` below 1, or an ``rng`` that is not a Generator.
        """
        check_generator(rng)
        most = integer("most", most, 1, optional=True)
        room = self.max_length - 3
        rows: list[tuple] = []
        label = int(rng.integers(2))
        for document in range(self._own.first, self._own.last, self._stride(most)):
            sentence, end_of_document = self._documents[document : document + 2]
            while sentence < end_of_document - 1 and (most is None or len(rows) < most):
                start, end, following = self._segment_a(sentence, room, rng)
                rows.append((start, end, following, label))
                sentence = following
                if label == 0:
                    uncut = np.searchsorted(self._ends, start + room, side="right")
                    sentence = np.clip(uncut, following, end_of_document)
                label = 1 - label
        return self._examples(*np.array(rows, dtype=np.int64).T, room, rng)

    def _stride(self, most: int | None) -> int:
        """The n of ``most`` in :meth:`all`. A pair advances by A and B, or by A alone, which is half of
        the row: by three quarters of it in the mean."""
        if most is None:
            return 1
        return max(1, math.ceil(self._own.count_tokens() / (0.75 * (self.max_length - 3) * most)))

    def _rooms(self, size: int, rng: np.random.Generator) -> int | np.ndarray:
        """The tokens of each pair without special ones: T, or for short pairs any number from 2 to T."""
        room = self.max_length - 3
        if self._short_probability == 0:  # nothing is drawn
            return room
        is_short = rng.random(size) < self._short_probability
        return np.where(is_short, rng.integers(2, room, size, endpoint=True), room)

    def _segment_a(
        self, sentence: Any, room: Any, rng: np.random.Generator
    ) -> tuple[Any, Any, Any]:
        """An A from ``sentence`` on in a row with this room: its start, its end, and the sentence after
        it."""
        shortest = np.maximum(1, room // 4)
        start = self._starts[sentence]
        length = rng.integers(shortest, room - shortest, size=np.shape(sentence), endpoint=True)
        following = np.searchsorted(self._ends, start + length, side="right")
        last_of_document = self._documents[self._document(sentence) + 1] - 1
        following = np.clip(following, sentence + 1, last_of_document)
        end = self._starts[following]
        return np.maximum(start, end - (room - shortest)), end, following

    def _document(self, sentence: Any) -> Any:
        """The number of the document that each sentence is in."""
        return np.searchsorted(self._documents, sentence, side="right") - 1

    def _opener(self, opener: np.ndarray) -> np.ndarray:
        """The sentence that is the opener of this number."""
        # each document before it has one sentence, its last, that is no opener
        return opener + np.searchsorted(self._openers, opener, side="right") - 1

    def _random_continuation(
        self, sentence: np.ndarray, room: int | np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """For each sentence, a sentence that continues an A in another document."""
        # draw from the openers of the other documents by skipping those of this document
        document = self._document(sentence)
        first, last = self._all_openers
        begin = self._openers[document]
        skipped = self._openers[document + 1] - begin
        draw = first + rng.integers(0, last - first - skipped)
        opener = self._opener(draw + skipped * (draw >= begin))
        return self._segment_a(opener, room, rng)[2]

    def _examples(
        self,
        a_start: np.ndarray,
        a_end: np.ndarray,
        following: np.ndarray,
        labels: np.ndarray,
        room: int | np.ndarray,
        rng: np.random.Generator,
    ) -> dict[str, np.ndarray]:
        random = self._random_continuation(following, room, rng)
        b_sentence = np.where(labels == 1, random, following)
        b_start = self._starts[b_sentence]
        a_length = a_end - a_start
        document_end = self._own.sentences[self._documents[self._document(b_sentence) + 1]]
        b_length = np.minimum(document_end - b_start, room - a_length)

        cls_id, sep_id, pad_id = self._special
        position = np.arange(self.max_length)  # (L,); the columns below are (B, 1)
        first_sep = (1 + a_length)[:, None]
        last_sep = first_sep + (1 + b_length)[:, None]
        in_b = position > first_sep
        source = position + np.where(in_b, b_start[:, None] - first_sep - 1, a_start[:, None] - 1)
        # at special tokens and padding, source may be out of range; these ids are overwritten
        ids = self._tokens[np.clip(source, 0, len(self._tokens) - 1)].astype(np.int64)
        ids[:, 0] = cls_id
        ids[(position == first_sep) | (position == last_sep)] = sep_id
        ids[position > last_sep] = pad_id
        return {
            "input_ids": ids,
            "token_type_ids": (in_b & (position <= last_sep)).astype(np.int64),
            "attention_mask": (position <= last_sep).astype(np.int64),
            "next_sentence_label": labels.astype(np.int64),
        }
