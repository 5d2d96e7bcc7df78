"""A trace in a file: every array is read back, one at a time; untrue metadata are refused."""

import gc
import json
import tracemalloc

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minizha import crosscheck
from minizha.checkpoint.safetensors_file import safetensors_metadata
from minizha.crosscheck.trace_file import METADATA, StoredTrace, Trace
from minizha.errors import FileError
from tests.support.tiny_heads import HEADS
from tests.support.tiny_models import TINY
from tests.support.traces import assert_same_bits, model_and_inputs

CASES = TINY | HEADS
SEVERAL = [
    "plain",
    "dropout and everything",
    "past, pruned",
    "decoder and everything",
    "no padding token",
    "choice, dropout",
    "regression of three",
]


def traced(name):
    return crosscheck.trace(*model_and_inputs(CASES[name]))


@pytest.fixture(scope="module")
def ours():
    return traced("plain")


@pytest.fixture
def path(tmp_path, ours):
    ours.save(tmp_path / "ours.safetensors")
    return tmp_path / "ours.safetensors"


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEVERAL)
def test_everything_comes_back(name, tmp_path):
    expected = traced(name)
    expected.save(tmp_path / "a.safetensors")
    found = crosscheck.open_trace(str(tmp_path / "a.safetensors"))
    assert_same_bits(found, expected)
    for part in ("inputs", "parameters"):
        stored = getattr(found, part)
        assert_same_bits(
            {n: stored[n] for n in sorted(stored)}, dict(sorted(getattr(expected, part).items()))
        )
    for attribute in ("model_class", "config", "dtype", "training"):
        assert getattr(found, attribute) == getattr(expected, attribute)
    assert found["loss"].shape == found.shape("loss") == ()


def test_the_order_is_that_of_execution_and_not_that_of_the_file(path, ours):
    assert list(crosscheck.open_trace(path)) == list(ours)
    assert list(load_file(path)) != list(ours), "the control"


def test_a_mapping_that_reads_when_it_is_asked(path, ours, monkeypatch):
    found, read = crosscheck.open_trace(path), []
    getitem = StoredTrace.__getitem__
    monkeypatch.setattr(
        StoredTrace, "__getitem__", lambda self, name: read.append(name) or getitem(self, name)
    )
    assert len(found) == len(ours)
    assert "embeddings" in found
    assert "no such name" not in found
    assert {n: found.shape(n) for n in found} == {n: a.shape for n, a in ours.items()}
    assert "input_ids" in found.inputs
    assert not read
    assert found["embeddings"] is not found["embeddings"]
    assert read == ["embeddings"] * 2
    with pytest.raises(KeyError):
        found["no such name"]
    found["embeddings"][:] = 0.0  # changing the copy does not change the file
    np.testing.assert_array_equal(found["embeddings"], ours["embeddings"])


def test_without_parameters(tmp_path, ours):
    ours.save(tmp_path / "a.safetensors", parameters=False)
    ours.save(tmp_path / "b.safetensors")
    without, full = (crosscheck.open_trace(tmp_path / f"{n}.safetensors") for n in "ab")
    assert len(without.parameters) == 0
    assert len(full.parameters) == len(ours.parameters) > 0
    assert_same_bits(without, ours)
    assert_same_bits(without.inputs, dict(full.inputs))


def test_the_bytes_are_the_same_each_time(tmp_path, ours):
    for name in "ab":
        ours.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert list(safetensors_metadata(tmp_path / "a")) == [METADATA]


def test_arrays_that_do_not_lie_in_a_row(tmp_path, ours):
    arrays = {"embeddings": ours["embeddings"].swapaxes(0, 2), "loss": ours["embeddings"][::-1, 0]}
    about = {a: getattr(ours, a) for a in ("model_class", "config", "dtype", "training")}
    Trace(arrays, inputs={}, parameters={}, **about).save(tmp_path / "a.safetensors")
    assert_same_bits(crosscheck.open_trace(tmp_path / "a.safetensors"), arrays)


def test_a_folder_that_is_not_there(tmp_path, ours):
    with pytest.raises(FileError, match="nowhere"):
        ours.save(tmp_path / "nowhere" / "a.safetensors")


# --- files of others ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_someone_elses_file(dtype, tmp_path, ours):
    arrays = {n: ours[n].astype(dtype) for n in ("encoder.layer.0", "embeddings")}
    save_file(arrays, tmp_path / "a.safetensors")
    found = crosscheck.open_trace(tmp_path / "a.safetensors")
    assert set(found) == set(arrays)
    np.testing.assert_array_equal(found["embeddings"], arrays["embeddings"])
    assert found.model_class is found.config is found.dtype is found.training is None
    assert len(found.inputs) == len(found.parameters) == 0


def rewritten(path, ours, change):
    """The same file, its metadata changed by ``change``."""
    about = json.loads(safetensors_metadata(path)[METADATA])
    text = change(about)
    arrays = load_file(path)
    save_file(
        arrays, path, metadata={METADATA: text if isinstance(text, str) else json.dumps(about)}
    )


def changed(**fields):
    return lambda about: about.update(fields)


UNTRUE_METADATA = {
    "another version": (changed(version=2), "version 2, expected 1"),
    "a version that is no number": (changed(version="1\n"), "version"),
    "no version": (lambda about: about.pop("version") and None, "version"),
    "a name too many": (lambda about: about["names"].append("loss2"), "names"),
    "a name too few": (lambda about: about["names"].remove("loss"), "names"),
    "a name twice": (lambda about: about["names"].append("loss"), "names"),
    "an input among the names": (lambda about: about["names"].append("inputs/input_ids"), "names"),
    "names that are numbers": (changed(names=[1, 2]), "names"),
    "names that are a word": (changed(names="loss"), "names"),
    "names that are null": (changed(names=None), "can't be read"),
    "no names": (lambda about: about.pop("names") and None, "names"),
    "no configuration": (changed(config=None), "can't be read"),
    "a configuration out of range": (changed(config={"hidden_size": -1}), "hidden_size"),
    "a list": (lambda about: "[]", "can't be read"),
    "a number": (lambda about: "1", "can't be read"),
    "no JSON": (lambda about: "{", "can't be read"),
    "too deep": (lambda about: "[" * 100_000, "can't be read"),
}


@pytest.mark.parametrize("case", UNTRUE_METADATA)
def test_metadata_that_lies(case, path, ours):
    change, words = UNTRUE_METADATA[case]
    rewritten(path, ours, change)
    with pytest.raises(FileError, match=words) as caught:
        crosscheck.open_trace(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_metadata_that_was_only_written_anew(path, ours):
    """The control: metadata that are true are accepted."""
    rewritten(path, ours, changed(training=True))
    found = crosscheck.open_trace(path)
    assert found.training is True
    assert_same_bits(found, ours)


def test_a_configuration_of_other_sizes_gives_a_remark_and_no_traceback(path, ours):
    """That it is not the arrays' own is nothing that the file shows."""
    sizes = ours.config.to_dict() | {"hidden_size": 6, "num_attention_heads": 3}
    rewritten(path, ours, changed(config=sizes))
    lying = crosscheck.open_trace(path)
    wrong = dict(ours) | {"encoder.layer.0": 2.0 * ours["encoder.layer.0"]}
    found = crosscheck.diagnose(lying, wrong, "encoder.layer.0.attention.scores")
    assert not found.findings
    assert found.remarks


def refusal(path):
    """The error of reading the file; None if all of it can be read."""
    try:
        found = crosscheck.open_trace(path)
        return None if all(found[n].shape == found.shape(n) for n in found) else "shapes"
    except FileError as error:
        return str(error)


def test_a_damaged_file_is_read_or_refused(path, tmp_path):
    """Half of the damage is in the header; what is no trace any more may be someone else's file."""
    data, broken, refused = path.read_bytes(), tmp_path / "broken.safetensors", []
    for seed in range(300):
        rng, damaged = np.random.default_rng(seed), bytearray(data)
        end = 8 + int.from_bytes(data[:8], "little")
        for _ in range(rng.integers(1, 4)):
            damaged[rng.integers(0, end if seed % 2 else len(data))] = rng.integers(0, 256)
        broken.write_bytes(damaged[: rng.integers(0, len(data))] if seed % 5 == 0 else damaged)
        refused.append(refusal(broken))
    assert all(str(broken) in text for text in refused if text)
    assert 100 < sum(text is not None for text in refused) < 290
    assert refusal(path) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a valid"),
        (b"\0" * 7, "not a valid"),
        (b"{}", "not a valid"),
        (None, "can't be read"),
    ],
)
def test_no_safetensors_file(content, words, tmp_path):
    path = tmp_path / "a.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError, match=words) as caught:
        crosscheck.open_trace(path)
    assert str(path) in str(caught.value)


# --- memory ---------------------------------------------------------------------------------------


def resident():
    """Bytes of this process in memory."""
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["VmRSS"].split()[0]) * 1024


@pytest.mark.parametrize("read", ["array", "every array is kept"])
def test_an_arrays_memory_is_given_back(read, tmp_path):
    """12 arrays of 8 MB: 3 of them at most are in memory at once, and the file is not."""
    try:
        resident()
    except OSError:
        pytest.skip("no /proc")
    one, path = 8 * 2**20, tmp_path / "big.safetensors"
    save_file({f"encoder.layer.{i}": np.full(one // 4, i, np.float32) for i in range(12)}, path)
    found = crosscheck.open_trace(path)
    gc.collect()
    kept, before, most = [], resident(), 0
    tracemalloc.start()
    try:
        for i in range(12):
            name = f"encoder.layer.{i}"
            array = found[name]
            assert array.sum() == i * (one // 4)
            kept.append(array if read != "array" else None)
            most = max(most, resident() - before)
            del array
        _, traced_most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    if read == "array":
        assert most < 3 * one
        assert traced_most < 2 * one
    else:
        assert traced_most > 8 * one, "the control: arrays that are still referenced stay in memory"
