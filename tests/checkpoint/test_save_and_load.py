"""Checkpoints: a saved model loads unchanged, and so does one under the names of other exports."""

import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save

from minizha import (
    NezhaConfig,
    NezhaForMaskedLM,
    NezhaForNextSentencePrediction,
    NezhaForPreTraining,
    NezhaModel,
)
from minizha.backend import to_host
from minizha.errors import CheckpointWarning, FileError
from minizha.model.initialisation import initialise
from tests.support.files.safetensors_files import bfloat16, safetensors_of
from tests.support.paths import DATA

RECORDED = DATA / "hf-4.37.2-tiny-pretraining"
CLASSES = (NezhaModel, NezhaForPreTraining, NezhaForMaskedLM, NezhaForNextSentencePrediction)
CONFIG = NezhaConfig(
    vocab_size=13,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=10,
    max_relative_position=3,
    initializer_range=0.3,
    embedding_size=128,
)
IDS = np.array([[2, 5, 7, 11, 3]])
WORDS = "nezha.embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder.weight"


def state(model):
    return {name: to_host(array) for name, array in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def write(folder, arrays, config=CONFIG):
    """Write a folder as another program might."""
    folder.mkdir(exist_ok=True)
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    (folder / "model.safetensors").write_bytes(save(contiguous))
    (folder / "config.json").write_text(config.to_json(), "utf-8")
    return folder


@pytest.fixture
def model(backend):
    """All parameters are different, so that swapped ones are noticed."""
    model = NezhaForPreTraining(CONFIG, dtype="float64", backend=backend)
    rng = np.random.default_rng(5)
    model.load_state_dict({n: rng.standard_normal(a.shape) for n, a in state(model).items()})
    return model


# --- minizha's own ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("model_class", CLASSES)
@pytest.mark.parametrize("tied", [True, False])
def test_saved_and_loaded_is_the_same(model_class, dtype, tied, tmp_path, backend):
    config = CONFIG.replace(tie_word_embeddings=tied)
    model = model_class(config, dtype=dtype, backend=backend, seed=3)
    model.save_pretrained(tmp_path)
    loaded, info = model_class.from_pretrained(tmp_path, backend=backend, output_loading_info=True)
    assert (loaded.dtype, loaded.training, info) == (dtype, False, ((), ()))
    assert same(state(loaded), state(model))
    assert loaded.config.embedding_size == 128
    for a, b in zip(model(IDS).to_tuple(), loaded(IDS).to_tuple(), strict=True):
        assert np.array_equal(to_host(a), to_host(b))


def test_the_file_as_transformers_wants_it(tmp_path):
    NezhaForPreTraining(CONFIG).save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
        assert WORDS in file.keys()  # noqa: SIM118
        assert DECODER not in file.keys()  # noqa: SIM118
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    assert config["architectures"] == ["NezhaForPreTraining"]
    assert (config["model_type"], config["torch_dtype"]) == ("nezha", "float32")


@pytest.mark.parametrize(("stored", "wanted"), [("float32", "float64"), ("float64", "float32")])
def test_another_dtype_on_request(stored, wanted, tmp_path):
    model = NezhaForMaskedLM(CONFIG, dtype=stored)
    model.save_pretrained(tmp_path)
    loaded = NezhaForMaskedLM.from_pretrained(tmp_path, dtype=wanted)
    assert loaded.dtype == wanted
    assert same(state(loaded), {n: a.astype(wanted) for n, a in state(model).items()})


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_half_precision_becomes_float32(stored, tmp_path):
    model = NezhaForPreTraining(CONFIG)
    arrays = state(model)
    if stored == "float16":
        write(tmp_path, {name: array.astype(np.float16) for name, array in arrays.items()})
        expected = {n: a.astype(np.float16).astype(np.float32) for n, a in arrays.items()}
    else:
        upper_halves = {name: bfloat16(array) for name, array in arrays.items()}
        content = safetensors_of(upper_halves, dict.fromkeys(arrays, "BF16"))
        (write(tmp_path, arrays) / "model.safetensors").write_bytes(content)
        expected = {n: (a.view(np.uint32) >> 16 << 16).view(np.float32) for n, a in arrays.items()}
    loaded = NezhaForPreTraining.from_pretrained(tmp_path)
    assert loaded.dtype == "float32"
    assert same(state(loaded), expected)


def test_one_wide_array_makes_a_wide_model(tmp_path, model):
    arrays = {n: a.astype(np.float32) for n, a in state(model).items()}
    write(tmp_path, arrays | {WORDS: arrays[WORDS].astype(np.float64)})
    assert NezhaForPreTraining.from_pretrained(tmp_path).dtype == "float64"


# --- names of other exports ---------------------------------------------------------------------


def older_layer_norm(name):
    name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
    return name.replace("LayerNorm.bias", "LayerNorm.beta")


SPELLINGS = {
    "gamma and beta": older_layer_norm,
    "bert.": lambda name: name.replace("nezha.", "bert."),
    "no prefix": lambda name: name.removeprefix("nezha."),
    "all of it": lambda name: older_layer_norm(name.replace("nezha.", "bert.")),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("model_class", CLASSES)
def test_other_spellings(spelling, model_class, tmp_path, model):
    write(tmp_path, {SPELLINGS[spelling](name): array for name, array in state(model).items()})
    loaded, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert info.missing == ()
    expected = state(model)
    for name, array in state(loaded).items():
        assert np.array_equal(array, expected[name if name in expected else "nezha." + name])


def test_a_spelling_that_nobody_uses_is_left_over(tmp_path, model):
    """The control: names are not guessed."""
    write(tmp_path, {name.replace("nezha.", "electra."): a for name, a in state(model).items()})
    with pytest.warns(CheckpointWarning, match="left over: electra.embeddings"):
        NezhaForPreTraining.from_pretrained(tmp_path)
    with pytest.raises(FileError, match="none of its 45 tensors belongs to a"):
        NezhaModel.from_pretrained(tmp_path)


def test_a_bare_model_into_one_with_heads(tmp_path):
    bare = NezhaModel(CONFIG, seed=1)
    bare.save_pretrained(tmp_path)
    with pytest.warns(CheckpointWarning) as caught:
        loaded = NezhaForPreTraining.from_pretrained(tmp_path, seed=8)
    heads = [name for name in loaded.state_dict() if name.startswith("cls.")]
    (warning,) = caught
    assert str(warning.message) == (
        f"{tmp_path}: NezhaForPreTraining: missing, so initialised at random: " + ", ".join(heads)
    )
    assert warning.filename == __file__
    # the seed determines the missing parameters, and nothing else
    shapes = {name: loaded.state_dict()[name].shape for name in heads}
    expected = initialise(shapes, CONFIG, np.random.default_rng(8), np, "float32")
    expected |= {f"nezha.{name}": array for name, array in state(bare).items()}
    assert same(state(loaded), expected)


def test_one_with_heads_into_a_bare_model(tmp_path, model):
    model.save_pretrained(tmp_path)
    with pytest.warns(CheckpointWarning, match=r"NezhaModel: left over: cls\.predictions\.bias, "):
        loaded = NezhaModel.from_pretrained(tmp_path)
    expected = state(model)
    assert all(np.array_equal(a, expected["nezha." + n]) for n, a in state(loaded).items())
    with pytest.warns(CheckpointWarning, match=r"left over: .*pooler\.dense\.bias"):
        NezhaModel.from_pretrained(tmp_path, add_pooling_layer=False)


def test_loading_info_instead_of_a_warning(tmp_path, model):
    NezhaForMaskedLM(CONFIG).save_pretrained(tmp_path)
    _, info = NezhaForNextSentencePrediction.from_pretrained(tmp_path, output_loading_info=True)
    head = ("cls.seq_relationship.weight", "cls.seq_relationship.bias")
    assert info.missing == ("nezha.pooler.dense.weight", "nezha.pooler.dense.bias", *head)
    assert info.unexpected == tuple(sorted(n for n in state(model) if "predictions" in n))


def test_a_decoder_that_equals_the_embedding(tmp_path, model):
    arrays = state(model)
    copies = {
        DECODER: arrays[WORDS],
        "cls.predictions.decoder.bias": arrays["cls.predictions.bias"],
    }
    write(tmp_path, arrays | copies)
    assert same(state(NezhaForPreTraining.from_pretrained(tmp_path)), arrays)  # and no warning


def test_a_decoder_that_differs_wins_where_it_is_tied(tmp_path, model):
    arrays = state(model)
    write(tmp_path, arrays | {DECODER: arrays[WORDS] + 1.0})
    loaded = NezhaForPreTraining.from_pretrained(tmp_path)
    assert same(state(loaded), arrays | {WORDS: arrays[WORDS] + 1.0})
    # an untied decoder stays as it is
    write(
        tmp_path, arrays | {DECODER: arrays[WORDS] + 1.0}, CONFIG.replace(tie_word_embeddings=False)
    )
    loaded = NezhaForPreTraining.from_pretrained(tmp_path)
    assert same(state(loaded), arrays | {DECODER: arrays[WORDS] + 1.0})


def test_an_untied_decoder_that_is_missing_is_named(tmp_path, model):
    write(tmp_path, state(model), CONFIG.replace(tie_word_embeddings=False))
    with pytest.warns(CheckpointWarning, match=f"missing, so initialised at random: {DECODER}$"):
        NezhaForPreTraining.from_pretrained(tmp_path)


def test_buffers_are_passed_over(tmp_path, model):
    table = "attention.self.relative_positions_encoding.positions_encoding"
    buffers = {f"nezha.encoder.layer.{i}.{table}": np.ones((4, 4, 4)) for i in range(2)}
    buffers["nezha.embeddings.position_ids"] = np.arange(512)[None]
    write(tmp_path, state(model) | buffers)
    assert same(state(NezhaForPreTraining.from_pretrained(tmp_path)), state(model))


# --- what Transformers saved --------------------------------------------------------------------


def test_what_transformers_saved_gives_the_same_answers(backend, tmp_path):
    """In float32: Transformers' float32 table is up to 5e-6 away from the exact one."""
    expected = load_file(RECORDED / "expected.safetensors")
    inputs = {name: expected.pop(name) for name in ("input_ids", "attention_mask")}
    model = NezhaForPreTraining.from_pretrained(RECORDED, backend=backend)  # no warning
    for loaded in (model, saved_and_loaded(model, tmp_path)):
        out = loaded(**inputs, output_hidden_states=True)
        found = {name: out[name] for name in ("prediction_logits", "seq_relationship_logits")}
        found |= {f"hidden_states.{i}": array for i, array in enumerate(out.hidden_states)}
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert np.abs(to_host(found[name]) - array).max() < 2e-5, name
    # negative control: a table of twice the size is noticed
    model.table = model.table * 2.0
    assert (
        np.abs(to_host(model(**inputs).prediction_logits) - expected["prediction_logits"]).max()
        > 1e-3
    )


def saved_and_loaded(model, folder):
    model.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["transformers_version"] == "4.37.2"  # an unknown key stays
    return type(model).from_pretrained(folder, backend=model.backend)
