"""BERT's text pipeline, built with the ``tokenizers`` library.

The library is imported inside the functions, because its import is slow and a model alone does
not need it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np

from minizha.text.added_tokens import AddedToken
from minizha.text.lone_characters import LoneCharacters
from minizha.text.vocabulary import CLS, SEP, UNK


def normalizer(
    do_lower_case: bool = True,
    strip_accents: bool | None = None,
    tokenize_chinese_chars: bool = True,
) -> Any:
    """BERT's normaliser: control characters, white space, Chinese characters, case, accents."""
    from tokenizers import normalizers

    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=tokenize_chinese_chars,
        strip_accents=strip_accents,
        lowercase=do_lower_case,
    )


def wordpiece(tokens: Sequence[str], added: Iterable[AddedToken], text_normalizer: Any) -> Any:
    """The pipeline as a ``tokenizers.Tokenizer`` with the vocabulary ``tokens`` and the whole tokens
    ``added``, in the order of their ids."""
    import tokenizers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    ids = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=UNK, max_input_chars_per_word=100))
    tokenizer.normalizer = text_normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS}:0 $A:0 {SEP}:0 $B:1 {SEP}:1",
        special_tokens=[(CLS, ids[CLS]), (SEP, ids[SEP])],
    )
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    for token in added:
        # matched before normalisation, unless ``normalized``: lower case and the split at brackets
        # would destroy "[MASK]"
        library_token = tokenizers.AddedToken(
            token.content,
            single_word=token.single_word,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=token.normalized,
        )
        add = tokenizer.add_special_tokens if token.special else tokenizer.add_tokens
        add([library_token])
    return tokenizer


def close_gaps(text: str) -> str:
    """Decoded ``text`` without the spaces that tokenization put around English punctuation.

    The decoder of ``tokenizers`` handles one token at a time and misses spaces around several
    tokens, such as those of ``don ' t``.
    """
    for mark in ".?!,":
        text = text.replace(" " + mark, mark)
    text = text.replace(" ' ", "'")
    for ending in ("n't", "'m", "'s", "'ve", "'re"):
        text = text.replace(" " + ending, ending)
    return text


def words_of(text_normalizer: Any) -> Callable[[str], list[str]]:
    """The function that splits a text into the words that are then cut into tokens."""
    from tokenizers import pre_tokenizers

    normalize = text_normalizer.normalize_str
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    return lambda text: [word for word, _ in split(normalize(text))]


def count_character_pieces(texts: Sequence[str], do_lower_case: bool = True) -> Counter[str]:
    """How often each token occurs in ``texts`` if every token is one character.

    A Chinese character is a word and hence one piece; ``NBA`` becomes ``n``, ``##b``, ``##a``.
    """
    words, characters = _words_and_characters(do_lower_case)
    lone, others = [np.zeros(0, np.int64)], []
    for text, codes in zip(texts, characters.split(texts), strict=True):
        if codes is None:
            others.append(text)
        else:
            lone.append(codes)
    found = np.bincount(np.concatenate(lone))
    counts = Counter({chr(code): int(found[code]) for code in np.flatnonzero(found)})
    for text in others:
        for word in words(text):
            counts[word[0]] += 1
            counts.update("##" + character for character in word[1:])
    return counts


@cache
def _words_and_characters(
    do_lower_case: bool,
) -> tuple[Callable[[str], list[str]], LoneCharacters]:
    """What counts need of a pipeline; kept, because the characters are found as they occur."""
    words = words_of(normalizer(do_lower_case))
    return words, LoneCharacters(words)
