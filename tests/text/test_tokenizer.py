"""NezhaTokenizer against BertTokenizerFast: recorded results, and the real one if it is installed."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.backend import get_backend
from minizha.errors import ArgumentError, TextWarning
from minizha.text.batch import Batch
from minizha.text.tokenizer import NezhaTokenizer

# [PAD] 0, [UNK] 2, [CLS] 3, [SEP] 4, [MASK] 5; an unused token and U+2028 as in real vocabularies
VOCAB = [
    *("[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *"，。？！'中国天下大势分久必合",
    *("nba", "cafe", "2023", "n", "##ba", "##t", "don", "t", "##s", "i", "m", "。。"),
    *(".", ",", "?", "😎", "x\u2028y", "a", "##b"),
]

# text, input_ids, decoded, decoded without special tokens: BertTokenizerFast of Transformers 4.57.6
RECORDED = [
    (
        "天下大势，分久必合。",
        [3, 13, 14, 15, 16, 6, 17, 18, 19, 20, 7, 4],
        "[CLS] 天 下 大 势 ， 分 久 必 合 。 [SEP]",
        "天 下 大 势 ， 分 久 必 合 。",
    ),
    (
        "NBA Café 2023！",
        [3, 21, 22, 23, 9, 4],
        "[CLS] nba cafe 2023 ！ [SEP]",
        "nba cafe 2023 ！",
    ),
    (
        "don't I'm, a?",
        [3, 27, 10, 28, 30, 10, 31, 34, 38, 35, 4],
        "[CLS] don't i'm, a? [SEP]",
        "don't i'm, a?",
    ),
    (
        "[MASK]国 [mask] 😎 \u4e8c\u3000中",
        [3, 5, 12, 2, 2, 2, 36, 2, 11, 4],
        "[CLS] [MASK] 国 [UNK] [UNK] [UNK] 😎 [UNK] 中 [SEP]",
        "国 😎 中",
    ),
    ("", [3, 4], "[CLS] [SEP]", ""),
    (
        "abbb ab\u0301 x\u2028y",
        [3, 38, 39, 39, 39, 38, 39, 2, 2, 4],
        "[CLS] abbb ab [UNK] [UNK] [SEP]",
        "abbb ab",
    ),
]

# max_length, input_ids of ("天下大势，分久必合。", "中国！") and ("中国", "天下大势，分")
RECORDED_PAIRS = [
    (5, [[3, 13, 4, 11, 4], [3, 11, 4, 13, 4]]),
    (8, [[3, 13, 14, 15, 4, 11, 12, 4], [3, 11, 12, 4, 13, 14, 15, 4]]),
    (
        11,
        [[3, 13, 14, 15, 16, 6, 4, 11, 12, 9, 4], [3, 11, 12, 4, 13, 14, 15, 16, 6, 17, 4]],
    ),
]


@pytest.fixture(scope="module")
def tokenizer():
    return NezhaTokenizer(VOCAB)


def test_attributes(tokenizer):
    assert len(tokenizer) == tokenizer.vocab_size == 40
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token_id) == (0, 2, 3)
    assert (tokenizer.sep_token_id, tokenizer.mask_token_id) == (4, 5)
    assert tokenizer.special_ids == frozenset({0, 2, 3, 4, 5})
    assert tokenizer.do_lower_case is True


@pytest.mark.parametrize(("text", "ids", "decoded", "plain"), RECORDED)
def test_recorded(tokenizer, text, ids, decoded, plain):
    out = tokenizer(text)
    assert out["input_ids"].tolist() == [ids]
    assert out["attention_mask"].tolist() == [[1] * len(ids)]
    assert out["token_type_ids"].tolist() == [[0] * len(ids)]
    assert tokenizer.decode(ids) == decoded
    assert tokenizer.decode(np.array(ids), skip_special_tokens=True) == plain
    assert tokenizer.tokenize(text) == tokenizer.convert_ids_to_tokens(ids[1:-1])
    assert tokenizer.plain_ids([text])[0].tolist() == ids[1:-1]


def test_case_is_kept_on_request():
    cased = NezhaTokenizer(VOCAB, do_lower_case=False)
    assert cased("NBA Café 2023！")["input_ids"].tolist() == [[3, 2, 2, 23, 9, 4]]


@pytest.mark.parametrize(("max_length", "ids"), RECORDED_PAIRS)
def test_recorded_pairs(tokenizer, max_length, ids):
    text, pair = ["天下大势，分久必合。", "中国"], ["中国！", "天下大势，分"]
    out = tokenizer(text, pair, max_length=max_length)
    assert out["input_ids"].tolist() == ids
    for row, types in zip(ids, out["token_type_ids"].tolist(), strict=True):
        a = row.index(4) + 1
        assert types == [0] * a + [1] * (max_length - a)


def test_padding(tokenizer):
    texts = ["天下", "中国！"]
    out = tokenizer(texts, return_tensors="np")
    assert out["input_ids"].tolist() == [[3, 13, 14, 4, 0], [3, 11, 12, 9, 4]]
    assert out["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]
    out = tokenizer(texts, padding="max_length", max_length=7)
    assert out["input_ids"].tolist() == [[3, 13, 14, 4, 0, 0, 0], [3, 11, 12, 9, 4, 0, 0]]
    assert tokenizer(("天下", "中国"), padding=False)["input_ids"].shape == (2, 4)
    assert all(array.dtype == np.int64 for array in out.values())


def test_a_batch_is_a_dict_with_attributes(tokenizer):
    batch = tokenizer(["天下", "中国！"])
    assert list(batch) == ["input_ids", "token_type_ids", "attention_mask"]
    assert dict(**batch).keys() == batch.keys()
    for name, array in batch.items():
        assert getattr(batch, name) is batch[name] is array
        assert name in dir(batch)
    with pytest.raises(AttributeError, match="no 'labels' in this batch, which has input_ids"):
        _ = batch.labels
    with pytest.raises(AttributeError, match="no 'labels'"):
        del batch.labels
    assert not hasattr(batch, "__array__")
    batch.labels = batch["input_ids"]
    assert batch["labels"] is batch.input_ids
    del batch.labels
    assert "labels" not in batch
    assert eval(repr(batch), {"Batch": Batch, "array": np.array}).keys() == batch.keys()


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        Batch.copy,
        *[lambda b, p=p: pickle.loads(pickle.dumps(b, p)) for p in range(pickle.HIGHEST_PROTOCOL)],
    ],
)
def test_a_batch_is_copied_and_pickled(tokenizer, again):
    batch = tokenizer(["天下", "中国！"])
    other = again(batch)
    assert type(other) is Batch
    assert other is not batch
    assert other.keys() == batch.keys()
    assert all((other[name] == batch[name]).all() for name in batch)
    other.input_ids = None
    assert batch.input_ids is not None


def test_arrays_are_passed_through_a_function(tokenizer):
    seen = []

    def convert(array):
        seen.append(array)
        return ("converted", array)

    batch = tokenizer(["天下", "中国！"], return_tensors=convert)
    plain = tokenizer(["天下", "中国！"], return_tensors="np")
    for name, array in zip(batch, seen, strict=True):
        assert batch[name] == ("converted", array)
        assert (array == plain[name]).all()
        assert array.dtype == np.int64
        assert array.flags.writeable
        assert array.flags.c_contiguous


def test_arrays_of_the_backend(tokenizer, backend):
    xp = get_backend(backend)
    batch = tokenizer("天下", return_tensors=xp.asarray)
    assert all(isinstance(array, xp.ndarray) for array in batch.values())
    assert tokenizer.batch_decode(batch.input_ids, skip_special_tokens=True) == ["天 下"]


def test_tensors_of_torch(tokenizer):
    torch = pytest.importorskip("torch", reason="return_tensors=torch.from_numpy: needs torch")
    batch = tokenizer("天下", return_tensors=torch.from_numpy)
    assert all(array.dtype == torch.int64 for array in batch.values())
    assert tokenizer.decode(batch.input_ids[0], skip_special_tokens=True) == "天 下"


def test_truncation(tokenizer):
    with pytest.warns(TextWarning, match="1 of 2 texts are longer than 512 tokens and are cut"):
        assert tokenizer(["中" * 600, "中"])["input_ids"].shape == (2, 512)
    assert tokenizer("中" * 600)["input_ids"].shape == (1, 512)  # said once
    assert NezhaTokenizer(VOCAB)("中" * 510)["input_ids"].shape == (1, 512)  # nothing is cut
    assert NezhaTokenizer(VOCAB)("中" * 600, max_length=512)["input_ids"].shape == (1, 512)
    assert tokenizer("中" * 600, truncation=False)["input_ids"].shape == (1, 602)
    assert tokenizer("中" * 600, max_length=600)["input_ids"].shape == (1, 600)
    # truncation and padding of one call do not affect the next
    assert len(tokenizer.plain_ids(["中" * 600])[0]) == 600


def test_special_tokens_of_a_corpus_are_text(tokenizer):
    assert tokenizer.plain_ids(["中[MASK]国"])[0].tolist() == [11, 5, 12]  # of a query they are not
    for text in ("中[MASK]国", "中[SEP]国"):
        (ids,) = tokenizer.plain_ids([text], special_tokens=False)
        assert ids.tolist() == [11, 2, 2, 2, 12]  # a bracket, a word, a bracket
    for text in ("天下大势", "NBA Café"):
        plain = [ids.tolist() for ids in tokenizer.plain_ids([text])]
        assert plain == [ids.tolist() for ids in tokenizer.plain_ids([text], special_tokens=False)]


def test_pieces_are_the_characters_of_the_text(tokenizer):
    text = "ab 天É下"
    pieces = tokenizer.pieces(text)
    assert [(tokenizer.convert_ids_to_tokens(i), text[a:b]) for i, a, b in pieces] == [
        *(("a", "a"), ("##b", "b"), ("天", "天"), ("[UNK]", "É"), ("下", "下"))
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": 3}, "text: expected a string or a list of strings, found int"),
        ({"text": None}, "text: expected"),
        ({"text": b"x"}, "text: expected"),
        ({"text": []}, "text: expected at least one string"),
        ({"text": ["中", 3]}, r"text\[1\]: expected a string, found int"),
        ({"text": ["中", ["国"]]}, r"text\[1\]: expected a string, found list"),
        ({"text": "\ud800"}, r"text\[0\]: not valid Unicode"),
        ({"text": "中", "pair": 5}, "pair: expected"),
        ({"text": ["中"], "pair": ["国", "国"]}, r"as many texts as in text \(1\), found 2"),
        ({"text": ["中"], "pair": "国"}, "a string where text is one"),
        ({"text": "中", "padding": "yes"}, "padding: expected"),
        ({"text": "中", "padding": None}, "padding: expected"),
        ({"text": ["中", "中国"], "padding": False}, "padding: False needs rows of one length"),
        (
            {"text": "中国", "padding": "max_length", "max_length": 3, "truncation": False},
            "found a row of 4 tokens",
        ),
        ({"text": "中", "truncation": "only_first"}, "truncation: expected"),
        ({"text": "中", "max_length": 2}, "max_length: expected at least 3 .*, found 2"),
        ({"text": "中", "pair": "国", "max_length": 4}, "max_length: expected at least 5"),
        ({"text": "中", "max_length": -1}, "max_length: expected at least 3"),
        ({"text": "中", "max_length": 8.0}, "max_length: expected an integer, found 8.0"),
        ({"text": "中", "max_length": True}, "max_length: expected an integer"),
        (
            {"text": "中", "return_tensors": "pt"},
            r"or a function .* torch\.from_numpy .*found 'pt'",
        ),
        ({"text": "中", "return_tensors": 3}, "return_tensors: expected None, 'np' or a function"),
        ({"text": "中", "return_tensors": np.array(["np"])}, "return_tensors: expected"),
    ],
)
def test_bad_arguments(tokenizer, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        tokenizer(**arguments)


@pytest.mark.parametrize(
    "ids",
    [
        *([40], [-1], [[1, 2]], [1.0], ["a"], [True], None, [[1], [2, 3]], [2**70]),
        *(40, -1, 1.0, "a", True, 2**70, np.float32(1), np.array(40), np.zeros((1, 1, 1), int)),
    ],
)
def test_bad_ids(tokenizer, ids):
    for function in (tokenizer.decode, tokenizer.convert_ids_to_tokens):
        with pytest.raises(ArgumentError, match="ids: expected"):
            function(ids)


def test_rows_are_for_batch_decode(tokenizer):
    ids = np.array([[11, 12]])
    with pytest.raises(ArgumentError, match=r"found shape \(1, 2\); batch_decode takes rows"):
        tokenizer.decode(ids)
    assert tokenizer.batch_decode(ids) == ["中 国"]


def test_what_argmax_yields_is_decoded(tokenizer):
    logits = np.zeros((2, 3, 40), dtype=np.float32)
    for row, ids in enumerate(([11, 12, 9], [13, 14, 6])):
        logits[row, range(3), ids] = 1
    assert tokenizer.decode(logits[0].argmax(axis=-1)) == "中 国 ！"
    assert tokenizer.decode(logits[0, 1].argmax(axis=-1)) == "国"  # a NumPy integer
    without_axes = np.asarray(logits[0, 1].argmax(axis=-1))
    assert tokenizer.decode(without_axes) == "国"
    assert tokenizer.decode(12) == "国"
    assert tokenizer.decode(logits[0].argmax(axis=-1).astype(np.uint16)) == "中 国 ！"
    assert tokenizer.batch_decode(logits.argmax(axis=-1)) == ["中 国 ！", "天 下 ，"]
    assert tokenizer.convert_ids_to_tokens(np.asarray(12)) == "国"


def test_what_argmax_yields_on_the_backend_is_decoded(tokenizer, backend):
    ids = get_backend(backend).asarray([[11, 12], [13, 14]])
    assert tokenizer.decode(ids[1]) == "天 下"
    assert tokenizer.decode(ids[1, 0]) == "天"
    assert tokenizer.batch_decode(ids) == ["中 国", "天 下"]
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["中", "国"]


def test_conversions(tokenizer):
    assert tokenizer.convert_ids_to_tokens(11) == "中"
    assert tokenizer.convert_ids_to_tokens(np.array([5, 11])) == ["[MASK]", "中"]
    assert tokenizer.convert_tokens_to_ids("中") == 11
    assert tokenizer.convert_tokens_to_ids(["[MASK]", "##b", "nowhere"]) == [5, 39, 2]
    assert tokenizer.batch_decode(np.array([[11, 12], [13, 14]])) == ["中 国", "天 下"]
    assert tokenizer.decode([]) == ""
    with pytest.raises(ArgumentError, match="tokens: expected"):
        tokenizer.convert_tokens_to_ids([1])
    with pytest.raises(ArgumentError, match="ids: expected"):
        tokenizer.convert_ids_to_tokens(40)
    assert tokenizer.batch_decode([11, [12, 13]]) == ["中", "国 天"]
    for ids in (3, np.array(3), None, "中"):
        with pytest.raises(ArgumentError, match="ids: expected rows"):
            tokenizer.batch_decode(ids)
    with pytest.raises(ArgumentError, match="text: expected a string or a list"):
        tokenizer.plain_ids(3)


def test_settings_are_booleans():
    with pytest.raises(ArgumentError, match="do_lower_case: expected true or false, found 'no'"):
        NezhaTokenizer(VOCAB, do_lower_case="no")


texts = st.text(st.sampled_from("中国天下。，'!a b N\u0301é😎[MASK]\u2028\x00"), max_size=30)


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4), st.integers(5, 40))
def test_a_batch_is_its_rows_padded(batch, max_length):
    tokenizer = NezhaTokenizer(VOCAB)
    text, pair = (list(side) for side in zip(*batch, strict=True))
    out = tokenizer(text, pair, max_length=max_length)
    lengths = out["attention_mask"].sum(1)
    assert lengths.max() == out["input_ids"].shape[1] <= max_length
    for i, n in enumerate(lengths):
        alone = tokenizer(text[i], pair[i], max_length=max_length)
        for name, array in out.items():
            assert array[i, :n].tolist() == alone[name][0].tolist()
            assert not array[i, n:].any()  # the id of [PAD] is 0


def test_the_library_is_not_imported_before_it_is_needed():
    code = "import sys, minizha.text.tokenizer; sys.exit('tokenizers' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("do_lower_case", [True, False])
def test_equal_to_transformers(tmp_path, do_lower_case):
    transformers = pytest.importorskip(
        "transformers", reason="compares with BertTokenizerFast: pip install minizha[peers]"
    )
    ours = NezhaTokenizer(VOCAB, do_lower_case=do_lower_case)
    ours.save_pretrained(tmp_path)
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    assert theirs.do_lower_case is do_lower_case
    rng = np.random.default_rng(0)
    alphabet = np.array([*"".join(VOCAB), *" \t\u3000\x00\u0301ÉéＡ１二〇", "[MASK]", "[SEP]", " "])
    rows = [
        ["".join(rng.choice(alphabet, rng.integers(30))) for _ in range(8)] for _ in range(60)
    ] + [[text for text, *_ in RECORDED]]
    for row in rows:
        for pair, max_length in ((None, 20), (row[::-1], 13)):
            a = ours(row, pair, max_length=max_length)
            b = theirs(row, pair, padding=True, truncation=True, max_length=max_length)
            assert {name: array.tolist() for name, array in a.items()} == dict(b)
            for ids in a["input_ids"]:
                for skip in (False, True):
                    assert ours.decode(ids, skip) == theirs.decode(ids, skip_special_tokens=skip)
        assert [ours.tokenize(text) for text in row] == [theirs.tokenize(text) for text in row]
