"""Folders saved and loaded by Transformers, if a version with Nezha is installed.

``pip install -e ".[test,peers]"`` installs it.
"""

import json

import numpy as np
import pytest

import minizha
from minizha import NezhaConfig, NezhaTokenizer, fill_mask
from minizha.convert import convert
from minizha.ops.relative_position import relative_table
from minizha.text.vocabulary import SPECIAL_TOKENS

torch = pytest.importorskip("torch", reason="the peers extra is not installed")
transformers = pytest.importorskip("transformers", reason="the peers extra is not installed")
if not hasattr(transformers, "NezhaModel"):
    pytest.skip("this Transformers has no Nezha (5 dropped it)", allow_module_level=True)

SIZES = {
    "vocab_size": 29,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_relative_position": 4,
    "max_position_embeddings": 16,
    "initializer_range": 0.3,
}
CLASSES = (
    "NezhaModel",
    "NezhaForPreTraining",
    "NezhaForMaskedLM",
    "NezhaForNextSentencePrediction",
    "NezhaForSequenceClassification",
    "NezhaForTokenClassification",
    "NezhaForQuestionAnswering",
)
CONFIGS = {
    "plain": {},
    "untied": {"tie_word_embeddings": False},
    "pruned": {"pruned_heads": {0: [1], 1: [0, 2]}},
    "decoder": {"is_decoder": True, "add_cross_attention": True},
}
B, L = 3, 11


def with_the_float64_table(model):
    """Replace the table that Transformers computes in float32, up to 5e-6 away from the exact one."""
    table = torch.from_numpy(relative_table(SIZES["max_relative_position"], 8, np, "float64"))
    positions = torch.arange(SIZES["max_position_embeddings"])
    K = SIZES["max_relative_position"]
    relations = (positions[None, :] - positions[:, None]).clamp(-K, K) + K
    for name, buffer in model.named_buffers():
        if name.endswith("positions_encoding"):
            buffer.data = table[relations]
    return model.double().eval()


def difference(ours, theirs):
    rng = np.random.default_rng(1)
    ids = rng.integers(1, SIZES["vocab_size"], (B, L))
    mask = (np.arange(L) < np.array([[L], [L - 3], [4]])).astype(np.int64)
    types = rng.integers(0, 2, (B, L))
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    with torch.no_grad():
        expected = theirs(**{name: torch.from_numpy(a) for name, a in inputs.items()})
    found = ours(**inputs)
    fields = [n for n in expected.keys() if n != "past_key_values"]  # noqa: SIM118
    assert set(fields) <= set(found.keys())
    return max(np.abs(found[n] - expected[n].numpy()).max() for n in fields)


@pytest.mark.parametrize("config_name", CONFIGS)
@pytest.mark.parametrize("name", CLASSES)
def test_what_they_save_loads_here(name, config_name, tmp_path):
    torch.manual_seed(0)
    config = transformers.NezhaConfig(**SIZES, **CONFIGS[config_name])
    theirs = with_the_float64_table(getattr(transformers, name)(config))
    theirs.save_pretrained(tmp_path)
    ours, info = getattr(minizha, name).from_pretrained(tmp_path, output_loading_info=True)
    assert info == ((), ())
    assert ours.dtype == "float64"
    assert sum(p.numel() for p in theirs.parameters()) == ours.num_parameters()
    assert difference(ours, theirs) <= 1e-11
    ours.table = np.roll(ours.table, 1, axis=0)  # negative control
    assert difference(ours, theirs) > 1e-4


@pytest.mark.parametrize("layout", ["one bin", "bin in shards", "safetensors in shards"])
@pytest.mark.parametrize("name", CLASSES)
def test_what_they_save_in_other_layouts_is_converted_for_both(name, layout, tmp_path):
    torch.manual_seed(0)
    theirs = getattr(transformers, name)(transformers.NezhaConfig(**SIZES))
    size = "10GB" if layout == "one bin" else "20KB"
    theirs.save_pretrained(
        tmp_path / "theirs", safe_serialization="bin" not in layout, max_shard_size=size
    )
    files = [path.name for path in (tmp_path / "theirs").iterdir()]
    assert any(f.endswith(".index.json") for f in files) == ("shards" in layout)
    assert "model.safetensors" not in files
    done = convert(tmp_path / "theirs", tmp_path / "converted")
    assert (done.model_class, done.missing, done.left_out) == (name, (), ())
    theirs = with_the_float64_table(theirs)  # of the same float32 parameters
    for folder in ("theirs", "converted"):
        ours = getattr(minizha, name).from_pretrained(tmp_path / folder).astype("float64")
        assert difference(ours, theirs) <= 1e-11
    again, info = getattr(transformers, name).from_pretrained(
        tmp_path / "converted", output_loading_info=True
    )
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert difference(ours, with_the_float64_table(again)) <= 1e-11


@pytest.mark.parametrize("config_name", CONFIGS)
@pytest.mark.parametrize("name", CLASSES)
def test_what_we_save_loads_there(name, config_name, tmp_path):
    config = NezhaConfig(**SIZES, **CONFIGS[config_name], embedding_size=128)
    ours = getattr(minizha, name)(config, seed=4)
    ours.save_pretrained(tmp_path)
    theirs, info = getattr(transformers, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert theirs.config.embedding_size == 128
    assert difference(ours.astype("float64"), with_the_float64_table(theirs)) <= 1e-11


def test_a_pipeline_of_theirs_guesses_what_we_guess(tmp_path):
    tokenizer = NezhaTokenizer([*SPECIAL_TOKENS, *"曹操引兵来攻玄德大惊军马将"])
    config = NezhaConfig(**SIZES | {"vocab_size": len(tokenizer)})
    ours = minizha.NezhaForMaskedLM(config, seed=4)
    ours.save_pretrained(tmp_path, tokenizer=tokenizer)
    pipeline = transformers.FillMaskPipeline(
        model=transformers.NezhaForMaskedLM.from_pretrained(tmp_path),
        tokenizer=transformers.BertTokenizerFast.from_pretrained(tmp_path),
        top_k=4,
    )
    (expected,) = fill_mask(ours, tokenizer, "曹操引[MASK]来攻", top_k=4)
    found = pipeline("曹操引[MASK]来攻")
    assert [guess["token_str"] for guess in found] == [guess.token for guess in expected]
    probabilities = [guess.probability for guess in expected]
    np.testing.assert_allclose([guess["score"] for guess in found], probabilities, rtol=1e-4)
    assert probabilities[0] > 1.1 * probabilities[3]  # so that another order would show


def test_a_bare_model_of_theirs_into_one_with_heads(tmp_path):
    torch.manual_seed(0)
    bare = with_the_float64_table(transformers.NezhaModel(transformers.NezhaConfig(**SIZES)))
    bare.save_pretrained(tmp_path)
    with pytest.warns(minizha.errors.CheckpointWarning, match=r"missing.*: cls\.predictions\.bias"):
        headed = minizha.NezhaForMaskedLM.from_pretrained(tmp_path)
    again = minizha.NezhaModel.from_pretrained(tmp_path)
    assert difference(again, bare) <= 1e-11
    words = "embeddings.word_embeddings.weight"
    assert np.array_equal(headed.state_dict()["nezha." + words], again.state_dict()[words])


def test_both_write_the_same_configuration(tmp_path):
    """Transformers leaves default values out; minizha reads and writes the others unchanged."""
    transformers.NezhaConfig(**SIZES, num_labels=3, classifier_dropout=0.3).save_pretrained(
        tmp_path
    )
    theirs = json.loads((tmp_path / "config.json").read_text("utf-8"))
    ours = json.loads(NezhaConfig.from_pretrained(tmp_path).to_json())
    assert {name: ours[name] for name in theirs} == theirs
    (tmp_path / "config.json").write_text(NezhaConfig(**SIZES).to_json(), "utf-8")
    read = transformers.NezhaConfig.from_pretrained(tmp_path)
    written = json.loads(NezhaConfig(**SIZES).to_json())
    for name, value in written.items():
        if name != "id2label":  # integers there, text in JSON
            assert getattr(read, name) == value, name
