"""The four examples of the Transformers 4.37 documentation run on minizha unchanged."""

import ast
import inspect
import os
import re
import runpy
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaForPreTraining, NezhaTokenizer
from minizha.errors import CheckpointWarning
from minizha.text.vocabulary import SPECIAL_TOKENS
from tests.support.files.hub_server import HubServer
from tests.support.paths import ROOT

FOLDER = ROOT / "docs" / "examples"
NAME = "sijunhe/nezha-cn-base"
EXAMPLES = {
    "NezhaModel": "nezha_model.py",
    "NezhaForPreTraining": "nezha_for_pre_training.py",
    "NezhaForMaskedLM": "nezha_for_masked_lm.py",
    "NezhaForNextSentencePrediction": "nezha_for_next_sentence_prediction.py",
}


def originals():
    """The code of each example as Hugging Face wrote it, by the name of its class."""
    text = (ROOT / "tests" / "data" / "transformers-4.37-examples.txt").read_text("utf-8")
    _, *parts = re.split(r"^=== (\w+) ===\n", text, flags=re.M)
    return {
        name: plain(block.rstrip("\n") + "\n")
        for name, block in zip(parts[::2], parts[1::2], strict=True)
    }


def plain(block):
    """The code of an interactive session, without its prompts."""
    lines = block.splitlines()
    assert all(line[:4] in (">>> ", "... ", "") for line in lines)
    return "".join(line[4:] + "\n" for line in lines)


ORIGINALS = originals()


# --- they run -----------------------------------------------------------------------------------


def words(text):
    return re.findall(r"\w+|[^\w\s]", text.lower())


@pytest.fixture
def checkpoint(tmp_path):
    """The folder of a small model whose vocabulary holds the words of the examples."""
    texts = [
        text for code in ORIGINALS.values() for text in re.findall(r'\("(.*?)"|= "(.*)"', code)
    ]
    tokens = sorted({word for pair in texts for text in pair for word in words(text)} - {"mask"})
    tokenizer = NezhaTokenizer([*SPECIAL_TOKENS, *tokens])
    config = NezhaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_relative_position=5,
        initializer_range=0.2,
    )
    model = NezhaForPreTraining(config, seed=3)
    always_predict(model, 1)
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def always_predict(model, label):
    """Make the model always predict ``label``: 0, B follows A, or 1, B is random."""
    state = model.state_dict()
    state["cls.seq_relationship.bias"] = np.float32([9, 0] if label == 0 else [0, 9])
    model.load_state_dict(state)


@pytest.fixture
def hub(checkpoint, tmp_path, monkeypatch):
    for name in os.environ:
        if name.startswith("HF_") or name == "TRANSFORMERS_OFFLINE":
            monkeypatch.delenv(name)
    with HubServer() as hub:
        hub.folder(NAME, checkpoint)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.chdir(tmp_path)  # has no folder sijunhe
        yield hub


def run(path, monkeypatch):
    """Run an example in this process; return its global names."""
    monkeypatch.syspath_prepend(str(FOLDER))
    with warnings.catch_warnings():
        # the checkpoint has heads that the class lacks
        warnings.simplefilter("ignore", CheckpointWarning)
        return runpy.run_path(str(path))


@pytest.mark.parametrize("file", EXAMPLES.values())
def test_the_example_runs_as_written(file, hub):
    done = subprocess.run([sys.executable, FOLDER / file], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{NAME}@main/config.json" in hub.requested("HEAD")
    assert "storage model.safetensors" in hub.requested("GET")


def test_of_the_model(hub, monkeypatch):
    names = run(FOLDER / EXAMPLES["NezhaModel"], monkeypatch)
    assert names["inputs"].input_ids.shape == (1, 8)
    assert names["last_hidden_states"].shape == (1, 8, 16)


def test_of_pre_training(hub, monkeypatch):
    names = run(FOLDER / EXAMPLES["NezhaForPreTraining"], monkeypatch)
    size = len(names["tokenizer"])
    assert names["prediction_logits"].shape == (1, 8, size)
    assert names["seq_relationship_logits"].shape == (1, 2)


def test_of_the_masked_language_model(hub, monkeypatch):
    names = run(FOLDER / EXAMPLES["NezhaForMaskedLM"], monkeypatch)
    tokenizer, logits = names["tokenizer"], names["logits"]
    (place,) = names["mask_token_index"]
    assert tokenizer.convert_ids_to_tokens(names["inputs"].input_ids[0, place]) == "[MASK]"
    assert names["predicted_token_id"] == logits[0, place].argmax()
    assert len(tokenizer.decode(names["predicted_token_id"])) > 0
    paris = tokenizer.convert_tokens_to_ids("paris")
    assert names["labels"].tolist() == [[-100] * place + [paris] + [-100] * 2]
    row = logits[0, place].astype(np.float64)
    expected = np.log(np.exp(row).sum()) - row[paris]
    assert float(names["outputs"].loss) == pytest.approx(expected, rel=1e-5)


def test_of_the_next_sentence(hub, monkeypatch):
    names = run(FOLDER / EXAMPLES["NezhaForNextSentencePrediction"], monkeypatch)
    logits = names["logits"]
    assert logits.shape == (1, 2)
    expected = np.log1p(np.exp(float(logits[0, 0] - logits[0, 1])))
    assert float(names["outputs"].loss) == pytest.approx(expected, abs=1e-6)


def test_the_assertion_of_the_next_sentence_can_fail(hub, checkpoint, monkeypatch):
    model = NezhaForPreTraining.from_pretrained(checkpoint)
    always_predict(model, 0)
    model.save_pretrained(checkpoint)
    hub.folder(NAME, checkpoint)
    with pytest.raises(AssertionError):
        run(FOLDER / EXAMPLES["NezhaForNextSentencePrediction"], monkeypatch)


# --- they are the originals ---------------------------------------------------------------------

OURS, THEIRS = "return_tensors=torch.tensor", 'return_tensors="pt"'
IMPORTED = {"minizha", "numpy_as_torch"}


def body(source):
    """An example from its first import on, without its docstring."""
    tree = ast.parse(source)
    assert ast.get_docstring(tree)
    return "".join(source.splitlines(keepends=True)[tree.body[1].lineno - 1 :])


def is_import(line):
    return line.startswith(("import ", "from "))


def bound(lines):
    """The names that import lines bind."""
    nodes = ast.parse("\n".join(filter(is_import, lines))).body
    return sorted(alias.asname or alias.name for node in nodes for alias in node.names)


def differences(original, example):
    """Pairs of lines that differ, except imports and values of return_tensors."""
    theirs, ours = original.splitlines(), body(example).splitlines()
    found = [] if bound(theirs) == bound(ours) else [("imports", "bind other names")]
    if len(theirs) != len(ours):
        return [*found, (len(theirs), len(ours))]
    return found + [
        (a, b)
        for a, b in zip(theirs, ours, strict=True)
        if not (a == b or (is_import(a) and is_import(b)) or a == b.replace(OURS, THEIRS))
    ]


@pytest.mark.parametrize("model_class", EXAMPLES)
def test_only_imports_and_return_tensors_differ(model_class):
    example = (FOLDER / EXAMPLES[model_class]).read_text("utf-8")
    assert differences(ORIGINALS[model_class], example) == []
    nodes = ast.parse(example).body
    imported = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    imported |= {n.name for node in nodes if isinstance(node, ast.Import) for n in node.names}
    assert imported == IMPORTED
    assert "Hugging Face" in ast.get_docstring(ast.parse(example))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[0, mask_token_index]", "[0][mask_token_index]"),
        ("labels, -100)", "labels, -1)"),
        ("Paris.", "London."),
        ("outputs = model(**inputs, labels=labels)", ""),
        (
            "outputs = model(**inputs, labels=labels)",
            "outputs = model(**inputs, labels=labels)\nx = 1",
        ),
        ("with torch.no_grad():", "if True:"),
        ("# retrieve index", "# find the index"),
        (" as AutoTokenizer", ""),
        ("tokenizer(", "tokenizer.__call__("),
        (OURS, OURS + ", padding=False"),
    ],
)
def test_another_difference_is_found(old, new):
    model_class = "NezhaForMaskedLM"
    example = (FOLDER / EXAMPLES[model_class]).read_text("utf-8")
    assert old in example
    assert differences(ORIGINALS[model_class], example.replace(old, new)) != []


def test_there_are_no_other_examples():
    files = {path.name for path in FOLDER.glob("*.py")}
    assert files == {*EXAMPLES.values(), "numpy_as_torch.py"}
    assert ORIGINALS.keys() == EXAMPLES.keys()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_class", EXAMPLES)
def test_the_originals_are_those_of_transformers(model_class):
    transformers = pytest.importorskip(
        "transformers", reason="renders the documentation: pip install minizha[peers]"
    )
    text = inspect.getdoc(getattr(transformers, model_class).forward)
    (block,) = re.findall(r"```python\n(.*?)```", text, re.S)
    assert plain(textwrap.dedent(block).rstrip() + "\n") == ORIGINALS[model_class]


# --- the names of torch -------------------------------------------------------------------------


def test_numpy_as_torch(monkeypatch):
    names = runpy.run_path(str(FOLDER / "numpy_as_torch.py"))
    x = names["tensor"]([[0, 3], [4, 0]])
    (rows, columns) = (x > 0).nonzero(as_tuple=True)
    assert (rows.tolist(), columns.tolist()) == ([0, 1], [1, 0])
    assert x.nonzero(as_tuple=False).tolist() == [[0, 1], [1, 0]]
    assert np.flatnonzero(x[0]).tolist() == [1]
    assert names["where"](x > 0, x, -100).tolist() == [[-100, 3], [4, -100]]
    assert names["where"](x > 0, x, -100).dtype == names["LongTensor"]([1]).dtype == np.int64
    with names["no_grad"]():
        pass
