"""The commands: their output, and for every error one line and the exit status 2."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

# reads HF_HUB_OFFLINE when it is imported, so import it before the tests set that variable
import huggingface_hub.constants  # noqa: F401
import pytest

from minizha import NezhaForPreTraining, NezhaModel, NezhaTokenizer
from minizha.cli import _parser, main
from minizha.parser import EXAMPLES
from tests.support.shell_commands import arguments_of, shells
from tests.support.short_runs import DOCUMENT, TINY, train_into


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # a name that is not a folder may be an id of the hub
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "corpus.txt").write_text(DOCUMENT * 4, "utf-8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train_into(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def failed(capsys):
    """Run a command that must fail; return its one line of error."""

    def run(*arguments):
        try:
            status = main(list(map(str, arguments)))
        except SystemExit as stop:
            status = stop.code
        captured = capsys.readouterr()
        assert (status, captured.out) == (2, "")
        line, rest = captured.err.split("\n", 1)
        assert rest == ""
        assert line.startswith("minizha: error: ")
        return line.removeprefix("minizha: error: ")

    return run


# --- what they do ---------------------------------------------------------------------------------


def test_guesses(trained, capsys):
    V = len(NezhaTokenizer.from_pretrained(trained))
    assert main(["fill-mask", "一[MASK]三[MASK]", "--model", str(trained), "--top-k", str(V)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [i for i, line in enumerate(lines) if line.startswith("[MASK]")] == [0, V + 1]
    probabilities = [float(line.split("\t")[1]) for line in lines[1 : V + 1]]
    assert probabilities == sorted(probabilities, reverse=True)
    assert abs(sum(probabilities) - 1) < 0.01


def test_next_sentences(trained, capsys):
    assert main(["next-sentence", "一二三。", "你好吗？", "--model", str(trained)]) == 0
    first, second = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert (first[0], second[0]) == ("B continues A", "B is random")
    assert abs(float(first[1]) + float(second[1]) - 1) < 1e-3
    for a, b, empty in (("", "", "A and in B"), ("一", " \t\x00", "B"), ("", "一", "A")):
        assert main(["next-sentence", a, b, "--model", str(trained)]) == 0  # [CLS] [SEP] [SEP]
        note = f"minizha: note: there is no token in {empty}: the result means little\n"
        assert capsys.readouterr().err == note


def test_what_is_in_a_folder(trained, capsys):
    assert main(["info", str(trained)]) == 0
    text = capsys.readouterr().out
    model = NezhaForPreTraining.from_pretrained(trained)
    tensors = len(model.state_dict())
    total = f"\n{tensors} tensors, {model.num_parameters():,} numbers\n"
    assert text.endswith(total + "as NezhaForPreTraining: complete\n")
    for name in ("hidden_size", "nezha.embeddings.word_embeddings.weight", "35 × 8", "float32"):
        assert name in text


def test_the_stand_in_for_a_gpu(trained, capsys, backend):
    arguments = ["--model", str(trained), "--backend", backend]
    assert main(["fill-mask", "一[MASK]三", *arguments]) == 0
    assert main(["next-sentence", "一", "三", *arguments]) == 0
    corpus = ["--corpus", "corpus.txt", "--out", "m"]
    assert main(["pretrain", "--steps", "2", *TINY, *corpus, "--backend", backend]) == 0
    assert f", {backend}, 1 process\n" in capsys.readouterr().out
    assert NezhaForPreTraining.from_pretrained("m").backend == "numpy"


# --- the commands that it shows ------------------------------------------------------------------


@pytest.mark.parametrize("command", EXAMPLES)
def test_every_command_shows_an_example_of_itself(command, capsys):
    with pytest.raises(SystemExit):
        main([*command.split()[1:], "--help"])
    shown = capsys.readouterr().out
    assert f"\nexample:\n  {EXAMPLES[command]}\n" in shown
    # its own commands, if it has any, are in the table too
    for name in re.findall(r"^    ([a-z-]+) ", shown.partition("options:")[0], re.M):
        assert f"{command} {name}" in EXAMPLES


@pytest.mark.parametrize("shell", sorted(shells()))
@pytest.mark.parametrize("command", EXAMPLES)
def test_every_example_can_be_pasted_into_a_shell(command, shell, tmp_path):
    arguments = arguments_of(EXAMPLES[command], shell, tmp_path)
    assert arguments == shlex.split(EXAMPLES[command])[1:]
    assert arguments[: len(command.split()) - 1] == command.split()[1:]
    _parser().parse_args(arguments)  # and its options exist


@pytest.mark.parametrize("shell", sorted(shells()))
@pytest.mark.parametrize(
    "line", ["minizha fill-mask 一[MASK]", "minizha info a folder [1]", "minizha info 'm"]
)
def test_a_command_without_its_quotes_is_seen(line, shell, tmp_path):
    assert arguments_of(line, shell, tmp_path) is None


def commands_in(message):
    return re.findall(r"`([^`]+)`", message)


def test_commands_in_error_messages_can_be_pasted_too(failed, monkeypatch, tmp_path):
    found = commands_in(failed("fill-mask", "[MASK]", "--model", "minizha-sanguo"))
    assert found == ["minizha pretrain"]
    monkeypatch.setitem(sys.modules, "cupy", None)
    train = ["pretrain", "--corpus", "corpus.txt", "--backend", "cupy"]
    found += commands_in(failed(*train))
    assert found[1:] == ["pip install cupy-cuda12x", "pip install cupy-cuda13x"]
    for line in found:
        for shell in sorted(shells()):
            assert arguments_of(line, shell, tmp_path) == line.split()[1:]


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "the following arguments are required: COMMAND (see minizha --help)"),
        ("train", "argument COMMAND: invalid choice: 'train'"),
        ("--verbose", "the following arguments are required|unrecognized arguments"),
        ("pretrain --steps", "argument --steps: expected one argument (see minizha pretrain --he"),
        ("pretrain --steps ten", "argument --steps: invalid int value: 'ten'"),
        ("pretrain --steps 1.5", "argument --steps: invalid int value: '1.5'"),
        ("pretrain --steps 0", "steps: expected an integer in [1, 1000000000], found 0"),
        (
            "pretrain --steps 0 --learning-rate -1",
            "steps: expected an integer in [1, 1000000000], found 0; learning_rate",
        ),
        ("pretrain --heads 0", "heads: expected an integer in [1, 1024], found 0"),
        ("pretrain --heads 3", "hidden_size / heads: expected an even whole number"),
        ("pretrain --learning-rate nan", "learning_rate: expected a number in [0, 1], found nan"),
        ("pretrain --workers 0", "--workers: expected an integer of at least 1, found 0"),
        (
            "pretrain --batch-size 3 --workers 4",
            "--workers: expected at most --batch-size = 3, because each process takes a row of the "
            "batch, found 4",
        ),
        ("pretrain --size 3", "unrecognized arguments: --size 3"),
        ("pretrain --corpus missing.txt", "missing.txt: can't be read: No such file"),
        (
            "pretrain --corpus .",
            ".: expected a text, or a folder that `minizha prepare` wrote; found",
        ),
        ("pretrain --corpus corpus.txt --out corpus.txt", "corpus.txt: expected a folder, can't"),
        ("pretrain --corpus corpus.txt --out corpus.txt/m", "corpus.txt/m: expected a folder"),
        ("pretrain --corpus corpus.txt --out=", "folder: expected a path, found ''"),
        ("pretrain --corpus corpus.txt --min-count 999", "corpus.txt: min_count: no character"),
        (
            "pretrain --corpus corpus.txt --backend tpu",
            "backend: expected one of numpy, cupy, found",
        ),
        ("fill-mask", "the following arguments are required: TEXT (see minizha fill-mask --help)"),
        (
            "fill-mask 一二三 --model M",
            "text: expected [MASK] where a token is to be predicted, found",
        ),
        (
            "fill-mask [mask] --model M",
            "text: expected [MASK] where a token is to be predicted, found",
        ),
        ("fill-mask [MASK] --model M --top-k 0", "top_k: expected an integer in [1, 35], found 0"),
        (
            "fill-mask [MASK] --model M --top-k -1",
            "top_k: expected an integer in [1, 35], found -1",
        ),
        (
            "fill-mask [MASK] --model M --top-k 36",
            "top_k: expected an integer in [1, 35], found 36",
        ),
        ("fill-mask [MASK] --model M --top-k x", "argument --top-k: invalid int value: 'x'"),
        ("fill-mask [MASK] --model M --backend tpu", "backend: expected one of numpy, cupy, found"),
        ("fill-mask [MASK] --model nowhere", "nowhere: no such folder, and found no vocab.txt"),
        ("fill-mask [MASK] --model no/such/one", "no/such/one': no such folder, and not a hub id"),
        ("fill-mask [MASK] --model corpus.txt", "corpus.txt: expected a folder, found something"),
        ("fill-mask [MASK] --model minizha-sanguo", "minizha-sanguo: no such folder"),
        ("fill-mask \udcff[MASK] --model M", "text[0]: not valid Unicode"),
        ("fill-mask \udcb2[MASK] --model M", "stands for the byte 0xb2: expected UTF-8 in the arg"),
        (
            "next-sentence 一 \udcff --model M",
            "stands for the byte 0xff: expected UTF-8 in the arg",
        ),
        ("info \udcff", "stands for the byte 0xff: expected UTF-8"),
        ("fill-mask [MASK] --model M --top-k \udcff", "stands for the byte 0xff: expected UTF-8"),
        (
            "fill-mask [MASK] 一 --model M",
            "unrecognized arguments: 一 (a text with spaces needs quotes)",
        ),
        ("fill-mask [MASK] --mod M", "unrecognized arguments: --mod"),
        ("pretrain --ste 1 --out m", "unrecognized arguments: --ste 1"),
        ("pretrain --titles maybe", "argument --titles: invalid choice: 'maybe'"),
        ("--vers", "the following arguments are required: COMMAND|unrecognized arguments: --vers"),
        ("next-sentence 一 --model M", "the following arguments are required: B"),
        ("next-sentence 一 二 --model nowhere", "nowhere: no such folder"),
        ("info nowhere", "nowhere: no such folder, and found no config.json"),
        ("info corpus.txt", "corpus.txt: expected a folder, found something else"),
        ("info .", "config.json: can't be read: No such file"),
    ],
)
def test_errors(arguments, message, failed, trained):
    line = failed(*(str(trained) if word == "M" else word for word in arguments.split()))
    assert any(part in line for part in message.split("|"))
    assert sorted(os.listdir()) == ["corpus.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fill-mask", ""), "text: expected [MASK] where a token is to be predicted, found ''"),
        (("fill-mask", " \t"), "found ' \\t'"),
        (("fill-mask", "一\n二"), "found '一\\n二'"),
        (("fill-mask", "一" * 10_000), "found '一一一"),
        (("fill-mask", "[MASK]", "一" * 10_000), "unrecognized arguments: 一一一"),
    ],
)
def test_errors_about_texts_are_short(arguments, message, failed, trained):
    line = failed(*arguments, "--model", str(trained))
    assert message in line
    assert len(line) < 600


@pytest.mark.filterwarnings("always")
def test_a_long_text_is_read_whole(trained, capsys):
    text = "一" * 2_000 + "[MASK]"
    assert main(["fill-mask", text, "--model", str(trained), "--top-k", "1"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("[MASK] 1\n")
    assert printed.err.startswith(
        "minizha: note: 2003 tokens are more than max_position_embeddings"
    )
    assert printed.err.count("\n") == 1


def test_what_is_not_written_over(failed):
    """The output folder is checked before the training, not after it."""
    os.makedirs("m/model.safetensors")
    line = failed("pretrain", *TINY, "--steps", 10**9, "--corpus", "corpus.txt", "--out", "m")
    assert line == "m/model.safetensors: can't be written: it is a folder"
    assert os.listdir("m") == ["model.safetensors"]


@pytest.mark.parametrize("out", ["m", "corpus.txt/m"])
def test_where_a_run_can_not_write_it_does_not_begin(out, failed, monkeypatch):
    os.makedirs("m/config.json")
    monkeypatch.setattr("minizha.training.run.prepare", pytest.fail)
    line = failed("pretrain", *TINY, "--corpus", "corpus.txt", "--out", out)
    assert line.startswith(out)


def test_a_model_is_replaced_only_if_that_is_wanted(failed, trained, capsys):
    shutil.copytree(trained, "m")
    before = {path: path.read_bytes() for path in Path("m").iterdir() if path.is_file()}
    train = ["pretrain", *TINY, "--steps", "3", "--corpus", "corpus.txt", "--out", "m"]
    line = failed(*train)
    assert line.startswith("m: already holds config.json, model.safetensors, vocab.txt, ")
    assert line.endswith(
        "; --resume continues its run, --overwrite replaces the model, --out names another folder"
    )
    assert {path: path.read_bytes() for path in Path("m").iterdir() if path.is_file()} == before
    assert main([*train, "--overwrite"]) == 0
    capsys.readouterr()
    path = Path("m/model.safetensors")
    assert path.read_bytes() != before[path]
    os.rename("corpus.txt", "m/loss.csv")
    line = failed("pretrain", *TINY, "--corpus", "m/loss.csv", "--out", "m", "--overwrite")
    assert line == "--out: expected another file, found m/loss.csv, which the command reads"


def test_folders_that_are_not_whole(failed, trained, tmp_path):
    tokenizer = NezhaTokenizer.from_pretrained(trained)
    config = NezhaForPreTraining.from_pretrained(trained).config
    NezhaModel(config).save_pretrained("bare")
    tokenizer.save_pretrained("bare")
    line = failed("fill-mask", "[MASK]", "--model", "bare")
    assert line.startswith(
        "bare: expected a complete NezhaForMaskedLM, found no cls.predictions.bias"
    )
    line = failed("next-sentence", "一", "二", "--model", "bare")
    assert line.startswith(
        "bare: expected a complete NezhaForNextSentencePrediction, found no cls.seq"
    )

    NezhaForPreTraining(config.replace(vocab_size=36)).save_pretrained("large")
    tokenizer.save_pretrained("large")
    line = failed("fill-mask", "[MASK]", "--model", "large")
    assert line == "large: vocab.txt has 35 tokens, but config.json says vocab_size = 36"

    os.remove("large/vocab.txt")
    line = failed("fill-mask", "[MASK]", "--model", "large")
    assert line == "large: expected vocab.txt or tokenizer.json in it, found neither"
    os.remove("bare/model.safetensors")
    line = failed("fill-mask", "[MASK]", "--model", "bare")
    assert line.startswith("bare/model.safetensors: can't be read: No such file, nor ")


def test_ctrl_c_elsewhere(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("minizha.info.describe_folder", interrupt)
    assert main(["info", "."]) == 130
    assert capsys.readouterr().err == "minizha: interrupted\n"


def test_too_little_memory_is_one_line(monkeypatch, failed):
    def full(*_):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("minizha.info.describe_folder", full)
    assert failed("info", ".") == "not enough memory for these sizes: Unable to allocate 9 TiB"
