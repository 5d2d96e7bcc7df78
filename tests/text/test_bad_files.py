"""Hand-written bad config.json, vocab.txt, tokenizer.json and tokenizer_config.json: each is refused
with one line that names the file, in no more time than reading takes. Counts all hand-written bad files.
"""

import json

import pytest

from minizha import NezhaForPreTraining, NezhaTokenizer
from minizha.info import describe_folder
from tests import test_config
from tests.checkpoint import test_bad_folders as test_bad_files
from tests.checkpoint import test_folder as test_sharded
from tests.checkpoint import test_torch_file as test_torch_files
from tests.support.files.hostile_torch_files import HOSTILE
from tests.support.files.mutant_seeds import (
    TOKENS,
    config_json,
    parameters,
    tokenizer_files,
)
from tests.support.files.refusals import check_refusal
from tests.support.files.safetensors_files import safetensors_of
from tests.text import test_vocabulary as test_text_vocabulary

GOOD = tokenizer_files()
PLAIN = json.loads(config_json())
WHOLE = json.loads(GOOD["tokenizer.json"])


def config(**changes):
    return json.dumps(PLAIN | changes).encode()


def whole(part, **changes):
    return json.dumps(WHOLE | {part: WHOLE[part] | changes}).encode()


def deep(depth, before=b"", after=b""):
    return before + b"[" * depth + b"]" * depth + after


CONFIGS = {
    "zeros": (b"\0" * 500, "not valid JSON"),
    "UTF-16": (config_json().decode().encode("utf-16"), "line 1: expected UTF-8 text"),
    "half a character": (config_json()[:-2] + b'\xe4\xb8"}', "expected UTF-8 text"),
    "a number": (b"12", "expected a JSON object, found int"),
    "two objects": (b"{}{}", "not valid JSON: Extra data"),
    "a comment": (b"// sizes\n{}", "not valid JSON"),
    "text in single quotes": (b"{'vocab_size': 7}", "not valid JSON"),
    "a long key twice": (b'{"%s":1,"%s":2}' % (b"x" * 9000, b"x" * 9000), "appears 2 times"),
    "100,000 keys of one name": (b"{%s}" % b",".join([b'"":0'] * 100_000), "appears 100000 times"),
    "many labels": (config(num_labels=1_000_000, id2label=None, label2id=None), "num_labels: exp"),
    "labels in a list": (config(id2label=["a", "b"]), "id2label: expected a mapping or None"),
    "labels without numbers": (config(id2label={"a": "b"}), "id2label: expected a label for each"),
    "two labels of one number": (config(id2label={"1": "a", "01": "b"}), "id2label: expected a la"),
    "other numbers of labels": (config(num_labels=5), "num_labels: expected 2, the number of"),
    "a layer of 2**31": (config(hidden_size=2**31), "hidden_size: expected an integer in"),
    "a size of 10**4000": (config().replace(b'size": 7', b'size": 7' + b"0" * 4000), "vocab_size"),
    "heads that don't divide": (config(num_attention_heads=3), "a multiple of num_attention_heads"),
    "an odd head": (config(num_attention_heads=4), "expected an even head size"),
    "no heads left": (config(pruned_heads={"0": [0, 1]}), "found all 2 of layer 0 pruned"),
    "a layer to prune that is none": (config(pruned_heads={"1": [0]}), "pruned_heads: expected he"),
    "heads to prune in a dict": (config(pruned_heads={"0": 5}), "pruned_heads: expected heads in"),
    "a function that is none": (config(hidden_act="import os"), "hidden_act: expected one of"),
    "no dropout": (config(hidden_dropout_prob=1.0), "hidden_dropout_prob: expected a number in"),
    "a boolean in words": (config(is_decoder="false"), "is_decoder: expected True or False"),
}
# describe_folder lists the tensors of another model, with the reason why it can't be loaded
OTHER_MODELS = {
    "a type in a list": (config(model_type=["nezha"]), "config.json says model_type .'nezha'"),
    "a long type": (config(model_type="x\n" * 9000), "config.json says model_type 'x.nx"),
    "another type": (config(model_type="gpt2"), "says model_type 'gpt2', expected 'nezha'"),
}
VOCABULARY = GOOD["vocab.txt"]
VOCABULARIES = {
    "nothing": (b"", "found an empty file"),
    "blanks": (b" \n\t\n", "found an empty file"),
    "zeros": (b"\0" * 5000, r"\[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\] missing among its 1"),
    "UTF-16": (VOCABULARY.decode().encode("utf-16"), "line 1: expected UTF-8 text"),
    "GB 18030": ("\n".join(TOKENS).encode("gb18030"), "line 6: expected UTF-8 text"),
    "half a surrogate pair": (VOCABULARY + b"\xed\xa0\x80\n", "line 13: expected UTF-8 text"),
    "a byte-order mark": (b"\xef\xbb\xbf" + VOCABULARY, "line 1: starts with a byte-order mark"),
    "a line twice": (VOCABULARY + "中\n".encode(), "line 13: '中' repeats .*, line 6"),
    "a long line twice": (VOCABULARY + (b"x" * 99_999 + b"\n") * 2, "line 14: 'xxx.* repeats"),
    "a long line with a break": (VOCABULARY + b"x" * 99_999 + b"\rx\n", "line 13: a line break"),
    "an empty line in between": (b"\n" + VOCABULARY, "line 1: expected a token, found nothing"),
    "old Macintosh lines": (VOCABULARY.replace(b"\n", b"\r"), "line 1: a line break inside"),
    "400,000 empty lines": (VOCABULARY + b"\n" * 400_000, "line 13: expected a token"),
    "300,000 equal lines": (VOCABULARY + b"a\n" * 300_000, "line 14: 'a' repeats"),
    "no special token": (b"a\nb\n", "missing among its 2 tokens"),
    "other special tokens": (b"<pad>\n<unk>\n<s>\n</s>\n<mask>\n", "missing among its 5 tokens"),
    "a JSON vocabulary": (
        json.dumps({t: i for i, t in enumerate(TOKENS)}).encode(),
        "missing amon",
    ),
    "a pointer of git-lfs": (b"version https://git-lfs.github.com/spec/v1\nsize 1\n", "missing am"),
}
IDS = WHOLE["model"]["vocab"]
TOKENIZERS = {
    "nothing": (b"", "not valid JSON"),
    "null": (b"null", "expected a JSON object, found NoneType"),
    "an empty object": (b"{}", "model: expected an object of type 'WordPiece', found None"),
    "a model in a list": (
        json.dumps(WHOLE | {"model": [WHOLE["model"]]}).encode(),
        "model: expected",
    ),
    "a part's name": (json.dumps(WHOLE | {"model": "WordPiece"}).encode(), "model: expected"),
    "another's name": (
        json.dumps(WHOLE | {"normalizer": "BertNormalizer"}).encode(),
        "normalizer: e",
    ),
    "another model": (
        whole("model", type="BPE"),
        "model: expected an object of type 'WordPiece', found 'BPE'",
    ),
    "a long type": (
        whole("model", type="x" * 99_999),
        "model: expected an object of type 'WordPiece', found 'xxx",
    ),
    "a deep type": (
        deep(90, b'{"model":{"type":', b"}}"),
        "model: expected an object of type 'WordPiece', found ..",
    ),
    "too deep": (deep(100_000), "not valid JSON: expected at most 200 levels"),
    "another splitter": (whole("pre_tokenizer", type="ByteLevel"), "pre_tokenizer: expected"),
    "another unknown token": (whole("model", unk_token="<unk>"), "the unknown token"),
    "another prefix": (whole("model", continuing_subword_prefix="@@"), "the prefix '##'"),
    "no vocabulary": (whole("model", vocab=None), "model.vocab: expected an object of token: id"),
    "an empty vocabulary": (whole("model", vocab={}), "missing among its 0 tokens"),
    "ids in words": (whole("model", vocab=dict.fromkeys(IDS, "0")), "an object of token: id"),
    "ids that are true": (whole("model", vocab=dict.fromkeys(IDS, True)), "an object of token: id"),
    "equal ids": (whole("model", vocab=dict.fromkeys(IDS, 0)), "each of the ids 0 … 11 once"),
    "an id of 2**70": (whole("model", vocab=IDS | {"中": 2**70}), "each of the ids 0 … 11 once"),
    "a negative id": (whole("model", vocab=IDS | {"中": -1}), "each of the ids 0 … 11 once"),
    "an empty token": (whole("model", vocab=IDS | {"": 12}), "id 12: expected a token"),
    "half a pair": (whole("model", vocab=IDS | {"\ud800": 12}), "id 12: .* is not valid Unicode"),
    "a line break": (whole("model", vocab=IDS | {"a\nb": 12}), "id 12: a line break inside"),
    "another added token": (
        json.dumps(WHOLE | {"added_tokens": [{"id": 13, "content": "<new>"}]}).encode(),
        "'<new>': expected the id 12, .* found 13",
    ),
    "an added token without an id": (
        json.dumps(WHOLE | {"added_tokens": [{"content": "<new>"}]}).encode(),
        "'<new>': expected an id, found None",
    ),
    "an added number": (
        json.dumps(WHOLE | {"added_tokens": [5]}).encode(),
        "added_tokens: expected a token",
    ),
    "accents that are 1": (whole("normalizer", strip_accents=1), "strip_accents: expected true or"),
}
SETTINGS = {
    "nothing": (b"", "not valid JSON"),
    "a string": (b'"do_lower_case"', "expected a JSON object, found str"),
    "a setting in words": (b'{"do_lower_case": "true"}', "do_lower_case: expected true or false"),
    "a long setting": (b'{"strip_accents": "%s"}' % (b"x" * 99_999), "strip_accents: expected tr"),
    "a deep setting": (deep(90, b'{"do_lower_case":', b"}"), "do_lower_case: expected true or fal"),
    "null where it may not be": (b'{"do_lower_case": null}', "do_lower_case: .* found None"),
    "a setting twice": (b'{"do_lower_case": true, "do_lower_case": false}', "appears 2 times"),
    "a number of 5,000 digits": (
        b'{"x": %s}' % (b"1" * 5000),
        "not valid JSON: an integer of more than 4,300 digits",
    ),
}


def refused(read, path, content, message):
    path.write_bytes(content)
    check_refusal(lambda folder: (read(folder), {})[1], path.parent, message)


@pytest.mark.parametrize("read", [NezhaForPreTraining.from_pretrained, describe_folder])
@pytest.mark.parametrize("name", CONFIGS)
def test_bad_configs(name, read, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(safetensors_of(parameters()))
    (tmp_path / "config.json").write_bytes(config())
    assert read(tmp_path)  # the control: the file before the change is accepted
    refused(read, tmp_path / "config.json", *CONFIGS[name])


@pytest.mark.parametrize("name", OTHER_MODELS)
def test_other_models(name, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(safetensors_of(parameters()))
    path = tmp_path / "config.json"
    refused(NezhaForPreTraining.from_pretrained, path, *OTHER_MODELS[name])
    assert "can't be loaded: " in describe_folder(tmp_path)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_bad_vocabularies(name, tmp_path):
    refused(NezhaTokenizer.from_pretrained, tmp_path / "vocab.txt", *VOCABULARIES[name])


@pytest.mark.parametrize("name", TOKENIZERS)
def test_bad_tokenizers(name, tmp_path):
    refused(NezhaTokenizer.from_pretrained, tmp_path / "tokenizer.json", *TOKENIZERS[name])


@pytest.mark.parametrize("name", SETTINGS)
def test_bad_settings(name, tmp_path):
    (tmp_path / "vocab.txt").write_bytes(VOCABULARY)
    refused(NezhaTokenizer.from_pretrained, tmp_path / "tokenizer_config.json", *SETTINGS[name])


def test_what_is_damaged_was_good(tmp_path):
    for name, content in (("vocab.txt", VOCABULARY), ("tokenizer.json", whole("model"))):
        (tmp_path / name).write_bytes(content)
        assert NezhaTokenizer.from_pretrained(tmp_path).vocab_size == len(TOKENS)
        (tmp_path / name).unlink()
    with pytest.raises(AssertionError, match="read as if it were valid"):
        refused(NezhaTokenizer.from_pretrained, tmp_path / "vocab.txt", VOCABULARY, "")


def test_there_are_enough_bad_files():
    def cases(test):
        (mark,) = [mark for mark in test.pytestmark if mark.name == "parametrize"]
        return len(mark.args[1])

    text, bad = test_text_vocabulary, test_bad_files
    counts = {
        "safetensors": sum(map(len, (bad.HOSTILE, bad.USELESS, test_torch_files.BAD_SAFETENSORS))),
        "bin": len(HOSTILE),
        "index": len(test_sharded.OUTSIDE) + len(test_sharded.INDEXES),
        "config": len(CONFIGS) + len(OTHER_MODELS) + len(test_config.FILES),
        "vocab": len(VOCABULARIES) + cases(text.test_broken_vocabulary_files),
        "tokenizer": len(TOKENIZERS) + len(SETTINGS) + cases(text.test_broken_tokenizer_json),
    }
    assert min(counts.values()) >= 25
    assert sum(counts.values()) >= 400
