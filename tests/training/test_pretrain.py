"""A complete pre-training run, very short: its inputs, its files, its interruptions.

tests/training/test_step.py shows that workers change nothing and that one batch is learnt by heart.
"""

import csv
import errno
import os
import shlex
import shutil
import signal
import tempfile

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaForPreTraining, NezhaModel, NezhaTokenizer, files
from minizha.backend import to_host
from minizha.cli import main
from minizha.errors import MinizhaError, TextWarning
from minizha.predict import fill_mask
from minizha.text.corpus import Document
from minizha.text.vocabulary import SPECIAL_TOKENS
from minizha.training import run as run_module
from minizha.training import session as session_module
from minizha.training.evaluation import evaluate, evenly_spaced, examples_from, mean_metrics
from minizha.training.options import PretrainOptions
from minizha.training.pretrain import new_model, prepare, train
from minizha.training.run import run
from minizha.training.step import BatchMetrics
from tests.support.shell_commands import arguments_of, shells
from tests.support.short_runs import DOCUMENT, TINY

OPTIONS = PretrainOptions(
    steps=4,
    hidden_size=8,
    layers=1,
    heads=2,
    intermediate_size=8,
    length=16,
    batch_size=6,
    held_out=3,
    min_count=1,
)
FILES = ["config.json", "held_out.csv", "loss.csv", "model.safetensors", "tokenizer_config.json"]
FILES += ["vocab.txt"]
LEFT = sorted([*FILES, "checkpoints", "log.jsonl"])
COLUMNS = ["step", "word_loss", "word_accuracy", "pair_loss", "pair_accuracy", "words", "pairs"]


@pytest.fixture
def corpus(tmp_path):
    """Six documents. The third and the sixth are held out; only they contain 甲 and 乙."""
    path = tmp_path / "corpus.txt"
    own = DOCUMENT.replace("一", "甲").replace("二", "乙")
    path.write_text((DOCUMENT * 2 + own) * 2, "utf-8")
    return str(path)


def content(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def test_what_a_run_leaves(corpus, tmp_path, backend, capsys):
    out = tmp_path / "m"
    assert run(corpus, str(out), OPTIONS, backend, workers=1 if backend == "cupy" else 2) is True
    assert sorted(set(os.listdir(out)) - {"loss.png"}) == LEFT
    model = NezhaForPreTraining.from_pretrained(out, backend=backend)  # without a warning
    tokenizer = NezhaTokenizer.from_pretrained(out)
    assert model.config.vocab_size == len(tokenizer)
    assert len(fill_mask(model, tokenizer, "一[MASK]三", top_k=3)[0]) == 3
    header, row = csv.reader((out / "loss.csv").read_text("utf-8").splitlines())
    assert header == COLUMNS
    assert row[0] == "4"
    assert 0 < float(row[1]) < 6
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{corpus}: 6 documents, 216 characters; 2 documents held out\n")
    assert (
        ", cupy, 1 process\n" if backend == "cupy" else ", numpy, 2 processes\n"
    ) in captured.out
    assert "masked words    accuracy 0." in captured.out
    assert captured.out.endswith(
        f"\nminizha fill-mask '曹操引[MASK]来攻' --model {shlex.quote(str(out))}\n"
    )
    assert "4/4" in captured.err


@pytest.mark.parametrize("shell", sorted(shells()))
@pytest.mark.parametrize("name", ["a folder [1]", "it's", "-m", "=m", "~", "$HOME", "a;b", "杨*修"])
def test_the_last_line_is_a_command_to_paste(name, shell, corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_module, "available_cores", lambda: 1)
    assert main(["pretrain", "--corpus", corpus, f"--out={name}", *TINY, "--steps", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    arguments = arguments_of(last, shell, tmp_path / "elsewhere")
    assert arguments[:3] == ["fill-mask", "曹操引[MASK]来攻", "--model"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("[MASK] 1\n")


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_seed_gives_the_same_files(workers, corpus, tmp_path):
    for name in ("a", "b"):
        run(corpus, str(tmp_path / name), OPTIONS, "numpy", workers)
    other = PretrainOptions(**(vars(OPTIONS) | {"seed": 1}))
    run(corpus, str(tmp_path / "c"), other, "numpy", workers)
    a, b, c = (content(tmp_path / name) for name in "abc")
    assert a == b
    assert a["model.safetensors"] != c["model.safetensors"]
    assert a["vocab.txt"] == c["vocab.txt"]


def test_training_lowers_the_loss_and_moves_every_parameter(corpus):
    options = PretrainOptions(
        **(vars(OPTIONS) | {"steps": 60, "learning_rate": 2e-2, "dropout": 0.1})
    )
    data = prepare(corpus, options)
    model = new_model(data, options)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    losses = [float(counts.word_loss + counts.pair_loss) for counts in train(model, data, options)]
    assert len(losses) == 60
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3
    moved = {n for n, array in model.state_dict().items() if not np.array_equal(array, before[n])}
    # the gradient of a key bias is rounding noise, so the bias may change or not
    assert {name for name in before if not name.endswith("key.bias")} <= moved
    assert model.training is False


# --- held out -------------------------------------------------------------------------------------


def test_held_out_documents_enter_neither_vocabulary_nor_training(corpus):
    data = prepare(corpus, OPTIONS)
    assert [d.paragraphs[0][0] for d in data.held_out_documents] == ["甲", "甲"]
    tokenizer = data.tokenizer
    assert tokenizer.convert_tokens_to_ids(["甲", "乙"]) == [tokenizer.unk_token_id] * 2
    assert tokenizer.unk_token_id not in tokenizer("一二三四五六七。")["input_ids"]
    seen = data.sampler.all(np.random.default_rng(0))
    assert (seen["input_ids"] != tokenizer.unk_token_id).all()
    # the control: the held-out examples contain the unknown 甲 and 乙
    assert (data.held_out["input_ids"] == tokenizer.unk_token_id).any()


def test_the_held_out_examples_are_the_same_in_every_run(corpus):
    a, b = (prepare(corpus, PretrainOptions(**(vars(OPTIONS) | {"seed": s}))) for s in (0, 7))
    assert all(np.array_equal(a.held_out[name], b.held_out[name]) for name in a.held_out)
    assert set(a.held_out) == {
        "input_ids",
        "token_type_ids",
        "attention_mask",
        "labels",
        "next_sentence_label",
    }
    labelled = a.held_out["labels"] != -100
    assert 0 < labelled.mean() < 0.5
    assert not np.isin(a.held_out["labels"][labelled], list(a.tokenizer.special_ids - {1})).any()


def test_one_held_out_document_borrows_its_random_sentences(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(DOCUMENT * 3, "utf-8")
    data = prepare(path, OPTIONS)
    assert len(data.held_out_documents) == 1
    assert set(data.held_out["next_sentence_label"]) == {0, 1}


VERSES = "a b c\nd e f\n\ng h i\nj k l\n\nm n o\np q r\n"
SMALL = ["--min-count", "1", "--held-out", "2", "--steps", "1", *TINY]


def test_three_documents_of_two_lines_are_enough(tmp_path, capsys):
    path = tmp_path / "verses.txt"
    path.write_text(VERSES, "utf-8")
    assert main(["pretrain", "--corpus", str(path), "--out", str(tmp_path / "m"), *SMALL]) == 0
    printed = capsys.readouterr().out
    assert "3 documents, 30 characters; 1 documents held out\n" in printed
    letters = set("abcdefghijklmnopqr")
    tokens = set((tmp_path / "m" / "vocab.txt").read_text("utf-8").split("\n"))
    assert letters - tokens == set("ghijkl")  # of the held-out document
    assert "left out: 6 of 18 tokens, which have characters that the training" in printed


def test_what_is_left_out_is_counted(tmp_path):
    text = "第一\n一二。\n二三。\n\n第二\n一二。\n三一。\n\n第三\n一一。\n二二。\n\n一二三。\n\n一二。\n\n"
    path = tmp_path / "corpus.txt"
    path.write_text(text, "utf-8")
    with pytest.warns(TextWarning, match="3 first lines"):
        data = prepare(path, PretrainOptions(**(vars(OPTIONS) | {"held_out": 2})))
    assert data.left_out == (
        "left out: 3 titles (6 characters), 2 documents of fewer than 2 sentences (7 tokens)"
    )
    options = PretrainOptions(**(vars(OPTIONS) | {"titles": "no", "min_count": 3, "held_out": 2}))
    data = prepare(path, options)
    assert "titles" not in data.left_out
    said = "7 of 31 tokens, which have characters that the training documents hold fewer than 3"
    assert said in data.left_out  # 第 and 三, twice each


def test_nothing_is_said_where_nothing_is_left_out(corpus):
    options = PretrainOptions(**(vars(OPTIONS) | {"held_out": 12}))
    assert "documents of fewer" not in prepare(corpus, options).left_out
    assert "titles" not in prepare(corpus, options).left_out


def test_a_document_a_line(tmp_path, capsys):
    path = tmp_path / "lines.txt"
    path.write_text("一二。三四。\n五六。七八。\n九十。百千。\n", "utf-8")
    command = ["pretrain", "--corpus", str(path), "--out", str(tmp_path / "m"), *SMALL]
    assert main(command) == 2
    assert "--document-per-line: each line is one document" in capsys.readouterr().err
    assert main([*command, "--document-per-line"]) == 0
    assert "3 documents, 18 characters; 1 documents held out" in capsys.readouterr().out


def test_special_tokens_in_a_corpus_are_text(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("一[MASK]二。三[SEP]四。\n\n" * 3, "utf-8")
    data = prepare(path, PretrainOptions(**(vars(OPTIONS) | {"mask_probability": 0.01})))
    tokens = [data.tokenizer.convert_ids_to_tokens(i) for i in np.unique(data.sampler._tokens)]
    assert not set(tokens) & set(SPECIAL_TOKENS)
    assert {"[", "]", "m", "##a", "##k"} <= set(tokens)


def test_a_continuation_can_be_hidden_and_guessed():
    tokenizer = NezhaTokenizer([*SPECIAL_TOKENS, "la", "##n", "##c"])
    sizes = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    model = NezhaForPreTraining(NezhaConfig(vocab_size=8, num_hidden_layers=1, **sizes))
    examples = examples_from(model, tokenizer, [Document("", ("lanc lanc lanc",) * 9)], count=9)
    assert {example.answer for example in examples} == {"la", "##n", "##c"}
    for example in examples:
        assert example.text.replace("[MASK]", example.answer.removeprefix("##")) == "lanc lanc lanc"
        assert {guess.token for guess in example.guesses} & {"la", "##n", "##c"}
    # with the token hidden the others stay whole, as a [MASK] in the raw text would not leave them
    (example, *_) = [example for example in examples if example.answer == "##n"]
    ids = tokenizer(example.text)["input_ids"][0].tolist()
    assert tokenizer.unk_token_id in ids


def test_evaluation_does_not_depend_on_the_batches(corpus, backend):
    data = prepare(corpus, OPTIONS)
    model = new_model(data, OPTIONS, backend).train(seed=3)
    whole = evaluate(model, data.held_out)
    assert model.training is False
    for size in (1, 3, 1000):
        found = evaluate(model, data.held_out, size)
        assert np.allclose(found, whole, rtol=1e-5, atol=1e-7)
    assert whole.words == (data.held_out["labels"] != -100).sum()
    assert whole.pairs == len(data.held_out["labels"])


def test_evaluation_where_nothing_is_asked(corpus, backend):
    data = prepare(corpus, OPTIONS)
    nothing = {name: np.full_like(data.held_out[name], -100) for name in ("labels",)}
    found = evaluate(new_model(data, OPTIONS, backend), data.held_out | nothing, 4)
    assert (found.words, found.word_loss, found.word_accuracy) == (0, 0.0, 0.0)
    assert found.pairs == len(data.held_out["labels"])
    assert found.pair_loss > 0


@pytest.mark.parametrize("most", [2, 4, 128])
def test_a_sample_of_the_held_out_examples_has_both_labels(most):
    """The labels alternate: every tenth row has the same label."""
    assert set(np.arange(1500)[::10] % 2) == {0}
    for size in range(1, 1500):
        labels = np.arange(size) % 2
        (sample,) = evenly_spaced({"labels": labels}, most).values()
        assert min(size, most / 2) <= len(sample) <= most
        assert abs(2 * sample.sum() - len(sample)) <= 1


# --- interruptions --------------------------------------------------------------------------------


@pytest.mark.parametrize("backend_of_run", ["tpu", 3])
def test_nothing_is_made_before_everything_is_checked(backend_of_run, corpus, tmp_path):
    with pytest.raises(MinizhaError, match="backend: expected one of"):
        run(corpus, str(tmp_path / "m"), OPTIONS, backend_of_run, 1)
    with pytest.raises(MinizhaError):
        run(str(tmp_path / "missing.txt"), str(tmp_path / "m"), OPTIONS, "numpy", 1)
    assert os.listdir(tmp_path) == ["corpus.txt"]


def interrupting(function, after, error=KeyboardInterrupt):
    def interrupted(*arguments, **options):
        for i, counts in enumerate(function(*arguments, **options)):
            if i == after:
                raise error
            yield counts

    return interrupted


@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (MinizhaError("a worker process ended"), MinizhaError, "^a worker process ended; the mod"),
        (MemoryError("9 TiB"), MinizhaError, "^not enough memory for these sizes: 9 TiB; the mod"),
        (ZeroDivisionError("a bug"), ZeroDivisionError, "^a bug"),
    ],
)
def test_whatever_ends_the_training_the_model_is_saved(
    error, expected, message, after, corpus, tmp_path, monkeypatch
):
    monkeypatch.setattr(session_module, "train", interrupting(train, after, error))
    with pytest.raises(expected, match=message) as caught:
        run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 1)
    place = f"the model so far is in {tmp_path / 'm'}; --resume goes on after step {after + 1}"
    assert place in str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert set(FILES) <= set(os.listdir(tmp_path / "m"))


def test_while_nothing_was_learnt_there_is_nothing_to_save(corpus, tmp_path, monkeypatch):
    """A model saved here would be in the way of the next run, and so would its checkpoint."""

    def fail(*_):
        raise MemoryError("no room for a batch")

    monkeypatch.setattr(session_module, "train", fail)
    with pytest.raises(MemoryError, match=r"^no room for a batch$"):
        run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 1)
    assert os.listdir(tmp_path / "m") == []


def test_what_is_there_is_replaced_only_if_that_is_wanted(corpus, tmp_path, monkeypatch, capsys):
    out = tmp_path / "m"
    run(corpus, str(out), OPTIONS, "numpy", 1)
    before = content(out)
    other = PretrainOptions(**(vars(OPTIONS) | {"seed": 1}))
    with monkeypatch.context() as patched:
        patched.setattr(run_module, "prepare", pytest.fail)  # before any work
        with pytest.raises(
            MinizhaError, match=r"m: already holds config.json, .*--overwrite .*--out"
        ):
            run(corpus, str(out), other, "numpy", 1)
    assert content(out) == before
    with monkeypatch.context() as patched:
        patched.setattr(session_module, "train", interrupting(train, 2))
        assert run(corpus, str(out), other, "numpy", 1, overwrite=True) is False
    assert content(out) == before
    assert (
        f"the model so far is in {out / 'checkpoints' / 'step-000003'}\n" in capsys.readouterr().out
    )
    assert not (tmp_path / "m-interrupted").exists()
    so_far = (out / "checkpoints" / "step-000003" / "model.safetensors").read_bytes()
    assert so_far != before["model.safetensors"]
    NezhaForPreTraining.from_pretrained(out / "checkpoints" / "step-000003")
    assert run(corpus, str(out), other, "numpy", 1, overwrite=True) is True
    assert content(out)["model.safetensors"] != before["model.safetensors"]
    assert content(out)["vocab.txt"] == before["vocab.txt"]


def test_a_model_that_came_in_the_meantime_stays(corpus, tmp_path, monkeypatch):
    out = tmp_path / "m"

    run(corpus, str(tmp_path / "other"), OPTIONS, "numpy", 1)

    def train_while_another_saves(*arguments):
        for name in FILES:
            shutil.copy(tmp_path / "other" / name, out / name)
        yield from train(*arguments)

    monkeypatch.setattr(session_module, "train", train_while_another_saves)
    assert run(corpus, str(out), OPTIONS, "numpy", 1) is True
    assert content(out) == content(tmp_path / "m-interrupted")
    assert content(out) == content(tmp_path / "other")


@pytest.mark.parametrize("name", ["model.safetensors", "loss.csv"])
def test_a_full_disk_at_the_end(name, corpus, tmp_path, monkeypatch, capsys):
    """The disk of the folder is full; the temporary folder is on another one."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    write = files.write_synced

    def full(path, data):
        if os.path.basename(path) == name and "temporary" not in path:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    monkeypatch.setattr(files, "write_synced", full)
    with pytest.raises(MinizhaError, match=f"m/{name}: can't be written: No space left") as caught:
        run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 1)
    saved = str(caught.value).split("; the model is in ")[1]
    assert saved == str(tmp_path / "m") or saved.startswith(str(tmp_path / "temporary"))
    assert (saved == str(tmp_path / "m")) == (name == "loss.csv")
    NezhaForPreTraining.from_pretrained(saved)
    NezhaTokenizer.from_pretrained(saved)
    assert "masked words    accuracy" in capsys.readouterr().out


@pytest.mark.parametrize("after", [0, 2])
def test_ctrl_c_in_the_training(after, corpus, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(session_module, "train", interrupting(train, after))
    assert run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 1) is False
    assert capsys.readouterr().out.endswith(f"the model so far is in {tmp_path / 'm'}\n")
    assert sorted(os.listdir(tmp_path / "m")) == LEFT
    assert NezhaForPreTraining.from_pretrained(tmp_path / "m").training is False
    assert (tmp_path / "m" / "loss.csv").read_text("utf-8") == ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize("first", ["in the training", "in the save"])
def test_ctrl_c_while_it_is_saved(first, corpus, tmp_path, monkeypatch, capsys):
    write, interrupts = files.write_synced, []

    def write_and_interrupt(path, data):
        interrupts.append(signal.raise_signal(signal.SIGINT))
        write(path, data)

    def train_and_patch(*arguments):
        steps = interrupting(train, 2) if first == "in the training" else train
        for metrics in steps(*arguments):
            monkeypatch.setattr(files, "write_synced", write_and_interrupt)
            yield metrics

    monkeypatch.setattr(session_module, "train", train_and_patch)
    with pytest.raises(KeyboardInterrupt):
        run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 1)
    assert len(interrupts) > 3
    assert set(FILES) <= set(os.listdir(tmp_path / "m"))
    text = "the model so far is in" if first == "in the training" else "loss curve are in"
    assert f"{text} {tmp_path / 'm'}\n" in capsys.readouterr().out


def test_ctrl_c_in_the_evaluation(corpus, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(session_module, "evaluate", interrupt)
    assert run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 1) is False
    assert "\n4," in (tmp_path / "m" / "loss.csv").read_text("utf-8")
    NezhaForPreTraining.from_pretrained(tmp_path / "m")


def test_metrics_are_means_over_words_not_over_batches():
    counts = [BatchMetrics(2.0, 1.0, 3, 30, 1, 2), BatchMetrics(5.0, 0.5, 5, 10, 4, 6)]
    found = mean_metrics(counts)
    assert found.word_loss == pytest.approx((2.0 * 30 + 5.0 * 10) / 40)
    assert found.word_accuracy == pytest.approx(8 / 40)
    assert found.pair_loss == pytest.approx((1.0 * 2 + 0.5 * 6) / 8)
    assert found[3:] == (pytest.approx(5 / 8), 40, 8)
    assert found.word_loss != pytest.approx((2.0 + 5.0) / 2)


def test_the_folder_also_loads_as_a_bare_model(corpus, tmp_path):
    run(corpus, str(tmp_path / "m"), OPTIONS, "numpy", 1)
    model, info = NezhaModel.from_pretrained(tmp_path / "m", output_loading_info=True)
    assert info.missing == ()
    tokenizer = NezhaTokenizer.from_pretrained(tmp_path / "m")
    out = model(**tokenizer("一二三", "你好吗？"))
    assert np.isfinite(to_host(out.last_hidden_state)).all()
    assert set(SPECIAL_TOKENS) <= set((tmp_path / "m" / "vocab.txt").read_text("utf-8").split())
