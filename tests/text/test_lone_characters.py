"""A text of lone characters, looked up one by one, is what the whole pipeline makes of it."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minizha.text.added_tokens import AddedToken
from minizha.text.lone_characters import LoneCharacters
from minizha.text.tokenizer import NezhaTokenizer
from minizha.text.vocabulary import SPECIAL_TOKENS
from minizha.text.wordpiece import count_character_pieces, normalizer, words_of

SAMPLE = "中国〇，。“”！？…—豈Ａａaé\u0301ß1２ \t\u3000\u2028\x00\x85が한😎-’ǅ"
TOKENIZERS = [
    NezhaTokenizer([*SPECIAL_TOKENS, *"中国，。〇a1か", "##a", "中国"], **settings)
    for settings in (
        {},
        {"do_lower_case": False},
        {"strip_accents": False},
        {"tokenize_chinese_chars": False},
    )
]
texts = st.lists(st.text(st.one_of(st.sampled_from(SAMPLE), st.characters(codec="utf-8"))))


@given(texts.filter(len), st.sampled_from(TOKENIZERS))
def test_ids_are_those_of_the_library(found, tokenizer):
    """The library's rows are the oracle: they are asked for each text as a whole."""
    rows = tokenizer._encode(found, None, around=False, special=False)
    ids = tokenizer.plain_ids(found, special_tokens=False)
    assert [i.tolist() for i in ids] == [row.ids for row in rows]
    assert all(i.dtype == np.int64 for i in ids)


@given(texts, st.booleans())
def test_counts_are_those_of_the_words(found, do_lower_case):
    words = words_of(normalizer(do_lower_case))
    expected = {}
    for text in found:
        for word in words(text):
            for i, character in enumerate(word):
                piece = "##" * (i > 0) + character
                expected[piece] = expected.get(piece, 0) + 1
    assert dict(count_character_pieces(found, do_lower_case)) == expected


def test_chinese_is_looked_up_and_latin_is_not():
    characters = LoneCharacters(words_of(normalizer()))
    found = list(characters.split(["中，Ａ", "中。", "", "a", "\uf900"]))
    assert [i for i, codes in enumerate(found) if codes is None] == [0, 2, 3]
    assert found[1].tolist() == [ord("中"), ord("。")]
    assert found[4].tolist() == [0x8C48]  # the compatibility character becomes the common one


def test_a_letter_taken_for_a_lone_character_is_seen():
    """The negative control: a pipeline of single characters would take every letter for one."""
    wrong = LoneCharacters(list, lambda c: 5)
    assert next(wrong.split(["ab"])).tolist() == [5, 5]
    right = LoneCharacters(words_of(normalizer()))
    assert next(right.split(["ab"])) is None


def test_added_tokens_may_be_made_of_lone_characters():
    added = [AddedToken("中国", 7)]
    tokenizer = NezhaTokenizer([*SPECIAL_TOKENS, *"中国"], added_tokens=added)
    assert tokenizer.plain_ids(["中国中"], special_tokens=False)[0].tolist() == [7, 5]
