"""Documents, sentences and the character vocabulary of the novel and of other files."""

import codecs
import os
from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha.errors import ArgumentError, FileError, TextWarning
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


OWN = (
    "\ufeff\n题目\n一。\n二。\n \t\n没有题目的一段。\n第二段\r\n\n\n他说：“好。”\n好。\n\n只有一行\n\n"
    "“好，”\n他说。\n"
)
TITLED = "第一\n一。\n二\n三。\n\n第二\n一。\n\n一。\n二。\n\n只有一行\n"
VERSES = "a b c\nd e f\n\ng h i\nj k l\n\nm n o\np q r\n"


def test_one_title_among_many_documents_is_text(tmp_path):
    assert read_corpus(write(tmp_path / "f", OWN)) == [
        Document("", ("题目", "一。", "二。")),
        Document("", ("没有题目的一段。", "第二段")),
        Document("", ("他说：“好。”", "好。")),
        Document("", ("只有一行",)),
        Document("", ("“好，”", "他说。")),
    ]


def test_titles_are_the_habit_of_most_documents(tmp_path):
    path = write(tmp_path / "f", TITLED)
    with pytest.warns(TextWarning, match=r"f: 2 first lines \(4 characters\) .* such as '第一'"):
        documents = read_corpus(path)
    assert documents == [
        Document("第一", ("一。", "二", "三。")),
        Document("第二", ("一。",)),
        Document("", ("一。", "二。")),
        Document("", ("只有一行",)),
    ]


def test_the_titles_of_the_novel_are_found(tmp_path):
    novel = (resources.files("minizha") / "data" / "sanguo.txt").read_text("utf-8")
    with pytest.warns(TextWarning, match="120 first lines"):
        assert read_corpus(write(tmp_path / "f", novel)) == embedded_corpus()


@pytest.mark.parametrize(
    "text",
    [
        VERSES,
        TITLED.replace("第二", "第二。"),  # of three documents of several lines, one has a title
        "\n\n".join(["长" * 41 + "\n一。"] * 3),
        "\n\n".join(["题目\n没有标点\n一。"] * 3),  # most lines end like the first
    ],
)
def test_what_does_not_look_like_titles_stays(tmp_path, text):
    documents = read_corpus(write(tmp_path / "f", text))
    assert not any(document.title for document in documents)
    kept = "".join(p for document in documents for p in document.paragraphs)
    assert kept == text.replace("\n", "")


@pytest.mark.filterwarnings("ignore:.*first lines")
@given(
    st.lists(st.sampled_from(["题目", "a b", "一。", "二，", "长" * 41, "", " \t"]), max_size=12),
    st.sampled_from([None, True, False]),
    st.booleans(),
)
def test_every_character_is_in_a_document(tmp_path_factory, lines, titles, per_line):
    path = write(tmp_path_factory.mktemp("corpus") / "f", "\n".join([*lines, "末"]))
    options = {"document_per_line": per_line, "titles": None if per_line else titles}
    documents = read_corpus(path, 1, **options)
    found = "".join(d.title + "".join(d.paragraphs) for d in documents)
    assert found == "".join(map(str.strip, lines)) + "末"
    assert all(document.paragraphs for document in documents)


def test_titles_on_request(tmp_path):
    path = write(tmp_path / "f", VERSES)
    first, *_ = read_corpus(path, titles=True)
    assert first == Document("a b c", ("d e f",))
    path = write(tmp_path / "f", TITLED)
    assert [d.title for d in read_corpus(path, titles=False)] == [""] * 4
    assert [d.title for d in read_corpus(path, titles=True)] == ["第一", "第二", "一。", ""]


def test_a_document_a_line(tmp_path):
    path = write(tmp_path / "f", "一。二。\n三。\n\n四。\n")
    documents = read_corpus(path, document_per_line=True)
    assert documents == [Document("", (text,)) for text in ("一。二。", "三。", "四。")]
    with pytest.raises(FileError, match="at least 4 documents, found 3: each line is one document"):
        read_corpus(path, 4, document_per_line=True)
    with pytest.raises(ArgumentError, match="titles: expected False or None"):
        read_corpus(path, document_per_line=True, titles=True)


@pytest.mark.parametrize("option", ["titles", "document_per_line"])
def test_options_are_flags(tmp_path, option):
    with pytest.raises(ArgumentError, match=f"{option}: expected True or False, found 'yes'"):
        read_corpus(write(tmp_path / "f", VERSES), **{option: "yes"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected text, found an empty file"),
        (b"\n \n\n", "expected text, found an empty file"),
        (b"a\0b", "found NUL bytes"),
        ("中\n文".encode("gb18030"), "line 1: expected UTF-8 text.*iconv"),
        ("中\n文".encode("utf-16"), "expected UTF-8 text, found UTF-16, .*iconv -f UTF-16"),
        (codecs.BOM_UTF16_BE + "中".encode("utf-16-be"), "found UTF-16"),
        ("中\n文".encode("utf-32"), "expected UTF-8 text, found UTF-32"),
        ("a\nb".encode("utf-16-le"), "NUL bytes .*UTF-16 without a byte-order mark"),
        ("中\n文".encode("big5"), "line 1: expected UTF-8 text.*iconv.*-f BIG5"),
        (b"a\nb\n\nc", "at least 3 documents, found 2: a blank line separates documents"),
        (b"a\nb\nc", "found 1: .*--document-per-line: each line is one document"),
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
