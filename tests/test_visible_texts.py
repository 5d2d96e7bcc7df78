"""No command sends a terminal the control characters of a file: they are shown as escapes."""

import contextlib
import json
import unicodedata
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from minizha import NezhaConfig, NezhaForPreTraining, NezhaTokenizer, cli, parser
from minizha.text.vocabulary import SPECIAL_TOKENS
from minizha.training import messages, run
from tests.support.tiny_models import SMALL

ESCAPE, C1, BIDI = "\x1b]0;t\x07", "\x9b31m", "\u202e"
EVIL = ESCAPE + C1 + BIDI
RUN = "--steps 1 --workers 1 --batch-size 2 --hidden-size 8 --heads 2 --layers 1 --intermediate-size 8"


@pytest.fixture
def folder(tmp_path):
    """A model whose tokens, configuration and array names hold control characters."""
    NezhaForPreTraining(
        NezhaConfig.from_dict(SMALL.to_dict() | {"odd": EVIL, EVIL: 1})
    ).save_pretrained(tmp_path / "m")
    tokens = [*SPECIAL_TOKENS, ESCAPE, C1, BIDI, "a\tb", "c\x0b", "一"]
    NezhaTokenizer(tokens).save_pretrained(tmp_path / "m")
    arrays = load_file(tmp_path / "m" / "model.safetensors")
    arrays |= {f"left{EVIL}over": np.ones(1, np.float32)}
    (tmp_path / "m" / "model.safetensors").write_bytes(save(arrays))
    (tmp_path / "inputs.json").write_text('{"input_ids": [[2, 10, 3]]}')
    (tmp_path / "bad.json").write_text(json.dumps({EVIL: [1]}))
    (tmp_path / "t.safetensors").write_bytes(save({f"x{EVIL}": np.ones(2)}))
    (tmp_path / f"corpus{EVIL}").write_text("a\n\nb\n")
    text = f"一二三四五六七八九十{EVIL}天地玄黄{BIDI}。宇宙洪荒日月盈昃{C1}。\n"
    (tmp_path / "corpus").write_text("\n".join([text * 2] * 4))
    return tmp_path


COMMANDS = {
    "tokens": "fill-mask 一[MASK] --model m --top-k 11",
    "a text": f"next-sentence 一{BIDI} 一 --model m",
    "names and values": "info m",
    "a folder": "info m" + EVIL,
    "names left out": "convert m new",
    "a target": "convert m new" + EVIL,
    "a warning": "trace m --inputs inputs.json --out out",
    "a trace": "trace m --inputs inputs.json --out out" + EVIL,
    "an argument's name": "trace m --inputs bad.json --out out",
    "a class": f"trace m --inputs inputs.json --out out --class {EVIL}",
    "arrays": "compare t.safetensors t.safetensors --every",
    "an option": "info m --" + EVIL,
    "a command": EVIL,
    "a corpus": f"pretrain --corpus corpus --out p{EVIL} --min-count 1 --held-out 2 {RUN}",
    "a prepared corpus": f"prepare corpus --out d{EVIL} --min-count 1 --held-out 2",
    "an evaluated corpus": f"evaluate --model m --corpus corpus{EVIL}",
    "a corpus's name": f"pretrain --corpus corpus{EVIL} --out p {RUN}",
}


def sent(command, folder, monkeypatch, capsys):
    """The control characters in what the command prints."""
    monkeypatch.chdir(folder)
    if command == COMMANDS["a folder"]:
        (folder / "m").rename(folder / f"m{EVIL}")
    show = warnings.showwarning
    try:
        with warnings.catch_warnings(), contextlib.suppress(SystemExit):
            warnings.simplefilter("always")
            cli.main(command.split(" "))
    finally:
        warnings.showwarning = show
    output = "".join(capsys.readouterr())
    assert output
    assert "Traceback" not in output
    allowed = "\n\t" + "\r" * any(
        name in command for name in ("pretrain", "prepare", "evaluate")
    )  # a progress bar returns to its line's start
    return {c for c in output if unicodedata.category(c) in ("Cc", "Cf")} - set(allowed)


@pytest.mark.parametrize("name", COMMANDS)
def test_control_characters_are_shown(name, folder, monkeypatch, capsys):
    assert sent(COMMANDS[name], folder, monkeypatch, capsys) == set()


@pytest.mark.parametrize("name", ["tokens", "a target", "a corpus", "a corpus's name", "an option"])
def test_without_visible_they_are_sent(name, folder, monkeypatch, capsys):
    """The control."""
    for module in (cli, parser, run, messages):
        monkeypatch.setattr(module, "visible", lambda text, keep="": text)
    assert sent(COMMANDS[name], folder, monkeypatch, capsys)
