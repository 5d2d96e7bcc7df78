"""``minizha convert`` and ``minizha info``: every readable checkpoint is rewritten and described."""

import json
import os

import numpy as np
import pytest

from minizha import (
    NezhaConfig,
    NezhaForMaskedLM,
    NezhaForPreTraining,
    NezhaForTokenClassification,
    NezhaModel,
    NezhaTokenizer,
)
from minizha.checkpoint.folder import stored_weights
from minizha.checkpoint.safetensors_file import to_safetensors
from minizha.checkpoint.stored import StoredTensor
from minizha.cli import main
from minizha.convert import convert
from minizha.errors import ArgumentError, CheckpointWarning, FileError
from minizha.info import describe_folder
from minizha.model.auto import CLASSES, class_of
from minizha.text.vocabulary import SPECIAL_TOKENS
from tests.support.files.torch_files import legacy_of, zip_of
from tests.support.port_names import CONFIG, SCHEMES, parameters

WRITERS = {
    "safetensors": ("model.safetensors", to_safetensors),
    "zip": ("pytorch_model.bin", zip_of),
    "legacy": ("pytorch_model.bin", legacy_of),
}
POOLER = ("nezha.pooler.dense.weight", "nezha.pooler.dense.bias")


def folder_of(path, arrays, file_format="safetensors", config=CONFIG, **more):
    path.mkdir()
    name, write = WRITERS[file_format]
    arrays = {name: a for name, a in arrays.items() if isinstance(a, np.ndarray)}
    (path / name).write_bytes(write(arrays))
    (path / "config.json").write_text(config.to_json(**more), "utf-8")
    return path


def arrays_in(folder):
    return {name: tensor.read() for name, tensor in stored_weights(folder).items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


# its 1,640 tiny optimizer tensors exceed the number of tensors allowed in a .bin of this size
HEAVY = ("TensorFlow", "TensorFlow, :0")


@pytest.mark.parametrize(
    ("scheme", "file_format"),
    [(s, k) for s in SCHEMES for k in WRITERS if k == "safetensors" or s not in HEAVY],
)
def test_every_port_in_every_file(scheme, file_format, tmp_path):
    expected = parameters()
    source = folder_of(tmp_path / "source", SCHEMES[scheme](expected), file_format)
    done = convert(source, tmp_path / "target")
    assert (done.model_class, done.tensors, done.missing) == (
        "NezhaForPreTraining",
        len(expected),
        (),
    )
    assert [path.name for path in sorted((tmp_path / "target").iterdir())] == [
        "config.json",
        "model.safetensors",
    ]
    assert_same(arrays_in(tmp_path / "target"), expected)
    model, info = NezhaForPreTraining.from_pretrained(tmp_path / "target", output_loading_info=True)
    assert info == ((), ())
    assert model.dtype == "float64"


def test_shards_with_a_vocabulary(tmp_path):
    expected = {name: a.astype("float32") for name, a in parameters().items()}
    source = tmp_path / "source"
    folder_of(source, {}).joinpath("model.safetensors").unlink()
    where = {name: f"model-{i % 2}.safetensors" for i, name in enumerate(expected)}
    for shard in set(where.values()):
        part = {name: array for name, array in expected.items() if where[name] == shard}
        (source / shard).write_bytes(to_safetensors(part))
    index = json.dumps({"metadata": {}, "weight_map": where})
    (source / "model.safetensors.index.json").write_text(index)
    tokens = [*SPECIAL_TOKENS, *"一二三四五六七八"]
    NezhaTokenizer(tokens, do_lower_case=False).save_pretrained(source)
    assert str(convert(source, tmp_path / "target")).endswith("and the vocabulary")
    assert_same(arrays_in(tmp_path / "target"), expected)
    tokenizer = NezhaTokenizer.from_pretrained(tmp_path / "target")
    assert (len(tokenizer), tokenizer.do_lower_case) == (13, False)
    written = json.loads((tmp_path / "target" / "config.json").read_text())
    assert written["architectures"] == ["NezhaForPreTraining"]
    assert written["torch_dtype"] == "float32"


def test_added_tokens_are_converted_too(tmp_path):
    source = folder_of(tmp_path / "source", parameters())
    NezhaTokenizer([*SPECIAL_TOKENS, *"一二三四五六七"]).save_pretrained(source)
    (source / "added_tokens.json").write_text('{"[E1]": 12}')
    convert(source, tmp_path / "target")
    tokenizer = NezhaTokenizer.from_pretrained(tmp_path / "target")
    assert tokenizer("一[E1]")["input_ids"].tolist() == [[2, 5, 12, 3]]
    (source / "added_tokens.json").write_text('{"[E1]": 12, "[E2]": 13}')
    with pytest.raises(FileError, match=r"vocab\.txt has 14 tokens, .* vocab_size = 13"):
        convert(source, tmp_path / "other")


def test_half_precision_becomes_float32(tmp_path):
    arrays = {name: a.astype("float16") for name, a in parameters().items()}
    convert(folder_of(tmp_path / "source", arrays), tmp_path / "target")
    found = arrays_in(tmp_path / "target")
    assert {a.dtype.name for a in found.values()} == {"float32"}
    assert_same(found, {name: a.astype("float32") for name, a in arrays.items()})


def test_as_the_released_checkpoint_is(tmp_path):
    """An old spelling of the class, a pooler that it does not use, position buffers, no next-sentence
    head: all parameters are stored, and every class that uses them loads them."""
    arrays = parameters()
    for name in ("cls.seq_relationship.weight", "cls.seq_relationship.bias"):
        del arrays[name]
    buffer = "nezha.encoder.layer.0.attention.self.relative_positions_encoding.positions_encoding"
    extra = {buffer: np.ones((4, 4, 4)), "something.else": np.ones(3)}
    source = folder_of(
        tmp_path / "source",
        arrays | extra,
        "zip",
        architectures=["NeZhaForMaskedLM"],
        embedding_size=128,
    )
    done = convert(source, tmp_path / "target")
    assert (done.model_class, done.missing, done.left_out) == (
        "NezhaForMaskedLM",
        (),
        ("something.else",),
    )
    assert str(done).splitlines()[1] == "left out: something.else"
    assert_same(arrays_in(tmp_path / "target"), arrays)
    with pytest.warns(CheckpointWarning, match=r"left over: nezha\.pooler"):
        model = NezhaForMaskedLM.from_pretrained(tmp_path / "target")
    assert model.config.embedding_size == 128
    with pytest.warns(CheckpointWarning, match=r"left over: cls\.predictions\.bias"):
        bare = NezhaModel.from_pretrained(tmp_path / "target")
    assert np.array_equal(bare.state_dict()["pooler.dense.weight"], arrays[POOLER[0]])


@pytest.mark.parametrize("name", ["it", "./it", "link", "it/../it"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_never_onto_itself(overwrite, name, tmp_path):
    folder = folder_of(tmp_path / "it", SCHEMES["Paddle"](parameters()), "zip")
    (tmp_path / "link").symlink_to("it")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ArgumentError, match=r"DIR: expected another file, found .*command reads"):
        convert(folder, tmp_path / name, overwrite=overwrite)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_another_model_is_replaced_only_if_that_is_wanted(tmp_path):
    expected = parameters()
    source = folder_of(tmp_path / "source", SCHEMES["Paddle"](expected), "zip")
    convert(source, tmp_path / "target")
    other = folder_of(tmp_path / "other", {n: a + 1 for n, a in expected.items()}, "zip")
    assert main(["convert", str(other), str(tmp_path / "target")]) == 2
    with pytest.raises(
        FileError, match=r"target: already holds config.json, model.safetensors; --o"
    ):
        convert(other, tmp_path / "target")
    assert_same(arrays_in(tmp_path / "target"), expected)
    assert main(["convert", str(other), str(tmp_path / "target"), "--overwrite"]) == 0
    assert_same(arrays_in(tmp_path / "target"), {n: a + 1 for n, a in expected.items()})


def test_a_vocabulary_of_another_model_stays(tmp_path):
    source = folder_of(tmp_path / "source", parameters())
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "vocab.txt").write_text("mine")
    for overwrite, message in ((False, "already holds vocab.txt"), (True, "another model's vocab")):
        with pytest.raises(FileError, match=message):
            convert(source, tmp_path / "target", overwrite=overwrite)
    assert os.listdir(tmp_path / "target") == ["vocab.txt"]


@pytest.mark.parametrize("model_class", CLASSES)
def test_every_class_knows_itself(model_class, tmp_path):
    model = model_class(CONFIG, seed=3)
    model.save_pretrained(tmp_path / "a")
    done = convert(tmp_path / "a", tmp_path / "b")
    assert (done.model_class, done.missing, done.left_out) == (model_class.__name__, (), ())
    assert_same(arrays_in(tmp_path / "b"), model.state_dict())
    assert describe_folder(tmp_path / "b").endswith(f"as {model_class.__name__}: complete")
    # without the class in the config, it follows from the heads; multiple choice looks like regression
    inferred = {
        "NezhaForMultipleChoice": "NezhaForSequenceClassification",
    }.get(model_class.__name__, model_class.__name__)
    names = dict.fromkeys(model_class.shapes(CONFIG))
    assert class_of(CONFIG, names).__name__ == inferred
    assert class_of(CONFIG.replace(architectures=["Unknown", 3]), names).__name__ == inferred


def test_refused_and_nothing_written(tmp_path):
    arrays = parameters()
    arrays["bert.embeddings.position_embeddings.weight"] = np.ones((4, 8))
    bert = folder_of(tmp_path / "bert", arrays)
    other = folder_of(tmp_path / "other", parameters(), config=CONFIG.replace(hidden_size=12))
    for source, message in (
        (bert, "BERT's weights, not NEZHA's"),
        (other, r"expected shape \(13, 12\), found \(13, 8\)"),
        (tmp_path / "nowhere", "no such folder"),
    ):
        with pytest.raises(FileError, match=message) as caught:
            convert(source, tmp_path / "target")
        assert str(source) in str(caught.value)
        assert not (tmp_path / "target").exists()
    (other / "config.json").write_text(CONFIG.to_json(), "utf-8")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="expected a folder"):
        convert(other, tmp_path / "file")


def test_a_vocabulary_that_is_damaged_stops_it(tmp_path):
    source = folder_of(tmp_path / "source", parameters())
    (source / "vocab.txt").write_text("一\n二\n")
    with pytest.raises(FileError, match=r"vocab\.txt"):
        convert(source, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_half_precision(tmp_path):
    """Half the size, and each number the nearest float16; the class loads it as float32."""
    arrays = {
        name: np.float32(array) for name, array in NezhaForPreTraining(CONFIG).state_dict().items()
    }
    source = folder_of(tmp_path / "source", arrays)
    convert(source, tmp_path / "half", half=True)
    assert_same(
        arrays_in(tmp_path / "half"), {n: np.float32(np.float16(a)) for n, a in arrays.items()}
    )
    assert NezhaConfig.from_pretrained(tmp_path / "half").torch_dtype == "float16"
    assert NezhaForPreTraining.from_pretrained(tmp_path / "half").dtype == "float32"
    convert(source, tmp_path / "full")
    full, half = (os.path.getsize(tmp_path / f / "model.safetensors") for f in ("full", "half"))
    assert full - half == pytest.approx(2 * sum(a.size for a in arrays.values()), abs=200)
    arrays["nezha.pooler.dense.bias"][1] = 70000
    source = folder_of(tmp_path / "large", arrays)
    for value in ("70000", "nan"):
        arrays["nezha.pooler.dense.bias"][1] = float(value)
        (source / "model.safetensors").write_bytes(to_safetensors(arrays))
        with pytest.raises(
            FileError, match=f"pooler.dense.bias: .*largest of float16, found {value}"
        ):
            convert(source, tmp_path / "refused", half=True)
        assert not (tmp_path / "refused").exists()
    assert main(["convert", str(tmp_path / "full"), str(tmp_path / "again"), "--half"]) == 0
    assert_same(arrays_in(tmp_path / "again"), arrays_in(tmp_path / "half"))


# --- the commands ---------------------------------------------------------------------------------


def test_the_command(tmp_path, capsys):
    source = folder_of(tmp_path / "source", SCHEMES["Paddle"](parameters()), "legacy")
    assert main(["convert", str(source), str(tmp_path / "target")]) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        f"{tmp_path / 'target'}: {len(parameters())} tensors as NezhaForPreTraining"
    )
    assert main(["convert", str(source), str(source / "config.json")]) == 2
    assert capsys.readouterr().err.startswith(f"minizha: error: {source / 'config.json'}: ")


def test_what_is_missing_and_left_over_is_said(tmp_path):
    arrays = parameters()
    arrays["cls.predictions.typo"] = arrays.pop("cls.predictions.bias")
    arrays["cls.seq_relationship.bias"] = np.ones(3)
    source = folder_of(tmp_path / "x", arrays, architectures=["NezhaForPreTraining"])
    lines = describe_folder(source).splitlines()
    assert lines[-4:] == [
        "as NezhaForPreTraining: 3 differences",
        "  missing: cls.predictions.bias",
        "  left over: cls.predictions.typo",
        "  does not fit: cls.seq_relationship.bias: expected shape (2,), found (3,)",
    ]
    assert any(line.split() == ["cls.predictions.typo", "float64", "13"] for line in lines)


def test_another_kind_of_model_is_described_too(tmp_path):
    arrays = {"bert.embeddings.position_embeddings.weight": np.ones((4, 8))}
    source = folder_of(tmp_path / "bert", arrays)
    config = json.loads(CONFIG.to_json()) | {"model_type": "bert"}
    (source / "config.json").write_text(json.dumps(config))
    text = describe_folder(source)
    assert "position_embeddings.weight  float64  4 × 8" in text
    assert text.splitlines()[-1].startswith("can't be loaded: ")
    assert "BERT's weights" in text


def test_the_class_is_found_without_reading(tmp_path):
    def never():
        raise AssertionError("read")

    names = NezhaForTokenClassification.shapes(CONFIG)
    tensors = {name: StoredTensor("float32", shape, never) for name, shape in names.items()}
    assert class_of(NezhaConfig(), tensors) is NezhaForTokenClassification
