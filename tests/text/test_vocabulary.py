"""vocab.txt, tokenizer.json and tokenizer_config.json: read exactly, or refused with the line number."""

import json
import os

import pytest

from minizha.errors import ArgumentError, FileError
from minizha.text.tokenizer import NezhaTokenizer
from minizha.text.vocabulary import SPECIAL_TOKENS, check_vocabulary, read_vocabulary
from tests.support.text_files import write

HEAD = "\n".join(SPECIAL_TOKENS) + "\n"


def test_only_line_feeds_end_a_line(tmp_path):
    path = write(tmp_path / "vocab.txt", HEAD + "a\u2028b\n\x0bc\x85\n \n中")
    tokens = read_vocabulary(path)
    assert tokens[5:] == ["a\u2028b", "\x0bc\x85", " ", "中"]
    # the control: splitting at other line ends would shift the ids
    assert len(path.read_text().splitlines()) > len(tokens)


def test_windows_line_ends(tmp_path):
    path = write(tmp_path / "vocab.txt", (HEAD + "中\n").replace("\n", "\r\n"))
    assert read_vocabulary(path) == [*SPECIAL_TOKENS, "中"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "found an empty file"),
        ("\n\n", "found an empty file"),
        ("\ufeff" + HEAD, "line 1: starts with a byte-order mark"),
        (HEAD + "中\n中\n", "line 7: '中' repeats .*, line 6"),
        (HEAD + "\n中\n", "line 6: expected a token, found nothing"),
        (HEAD + "中\n\n", "line 7: expected a token, found nothing"),
        (HEAD + "a\rb\n", "line 6: a line break inside the token"),
        (HEAD.replace("[MASK]\n", "") + "中\n", r"\[MASK\] missing among its 5 tokens"),
        (HEAD.encode() + "中".encode("gb18030"), "line 6: expected UTF-8 text"),
    ],
)
def test_broken_vocabulary_files(tmp_path, content, message):
    path = write(tmp_path / "vocab.txt", content)
    for read in (read_vocabulary, NezhaTokenizer):
        with pytest.raises(FileError, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)


def test_missing_vocabulary_file(tmp_path):
    for path in (tmp_path / "no.txt", tmp_path):
        with pytest.raises(FileError, match=r"can't be read|found a folder"):
            NezhaTokenizer(path)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (None, "expected a list of strings"),
        ([*SPECIAL_TOKENS, 3], "expected a list of strings"),
        ([], "missing among its 0 tokens"),
        ([*SPECIAL_TOKENS, ""], r"vocab\[5\]: expected a token"),
        ([*SPECIAL_TOKENS, "a", "a"], r"vocab\[6\]: 'a' repeats vocab\[5\]"),
        ([*SPECIAL_TOKENS, "a\n"], "a line break"),
        ([*SPECIAL_TOKENS, "\ud800"], "not valid Unicode"),
    ],
)
def test_broken_vocabulary_lists(tokens, message):
    with pytest.raises(ArgumentError, match=message):
        NezhaTokenizer(tokens)
    assert check_vocabulary(SPECIAL_TOKENS) == list(SPECIAL_TOKENS)


def test_a_name_that_is_no_folder(tmp_path):
    with pytest.raises(FileError, match="no/such/folder': no such folder, and not a hub id"):
        NezhaTokenizer.from_pretrained("no/such/folder")
    with pytest.raises(FileError, match="someone/nezha: no such folder, and found no vocab"):
        NezhaTokenizer.from_pretrained("someone/nezha", cache_dir=tmp_path, local_files_only=True)
    with pytest.raises(ArgumentError, match="folder: expected a path"):
        NezhaTokenizer.from_pretrained(None)


def test_folder_without_a_vocabulary(tmp_path):
    with pytest.raises(FileError, match=r"expected vocab\.txt or tokenizer\.json"):
        NezhaTokenizer.from_pretrained(tmp_path)


def test_settings_come_from_the_config(tmp_path):
    write(tmp_path / "vocab.txt", HEAD + "nba\nNBA\n")
    assert NezhaTokenizer.from_pretrained(tmp_path).tokenize("NBA") == ["nba"]
    write(tmp_path / "tokenizer_config.json", '{"do_lower_case": false, "other": [1]}')
    tokenizer = NezhaTokenizer.from_pretrained(tmp_path)
    assert tokenizer.do_lower_case is False
    assert tokenizer.tokenize("NBA") == ["NBA"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"do_lower_case": 1}', "do_lower_case: expected true or false, found 1"),
        ("{", "not valid JSON"),
        ("[]", "expected a JSON object, found list"),
        ("[" * 100_000, "not valid JSON"),
        (b"\xff", "expected UTF-8"),
    ],
)
def test_broken_configs(tmp_path, content, message):
    write(tmp_path / "vocab.txt", HEAD)
    path = write(tmp_path / "tokenizer_config.json", content)
    with pytest.raises(FileError, match=message) as caught:
        NezhaTokenizer.from_pretrained(tmp_path)
    assert str(path) in str(caught.value)


def test_save_and_load(tmp_path):
    tokens = [*SPECIAL_TOKENS, "中", "a\u2028b", "NBA"]
    folder = tmp_path / "new" / "folder"
    NezhaTokenizer(tokens, do_lower_case=False).save_pretrained(folder)
    assert sorted(os.listdir(folder)) == ["tokenizer_config.json", "vocab.txt"]
    again = NezhaTokenizer.from_pretrained(folder)
    assert again.convert_ids_to_tokens(list(range(8))) == tokens
    assert again.do_lower_case is False
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "BertTokenizer"
    assert config["mask_token"] == "[MASK]"


def test_saving_over_a_tokenizer_json_leaves_no_stale_one(tmp_path):
    write(tmp_path / "tokenizer.json", "{}")
    saved = NezhaTokenizer([*SPECIAL_TOKENS, "中", "NBA"], do_lower_case=False)
    saved("中", max_length=4)
    saved.save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "tokenizer_config.json").unlink()
    loaded = NezhaTokenizer.from_pretrained(tmp_path)
    assert loaded.do_lower_case is False
    assert loaded("中NBA" * 5)["input_ids"].shape == (1, 12)
    assert loaded.tokenize("中 NBA") == ["中", "NBA"]


def test_saving_where_a_file_is_in_the_way(tmp_path):
    path = write(tmp_path / "file", "x")
    with pytest.raises(FileError, match="expected a folder, can't make it"):
        NezhaTokenizer(SPECIAL_TOKENS).save_pretrained(path)


def edited(whole, *keys, value):
    part = whole
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    return whole


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("model", "type"), "BPE", "model: expected an object of type 'WordPiece', found 'BPE'"),
        (("model",), None, "model: expected an object of type 'WordPiece', found None"),
        (("model", "unk_token"), "<unk>", "the unknown token"),
        (
            ("normalizer",),
            None,
            "normalizer: expected an object of type 'BertNormalizer', found None",
        ),
        (("normalizer", "lowercase"), "yes", "do_lower_case: expected true or false"),
        (("model", "vocab"), [], "model.vocab: expected an object"),
        (("model", "vocab", "[PAD]"), 77, "each of the ids 0 … 5 once"),
        (("model", "vocab", "[PAD]"), True, "model.vocab: expected an object"),
        (("added_tokens",), [{"id": 7, "content": "<new>"}], "<new>.*the id 6, .*found 7"),
        (("added_tokens",), 5, "added_tokens: expected a list"),
    ],
)
def test_broken_tokenizer_json(tmp_path, keys, value, message):
    path = tmp_path / "tokenizer.json"
    write(path, "{}")
    NezhaTokenizer([*SPECIAL_TOKENS, "中"]).save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    NezhaTokenizer.from_pretrained(tmp_path)
    write(path, json.dumps(edited(json.loads(path.read_text()), *keys, value=value)))
    with pytest.raises(FileError, match=message) as caught:
        NezhaTokenizer.from_pretrained(tmp_path)
    assert str(path) in str(caught.value)
