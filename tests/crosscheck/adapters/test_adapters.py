"""Other implementations under our names: the example of a page, Paddle's names, live ports in torch."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

import minizha
from minizha import MinizhaError, NezhaConfig, crosscheck
from minizha.checkpoint.foreign_names import translate
from minizha.crosscheck.adapters import paddle
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "reference" / "adapters.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.S)
TOLERANCE = 1e-11
SINGLE_LOSSES = {"masked_lm_loss", "next_sentence_loss"}


def block(words):
    (found,) = [text for text in BLOCKS if words in text]
    return found


def model_of(class_name, dtype="float64", seed=0, **values):
    """A small model with weights so large that a mistake has a visible effect."""
    sizes = {"vocab_size": 31, "hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 2}
    sizes |= {"intermediate_size": 40, "max_relative_position": 3, "max_position_embeddings": 16}
    model = getattr(minizha, class_name)(NezhaConfig(**sizes | values), dtype=dtype)
    rng = np.random.default_rng(seed)
    model.load_state_dict(
        {
            name: rng.normal(0, 0.2, p.shape) + name.endswith("LayerNorm.weight")
            for name, p in model.state_dict().items()
        }
    )
    return model


def inputs_of(seed=0, B=2, L=7):
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, 31, (B, L))
    mask = (np.arange(L) < L - 2 * np.arange(B)[:, None]).astype(np.int64)
    return {"input_ids": ids, "token_type_ids": rng.integers(0, 2, (B, L)), "attention_mask": mask}


def difference(ours, theirs):
    """The largest difference, relative to the largest entry; absolute if the array is 0 in theory."""
    assert ours.shape == theirs.shape
    scale = np.abs(ours).max()
    return np.abs(ours - theirs).max() / (scale if scale > 1e-12 else 1.0)


def first_divergence(ours, theirs, tolerance):
    return next(
        (n for n in ours if n in theirs and not difference(ours[n], theirs[n]) <= tolerance), None
    )


# --- the page's port, which writes files of its own -----------------------------------------------


def write_dump(folder, trace, scores="right"):
    """The files of the page's port in C: raw float32, an axis of heads, matrices (in, out)."""
    folder.mkdir()

    def write(name, array):
        array.astype("<f4").tofile(folder / f"{name}.f32")

    def by_head(array):
        return array.reshape(2, 7, 3, 8).swapaxes(1, 2)

    write("emb", trace["embeddings"])
    write("pooled", trace["pooler"])
    write("d_tok", trace["embeddings.word_embeddings.weight.grad"])
    for i in range(2):
        layer = f"encoder.layer.{i}."
        for letter, name in zip("qkv", ("query", "key", "value"), strict=True):
            write(f"{letter}{i}", by_head(trace[f"{layer}attention.self.{name}"]))
        factor = 8**0.5 if scores == "unscaled" else 1.0
        write(f"score{i}", factor * trace[layer + "attention.scores"].swapaxes(0, 1))
        write(f"prob{i}", trace[layer + "attention.probs"].swapaxes(0, 1))
        write(f"ctx{i}", by_head(trace[layer + "attention.context"]))
        write(f"att{i}", trace[layer + "attention.output"])
        write(f"ffn{i}", trace[layer + "intermediate"])
        write(f"out{i}", trace[f"encoder.layer.{i}"])
        write(f"d_wq{i}", trace[layer + "attention.self.query.weight.grad"].T)
        write(f"d_w1{i}", trace[layer + "intermediate.dense.weight.grad"].T)
        write(f"d_w2{i}", trace[layer + "output.dense.weight.grad"].T)


@pytest.mark.parametrize(
    ("scores", "first"), [("right", None), ("unscaled", "encoder.layer.0.attention.scores")]
)
def test_the_example_of_the_page_runs(tmp_path, scores, first):
    ours = crosscheck.trace(model_of("NezhaModel"), inputs_of())
    write_dump(tmp_path / "dump", ours, scores)
    script = tmp_path / "adapter.py"
    script.write_text(block("np.fromfile"), encoding="utf-8")
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True)
    theirs = load_file(tmp_path / "theirs.safetensors")
    assert len(theirs) == 27
    assert theirs.keys() <= ours.keys()
    assert first_divergence(ours, theirs, 1e-6) == first


def test_the_example_is_short_and_needs_numpy_and_safetensors_alone():
    text = block("np.fromfile")
    assert 35 <= len(text.splitlines()) <= 50
    imported = set(re.findall(r"^(?:from|import) (\w+)", text, re.M))
    assert imported == {"pathlib", "numpy", "safetensors"}


@pytest.mark.parametrize("class_name", ["NezhaModel", "NezhaForPreTraining"])
def test_the_weights_of_the_page_go_there_and_back(class_name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = model_of(class_name)
    before = {name: np.array(array) for name, array in model.state_dict().items()}
    names = {"model": model}
    exec(block("def flax_path"), names)
    after = getattr(minizha, class_name).from_pretrained("from-the-port").state_dict()
    assert before.keys() == after.keys()
    assert all(np.array_equal(array, after[name]) for name, array in before.items())
    port = names["port_weights"]
    assert port["encoder/layer_1/intermediate/dense/kernel"].shape == (24, 40)
    assert port["embeddings/word_embeddings/embedding"].shape == (31, 24)
    assert {path.rpartition("/")[2] for path in port} == {"kernel", "bias", "scale", "embedding"}


def test_every_name_of_the_page_is_one_of_a_trace():
    models = ("NezhaModel", "NezhaForPreTraining", "NezhaForTokenClassification")
    names = set().union(*(crosscheck.trace(model_of(name), inputs_of()) for name in models))
    names |= {"qa_outputs", "loss"}  # names of another class, and of labels
    page_names = re.findall(r"`((?:encoder\.layer\.0\.)?attention\.[\w.]+)`", PAGE)
    page_names = ["encoder.layer.0." + name.removeprefix("encoder.layer.0.") for name in page_names]
    assert len(page_names) >= 4
    assert [name for name in page_names if name not in names] == []


def test_importing_crosscheck_needs_no_torch():
    code = "import sys, minizha.crosscheck.adapters.paddle as _; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["torch_recorder", "transformers", "bert4torch"])
def test_without_torch_the_adapters_say_what_to_install(name):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from minizha import MinizhaError\n"
        f"try:\n    import minizha.crosscheck.adapters.{name}\n"
        "except MinizhaError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == 'this adapter needs torch: pip install "minizha[peers]"'


# --- Paddle ---------------------------------------------------------------------------------------

LABELS = {
    "NezhaModel": {},
    "NezhaForPreTraining": {"labels": np.full((2, 7), 3), "next_sentence_label": [0, 1]},
    "NezhaForSequenceClassification": {"labels": [0, 1]},
    "NezhaForTokenClassification": {"labels": np.ones((2, 7), int)},
    "NezhaForQuestionAnswering": {"start_positions": [0, 1], "end_positions": [2, 1]},
}


def their_name(value):
    return value if isinstance(value, str) else value["name"]


@pytest.mark.parametrize("class_name", LABELS)
def test_paddle_has_a_name_for_every_array(class_name):
    trace = crosscheck.trace(model_of(class_name), inputs_of() | LABELS[class_name])
    table = paddle.mapping(2, class_name)
    assert [name for name in table if name not in trace] == []
    assert {name for name in trace if name not in table} <= SINGLE_LOSSES
    theirs = [their_name(value) for value in table.values()]
    assert len(set(theirs)) == len(theirs)


@pytest.mark.parametrize("class_name", LABELS)
def test_paddle_names_of_parameters_are_those_that_a_checkpoint_is_read_by(class_name):
    """The two tables are inverse to each other."""
    model = model_of(class_name)
    shapes = {name.removeprefix("nezha."): p.ndim for name, p in model.state_dict().items()}
    keys = set(shapes)
    table = paddle.mapping(2, class_name)
    spellings = {
        their_name(table[key + ".grad"]).removesuffix(".grad"): (key, table[key + ".grad"])
        for key in keys
    }
    for spelling, (name, turned) in translate(list(spellings), keys).items():
        key, value = spellings[spelling]
        back = name.removeprefix("nezha.").replace("predictions.decoder.bias", "predictions.bias")
        assert back == key
        matrix = shapes[key] == 2
        assert isinstance(value, dict) == (turned and matrix)


def test_paddle_names_the_arrays_as_its_layers_are_called():
    table = paddle.mapping(1)
    assert table["encoder.layer.0.attention.scores"] == "nezha.encoder.layer.0.attention.1"
    assert table["encoder.layer.0"] == "nezha.encoder.layer.0.layer_norm"
    assert table["cls.predictions.bias.grad"] == "cls.predictions.decoder_bias.grad"
    assert table["encoder.layer.0.output.dense.weight.grad"] == {
        "name": "nezha.encoder.layer.0.ffn_output.weight.grad",
        "transpose": True,
    }
    assert not any("layer.1." in name for name in table)
    assert paddle.mapping(1, "NezhaModel")["pooler"] == "pooler"


def test_paddle_of_what_was_saved(tmp_path, monkeypatch):
    saved = {"nezha.pooler": 1, "cls.seq_relationship.weight.grad": 2, "something else": 3}
    monkeypatch.chdir(tmp_path)
    exec(block("names.mapping"), {"saved": saved})
    assert json.loads((tmp_path / "paddle.json").read_text("utf-8")) == {
        "pooler": "nezha.pooler",
        "cls.seq_relationship.weight.grad": {
            "name": "cls.seq_relationship.weight.grad",
            "transpose": True,
        },
    }


def test_paddle_has_no_such_class():
    with pytest.raises(
        MinizhaError, match=r"class_name: expected one of NezhaModel, .*NezhaForMaskedLM"
    ):
        paddle.mapping(2, "NezhaForMaskedLM")
