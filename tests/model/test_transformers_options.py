"""The keywords of Transformers' from_pretrained and save_pretrained: taken, or refused with advice."""

import re

import numpy as np
import pytest

from minizha import MinizhaError, NezhaConfig, NezhaForMaskedLM, NezhaModel, NezhaTokenizer
from minizha.backend import to_host
from minizha.errors import ArgumentError, FileError
from minizha.text.vocabulary import SPECIAL_TOKENS
from minizha.transformers_options import (
    LOADING,
    SAVING,
    check_shard_size,
    dtype_name,
    refuse_unknown,
    take,
)
from tests.support.assertions import assert_equal
from tests.support.eight_models import load, parameters_of, perturbed

# a value that asks for something else, for each keyword that can
REFUSED_LOADING = {
    "use_safetensors": True,
    "force_download": True,
    "proxies": {"https": "example.org"},
    "mirror": "somewhere",
    "use_auth_token": "secret",
    "device_map": "auto",
    "tp_plan": "auto",
    "max_memory": {0: "1GB"},
    "offload_folder": "elsewhere",
    "offload_state_dict": True,
    "offload_buffers": True,
    "load_in_8bit": True,
    "load_in_4bit": True,
    "quantization_config": {"bits": 4},
    "attn_implementation": "sdpa",
    "trust_remote_code": True,
    "code_revision": "main",
    "variant": "fp16",
    "gguf_file": "model.gguf",
    "from_tf": True,
    "from_flax": True,
    "state_dict": {},
    "use_fast": False,
}
REFUSED_SAVING = {
    "safe_serialization": False,
    "save_function": print,
    "state_dict": {},
    "legacy_format": True,
    "filename_prefix": "my",
    "variant": "fp16",
    "token": "secret",
    "use_auth_token": "secret",
    "push_to_hub": True,
    "repo_id": "me/model",
    "private": True,
    "commit_message": "new",
    "commit_description": "new",
    "create_pr": True,
    "revision": "main",
}
TABLES = {"loading": (LOADING, REFUSED_LOADING), "saving": (SAVING, REFUSED_SAVING)}
ADVICE = {
    "device_map": "backend='cupy'",
    "load_in_8bit": "dtype",
    "force_download": "cache_dir",
    "proxies": "HTTPS_PROXY",
    "mirror": "HF_ENDPOINT",
    "use_auth_token": "token",
    "push_to_hub": "huggingface_hub.upload_folder",
    "state_dict": "load_state_dict",
    "safe_serialization": "model.safetensors",
    "variant": "name",
}


@pytest.fixture
def folder(backend, tmp_path):
    """A model with its vocabulary."""
    tokenizer = NezhaTokenizer([*SPECIAL_TOKENS, *"一二三四五六七八"])
    perturbed("NezhaForMaskedLM", backend, dtype="float32").save_pretrained(
        tmp_path / "model", tokenizer=tokenizer
    )
    return tmp_path / "model"


def loaders(backend):
    """Everything with a from_pretrained."""
    return (
        lambda folder, **options: NezhaForMaskedLM.from_pretrained(
            folder, backend=backend, **options
        ),
        NezhaConfig.from_pretrained,
        NezhaTokenizer.from_pretrained,
    )


def savers(folder, backend):
    """Everything with a save_pretrained."""
    return [reads(folder).save_pretrained for reads in loaders(backend)]


# --- the tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_every_keyword_is_tried(name):
    """Each can be refused, or passes on what it means, or has no value that asks for anything else."""
    table, refused = TABLES[name]
    flags = {n for n, k in table.items() if {True, False, None} <= set(map(_hashable, k.accepted))}
    assert refused.keys() == {n for n in table if not table[n].means} - flags
    for keyword in table.values():
        assert keyword.means or keyword.text


def _hashable(value):
    return repr(value) if isinstance(value, dict) else value


@pytest.mark.parametrize("name", TABLES)
def test_what_asks_for_nothing_else_is_taken(name):
    for keyword, row in TABLES[name][0].items():
        for value in row.accepted:
            options = {keyword: value, "other": 1}
            assert take(TABLES[name][0], options) == {}
            assert options == {"other": 1}


@pytest.mark.parametrize("name", TABLES)
def test_what_asks_for_something_else_is_refused_with_advice(name):
    table, refused = TABLES[name]
    for keyword, value in refused.items():
        with pytest.raises(ArgumentError) as caught:
            take(table, {keyword: value})
        text = str(caught.value)
        assert text.startswith(f"{keyword}: expected ")
        assert table[keyword].text in text
        assert ADVICE.get(keyword, "") in text
        assert "secret" not in text


def test_1_and_0_are_no_flags():
    """1 == True in Python; a mistake such as trust_remote_code=0 is told."""
    for value in (0, 1, 0.0, np.float64(1.0)):
        with pytest.raises(ArgumentError, match="trust_remote_code: expected None or False"):
            take(LOADING, {"trust_remote_code": value})


def test_unknown_keywords_are_pythons_own_error(folder, backend, tmp_path):
    for reads in loaders(backend)[1:]:
        with pytest.raises(TypeError, match="unexpected keyword argument 'num_label'"):
            reads(folder, num_label=3)
    for save in savers(folder, backend):
        with pytest.raises(TypeError, match="unexpected keyword argument 'max_shard_sice'"):
            save(tmp_path / "new", max_shard_sice="5GB")
    assert not (tmp_path / "new").exists()
    refuse_unknown("f", {})


# --- loading --------------------------------------------------------------------------------------


def test_the_usual_keywords_change_nothing(folder, backend):
    expected = loaders(backend)[0](folder)
    usual = {
        "torch_dtype": "auto",
        "low_cpu_mem_usage": True,
        "device_map": None,
        "force_download": False,
        "resume_download": True,
        "proxies": None,
        "token": None,
        "subfolder": "",
        "trust_remote_code": False,
        "use_safetensors": None,
        "variant": None,
        "revision": "main",
        "cache_dir": None,
        "local_files_only": True,
    }
    for reads in loaders(backend):
        reads(folder, **usual)
    found = loaders(backend)[0](folder, **usual, output_loading_info=False)
    assert_equal(parameters_of(found), parameters_of(expected))


def test_each_loader_refuses(folder, backend):
    for reads in loaders(backend):
        for keyword, value in REFUSED_LOADING.items():
            with pytest.raises(MinizhaError, match=f"^{keyword}: expected "):
                reads(folder, **{keyword: value})


class TorchDtype:
    """Written as torch writes its dtypes."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return f"torch.{self.name}"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_dtype_is_dtype(dtype, folder, backend):
    for value in (dtype, TorchDtype(dtype), np.dtype(dtype), getattr(np, dtype)):
        assert dtype_name(value) == dtype
        model = load("NezhaForMaskedLM", folder, backend, torch_dtype=value)
        assert model.dtype == dtype
        assert {str(a.dtype) for a in model.state_dict().values()} == {dtype}
    with pytest.raises(ArgumentError, match="torch_dtype: expected None beside dtype"):
        load("NezhaForMaskedLM", folder, backend, torch_dtype=dtype, dtype=dtype)


@pytest.mark.parametrize(
    "value", ["float16", TorchDtype("bfloat16"), np.float16, "complex128", 32, ["float32"]]
)
def test_other_dtypes_are_refused(value, folder, backend):
    with pytest.raises(ArgumentError, match=r"^torch_dtype: expected float32, float64, 'auto'"):
        load("NezhaForMaskedLM", folder, backend, torch_dtype=value)


def test_a_subfolder(folder, backend):
    """A folder inside of the folder; not one outside of it, and not one on the hub."""
    found = loaders(backend)[0](folder.parent, subfolder="model")
    assert_equal(parameters_of(found), parameters_of(loaders(backend)[0](folder)))
    for reads in loaders(backend):
        reads(str(folder.parent), subfolder=folder.name)
        reads(folder, subfolder=None)
        for bad in ("..", "a/../..", str(folder), 3, "a\0"):
            with pytest.raises(ArgumentError, match=r"^subfolder: expected a "):
                reads(folder.parent, subfolder=bad)
        with pytest.raises(FileError, match="nowhere"):
            reads(folder.parent, subfolder="nowhere")
    with pytest.raises(FileError, match="snapshot_download"):
        loaders(backend)[0]("organisation/name", subfolder="model")


def test_a_token_is_in_no_message(folder, backend):
    for reads in loaders(backend)[::2]:
        reads(folder, token="hf_secret")
        with pytest.raises(ArgumentError, match=r"^token: expected a string, found list$"):
            reads(folder, token=["hf_secret"])


def test_a_configuration_with_changes(folder):
    config = NezhaConfig.from_pretrained(folder, num_labels=7, hidden_act="relu")
    assert (config.num_labels, config.hidden_act) == (7, "relu")
    assert len(config.id2label) == 7
    assert NezhaConfig.from_json_file(folder / "config.json").hidden_act == "gelu"
    with pytest.raises(ArgumentError, match="hidden_act: expected one of"):
        NezhaConfig.from_pretrained(folder, hidden_act="mish")


# --- saving ---------------------------------------------------------------------------------------


def test_the_usual_keywords_of_saving(folder, backend, tmp_path):
    usual = {
        "is_main_process": True,
        "push_to_hub": False,
        "max_shard_size": "5GB",
        "safe_serialization": True,
        "variant": None,
        "token": None,
    }
    for save in savers(folder, backend):
        save(tmp_path / "new", **usual)
    names = {"config.json", "model.safetensors", "vocab.txt", "tokenizer_config.json"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == names
    expected, found = (loaders(backend)[0](path) for path in (folder, tmp_path / "new"))
    assert_equal(parameters_of(found), parameters_of(expected))


def test_each_saver_refuses_and_writes_nothing(folder, backend, tmp_path):
    for save in savers(folder, backend):
        for keyword, value in REFUSED_SAVING.items():
            with pytest.raises(MinizhaError, match=f"^{keyword}: expected "):
                save(tmp_path / "new", **{keyword: value})
        save(tmp_path / "new", is_main_process=False)  # another process writes
        with pytest.raises(ArgumentError, match="is_main_process: expected True or False"):
            save(tmp_path / "new", is_main_process="yes")
    assert not (tmp_path / "new").exists()


def test_one_file_no_larger_than_a_shard(backend, tmp_path):
    model = perturbed("NezhaModel", backend, dtype="float32")
    size = sum(to_host(array).nbytes for array in model.state_dict().values())
    for enough in (size, "1MB", "1 GiB", "2TB"):
        model.save_pretrained(tmp_path / "new", max_shard_size=enough)
    assert NezhaModel.from_pretrained(tmp_path / "new", backend=backend).num_parameters()
    for small in (size - 1, "1KB", "0"):
        text = f"max_shard_size: expected at least {size:,} bytes, found {small!r}"
        with pytest.raises(ArgumentError, match=re.escape(text)):
            model.save_pretrained(tmp_path / "small", max_shard_size=small)
    assert not (tmp_path / "small").exists()
    for bad in ("big", "5 GB or so", -1, 1.5, True, "", "9" * 99, [1]):
        with pytest.raises(ArgumentError, match="max_shard_size: expected a number of bytes"):
            check_shard_size(bad, 1)
