"""Bad model folders: reading one raises a FileError that names the path, and nothing else."""

import json
import os
import struct
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import save

from minizha import NezhaConfig, NezhaForPreTraining, NezhaModel, NezhaTokenizer
from minizha.convert import convert
from minizha.errors import ArgumentError, FileError, MinizhaError
from minizha.info import describe_folder
from minizha.text.vocabulary import SPECIAL_TOKENS
from tests.support.files.safetensors_files import safetensors_file
from tests.support.tiny_models import SMALL

WORDS = "nezha.embeddings.word_embeddings.weight"
READERS = (NezhaForPreTraining.from_pretrained, describe_folder)


@pytest.fixture
def folder(tmp_path):
    NezhaForPreTraining(SMALL).save_pretrained(tmp_path)
    NezhaTokenizer([*SPECIAL_TOKENS, *"一二三四五六"]).save_pretrained(tmp_path)
    for read in READERS:
        read(tmp_path)  # the control: unchanged, the folder is valid
    return tmp_path


def arrays_of(folder):
    state = NezhaForPreTraining.from_pretrained(folder).state_dict()
    return {name: np.ascontiguousarray(array) for name, array in state.items()}


def refused(read, folder, message="."):
    with pytest.raises(FileError, match=message) as caught:
        read(folder)
    assert str(folder) in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 3000


# --- the file of the arrays ---------------------------------------------------------------------


def tensor(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HOSTILE = {
    "empty": b"",
    "seven bytes": b"\2" + b"\0" * 6,
    "no header": struct.pack("<Q", 0),
    "header longer than the file": safetensors_file(b"{}", length=3),
    "header of 2**40 bytes": safetensors_file(b"{}", length=2**40),
    "header of 2**63 - 1 bytes": safetensors_file(b"{}", length=2**63 - 1),
    "negative header length": safetensors_file(b"{}", length=-1),
    "header that is no JSON": safetensors_file(b"hello!!!"),
    "header that is a list": safetensors_file([1, 2]),
    "header that is null": safetensors_file(b"null"),
    "header that is not UTF-8": safetensors_file(b'{"\xe9":1}'),
    "NaN in the header": safetensors_file(b'{"a":NaN}'),
    "deep header": safetensors_file(b'{"a":' * 50_000 + b"1" + b"}" * 50_000),
    "deep list": safetensors_file(b"[" * 1_000_000),
    "tensor without offsets": safetensors_file({"a": {"dtype": "F32", "shape": [1]}}, b"0000"),
    "overlapping tensors": safetensors_file({"a": tensor(), "b": tensor()}, b"0000"),
    "offsets past the end": safetensors_file({"a": tensor(offsets=(4, 8))}, b"0000"),
    "negative offsets": safetensors_file({"a": tensor(offsets=(-4, 0))}, b"0000"),
    "offsets turned round": safetensors_file({"a": tensor(offsets=(4, 0))}, b"0000"),
    "more data than tensors": safetensors_file({"a": tensor()}, b"00000000"),
    "less data than the shape": safetensors_file({"a": tensor(shape=(2,))}, b"0000"),
    "unknown dtype": safetensors_file({"a": tensor("F99")}, b"0000"),
    "huge shape": safetensors_file({"a": tensor(shape=(2**62, 4))}, b"0000"),
    "huge empty shape": safetensors_file({"a": tensor(shape=(2**62, 2**62, 0), offsets=(0, 0))}),
    "fractional shape": safetensors_file({"a": tensor(shape=(1.0,))}, b"0000"),
    "metadata that is a number": safetensors_file({"__metadata__": 1, "a": tensor()}, b"0000"),
    "a zip file": b"PK\3\4" + b"\0" * 100,
    "a pickle": b"\x80\2}q\0." + b"\0" * 100,
    "a web page": b"<!DOCTYPE html>" * 10,
    "a pointer of git-lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}
# valid files, but not of a model: only from_pretrained refuses them
USELESS = {
    "nothing in it": (
        safetensors_file({}),
        "none of its 0 tensors belongs to a NezhaForPreTraining",
    ),
    "a foreign tensor": (
        safetensors_file({"a": tensor()}, b"0000"),
        "none of its 1 tensors belongs to",
    ),
    "the same name twice": (
        b'%c\0\0\0\0\0\0\0{"a":%b,"a":%b}    0000'
        % (127, *[b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'] * 2),
        "none of its 1 tensors belongs to|not a valid safetensors file",
    ),
    "a kind of number that NumPy lacks": (
        safetensors_file({WORDS: tensor("F8_E4M3", (11, 8), (0, 88))}, b"0" * 88),
        f"{WORDS}: expected an array of real numbers in floating point, found F8_E4M3",
    ),
    "100 axes": (
        safetensors_file({"a": tensor(shape=[1] * 100)}, b"0000"),
        "expected at most 64 axes, found 100",
    ),
    "0 × 2**62": (safetensors_file({"a": tensor(shape=(0, 2**62), offsets=(0, 0))}), "too big"),
}


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_arrays(name, read, folder):
    (folder / "model.safetensors").write_bytes(HOSTILE[name])
    refused(read, folder, r"model\.safetensors: not a valid safetensors file")


@pytest.mark.parametrize("name", USELESS)
def test_files_that_hold_no_model(name, folder):
    content, message = USELESS[name]
    (folder / "model.safetensors").write_bytes(content)
    refused(NezhaForPreTraining.from_pretrained, folder, message)


def test_truncated_arrays(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    for length in [*range(40), *range(40, len(content), 97), len(content) - 1]:
        path.write_bytes(content[:length])
        for read in READERS:
            refused(read, folder, "not a valid safetensors file")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {WORDS: a[WORDS][:-1]}, r"expected shape \(11, 8\), found \(10, 8\)"),
        (lambda a: {WORDS: a[WORDS].T.copy()}, r"expected shape \(11, 8\), found \(8, 11\)"),
        (lambda a: {WORDS: a[WORDS].reshape(-1)}, r"expected shape \(11, 8\), found \(88,\)"),
        (lambda a: {WORDS: a[WORDS].astype(np.int8)}, "in floating point, found int8"),
        (lambda a: {WORDS: a[WORDS] > 0}, "found bool"),
        (lambda a: {WORDS.replace("nezha", "bert"): a[WORDS]}, f"are both {WORDS}"),
        (lambda a: {"cls.predictions.decoder.weight": a[WORDS][:3]}, r"found \(3, 8\)"),
    ],
)
def test_arrays_that_do_not_fit_the_config(change, message, folder):
    arrays = arrays_of(folder)
    (folder / "model.safetensors").write_bytes(save(arrays | change(arrays)))
    refused(NezhaForPreTraining.from_pretrained, folder, message)


def test_two_spellings_of_one_name(folder, tmp_path):
    """Every reader names the folder; and a name from a file can't control the terminal."""
    arrays = arrays_of(folder)
    odd = "bert.\x1b[2J"
    arrays |= {odd: arrays[WORDS], odd.replace("bert", "nezha"): arrays[WORDS]}
    (folder / "model.safetensors").write_bytes(save(arrays))
    for read in (*READERS, lambda source: convert(source, tmp_path / "new")):
        refused(read, folder, r"'(bert|nezha)\.\\x1b\[2J' and .* are both 'nezha\.\\x1b\[2J'")


# --- the folder ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("read", READERS)
def test_a_file_that_is_missing_or_no_file(name, read, folder):
    path = folder / name
    path.unlink()
    refused(read, folder, f"{name}: can't be read: No such file")
    path.mkdir()
    refused(read, folder, f"{name}: expected a file, found a folder")
    path.rmdir()
    os.mkfifo(path)  # opening it would never end
    refused(read, folder, f"{name}: expected a file, found a pipe or a device")
    path.unlink()
    path.symlink_to(path)
    refused(read, folder, f"{name}: can't be read: .*symbolic links")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_that_may_not_be_read(name, folder, monkeypatch):
    def forbidden(path, *arguments, real=open, **options):
        if os.path.basename(os.fspath(path)) == name:
            raise PermissionError(13, "Permission denied")
        return real(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", forbidden)
    refused(
        NezhaForPreTraining.from_pretrained, folder, f"{name}: can't be read: Permission denied"
    )


@pytest.mark.parametrize("read", [*READERS, NezhaConfig.from_pretrained])
def test_a_folder_that_is_none(read, folder):
    for path in (folder / "missing", folder / "config.json", folder / ("x" * 300)):
        refused(read, path)


@pytest.mark.parametrize("path", [None, 3, b"bytes", [], "", "a\0b"])
@pytest.mark.parametrize(
    "function",
    [
        *READERS,
        NezhaConfig.from_pretrained,
        NezhaTokenizer.from_pretrained,
        NezhaTokenizer(list(SPECIAL_TOKENS)).save_pretrained,
        NezhaModel(SMALL).save_pretrained,
    ],
)
def test_a_path_that_is_none(function, path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match="folder: expected a path, found "):
        function(path)
    assert os.listdir(tmp_path) == []


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "bert"}, r"config\.json says model_type 'bert', but the weights look like"),
        ({"model_type": "gpt2"}, r"config\.json says model_type 'gpt2', expected 'nezha'"),
        ({"hidden_size": 16}, r"expected shape \(11, 16\), found \(11, 8\)"),
        ({"vocab_size": 12}, r"expected shape \(12, 8\), found \(11, 8\)"),
        ({"hidden_size": True}, r"config\.json: NezhaConfig: hidden_size: .*found True"),
        (
            {"add_cross_attention": True},
            r"config\.json: NezhaConfig: is_decoder: expected",
        ),
        ({"pruned_heads": {"0": [1]}}, r"query\.weight: expected shape \(4, 8\), found \(8, 8\)"),
        (
            {"pruned_heads": {"0": [2]}},
            r"config\.json: NezhaConfig: pruned_heads: expected heads in",
        ),
        ({"max_relative_position": 10**12}, r"config\.json: NezhaConfig: max_relative_position"),
    ],
)
def test_a_config_that_does_not_fit(changes, message, folder):
    change_config(folder, **changes)
    refused(NezhaForPreTraining.from_pretrained, folder, message)


def test_a_config_that_asks_for_all_the_memory(folder):
    change_config(folder, hidden_size=2**30)
    # the shapes in the file are compared before memory is allocated
    refused(
        NezhaForPreTraining.from_pretrained, folder, r"shape \(11, 1073741824\), found \(11, 8\)"
    )
    with pytest.raises(MinizhaError, match="too large a model for this memory"):
        NezhaForPreTraining.from_pretrained(folder, ignore_mismatched_sizes=True)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_a_text_of_a_terabyte(name, folder):
    """It takes no space on the disk, and must take none in memory."""
    if name != "config.json":
        (folder / "model.safetensors").rename(folder / "one.safetensors")
        (folder / name).write_text("{}")
    os.truncate(folder / name, 2**40)
    for read in READERS:
        refused(read, folder, f"{name}: expected at most [0-9,]+ bytes, found 1,099,511,627,776")


def test_a_number_of_heads_is_no_loop_count(folder):
    """A list of them would take 20 GB; the shapes in the file are compared first."""
    change_config(folder, hidden_size=2**30, num_attention_heads=2**29)
    tracemalloc.start()
    try:
        refused(
            NezhaForPreTraining.from_pretrained,
            folder,
            r"shape \(11, 1073741824\), found \(11, 8\)",
        )
        assert "does not fit: nezha.embeddings.word_embeddings.weight" in describe_folder(folder)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
