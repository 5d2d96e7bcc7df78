"""Options beside the folder: values of the configuration, another configuration, others."""

import json

import pytest

from minizha.errors import ArgumentError
from tests.support.assertions import assert_equal
from tests.support.eight_models import (
    configuration,
    fresh,
    inputs_of,
    load,
    parameters_of,
    perturbed,
)
from tests.support.running import forward

CLASSIFIERS = ("NezhaForSequenceClassification", "NezhaForTokenClassification")


def test_values_of_the_configuration(class_name, backend, tmp_path):
    perturbed(class_name, backend).save_pretrained(tmp_path)
    changes = {
        "hidden_dropout_prob": 0.5,
        "output_attentions": True,
        "output_hidden_states": True,
        "return_dict": False,
        "problem_type": "multi_label_classification",
        "hidden_act": "relu",
        "max_relative_position": 1,
        "chunk_size_feed_forward": 2,
        "layer_norm_eps": 1e-5,
    }
    loaded = load(class_name, tmp_path, backend, **changes)
    assert {name: getattr(loaded.config, name) for name in changes} == changes
    assert loaded.table.shape == (3, 4)
    found = loaded(**inputs_of(class_name))
    assert type(found) is tuple
    assert [type(field) is tuple for field in found[-2:]] == [True, True]
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["hidden_act"] == "gelu", "the folder is not changed"


@pytest.mark.parametrize("class_name", CLASSIFIERS)
def test_labels_and_their_names(class_name, backend, tmp_path):
    """num_labels follows from id2label; either is enough."""
    perturbed(class_name, backend).save_pretrained(tmp_path)
    names = {0: "人", 1: "地名", 2: "O"}
    options = {"ignore_mismatched_sizes": True, "output_loading_info": True}
    loaded, _ = load(class_name, tmp_path, backend, id2label=names, **options)
    assert loaded.config.num_labels == 3
    assert loaded.config.id2label == names
    assert loaded.config.label2id == {"人": 0, "地名": 1, "O": 2}
    assert loaded.state_dict()["classifier.weight"].shape == (3, 12)
    loaded, _ = load(class_name, tmp_path, backend, num_labels=2, **options)
    assert loaded.config.id2label == {0: "LABEL_0", 1: "LABEL_1"}
    with pytest.raises(ArgumentError, match=r"num_labels: expected 3, the number of .*, found 4"):
        load(class_name, tmp_path, backend, num_labels=4, id2label=names, **options)


def test_the_names_of_labels_come_back_as_they_were(class_name, backend, tmp_path):
    """JSON has strings for keys, the configuration integers; with twelve labels "10" would come
    before "2"."""
    count = 2 if class_name == "NezhaForQuestionAnswering" else 12  # start and end
    names = {i: f"类{i}" for i in range(count)}
    model = perturbed(class_name, backend, id2label=names, num_labels=count)
    model.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert stored["id2label"] == {str(i): name for i, name in names.items()}
    assert stored["label2id"] == {name: i for i, name in names.items()}
    config = load(class_name, tmp_path, backend).config
    assert config.id2label == names
    assert config.label2id == {name: i for i, name in names.items()}
    assert [*config.id2label] == [*range(count)]
    assert config.num_labels == count


def test_a_configuration_in_place_of_the_stored_one(class_name, backend, tmp_path):
    """A NezhaConfig, or a folder with one; further values change it."""
    model = perturbed(class_name, backend)
    model.save_pretrained(tmp_path / "model")
    config = model.resolve_config(configuration(hidden_act="tanh", max_relative_position=1))
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.json").write_text(config.to_json())
    for given in (config, tmp_path / "config", str(tmp_path / "config")):
        loaded = load(class_name, tmp_path / "model", backend, config=given)
        assert loaded.config == config
        assert_equal(parameters_of(loaded), parameters_of(model))
        again = load(class_name, tmp_path / "model", backend, config=given, hidden_act="relu")
        assert again.config == config.replace(hidden_act="relu")
    assert config.hidden_act == "tanh"
    expected = forward(
        perturbed(class_name, backend, hidden_act="tanh", max_relative_position=1),
        inputs_of(class_name),
    )
    assert_equal(
        forward(
            load(class_name, tmp_path / "model", backend, config=config), inputs_of(class_name)
        ),
        expected,
    )


@pytest.mark.parametrize("name", ["num_label", "hidden_layers", "custom_pipeline", "foo"])
def test_an_unknown_keyword_is_pythons_own_error(name, class_name, backend, tmp_path):
    perturbed(class_name, backend).save_pretrained(tmp_path)
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
        load(class_name, tmp_path, backend, **{name: 1})


def test_a_constructors_option_belongs_to_its_class(class_name, backend, tmp_path):
    fresh(class_name, backend).save_pretrained(tmp_path)
    if class_name == "NezhaModel":
        loaded, info = load(
            class_name, tmp_path, backend, add_pooling_layer=False, output_loading_info=True
        )
        assert loaded(**inputs_of(class_name)).pooler_output is None
        assert info.unexpected == ("pooler.dense.bias", "pooler.dense.weight")
    else:
        with pytest.raises(TypeError, match="unexpected keyword argument 'add_pooling_layer'"):
            load(class_name, tmp_path, backend, add_pooling_layer=False)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"num_labels": 0}, "num_labels: expected an integer in"),
        ({"problem_type": "guess"}, "problem_type: expected one of"),
        ({"output_attentions": 1}, "output_attentions: expected True or False"),
        ({"hidden_dropout_prob": 1.0}, "hidden_dropout_prob: expected a number in"),
        ({"id2label": {}}, "id2label: expected a label"),
        ({"id2label": ["a", "b"]}, "id2label: expected a mapping"),
        ({"num_attention_heads": 5}, "hidden_size: expected a multiple of num_attention_heads"),
        ({"dtype": "int8"}, "dtype: expected one of"),
        ({"seed": -1}, "seed: expected an integer"),
    ],
)
def test_bad_values_are_named(options, match, class_name, backend, tmp_path):
    fresh(class_name, backend).save_pretrained(tmp_path)
    with pytest.raises(ArgumentError, match=match):
        load(class_name, tmp_path, backend, **options)
