"""A run on a prepared folder draws the batches of a run on its text; what does not fit is refused."""

import os
import signal

import numpy as np
import pytest

from minizha.cli import main
from minizha.errors import ArgumentError, FileError
from minizha.training.corpora import open_corpus, prepare_folder
from minizha.training.pretrain import prepare
from minizha.training.run import run
from minizha.training.workers import Workers
from tests.support.prepared import TEXT, novel, options, prepared, text
from tests.support.short_runs import TINY
from tests.training.test_resuming import signal_at


def assert_same_batches(a, b, draws=5):
    for name, array in a.held_out.items():
        assert np.array_equal(array, b.held_out[name])
    one, other = np.random.default_rng(1), np.random.default_rng(1)
    for _ in range(draws):
        x, y = a.sampler.batch(8, one), b.sampler.batch(8, other)
        assert all(np.array_equal(x[name], y[name]) for name in x)
    for name in ("held_out_count", "documents", "characters", "left_out"):
        assert getattr(a, name) == getattr(b, name)


@pytest.mark.parametrize("changed", [{}, {"held_out": 5}, {"short_probability": 0.5}])
def test_the_batches_of_a_folder_are_those_of_its_text(changed, tmp_path):
    settings = options(**changed)
    folder = prepared(tmp_path, **changed)
    in_memory, mapped = (prepare(tmp_path / n, settings) for n in ("corpus.txt", "data"))
    assert_same_batches(in_memory, mapped)
    other = prepare(text(tmp_path, TEXT.replace("一", "二"), "other.txt"), settings)
    with pytest.raises(AssertionError):  # the control
        assert_same_batches(other, mapped)
    assert folder == tmp_path / "data"


def test_the_novel_from_a_folder_is_the_embedded_one(tmp_path):
    settings = options(titles="yes", held_out=12, min_count=2)
    prepare_folder([novel(tmp_path)], str(tmp_path / "data"), settings, 1)
    assert_same_batches(prepare(tmp_path / "data", settings), prepare(None, settings))


def test_a_run_on_a_folder_is_a_run_on_its_text(tmp_path, capsys):
    text(tmp_path, TEXT.replace("你好吗", "问得很好的一个问题你今天好吗"))
    prepared(tmp_path, str(tmp_path / "corpus.txt"))
    for name, corpus in (("a", "corpus.txt"), ("b", "data")):
        assert run(str(tmp_path / corpus), str(tmp_path / name), options(), "numpy", 1)
    printed = capsys.readouterr().out.replace(str(tmp_path / "b"), str(tmp_path / "a"))
    first, second = printed.replace("/data:", "/corpus.txt:").split(f"{tmp_path}/corpus.txt:")[1:]
    timed = [line for line in second.splitlines() if "trained in" in line]
    assert [line for line in first.splitlines() if "trained in" not in line] == [
        line for line in second.splitlines() if line not in timed
    ]
    assert "←" in first  # guesses in held-out sentences
    for name in ("model.safetensors", "vocab.txt", "loss.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_vocabulary_of_ones_own(tmp_path):
    own = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"一二三四五，。你好吗我"]
    vocabulary = text(tmp_path, "\n".join(own), "own.txt")
    in_memory = prepare(text(tmp_path), options(vocab=vocabulary))
    assert in_memory.tokenizer.convert_ids_to_tokens(range(16)) == own
    assert "tokens, which the vocabulary lacks (they become [UNK])" in in_memory.left_out
    folder = prepared(tmp_path, vocab=vocabulary)
    assert_same_batches(in_memory, prepare(folder, options(vocab=vocabulary)))
    assert_same_batches(in_memory, prepare(folder, options()))
    assert (folder / "vocab.txt").read_text("utf-8").split() == own
    other = text(tmp_path, "\n".join([*own, "也"]), "other.txt")
    with pytest.raises(ArgumentError, match=r"vocab: .*data was prepared with another vocabulary"):
        prepare(folder, options(vocab=other))
    with pytest.raises(FileError, match=r"missing\.txt: can't be read"):
        prepare(tmp_path / "corpus.txt", options(vocab=str(tmp_path / "missing.txt")))
    embedded = prepare(None, options(vocab=vocabulary, held_out=12))
    assert len(embedded.tokenizer) == 16


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"held_out": 4}, "held_out: expected 3, with which .*data was prepared, found 4"),
        ({"min_count": 3}, "min_count: expected 1, "),
        ({"titles": "yes"}, "titles: expected 'no', "),
        ({"document_per_line": True}, "document_per_line: expected False, "),
        ({"json_field": "text"}, "json_field: expected '', "),
    ],
)
def test_other_options_than_those_of_the_folder_are_refused(changed, message, tmp_path):
    folder = prepared(tmp_path)
    open_corpus(folder, options())
    open_corpus(folder, options(held_out=12, min_count=2, titles="auto"))  # the defaults
    with pytest.raises(ArgumentError, match=message):
        open_corpus(folder, options(**changed))


def test_the_commands(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text(tmp_path)
    assert (
        main(["prepare", "corpus.txt", "--out", "data", "--min-count", "1", "--titles", "no"]) == 0
    )
    out, err = capsys.readouterr()
    assert out.startswith("11 documents, 474 characters; 1 documents held out\nvocabulary 5")
    assert "tokens a second; the data is in data\n" in out
    assert [name for name in ("count", "vocabulary", "tokenize", "held out") if name in err] == [
        "count",
        "vocabulary",
        "tokenize",
        "held out",
    ]
    command = ["pretrain", "--corpus", "data", "--steps", "1", *TINY]
    assert main([*command, "--out", "m"]) == 0
    assert sorted({"config.json", "model.safetensors"} - set(os.listdir("m"))) == []
    capsys.readouterr()
    for arguments, message in (
        ([*command, "--out", "data", "--overwrite"], "data: holds a prepared corpus; --out names"),
        (
            ["pretrain", "--corpus", "m", "--out", "n", *TINY],
            "m: expected a text, or a folder that",
        ),
        (["prepare", "corpus.txt", "--out", "data"], "data: already holds a prepared corpus"),
        (["prepare", "corpus.txt", "--out", "m"], "m: expected a new folder, an empty one, or one"),
        (["prepare", "missing", "--out", "d"], "missing: can't be read"),
        (["prepare", "", "--out", "d"], ": can't be read"),
        (
            ["prepare", "corpus.txt", "--out", "d", "--workers", "0"],
            "--workers: expected an integer",
        ),
        (["prepare", "corpus.txt", "--out", "d", "--vocab", "corpus.txt"], "corpus.txt"),
    ):
        assert main(arguments) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
    assert not os.path.exists("d") or not os.listdir("d")


def test_a_run_on_a_text_goes_on_with_its_folder(tmp_path, monkeypatch):
    path = text(tmp_path)
    settings = options(steps=12)
    run(path, str(tmp_path / "whole"), settings, "numpy", 1)
    with monkeypatch.context() as patched:
        signal_at(patched, Workers, "loss_and_gradients", 7, signal.SIGINT)
        assert run(path, str(tmp_path / "m"), settings, "numpy", 1) is False
    other = prepared(tmp_path, text(tmp_path, TEXT.replace("一", "二"), "other.txt"))
    with pytest.raises(ArgumentError, match="--corpus: expected the corpus as recorded"):
        run(str(other), str(tmp_path / "m"), settings, "numpy", 1, resume=True)
    folder = prepared(tmp_path, path)
    assert run(str(folder), str(tmp_path / "m"), settings, "numpy", 1, resume=True)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("m", "whole")]
    assert weights[0] == weights[1]
