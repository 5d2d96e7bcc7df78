"""The model in the package answers without any option, and its card is true."""

import json
import re
import shutil

import pytest

from minizha import fill_mask, load_shipped, next_sentence_probability, shipped
from minizha.cli import main
from minizha.errors import FileError
from minizha.files import read_json_object
from minizha.model.pretraining import NezhaForPreTraining
from minizha.shipped import SHIPPED_FOLDER

CARD = (SHIPPED_FOLDER / "README.md").read_text("utf-8")
FIRST_LINE = (
    "minizha: the model in the package answers, a small one trained on 三国演义; "
    "--model names another"
)
COMMANDS = {
    "fill-mask": ["fill-mask", "曹操引[MASK]来攻"],
    "next-sentence": ["next-sentence", "操引兵来攻。", "玄德大惊。"],
    "info": ["info"],
    "evaluate": ["evaluate", "--held-out", "2", "--corpus", "corpus.txt"],
}
TEXT = "\n\n".join(["却说玄德大喜，遂引兵来迎。曹操大怒，急令退兵。\n孔明笑曰：主公勿忧。"] * 4)


def test_it_loads_complete_in_float32():
    model, tokenizer = load_shipped()
    assert type(model) is NezhaForPreTraining
    assert model.dtype == "float32"
    assert not model.training
    assert fill_mask(model, tokenizer, "玄[MASK]大喜")[0][0].token == "德"
    assert 0 < next_sentence_probability(model, tokenizer, "玄德大喜。", "操大怒。") < 1


def test_it_is_small():
    assert sum(path.stat().st_size for path in SHIPPED_FOLDER.iterdir()) < 8_000_000


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_model_it_answers_and_the_first_line_names_it(
    command, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text(TEXT, "utf-8")
    (tmp_path / "minizha-sanguo").mkdir()  # a model of one's own is taken only by name
    assert main(COMMANDS[command]) == 0
    found = capsys.readouterr()
    assert found.out
    assert found.err.splitlines()[0] == FIRST_LINE
    assert (
        main([*COMMANDS[command], *(["--model"] * (command != "info")), str(SHIPPED_FOLDER)]) == 0
    )
    named = capsys.readouterr()
    assert named.out == found.out
    assert FIRST_LINE not in named.err


def test_a_damaged_package_is_an_error_in_one_line(tmp_path, monkeypatch, capsys):
    shutil.copytree(SHIPPED_FOLDER, tmp_path / "shipped")
    monkeypatch.setattr(shipped, "SHIPPED_FOLDER", tmp_path / "shipped")
    load_shipped()
    (tmp_path / "shipped" / "model.safetensors").unlink()
    with pytest.raises(FileError, match=r"shipped.model\.safetensors"):
        load_shipped()
    assert main(COMMANDS["fill-mask"]) == 2
    assert "model.safetensors" in capsys.readouterr().err


# --- the card -------------------------------------------------------------------------------------


def test_the_figures_of_the_card(capsys):
    """What ``minizha evaluate`` prints, to the digits that the card has."""
    assert main(["evaluate", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    for task, name in (("masked_words", "masked characters"), ("next_sentence", "sentence pairs")):
        row = re.search(rf"\| {name} \| (0\.\d+) \| (\d\.\d+) \| ([\d,]+) \|", CARD)
        accuracy, loss = float(row[1]), float(row[2])
        assert figures[task]["accuracy"] == pytest.approx(accuracy, abs=0.0015)
        assert figures[task]["loss"] == pytest.approx(loss, abs=0.0015)
        assert f"{figures[task]['count']:,}" == row[3]


def rows_of(heading):
    """The rows of the first table below a heading of the card, without its head."""
    table = CARD.split(f"## {heading}")[1].split("## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_guesses_of_the_card():
    model, tokenizer = load_shipped()
    rows = rows_of("Ten guesses")
    assert len(rows) == 10
    for text, _, shown, _ in rows:
        guesses = fill_mask(model, tokenizer, text, top_k=3)[0]
        assert [f"{g.token} {g.probability:.2f}" for g in guesses] == shown.split(", ")


def test_the_parameters_of_the_card():
    model, tokenizer = load_shipped()
    assert f"{model.num_parameters():,} parameters" in CARD
    assert f"{len(tokenizer):,} tokens" in CARD


def test_the_command_of_the_card_is_that_of_its_log():
    """The sizes in the command are those of the configuration."""
    command = next(line for line in CARD.splitlines() if line.startswith("minizha pretrain"))
    config = read_json_object(SHIPPED_FOLDER / "config.json")
    for option, key in (
        ("--hidden-size", "hidden_size"),
        ("--layers", "num_hidden_layers"),
        ("--heads", "num_attention_heads"),
        ("--intermediate-size", "intermediate_size"),
    ):
        assert f"{option} {config[key]} " in command
