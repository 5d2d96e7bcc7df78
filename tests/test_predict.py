"""A vocabulary beside word embeddings with more rows: opened if padding explains them, never guessed."""

import numpy as np
import pytest

from minizha import NezhaForPreTraining, NezhaTokenizer, fill_mask, next_sentence_probability
from minizha.convert import convert
from minizha.errors import ArgumentError, FileError
from minizha.predict import load_for_text
from minizha.text.vocabulary import SPECIAL_TOKENS
from tests.support.tiny_models import SMALL

TOKENIZER = NezhaTokenizer([*SPECIAL_TOKENS, *"一二三四五六"])  # 11 tokens


def folder_of(path, rows):
    """A model with ``rows`` rows, by far the likeliest of which is the last one."""
    model = NezhaForPreTraining(SMALL.replace(vocab_size=rows))
    bias = np.zeros(rows, np.float32)
    bias[-1] = 50
    model.load_state_dict({"cls.predictions.bias": bias}, strict=False)
    model.save_pretrained(path, tokenizer=TOKENIZER)
    return path


@pytest.mark.parametrize("rows", [16, 32, 64, 128])
def test_padded_rows_are_never_guessed(rows, tmp_path):
    model, tokenizer = load_for_text(NezhaForPreTraining, folder_of(tmp_path, rows))
    (guesses,) = fill_mask(model, tokenizer, "一[MASK]", top_k=11)
    assert {guess.token for guess in guesses} == set(TOKENIZER.convert_ids_to_tokens(range(11)))
    assert sum(guess.probability for guess in guesses) == pytest.approx(1)
    assert guesses[0].probability < 0.5
    assert 0 < next_sentence_probability(model, tokenizer, "一", "二") < 1
    convert(tmp_path, tmp_path / "new")
    assert load_for_text(NezhaForPreTraining, tmp_path / "new")[0].config.vocab_size == rows
    with pytest.raises(ArgumentError, match=r"top_k: expected an integer in \[1, 11\], found 12"):
        fill_mask(model, tokenizer, "一[MASK]", top_k=12)


def test_without_padding_the_last_row_is_guessed(tmp_path):
    """The control."""
    model, tokenizer = load_for_text(NezhaForPreTraining, folder_of(tmp_path, 11))
    (guesses,) = fill_mask(model, tokenizer, "一[MASK]")
    assert guesses[0].token == "六"
    assert guesses[0].probability > 0.99


@pytest.mark.parametrize("rows", [8, 10, 12, 15, 24, 144, 1000])
def test_rows_that_padding_does_not_explain_are_refused(rows, tmp_path):
    folder = folder_of(tmp_path, rows)
    message = f"vocab.txt has 11 tokens, but config.json says vocab_size = {rows}"
    with pytest.raises(FileError, match=message):
        load_for_text(NezhaForPreTraining, folder)
    with pytest.raises(FileError, match=message):
        convert(folder, tmp_path / "new")


def test_a_model_of_fewer_words_than_the_tokenizer():
    model = NezhaForPreTraining(SMALL.replace(vocab_size=8))
    with pytest.raises(ArgumentError, match=r"tokenizer: expected at most 8 tokens, .* found 11"):
        fill_mask(model, TOKENIZER, "[MASK]")
