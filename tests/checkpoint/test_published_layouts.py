"""Layouts in which NEZHA was published: Huawei's bert_config.json, BERT's model_type, bert4torch's file."""

import json
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file, save

from minizha import NezhaConfig, NezhaForPreTraining, NezhaTokenizer
from minizha.convert import convert
from minizha.errors import CheckpointWarning, FileError
from minizha.info import describe_folder
from minizha.predict import load_for_text
from minizha.text.vocabulary import SPECIAL_TOKENS
from tests.checkpoint.test_bad_folders import change_config
from tests.support.tiny_models import SMALL

RELATIVE = {"model_type": "bert", "use_relative_position": True}
SAID = r"config\.json: says model_type 'bert' with use_relative_position; it is read as NEZHA's$"
READERS = {
    "model": NezhaForPreTraining.from_pretrained,
    "info": describe_folder,
    "text": lambda folder: load_for_text(NezhaForPreTraining, folder),
    "convert": lambda folder: convert(folder, folder / "new", overwrite=True),
    "config": NezhaConfig.from_pretrained,
}


@pytest.fixture(params=READERS)
def read(request):
    return READERS[request.param]


@pytest.fixture
def folder(tmp_path):
    tokenizer = NezhaTokenizer([*SPECIAL_TOKENS, *"一二三四五六"])
    NezhaForPreTraining(SMALL).save_pretrained(tmp_path, tokenizer=tokenizer)
    return tmp_path


def add_table(folder):
    arrays = load_file(folder / "model.safetensors")
    arrays["nezha.embeddings.position_embeddings.weight"] = np.ones((512, 8), np.float32)
    (folder / "model.safetensors").write_bytes(save(arrays))


# --- bert_config.json -----------------------------------------------------------------------------


def test_huawei_s_layout(folder, read):
    values = json.loads((folder / "config.json").read_text("utf-8"))
    del values["model_type"]
    (folder / "config.json").unlink()
    (folder / "bert_config.json").write_text(json.dumps(values | {"use_relative_position": True}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(folder)
    # config.json is preferred, even if it is damaged
    (folder / "config.json").write_text("{")
    with pytest.raises(FileError, match=r"/config\.json: not valid JSON"):
        read(folder)


def test_a_damaged_bert_config(folder, read):
    (folder / "config.json").unlink()
    (folder / "bert_config.json").write_text("{")
    with pytest.raises(FileError, match=r"bert_config\.json: not valid JSON"):
        read(folder)


def test_bert4torch_s_configuration_is_named(folder, read):
    (folder / "config.json").rename(folder / "bert4torch_config.json")
    with pytest.raises(
        FileError, match=r"expected config\.json, found bert4torch_config\.json, whose keys"
    ):
        read(folder)


def test_no_configuration(folder, read):
    """The control."""
    (folder / "config.json").unlink()
    with pytest.raises(FileError, match=r"/config\.json: can't be read: No such file"):
        read(folder)


# --- model_type: bert -----------------------------------------------------------------------------


def test_relative_positions_are_believed_and_said(folder, read):
    change_config(folder, **RELATIVE)
    with pytest.warns(CheckpointWarning, match=SAID):
        read(folder)


@pytest.mark.parametrize("value", [False, None, 1, "true"])
def test_without_them_it_is_bert_s(value, folder):
    change_config(folder, **RELATIVE | {"use_relative_position": value})
    with pytest.raises(
        FileError, match="says model_type 'bert', but the weights look like NEZHA's"
    ):
        NezhaForPreTraining.from_pretrained(folder)
    with pytest.raises(FileError, match="model_type: expected 'nezha', found 'bert'"):
        NezhaConfig.from_pretrained(folder)


def test_another_type_with_relative_positions_is_refused(folder):
    change_config(folder, **RELATIVE | {"model_type": "roformer"})
    with pytest.raises(FileError, match="says model_type 'roformer', expected 'nezha'"):
        NezhaForPreTraining.from_pretrained(folder)


def test_a_table_of_absolute_positions_is_bert_s_all_the_same(folder):
    change_config(folder, **RELATIVE)
    add_table(folder)
    for config in (None, SMALL):
        with pytest.raises(FileError, match="weights, not NEZHA's: they have a table of absolute"):
            NezhaForPreTraining.from_pretrained(folder, config=config)


def test_what_is_converted_says_nezha(folder):
    change_config(folder, **RELATIVE)
    with pytest.warns(CheckpointWarning):
        convert(folder, folder / "new")
    assert json.loads((folder / "new" / "config.json").read_text("utf-8"))["model_type"] == "nezha"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        new = NezhaForPreTraining.from_pretrained(folder / "new")
    assert np.array_equal(new([[2, 5, 3]])[0], NezhaForPreTraining(SMALL)([[2, 5, 3]])[0])


# --- config= --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_the_caller_s_configuration_is_believed_and_said(model_type, folder):
    change_config(folder, model_type=model_type)
    said = f"says model_type '{model_type}'; config= is given, so it is read as NEZHA's"
    with pytest.warns(CheckpointWarning, match=said):
        model = NezhaForPreTraining.from_pretrained(folder, config=SMALL)
    assert model.config == SMALL
    with pytest.raises(FileError):  # the control
        NezhaForPreTraining.from_pretrained(folder)


def test_with_the_caller_s_configuration_the_folder_needs_none(folder):
    (folder / "config.json").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NezhaForPreTraining.from_pretrained(folder, config=SMALL)
