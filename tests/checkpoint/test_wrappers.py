"""What trainers put around a model: their names and dictionaries are removed, or named in the error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minizha import NezhaForPreTraining
from minizha.checkpoint.names import canonical_names
from minizha.checkpoint.torch_file import stored_torch
from minizha.checkpoint.wrappers import explain_names, find_model, without_wrappers
from minizha.convert import convert
from minizha.errors import ArgumentError, CheckpointWarning, FileError
from tests.support.files.torch_files import entry, pickled, zip_file, zip_of
from tests.support.port_names import CONFIG, WORDS, bare_paddle, parameters, pytorch

PARTS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
OUTER = ("module", "model", "_orig_mod", "_fsdp_wrapped_module", "net", "base_model")


def check(spelled):
    """Every parameter is found, under its own name."""
    p = parameters()
    found = canonical_names(spelled, p)
    assert found.keys() == p.keys()
    assert all(np.array_equal(found[name], array) for name, array in p.items())


@given(st.lists(st.sampled_from(OUTER), max_size=4), st.data())
def test_any_nesting(outer, data):
    prefix = "".join(f"{part}." for part in outer)
    inner = data.draw(st.sampled_from(("", *PARTS)))
    names = pytorch(parameters())
    if inner:
        names = {n.replace(".layer.", f".{inner}.layer."): a for n, a in names.items()}
        names = {n.replace(".attention.", f".attention.{inner}."): a for n, a in names.items()}
    check({prefix + name: array for name, array in names.items()})


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: "model." + name.replace("nezha.", "bert."),
        lambda name: "model.module." + name.removeprefix("nezha."),
        lambda name: name.replace("nezha.", "encoder."),
        lambda name: "0.auto_model." + name.removeprefix("nezha."),
        lambda name: "bert." + name,
        lambda name: "_forward_module.model." + name,
    ],
)
def test_wrappers_seen_in_published_files(rename):
    check({rename(name): array for name, array in parameters().items()})


def test_a_wrapped_model_of_paddle():
    bare = canonical_names(bare_paddle(parameters()), parameters())
    wrapped = {f"_layers.{name}": array for name, array in bare_paddle(parameters()).items()}
    found = canonical_names(wrapped, parameters())
    assert found.keys() == bare.keys()
    assert all(np.array_equal(found[name], array) for name, array in bare.items())


@pytest.mark.parametrize(
    "name",
    [
        "model.lm_head.weight",
        "student.nezha.pooler.dense.bias",
        "module.position_embeddings",
        "encoder.weight",
        "model.decoder.layer.0.output.dense.bias",
        "model",
        "",
        "model..",
        "_orig_mod.x",
    ],
)
def test_a_name_that_is_not_nezha_s_stays(name):
    """The control."""
    assert without_wrappers(name) == name


def test_two_wrappers_of_one_parameter_are_refused():
    with pytest.raises(
        ArgumentError, match=r"model\.nezha\..* and module\.nezha\..* are both nezha\."
    ):
        canonical_names({f"{p}.{WORDS}": 0 for p in ("model", "module")}, {WORDS})


# --- errors ---------------------------------------------------------------------------------------


def folder_of(path, arrays):
    NezhaForPreTraining(CONFIG).save_pretrained(path)
    (path / "model.safetensors").unlink()
    (path / "pytorch_model.bin").write_bytes(zip_of(arrays))
    return path


MESSAGES = {
    "a prefix": (
        ["my.net.nezha.encoder.layer.0.output.dense.bias", "my.net." + WORDS],
        r"my\.net\.nezha\.encoder\..* has the prefix my\.net\. before a name of NEZHA: if these are",
    ),
    "two models": (
        ["student." + WORDS, "teacher." + WORDS],
        r"student\..* has the prefix student\. before .* \(and others have teacher\.\)",
    ),
    "an adapter": (
        ["base_model.model.nezha.encoder.layer.0.attention.self.query.lora_A.weight"],
        "lora_A.weight is a part of a LoRA adapter: merge the adapter into its model",
    ),
    "flattened": (
        ["_fsdp_wrapped_module.nezha.encoder._flat_param"],
        "is flattened by FSDP: save the full state dict instead",
    ),
    "another model": (
        ["transformer.wte.weight"],
        f"the first is called transformer.wte.weight, expected names such as {WORDS}",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_the_error_says_what_would_help(name, tmp_path):
    names, message = MESSAGES[name]
    folder = folder_of(tmp_path, {name: np.ones((2, 8), np.float32) for name in names})
    for read in (NezhaForPreTraining.from_pretrained, lambda f: convert(f, tmp_path / "new")):
        with pytest.raises(FileError, match=f"none of its {len(names)} tensors .*{message}"):
            read(folder)
    assert not (tmp_path / "new").exists()


def test_an_empty_file_is_called_empty():
    assert explain_names([]) == "it is empty"


def test_heads_alone_are_loaded_with_a_warning_and_never_converted(tmp_path):
    heads = {n: a.astype(np.float32) for n, a in parameters().items() if n.startswith("cls.")}
    folder = folder_of(tmp_path, heads)
    with pytest.warns(
        CheckpointWarning, match="the whole encoder is random: the first is called cls"
    ):
        NezhaForPreTraining.from_pretrained(folder)
    with pytest.raises(FileError, match="belongs to the encoder of a NezhaForPreTraining"):
        convert(folder, tmp_path / "new")


@pytest.mark.parametrize(
    "lacking", ["nezha.encoder.layer.0.output.dense.bias", "nezha.embeddings.LayerNorm.weight"]
)
def test_a_model_without_a_part_of_its_encoder_is_not_converted(lacking, tmp_path):
    arrays = {n: a.astype(np.float32) for n, a in parameters().items()}
    del arrays[lacking]
    folder = folder_of(tmp_path, arrays)
    message = f"expected the complete encoder of a NezhaForPreTraining, found no {lacking}$"
    with pytest.raises(FileError, match=message):
        convert(folder, tmp_path / "new")
    assert not (tmp_path / "new").exists()


# --- dictionaries ---------------------------------------------------------------------------------


MODEL, OTHER = {"embeddings.word_embeddings.weight": 1}, {"embeddings.word_embeddings.weight": 2}
FOUND = {
    "alone": (MODEL, [()]),
    "Lightning": (
        {"epoch": 1.0, "state_dict": MODEL, "callbacks": {"a": {"score": 5}}},
        [("state_dict",)],
    ),
    "a score beside": ({"best": 3, "model": MODEL}, [("model",)]),
    "an optimizer": (
        {"optimizer_state_dict": {"state": {0: {"m": 1}}}, "model_state_dict": MODEL},
        [("model_state_dict",)],
    ),
    "an average": ({"ema": OTHER, "model": MODEL}, [("model",)]),
    "two known keys": ({"module": OTHER, "state_dict": MODEL}, [("state_dict",)]),
    "deep": (
        {"checkpoint": {"model": {"state_dict": MODEL}}},
        [("checkpoint", "model", "state_dict")],
    ),
    "an unknown key": ({"mine": MODEL, "x": {"y": 3}}, [("mine",)]),
    "two unknown keys": ({"student": MODEL, "teacher": OTHER}, [("student",), ("teacher",)]),
    "heads alone": ({"state_dict": {"cls.predictions.bias": 1}}, [("state_dict",)]),
    "no model": ({"other": {"a": 1}, "state": {0: {"exp_avg": 1}}}, []),
    "too deep": ({"a": {"b": {"c": {"d": {"e": MODEL}}}}}, []),
    "numbers as names": ({0: 1, "model": {1: 2}}, []),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_dictionary_that_is_the_model(name):
    value, keys = FOUND[name]
    assert [found.keys for found in find_model(value, int)] == keys


def test_a_dictionary_in_itself_ends():
    value = {"model": {}}
    value["model"]["model"] = value
    assert find_model(value, int) == []


def test_dictionaries_in_a_file(tmp_path):
    array = np.arange(6, dtype=np.float32)
    storages = {key: array.tobytes() for key in "01"}
    inner = [{"embeddings.word_embeddings.weight": entry(key, array)} for key in "01"]
    path = tmp_path / "f"
    path.write_bytes(
        zip_file(pickled({"net": {"state_dict": inner[0]}, "ema": inner[1]}), storages)
    )
    assert np.array_equal(stored_torch(path)["embeddings.word_embeddings.weight"].read(), array)
    path.write_bytes(zip_file(pickled({"a": inner[0], "b": {"c": inner[1]}}), storages))
    message = "expected one model, found 2, under the keys a and b.c: save one of them alone"
    with pytest.raises(FileError, match=message):
        stored_torch(path)
