"""Added and special tokens of all four files: whole tokens, or the folder is refused by name."""

import json

import pytest

from minizha.errors import ArgumentError, FileError
from minizha.text.added_tokens import AddedToken
from minizha.text.tokenizer import NezhaTokenizer
from minizha.text.vocabulary import SPECIAL_TOKENS

VOCAB = [*SPECIAL_TOKENS, *"曹操引兵来攻天下大势分久，。[]", "e", "##1", "1", "hello", "mask", "u"]
assert len(VOCAB) == 27
E1 = {
    "content": "[E1]",
    "lstrip": False,
    "rstrip": False,
    "single_word": False,
    "normalized": False,
    "special": True,
}
FAST = {
    "model": {"type": "WordPiece", "vocab": {token: i for i, token in enumerate(VOCAB)}},
    "normalizer": {"type": "BertNormalizer"},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
}
# by the files of a folder; vocab.txt has 27 lines unless it is written here
WHOLE = {
    "added_tokens.json": {"added_tokens": {"[E1]": 27}},
    "tokenizer_config.json": {"tokenizer_config": {"added_tokens_decoder": {"27": E1}}},
    "added_tokens.json and special_tokens_map.json": {
        "added_tokens": {"[E1]": 27},
        "special_tokens_map": {"additional_special_tokens": ["[E1]"]},
    },
    "tokenizer.json": {"vocab": None, "tokenizer": FAST | {"added_tokens": [E1 | {"id": 27}]}},
    "vocab.txt and tokenizer.json": {"tokenizer": FAST | {"added_tokens": [E1 | {"id": 27}]}},
    "a role of its own": {
        "added_tokens": {"[E1]": 27},
        "special_tokens_map": {"bos_token": "[E1]"},
    },
}
REFUSED = {
    "no id": (
        {"special_tokens_map": {"additional_special_tokens": ["[E1]"]}},
        r"special_tokens_map\.json: '\[E1\]': expected its id in added_tokens\.json or",
    ),
    "a gap": ({"added_tokens": {"[E1]": 30}}, r"'\[E1\]': expected the id 27, .* found 30"),
    "the id of another": ({"added_tokens": {"[E1]": 3}}, r"'\[E1\]': expected the id 27.* found 3"),
    "another id than in vocab.txt": (
        {"added_tokens": {"hello": 27}},
        r"'hello': expected the id 24, .* found 27",
    ),
    "two ids": (
        {
            "added_tokens": {"[E1]": 27, "[E2]": 28},
            "tokenizer_config": {"added_tokens_decoder": {"28": E1}},
        },
        r"tokenizer_config\.json: '\[E1\]': expected the id 27, as elsewhere .* found 28",
    ),
    "another [CLS]": (
        {"special_tokens_map": {"cls_token": "<s>"}},
        r"special_tokens_map\.json: cls_token: expected '\[CLS\]', found '<s>'",
    ),
    "another [MASK]": (
        {"tokenizer_config": {"mask_token": E1}},
        r"tokenizer_config\.json: mask_token: expected '\[MASK\]', found '\[E1\]'",
    ),
    "a list": ({"added_tokens": ["[E1]"]}, r"added_tokens\.json: expected a JSON object"),
    "an id in words": ({"added_tokens": {"[E1]": "27"}}, "expected an id, found '27'"),
    "an id that is true": ({"added_tokens": {"[E1]": True}}, "expected an id, found True"),
    "an empty token": ({"added_tokens": {"": 27}}, "expected tokens of valid Unicode .* found ''"),
    "two lines": ({"added_tokens": {"a\nb": 27}}, r"on one line, found 'a\\nb'"),
    "a decoder that is a list": (
        {"tokenizer_config": {"added_tokens_decoder": [E1]}},
        "added_tokens_decoder: expected an object",
    ),
    "a decoder without ids": (
        {"tokenizer_config": {"added_tokens_decoder": {"x": E1}}},
        "added_tokens_decoder: expected an id, found 'x'",
    ),
    "a flag in words": (
        {"tokenizer_config": {"added_tokens_decoder": {"27": E1 | {"lstrip": "no"}}}},
        "added_tokens_decoder: 27: expected a token",
    ),
    "special tokens that are one": (
        {"special_tokens_map": {"additional_special_tokens": "[E1]"}},
        "additional_special_tokens: expected a list",
    ),
}
OTHER = {token: i for i, token in enumerate([*VOCAB[:-2], *VOCAB[:-3:-1]])}
REFUSED |= {
    "another vocabulary": (
        {"tokenizer": FAST | {"model": FAST["model"] | {"vocab": OTHER}}},
        r"tokenizer\.json: model\.vocab: expected the ids of the 27 tokens .* found 'mask' elsewhere",
    ),
    "a longer vocabulary": (
        {"vocab": VOCAB[:-1], "tokenizer": FAST},
        r"expected the ids of the 26 tokens in the vocab\.txt beside it, found 27 tokens",
    ),
    "no cleaning": (
        {
            "vocab": None,
            "tokenizer": FAST | {"normalizer": FAST["normalizer"] | {"clean_text": False}},
        },
        r"normalizer\.clean_text: expected True, found False",
    ),
    "longer words": (
        {
            "vocab": None,
            "tokenizer": FAST | {"model": FAST["model"] | {"max_input_chars_per_word": 200}},
        },
        r"model\.max_input_chars_per_word: expected 100, found 200",
    ),
}
TEXTS = ("曹[E1]操", "曹  [E1] 操", "[e1]曹hello[MASK]操 [mask]", "[E1][E1]1", "曹操")


def written(folder, files):
    folder.mkdir(exist_ok=True)
    vocab = files.get("vocab", VOCAB)
    if vocab is not None:
        (folder / "vocab.txt").write_text("".join(f"{t}\n" for t in vocab), encoding="utf-8")
    for name, content in files.items():
        if name != "vocab":
            (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def ids(tokenizer, text):
    return tokenizer(text)["input_ids"][0].tolist()


@pytest.mark.parametrize("files", WHOLE)
def test_an_added_token_is_whole_and_is_kept(tmp_path, files):
    tokenizer = NezhaTokenizer.from_pretrained(written(tmp_path / "a", WHOLE[files]))
    assert ids(tokenizer, "曹[E1]操") == [2, 5, 27, 6, 3]
    assert len(tokenizer) == tokenizer.vocab_size == 28
    assert tokenizer.tokenize("[E1]操") == ["[E1]", "操"]
    assert tokenizer.convert_tokens_to_ids("[E1]") == 27
    # new versions of the library decode a token that is not special in lower case
    assert tokenizer.decode([5, 27, 6]) in ("曹 [E1] 操", "曹 [e1] 操")
    tokenizer.save_pretrained(tmp_path / "b")
    again = NezhaTokenizer.from_pretrained(tmp_path / "b")
    assert [ids(again, text) for text in TEXTS] == [ids(tokenizer, text) for text in TEXTS]
    assert again.special_ids == tokenizer.special_ids
    lines = (tmp_path / "b" / "vocab.txt").read_text(encoding="utf-8").splitlines()
    assert lines == VOCAB  # as in Transformers, vocab.txt does not change


def test_without_the_file_the_token_is_cut():
    """The negative control."""
    assert ids(NezhaTokenizer(VOCAB), "曹[E1]操") == [2, 5, 19, 21, 22, 20, 6, 3]


def test_special_means_neither_masked_nor_decoded(tmp_path):
    plain = NezhaTokenizer.from_pretrained(written(tmp_path / "a", WHOLE["added_tokens.json"]))
    special = NezhaTokenizer.from_pretrained(
        written(tmp_path / "b", WHOLE["tokenizer_config.json"])
    )
    assert plain.special_ids == {0, 1, 2, 3, 4}
    assert special.special_ids == {0, 1, 2, 3, 4, 27}
    assert plain.decode([5, 27, 2], skip_special_tokens=True).lower() == "曹 [e1]"
    assert special.decode([5, 27, 2], skip_special_tokens=True) == "曹"
    # not special: matched after lower-casing, as in Transformers
    assert ids(plain, "曹[e1]") == [2, 5, 27, 3]
    assert ids(special, "曹[e1]") == [2, 5, 19, 21, 22, 20, 3]


def test_a_token_of_the_vocabulary_is_whole_too(tmp_path):
    vocab = [*VOCAB[:-1], "[E1]"]
    files = {"vocab": vocab, "tokenizer_config": {"additional_special_tokens": ["[E1]"]}}
    tokenizer = NezhaTokenizer.from_pretrained(written(tmp_path / "a", files))
    assert ids(tokenizer, "曹[E1]操") == [2, 5, 26, 6, 3]
    assert ids(NezhaTokenizer(vocab), "曹[E1]操") != [2, 5, 26, 6, 3]


def test_flags_of_the_special_tokens(tmp_path):
    mask = E1 | {"content": "[MASK]", "lstrip": True, "rstrip": True}
    folder = written(tmp_path, {"special_tokens_map": {"mask_token": mask}})
    tokenizer = NezhaTokenizer.from_pretrained(folder)
    assert tokenizer.decode(ids(tokenizer, "曹  [MASK] 操")) == "[CLS] 曹 [MASK] 操 [SEP]"
    files = tokenizer.files(tmp_path)
    decoder = json.loads(files[tmp_path / "tokenizer_config.json"])["added_tokens_decoder"]
    assert decoder["4"]["lstrip"] is True


@pytest.mark.parametrize("case", REFUSED)
def test_what_can_not_be_kept_is_refused_by_name(tmp_path, case):
    files, message = REFUSED[case]
    with pytest.raises(FileError, match=message) as caught:
        NezhaTokenizer.from_pretrained(written(tmp_path, files))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_in_the_constructor():
    tokens = [AddedToken("[E2]", 28, special=True), AddedToken("[E1]", 27)]
    assert ids(NezhaTokenizer(VOCAB, added_tokens=tokens), "[E1][E2]") == [2, 27, 28, 3]
    with pytest.raises(ArgumentError, match=r"added_tokens: '\[E1\]': expected the id 27"):
        NezhaTokenizer(VOCAB, added_tokens=[AddedToken("[E1]", 28)])


def test_what_an_earlier_tokenizer_left_is_replaced(tmp_path):
    files = {
        "added_tokens": {"[E1]": 27, "[E2]": 28},
        "special_tokens_map": {"additional_special_tokens": ["[E2]"]},
        "tokenizer": FAST,
    }
    folder = written(tmp_path, files)
    NezhaTokenizer(VOCAB).save_pretrained(folder)
    assert len(NezhaTokenizer.from_pretrained(folder)) == 27
    tokenizer = NezhaTokenizer(VOCAB, added_tokens=[AddedToken("[E3]", 27, special=True)])
    tokenizer.save_pretrained(folder)
    assert json.loads((folder / "added_tokens.json").read_text()) == {"[E3]": 27}
    assert ids(NezhaTokenizer.from_pretrained(folder), "[E3]") == [2, 27, 3]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("files", [name for name in WHOLE if "tokenizer.json" not in name])
def test_equal_to_transformers(tmp_path, files):
    transformers = pytest.importorskip(
        "transformers", reason="compares with BertTokenizerFast: pip install minizha[peers]"
    )
    ours = NezhaTokenizer.from_pretrained(written(tmp_path / "a", WHOLE[files]))
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path / "a")
    ours.save_pretrained(tmp_path / "b")
    theirs.save_pretrained(tmp_path / "c")
    again = NezhaTokenizer.from_pretrained(tmp_path / "c")
    theirs_again = transformers.BertTokenizerFast.from_pretrained(tmp_path / "b")
    for text in TEXTS:
        expected = theirs(text)["input_ids"]
        assert ids(ours, text) == ids(again, text) == expected
        assert theirs_again(text)["input_ids"] == expected
