"""The arguments of a call in a file: JSON and safetensors, and files that are neither."""

import inspect
import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from minizha import NezhaForMaskedLM, NezhaForPreTraining, NezhaModel, crosscheck
from minizha.crosscheck.inputs_file import read_inputs_file
from minizha.errors import ArgumentError, FileError
from minizha.model.auto import CLASSES
from tests.support.tiny_heads import HEADS
from tests.support.tiny_models import TINY

CASES = TINY | HEADS
SEVERAL = [
    "plain",
    "inputs_embeds",
    "mask 3-D",
    "head mask",
    "past",
    "past of both",
    "decoder and everything",
    "choice, partly ignored",
    "answer",
    "regression of one",
]


def flat(tree, name=""):
    """``{"a": (x, y)}`` as ``{"a.0": x, "a.1": y}``."""
    if isinstance(tree, (tuple, list)):
        tree = {str(i): part for i, part in enumerate(tree)}
    if not isinstance(tree, dict):
        return {name: np.ascontiguousarray(tree)}
    parts = [flat(part, f"{name}.{key}" if name else key) for key, part in tree.items()]
    return {key: array for part in parts for key, array in part.items()}


def at(tree, path):
    """The array at ``a.0.1``."""
    head, *rest = path.split(".")
    found = tree[head]
    for number in rest:
        found = found[int(number)]
    return np.asarray(found)


def lists(tree):
    if isinstance(tree, tuple):
        return [lists(part) for part in tree]
    return tree.tolist()


def write(path, inputs):
    if path.suffix.lower() == ".json":
        path.write_text(json.dumps({n: lists(value) for n, value in inputs.items()}), "utf-8")
    else:
        save_file(flat(inputs), path)
    return path


@pytest.mark.parametrize("file", ["a.json", "a.JSON", "a.safetensors", "no suffix"])
@pytest.mark.parametrize("name", SEVERAL)
def test_a_call_comes_back(name, file, tmp_path):
    case = CASES[name]
    model, inputs = case.model("numpy"), case.inputs()
    found = read_inputs_file(write(tmp_path / file, inputs), type(model))
    assert set(found) == set(inputs)
    for key, value in flat(inputs).items():
        np.testing.assert_array_equal(at(found, key), value)
    expected, trace = (crosscheck.trace(model, given, gradients=False) for given in (inputs, found))
    for key in expected:
        np.testing.assert_array_equal(trace[key], expected[key])
    assert set(trace.inputs) == set(expected.inputs)


def test_more_than_ten_layers_stay_in_order(tmp_path):
    """Sorted as text, "10" would come before "2"."""
    past = tuple((np.full((1, 1, 1, 1), i), np.full((1, 1, 1, 1), -i)) for i in range(12))
    inputs = {"input_ids": np.ones((1, 1), int), "past_key_values": past}
    found = read_inputs_file(write(tmp_path / "a.safetensors", inputs), NezhaModel)
    assert [layer[0].item() for layer in found["past_key_values"]] == list(range(12))
    assert all(len(layer) == 2 for layer in found["past_key_values"])


def test_the_arrays_are_the_callers_own(tmp_path):
    path = write(tmp_path / "a.safetensors", {"input_ids": np.ones((2, 3), int)})
    found = read_inputs_file(path, NezhaModel)
    found["input_ids"][:] = 0  # reading does not change the file
    assert read_inputs_file(path, NezhaModel)["input_ids"].all()


def test_null(tmp_path):
    (tmp_path / "a.json").write_text('{"input_ids": [[1]], "labels": null}')
    found = read_inputs_file(tmp_path / "a.json", NezhaForMaskedLM)
    assert found == {"input_ids": [[1]], "labels": None}


FLAGS = ["record", "return_dict", "output_attentions", "output_hidden_states"]


@pytest.mark.parametrize("model_class", CLASSES)
def test_what_a_trace_sets_is_not_offered(model_class, tmp_path):
    call = inspect.signature(model_class.__call__).parameters
    set_by_trace = [n for n in (*FLAGS, "use_cache", "num_items_in_batch") if n in call]
    assert set_by_trace[: len(FLAGS)] == FLAGS
    for name in set_by_trace:
        (tmp_path / "a.json").write_text(f'{{"input_ids": [[1]], "{name}": true}}')
        with pytest.raises(FileError, match=f"takes no {name}, only input_ids") as caught:
            read_inputs_file(tmp_path / "a.json", model_class)
        offered = str(caught.value).partition(", only ")[2].split(", ")
        assert offered == [n for n in call if n not in ("self", *set_by_trace)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            '"input_ids": [[1, 2], [3]]',
            r"input_ids: expected rows of one length, found 2 and 1 "
            r"\(pad them, and give an attention_mask\)$",
        ),
        ('"input_ids": [[1, 2], [3, 4], 5]', "input_ids: .* found 2 and no row"),
        ('"input_ids": [[[1, 2], [3]]]', "input_ids: .* found 2 and 1"),
        ('"input_ids": [[1]], "labels": [[1], []]', "labels: .* one length, found 1 and 0$"),
        (
            '"input_ids": [[1]], "past_key_values": [[[[1, 2], [3]], [[1]]]]',
            "past_key_values.0.0: .* found 2 and 1$",
        ),
    ],
)
def test_rows_of_several_lengths(text, words, tmp_path):
    path = tmp_path / "a.json"
    path.write_text("{" + text + "}")
    with pytest.raises(FileError, match=words) as caught:
        read_inputs_file(path, NezhaForMaskedLM)
    assert str(caught.value).startswith(f"{path}: ")


def test_arrays_of_the_past_have_shapes_of_their_own(tmp_path):
    past = [[[[1, 2]], [[1, 2]], [[1], [2], [3]], [[1], [2], [3]]]]
    (tmp_path / "a.json").write_text(json.dumps({"past_key_values": past}))
    assert read_inputs_file(tmp_path / "a.json", NezhaModel) == {"past_key_values": past}


IDS = '"input_ids": [[1, 2]]'
CALL = "{" + IDS + ", "


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[[1, 2]]", "expected a JSON object, found list"),
        ("null", "expected a JSON object"),
        ("{}", "at least input_ids or inputs_embeds, found nothing"),
        (CALL + IDS + "}", "appears 2 times"),
        ("[" * 100_000, "not valid JSON"),
        (CALL + '"next_sentence_label": [0]}', "NezhaForMaskedLM takes no next_sentence_label"),
        (CALL + '"tokens": 1, "ids": 2}', "takes no tokens, ids, only input_ids, attention_mask"),
        (CALL + '"self": 1}', "takes no self"),
        (CALL + '"a\\nb": 1}', r"takes no 'a\\nb'"),
        (CALL + '"": 1}', "takes no ''"),
        (b"\xff\xfe{}", "UTF-8"),
    ],
)
def test_what_is_no_call(text, words, tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(FileError, match=words) as caught:
        read_inputs_file(path, NezhaForMaskedLM)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_same_file_is_a_call_of_another_class(tmp_path):
    """The control of the test of unknown names."""
    (tmp_path / "a.json").write_text(CALL + '"next_sentence_label": [0]}')
    assert len(read_inputs_file(tmp_path / "a.json", NezhaForPreTraining)) == 2


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "can't be read"),
        (b"", "not a valid safetensors"),
        (b'{"input_ids": [[1]]}', "not a valid safetensors file: this is a JSON file: "),
        (b'\xef\xbb\xbf \n{"input_ids": [[1]]}', "file: this is a JSON file: "),
        (b"[[1, 2]]", "file: this is a JSON file: "),
        (b"PK\3\4\x14" + bytes(99), "file: this is a zip file"),
        (b"\x93NUMPY\1\0v\0{'descr': '<f4'" + bytes(99), "file: this is a file of numpy.save: "),
        # broken in other ways; 123 is "{", 91 is "["
        (struct.pack("<Q", 123) + b"{}".ljust(122), "not a valid safetensors file: [^t]"),
        (struct.pack("<Q", 91 + 256) + b"{}".ljust(90), "not a valid safetensors file: [^t]"),
        ({"tokens": np.ones(3)}, "takes no tokens"),
        ({"tokens.0": np.ones(3)}, "takes no tokens"),
        ({}, "found nothing"),
    ],
)
def test_what_is_no_file_of_arrays(content, words, tmp_path):
    path = tmp_path / "a.safetensors"
    if isinstance(content, dict):
        save_file(content, path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError, match=words) as caught:
        read_inputs_file(path, NezhaModel)
    assert str(path) in str(caught.value)


def test_a_folder(tmp_path):
    for name in ("a.json", "a"):
        (tmp_path / name).mkdir()
        with pytest.raises(FileError, match="a folder"):
            read_inputs_file(tmp_path / name, NezhaModel)


@pytest.mark.parametrize(
    "wrong",
    [
        {"past_key_values.0.0": np.ones((2, 2, 2, 2))},
        {
            "past_key_values.1.0": np.ones((2, 2, 2, 2)),
            "past_key_values.1.1": np.ones((2, 2, 2, 2)),
        },
        {"past_key_values.x": np.ones((2, 2, 2, 2))},
        {"input_ids.0": np.ones((2, 2), int)},
        {"past_key_values": np.ones((2, 2, 2, 2))},
    ],
)
def test_parts_that_make_no_whole_are_refused_by_the_call(wrong, tmp_path):
    case = TINY["past"]
    ids = {} if "input_ids.0" in wrong else {"input_ids": case.inputs()["input_ids"]}
    save_file(ids | wrong, tmp_path / "a")
    model = case.model("numpy")
    with pytest.raises(ArgumentError, match=r"input_ids|past_key_values"):
        model(**read_inputs_file(tmp_path / "a", type(model)))


# safetensors stores arrays of wider dtypes first
@pytest.mark.parametrize("dtype", [np.int64, np.int8])
def test_an_argument_that_stands_there_whole_and_in_parts(dtype, tmp_path):
    both = {"input_ids": np.ones((1, 2), np.int32), "input_ids.0": np.ones((1, 2), dtype)}
    save_file(both, tmp_path / "a")
    with pytest.raises(FileError, match="input_ids"):
        read_inputs_file(tmp_path / "a", NezhaModel)
