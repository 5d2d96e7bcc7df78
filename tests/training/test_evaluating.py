"""``minizha evaluate``: the figures of pretrain's own evaluation, and what it can't evaluate."""

import json
import warnings

import numpy as np
import pytest

from minizha import (
    NezhaForMaskedLM,
    NezhaForNextSentencePrediction,
    NezhaTokenizer,
)
from minizha.cli import main
from minizha.text.vocabulary import SPECIAL_TOKENS
from minizha.training.evaluation import evaluate
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import new_model, prepare
from tests.support.prepared import SIZES, novel, options, prepared, text

FEW = {"min_count": 20, "hidden_size": 8, "layers": 1, "heads": 2, "intermediate_size": 8}


def save(folder, data, settings):
    model = new_model(data, settings)
    model.save_pretrained(folder, tokenizer=data.tokenizer)
    return model


@pytest.fixture
def trained(tmp_path):
    """A model and the data that it would be trained on."""
    settings = options(vocab="")
    data = prepare(text(tmp_path), settings)
    return save(tmp_path / "m", data, settings), data


def run(capsys, *arguments, status=0):
    assert main(["evaluate", *map(str, arguments)]) == status
    return capsys.readouterr()


def as_json(metrics):
    return {
        "masked_words": {
            "accuracy": metrics.word_accuracy,
            "loss": metrics.word_loss,
            "count": metrics.words,
        },
        "next_sentence": {
            "accuracy": metrics.pair_accuracy,
            "loss": metrics.pair_loss,
            "count": metrics.pairs,
        },
    }


def test_the_figures_are_those_of_pretrain_for_the_novel(tmp_path, capsys):
    settings = PretrainOptions(**FEW)
    data = prepare(None, settings)
    model = save(tmp_path / "m", data, settings)
    expected = as_json(evaluate(model, data.held_out))
    found = run(capsys, "--model", tmp_path / "m", "--json")
    assert json.loads(found.out) == expected
    assert "1175/1175" in found.err  # the progress bar
    assert run(capsys, "--model", tmp_path / "m", "--json").out == found.out
    # the novel as a text, its chapters held out by the same rule
    arguments = ["--corpus", novel(tmp_path), "--held-out", 12, "--titles", "yes", "--json"]
    assert json.loads(run(capsys, "--model", tmp_path / "m", *arguments).out) == expected
    # the control: other masks, and another length
    for other in (["--seed", 1], ["--length", 32]):
        assert json.loads(run(capsys, "--model", tmp_path / "m", "--json", *other).out) != expected


def test_a_text_and_the_folder_prepared_from_it(tmp_path, trained, capsys):
    model, data = trained
    shared = ["--model", tmp_path / "m", "--length", SIZES["length"], "--json"]
    expected = as_json(evaluate(model, data.held_out))
    in_text = ["--corpus", tmp_path / "corpus.txt", "--titles", "no"]
    assert json.loads(run(capsys, *shared, *in_text, "--held-out", 3).out) == expected
    folder = prepared(tmp_path)
    assert json.loads(run(capsys, *shared, "--corpus", folder).out) == expected
    everything = json.loads(run(capsys, *shared, *in_text).out)
    assert everything["next_sentence"]["count"] > expected["next_sentence"]["count"]
    other = prepared(tmp_path, min_count=11)
    found = run(capsys, *shared, "--corpus", other, status=2)
    assert "expected a folder prepared with the model's vocabulary" in found.err


def test_what_is_printed_for_a_person(tmp_path, trained, capsys):
    found = run(capsys, "--model", tmp_path / "m", "--corpus", tmp_path / "corpus.txt")
    first, words, pairs = found.out.splitlines()
    assert first.endswith("corpus.txt: 11 documents; 0.6% of the tokens are [UNK]")
    assert words.startswith("  masked words    accuracy 0.")
    assert pairs.startswith("  next sentence   accuracy 0.")
    assert "note:" not in found.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected text, found an empty file"),
        ("一。二。", "expected at least 2 documents, found 1: a blank line separates"),
        ("一。\n\n二。\n\n三。四。", "at least 2 documents of 2 or more sentences each, found 1"),
        ("木\n木\n\n火\n土\n\n", "found none: 100.0% of the 4 tokens are [UNK]"),
    ],
)
def test_texts_that_can_not_be_evaluated(content, message, tmp_path, trained, capsys):
    path = text(tmp_path, content, "other.txt")
    arguments = ["--model", tmp_path / "m", "--corpus", path, "--mask-probability", "0.9"]
    found = run(capsys, *arguments, status=2)
    assert message in found.err
    assert path in found.err


def test_a_vocabulary_that_does_not_fit(tmp_path, trained, capsys):
    path = text(tmp_path, "木。水。\n\n火。土。\n\n", "other.txt")
    arguments = ["--model", tmp_path / "m", "--corpus", path, "--mask-probability", "0.9"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        found = run(capsys, *arguments)
    assert "note: 50.0% of the tokens are [UNK], because the model's vocabulary does" in found.err
    assert "; 50.0% of the tokens are [UNK]\n" in found.out


@pytest.mark.parametrize("cls", [NezhaForMaskedLM, NezhaForNextSentencePrediction])
def test_a_model_without_one_of_the_heads(cls, tmp_path, trained, capsys):
    model, data = trained
    cls(model.config).save_pretrained(tmp_path / "half", tokenizer=data.tokenizer)
    found = run(capsys, "--model", tmp_path / "half", status=2)
    assert "half: expected a complete NezhaForPreTraining, found no " in found.err
    assert "needs the heads for masked words and for sentence pairs" in found.err


def test_models_that_can_not_be_evaluated(tmp_path, trained, capsys, monkeypatch):
    model, data = trained
    corpus = ["--corpus", tmp_path / "corpus.txt"]
    monkeypatch.chdir(tmp_path)
    assert "nowhere: no such folder" in run(capsys, "--model", "nowhere", *corpus, status=2).err
    model.parameters.nezha.pooler.dense.weight[:] = np.nan
    model.save_pretrained(tmp_path / "nan", tokenizer=data.tokenizer)
    found = run(capsys, "--model", "nan", *corpus, status=2)
    assert "nan: expected finite losses, found NaN or infinity" in found.err
    NezhaTokenizer([*SPECIAL_TOKENS, *map(chr, range(0x4E00, 0x4E80))]).save_pretrained("m")
    assert "m: " in run(capsys, "--model", "m", *corpus, status=2).err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--length", "7"], "length: expected an integer in"),
        (["--seed", "-1"], "--seed: expected an integer of at least 0"),
        (["--held-out", "1"], "--held-out: expected an integer of at least 2"),
        (["--mask-probability", "0"], "mask_probability: expected a number in"),
        (["--corpus", "missing"], "missing: can't be read"),
        (["--json-field", "a", "--document-per-line", "--corpus", "corpus.txt"], "json_field: "),
    ],
)
def test_bad_options(arguments, message, tmp_path, trained, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in run(capsys, "--model", "m", *arguments, status=2).err


def test_the_stand_in_for_a_gpu(tmp_path, trained, capsys, backend):
    arguments = ["--model", tmp_path / "m", "--corpus", tmp_path / "corpus.txt", "--json"]
    plain = json.loads(run(capsys, *arguments).out)
    other = json.loads(run(capsys, *arguments, "--backend", backend).out)
    for task, figures in plain.items():
        assert other[task] == pytest.approx(figures, rel=1e-4)
