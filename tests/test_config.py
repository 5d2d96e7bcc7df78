"""NezhaConfig: every field is checked, every fault is named, unknown keys are stored."""

import copy
import json
import pickle
import re
from dataclasses import FrozenInstanceError, fields

import numpy as np
import pytest

from minizha import NezhaConfig, NezhaModel
from minizha.errors import ArgumentError, FileError, MinizhaError

NAN, INF = float("nan"), float("inf")
COUNTS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "num_labels",
)
FROM_ZERO = ("max_relative_position", "chunk_size_feed_forward")
IDS = ("pad_token_id", "eos_token_id")  # −1: there is none
MINUS = -1
DROPOUTS = ("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout")
FLAGS = (
    "use_cache",
    "is_decoder",
    "add_cross_attention",
    "tie_word_embeddings",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
)
NO_NUMBER = ("1", True, [1], {}, NAN, INF, -INF, MINUS, np.array([1, 2]), 10**30)
NO_INTEGER = (*NO_NUMBER, 1.0, 2.5, np.float64(3))
BAD = {
    **dict.fromkeys(COUNTS, (*NO_INTEGER, 0, None)),
    **dict.fromkeys(FROM_ZERO, (*NO_INTEGER, None)),
    "bos_token_id": NO_INTEGER,
    **dict.fromkeys(IDS, tuple(-2 if value is MINUS else value for value in NO_INTEGER)),
    **dict.fromkeys(DROPOUTS[:2], (*NO_NUMBER, 1, 1.5, None)),
    "classifier_dropout": (*NO_NUMBER, 1, 1.5),
    "initializer_range": ("1", True, [1], NAN, INF, -1, None),
    "layer_norm_eps": ("1", True, [1], NAN, INF, -1, 0, 0.0, None),
    "hidden_act": ("GELU", "mish", "", None, 1, True, np.tanh, ["gelu"]),
    "problem_type": ("classification", "", 1, True, ["regression"]),
    **dict.fromkeys(FLAGS, (0, 1, "true", None, 1.0, [])),
    "pruned_heads": (None, [], 1, "x"),
    "id2label": ([], 1, "x", {}, {"a": "b"}, {"0": "a", "00": "b"}),
    "label2id": ([], 1, "x"),
}
CASES = [(name, value) for name, values in BAD.items() for value in values]


def test_the_cases_cover_every_field():
    assert BAD.keys() == {f.name for f in fields(NezhaConfig)} - {"extra"}


@pytest.mark.parametrize(("name", "value"), CASES, ids=lambda x: repr(x)[:40])
def test_bad_values(name, value):
    with pytest.raises(
        ArgumentError, match=rf"^NezhaConfig: {name}: expected .*, found "
    ) as caught:
        NezhaConfig(**{name: value})
    assert isinstance(caught.value, MinizhaError)
    assert isinstance(caught.value, ValueError)
    assert ";" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"hidden_size": 10, "num_attention_heads": 3},
            "hidden_size: expected a multiple of num_attention_heads = 3, found 10",
        ),
        (
            {"hidden_size": 9, "num_attention_heads": 3},
            "hidden_size / num_attention_heads: expected an even head size .*, found 3",
        ),
        ({"vocab_size": 5, "pad_token_id": 5}, "pad_token_id: expected less than vocab_size = 5"),
        ({"add_cross_attention": True}, "is_decoder: expected True where add_cross"),
        (
            {"num_labels": 2, "id2label": {0: "a"}},
            "num_labels: expected 1, the number of .*, found 2",
        ),
        ({"model_type": "bert"}, "model_type: expected 'nezha', found 'bert'"),
        ({"model_type": ["nezha"]}, "model_type: expected 'nezha', found \\['nezha'\\]"),
        ({"id2label": {1: "a", 2: "b"}}, "id2label: expected a label for each of 0, 1, 2"),
        ({"id2label": {False: "a"}}, "id2label: expected a label for each of 0, 1, 2"),
        ({"id2label": {float("inf"): "a"}}, "id2label: expected a label for each of 0, 1, 2"),
        (
            {"id2label": dict.fromkeys(range(40_000), "a")},
            "id2label: number of labels: expected",
        ),
    ],
)
def test_values_that_do_not_go_together(values, message):
    with pytest.raises(ArgumentError, match=f"^NezhaConfig: {message}"):
        NezhaConfig(**values)


def test_all_faults_are_reported_at_once():
    with pytest.raises(ArgumentError) as caught:
        NezhaConfig(vocab_size=-1, hidden_size=2.5, hidden_act="GELU", layer_norm_eps=NAN)
    first, *others = str(caught.value).split("; ")
    assert first == "NezhaConfig: vocab_size: expected an integer in [1, 2147483647], found -1"
    assert [text.split(":")[0] for text in others] == [
        "hidden_size",
        "hidden_act",
        "layer_norm_eps",
    ]
    with pytest.raises(ArgumentError, match=r"hidden_size: .*; pad_token_id: "):
        NezhaConfig(hidden_size=10, num_attention_heads=3, pad_token_id=99999)


@pytest.mark.parametrize(
    ("name", "value", "stored"),
    [
        ("vocab_size", np.int64(50), 50),
        ("hidden_dropout_prob", 0, 0.0),
        ("layer_norm_eps", np.float32(0.5), 0.5),
        ("initializer_range", 0, 0.0),
        ("max_relative_position", 0, 0),
        ("classifier_dropout", None, None),
        ("pad_token_id", None, None),
        ("pad_token_id", -1, -1),
        ("eos_token_id", np.int64(-1), -1),
        ("hidden_act", "gelu_new", "gelu_new"),
        ("problem_type", "regression", "regression"),
        ("id2label", {"0": "no", "1": "yes"}, {0: "no", 1: "yes"}),
    ],
)
def test_good_values(name, value, stored):
    found = getattr(NezhaConfig(**{name: value}), name)
    assert found == stored
    assert type(found) is type(stored)


def test_names_of_labels_and_their_number_follow_from_each_other():
    assert NezhaConfig(num_labels=3).id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    config = NezhaConfig(id2label={0: "a", 1: "b", 2: "c"})
    assert (config.num_labels, config.label2id) == (3, {"a": 0, "b": 1, "c": 2})
    assert config.replace(num_labels=2).id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert config.replace(id2label={0: "x"}).num_labels == 1
    assert config.replace(vocab_size=30).id2label == config.id2label


def test_unknown_keys_are_kept(tmp_path):
    """Also those with the name of a method, or of the dictionary that stores them."""
    unknown = {"embedding_size": 128, "use_relative_position": True, "extra": 1, "replace": [None]}
    config = NezhaConfig.from_dict(unknown)
    assert config.embedding_size == 128
    assert config.extra == unknown
    assert {name: config.to_dict()[name] for name in unknown} == unknown
    (tmp_path / "config.json").write_text(config.to_json(), "utf-8")
    assert NezhaConfig.from_pretrained(tmp_path) == config
    with pytest.raises(AttributeError, match="no key 'inner_group_num'"):
        _ = config.inner_group_num
    with pytest.raises(TypeError):
        NezhaConfig(21128)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("num_atention_heads", "num_attention_heads"),
        ("hiden_size", "hidden_size"),
        ("n_layer", None),
        ("hidden_dropout", "hidden_dropout_prob"),
        ("max_relative_positions", "max_relative_position"),
        ("inner_group_num", None),
    ],
)
def test_an_unknown_keyword_is_named_and_kept(name, near):
    message = f"NezhaConfig: '{name}' is no field and changes nothing; it is kept"
    message += f"; did you mean '{near}'?$" if near else ""
    with pytest.warns(UserWarning, match=message.replace("?", "[?]")):
        config = NezhaConfig(**{name: 8})
    with pytest.warns(UserWarning, match=message.replace("?", "[?]")):
        assert NezhaConfig().replace(**{name: 8}) == config
    assert config.extra == {name: 8}


def test_keys_of_files_and_of_others_are_kept_without_a_word():
    """The control: warnings are errors in this suite."""
    others = {"torchscript": True, "pooler_type": "x", "use_relative_position": True}
    assert NezhaConfig(**others).replace(output_scores=True).extra == others | {
        "output_scores": True
    }
    config = NezhaConfig.from_dict({"hiden_size": 8})
    assert config.extra == {"hiden_size": 8}
    assert config.replace(vocab_size=30, hiden_size=9).extra == {"hiden_size": 9}


def test_the_model_type_is_an_attribute_of_class_and_config():
    assert NezhaConfig.model_type == NezhaConfig().model_type == "nezha"
    assert NezhaConfig(model_type="nezha") == NezhaConfig()
    assert NezhaConfig().to_dict()["model_type"] == "nezha"


def test_a_config_does_not_change():
    config = NezhaConfig(embedding_size=1)
    with pytest.raises(FrozenInstanceError):
        config.vocab_size = 1
    for other in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert other == config
        assert hash(other) == hash(config)
    assert config.replace(embedding_size=2) != config
    with pytest.raises(ArgumentError, match="expected a multiple"):
        config.replace(hidden_size=7)


@pytest.mark.parametrize("values", [None, [], [("vocab_size", 1)], "x", {1: 2}, {None: 1}])
def test_no_mapping_of_names(values):
    with pytest.raises(ArgumentError, match="NezhaConfig: expected a mapping with names as keys"):
        NezhaConfig.from_dict(values)


@pytest.mark.parametrize("value", [object(), NAN, b"x", {1, 2}])
def test_a_value_that_json_does_not_have(value):
    with pytest.raises(ArgumentError, match="NezhaConfig: a value can't be written as JSON"):
        NezhaConfig(embedding_size=value).to_json()


# what Transformers 4.37.2 writes: values that differ from its defaults, and a few others
WRITTEN_BY_TRANSFORMERS = """{
  "_name_or_path": "somewhere", "architectures": ["NeZhaForMaskedLM"],
  "attention_probs_dropout_prob": 0.1, "bos_token_id": 2, "classifier_dropout": 0.1,
  "embedding_size": 128, "eos_token_id": 3, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
  "hidden_size": 16, "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"},
  "initializer_range": 0.02, "intermediate_size": 27, "label2id": {"LABEL_0": 0, "LABEL_1": 1,
  "LABEL_2": 2}, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
  "max_relative_position": 64, "model_type": "nezha", "num_attention_heads": 2,
  "num_hidden_layers": 2, "pad_token_id": 0, "torch_dtype": "float32",
  "transformers_version": "4.37.2", "type_vocab_size": 2, "use_cache": true,
  "use_relative_position": true, "vocab_size": 37 }"""


def test_the_config_of_transformers(tmp_path):
    (tmp_path / "config.json").write_text(WRITTEN_BY_TRANSFORMERS, "utf-8")
    config = NezhaConfig.from_pretrained(tmp_path)
    written = json.loads(WRITTEN_BY_TRANSFORMERS)
    assert (config.hidden_size, config.num_labels, config.head_size) == (16, 3, 8)
    assert config.tie_word_embeddings is True
    found = json.loads(config.to_json())
    assert {name: found[name] for name in written} == written
    assert NezhaModel(config).num_parameters() > 0


FILES = {
    "empty": ("", "not valid JSON"),
    "truncated": (WRITTEN_BY_TRANSFORMERS[:100], "not valid JSON"),
    "a list": ("[]", "expected a JSON object, found list"),
    "null": ("null", "expected a JSON object, found NoneType"),
    "a byte-order mark": ("\ufeff{}", "not valid JSON"),
    "a key twice": ('{"a": 1, "b": {}, "a": 2}', "the key 'a' appears 2 times"),
    "a key twice inside": ('{"a": {"x": 1, "x": 1}}', "the key 'x' appears 2 times"),
    "deep": (
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        "not valid JSON: expected at most 200 levels",
    ),
    "201 levels": ('{"a":' * 201 + "1" + "}" * 201, "not valid JSON: expected at most 200 levels"),
    "NaN": ('{"layer_norm_eps": NaN}', "layer_norm_eps: expected a finite number above 0"),
    "1e999": ('{"initializer_range": 1e999}', "initializer_range: expected .*, found inf"),
    "768.0": ('{"hidden_size": 768.0}', r"hidden_size: expected .*, found 768\.0"),
    "true": ('{"hidden_size": true}', "hidden_size: expected .*, found True"),
    "5000 digits": (
        '{"hidden_size": ' + "7" * 5000 + "}",
        "not valid JSON: an integer of more than 4,300 digits",
    ),
    "many labels": ('{"num_labels": 1000000000}', "num_labels: expected .*, found 1000000000"),
    "many layers": ('{"num_hidden_layers": 1000000}', "num_hidden_layers: expected an integer in"),
    "another model": ('{"model_type": "bert"}', "model_type: expected 'nezha', found 'bert'"),
    "no name for a type": ('{"model_type": ["nezha"]}', "model_type: expected 'nezha'"),
}


@pytest.mark.parametrize("fault", FILES)
def test_bad_files(fault, tmp_path):
    text, message = FILES[fault]
    path = tmp_path / "config.json"
    path.write_text(text, "utf-8")
    with pytest.raises(FileError, match="^" + re.escape(f"{path}: ") + f".*{message}"):
        NezhaConfig.from_pretrained(tmp_path)


def test_200_levels_can_be_read_copied_and_written_again(tmp_path):
    text = '{"a":' + "[" * 199 + "]" * 199 + "}"
    (tmp_path / "config.json").write_text(text, "utf-8")
    config = NezhaConfig.from_pretrained(tmp_path)
    assert json.dumps({"a": config.extra["a"]}, separators=(",", ":")) == text
    for other in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert other == config
        assert other.to_json() == config.to_json()


def test_many_keys_are_read_in_a_moment(tmp_path):
    keys = {f"key{i}": i for i in range(50_000)}
    (tmp_path / "config.json").write_text(json.dumps(keys), "utf-8")
    assert NezhaConfig.from_pretrained(tmp_path).extra == keys


# --- under the names of Transformers --------------------------------------------------------------


@pytest.mark.parametrize("use_diff", [True, False])
def test_json_texts_and_files(use_diff, tmp_path):
    config = NezhaConfig(hidden_size=24, num_labels=3, eos_token_id=-1, embedding_size=128)
    text, path = config.to_json_string(use_diff), tmp_path / "any.json"
    assert NezhaConfig.from_dict(json.loads(text)) == config
    config.to_json_file(path, use_diff)
    assert path.read_text(encoding="utf-8") == text
    assert NezhaConfig.from_json_file(path) == config
    # the defaults are left out; unknown keys and the type of the model are not
    assert ("num_hidden_layers" in json.loads(text)) is not use_diff
    assert {"hidden_size", "num_labels", "embedding_size", "model_type"} <= json.loads(text).keys()
    with pytest.raises(FileError, match="nowhere"):
        config.to_json_file(tmp_path / "nowhere" / "any.json")
    path.write_text('{"hidden_size": 7}', encoding="utf-8")
    with pytest.raises(
        FileError, match=r"any\.json: NezhaConfig: hidden_size: expected a multiple"
    ):
        NezhaConfig.from_json_file(path)
    with pytest.raises(ArgumentError, match="use_diff: expected True or False"):
        config.to_json_string(use_diff=1)


def test_a_config_is_saved_and_read_again(tmp_path):
    config = NezhaConfig(hidden_size=24, pad_token_id=-1)
    config.save_pretrained(tmp_path / "new" / "folder")
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == ["config.json"]
    assert NezhaConfig.from_pretrained(tmp_path / "new" / "folder") == config
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="file"):
        config.save_pretrained(tmp_path / "file")


def test_minus_1_is_no_row():
    """In Python −1 is the last row of a table; as a padding token it is none."""
    rows = {None: None, -1: None, 0: 0, 7: 7}
    assert {pad: NezhaConfig(pad_token_id=pad).padding_row for pad in rows} == rows
