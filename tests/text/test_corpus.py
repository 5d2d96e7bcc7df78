"""Documents, sentences and the character vocabulary of the novel and of other files."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.errors import ArgumentError, FileError
from minizha.text.corpus import (
    CLOSERS,
    MARKS,
    Document,
    character_vocabulary,
    embedded_corpus,
    hold_out,
    read_corpus,
    split_sentences,
)
from minizha.text.tokenizer import NezhaTokenizer
from minizha.text.vocabulary import SPECIAL_TOKENS
from tests.support.text_files import write


def test_the_novel():
    documents = embedded_corpus()
    assert len(documents) == 120
    assert sum(len(document.paragraphs) for document in documents) == 1469
    assert documents[0].title == "第一回 宴桃园豪杰三结义 斩黄巾英雄首立功"
    assert documents[0].paragraphs[0].startswith("滚滚长江东逝水，")
    assert all(document.title.startswith("第") for document in documents)
    body = "".join(p for document in documents for p in document.paragraphs)
    assert not any(document.title in body for document in documents)


def test_the_novel_missing_from_the_package(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.resources.files", lambda _: tmp_path)
    with pytest.raises(FileError, match=r"minizha/data/sanguo\.txt: missing"):
        embedded_corpus()


def test_titles_of_a_readers_own_file(tmp_path):
    text = (
        "\ufeff\n题目\n一。\n二。\n \t\n没有题目的一段。\n第二段\r\n\n\n他说：“好。”\n好。\n\n只有一行\n\n"
        "“好，”\n他说。\n"
    )
    assert read_corpus(write(tmp_path / "f", text)) == [
        Document("题目", ("一。", "二。")),
        Document("", ("没有题目的一段。", "第二段")),
        Document("", ("他说：“好。”", "好。")),
        Document("", ("只有一行",)),
        Document("", ("“好，”", "他说。")),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected text, found an empty file"),
        (b"\n \n\n", "expected text, found an empty file"),
        (b"a\0b", "found NUL bytes"),
        ("中\n文".encode("gb18030"), "line 1: expected UTF-8 text.*iconv"),
        (b"a\nb\n\nc", "at least 3 documents, found 2: a blank line separates documents"),
    ],
)
def test_unusable_files(tmp_path, content, message):
    path = write(tmp_path / "corpus.txt", content)
    with pytest.raises(FileError, match=message) as caught:
        read_corpus(path)
    assert str(path) in str(caught.value)


def test_unreadable_files(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe"):
        with pytest.raises(FileError) as caught:
            read_corpus(path)
        assert str(path) in str(caught.value)


def test_fewer_documents_on_request(tmp_path):
    assert len(read_corpus(write(tmp_path / "f", "一。"), min_documents=1)) == 1


@pytest.mark.parametrize(
    ("paragraph", "sentences"),
    [
        ("", []),
        ("  ", []),
        ("没有标点", ["没有标点"]),
        ("一。二！三？四；五", ["一。", "二！", "三？", "四；", "五"]),
        ("真的？！……好。", ["真的？！……", "好。"]),
        ("曰：“好。”又曰：“‘不。’”去。", ["曰：“好。”", "又曰：“‘不。’”", "去。"]),
        (
            "（是。）《书！》「好？」『好；』走",
            ["（是。）", "《书！》", "「好？」", "『好；』", "走"],
        ),
        ("他说“好。”。走", ["他说“好。”。", "走"]),
        ("一。 二。", ["一。", "二。"]),
        ("3.14, yes. no", ["3.14, yes. no"]),
    ],
)
def test_sentences(paragraph, sentences):
    assert split_sentences(paragraph) == sentences


@given(st.text(st.sampled_from("中文，" + MARKS + CLOSERS + "“ ")))
def test_nothing_is_lost_between_sentences(paragraph):
    sentences = split_sentences(paragraph)
    assert "".join(sentences).replace(" ", "") == paragraph.replace(" ", "")
    # only the last may lack a mark, and none begins with one that follows a mark
    assert all(set(s) & set(MARKS) for s in sentences[:-1])


def test_character_vocabulary_order():
    documents = [Document("题题题", ("中中国。", "国中。天")), Document("", ("天地",))]
    assert character_vocabulary(documents, 1) == [*SPECIAL_TOKENS, *"中。国天地"]
    assert character_vocabulary(documents, 2) == [*SPECIAL_TOKENS, *"中。国天"]
    with pytest.raises(
        ArgumentError, match="min_count: expected an integer of at least 1, found 0"
    ):
        character_vocabulary(documents, 0)


@given(st.lists(st.text(st.sampled_from("中国〇，NbaÉ\u0301 1２\t\u3000豈😎-’\u2028\x00"))))
def test_no_character_of_its_own_corpus_is_unknown(paragraphs):
    tokenizer = NezhaTokenizer(character_vocabulary([Document("", tuple(paragraphs))], 1))
    for paragraph in paragraphs:
        assert tokenizer.unk_token_id not in tokenizer(paragraph)["input_ids"]


def test_plain_characters_would_leave_words_unknown():
    """The negative control: without the continuations ``##x`` a Latin word is [UNK]."""
    plain = NezhaTokenizer([*SPECIAL_TOKENS, *"nba〇"])
    assert plain.tokenize("NBA 〇〇") == ["[UNK]", "[UNK]"]
    whole = NezhaTokenizer(character_vocabulary([Document("", ("NBA 〇〇",))], 1))
    assert whole.tokenize("NBA 〇〇") == ["n", "##b", "##a", "〇", "##〇"]


@given(st.integers(2, 60), st.integers(2, 30))
def test_hold_out(count, every):
    documents = [Document(str(i), ()) for i in range(count)]
    train, held_out = hold_out(documents, every)
    assert sorted(train + held_out, key=lambda d: int(d.title)) == documents
    assert train
    assert len(held_out) == max(1, count // every)
    assert hold_out(documents, every) == (train, held_out)


def test_hold_out_arguments():
    with pytest.raises(ArgumentError, match=r"documents: expected at least 2.*found 1"):
        hold_out([Document("", ("一",))])
    with pytest.raises(ArgumentError, match="every: expected an integer of at least 2, found 1"):
        hold_out([Document("", ("一",))] * 5, 1)
