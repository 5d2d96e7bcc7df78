"""`verify`: right results pass in float32 and float64, complete or not; each wrong array is named."""

import json
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minizha.crosscheck.vectors import read_case, verify
from minizha.errors import ArgumentError, FileError
from tests.support.paths import V1

CASE = "decoder-past"
SCORES = "encoder.layer.0.attention.scores"


def right_results(name=CASE, dtype=np.float64):
    case = read_case(V1, name)
    return {n: np.array(case.expected(n), dtype=dtype) for n in case.stored_names}


def result_of(tmp_path, arrays, name=CASE):
    save_file(arrays, tmp_path / f"{name}.safetensors")
    report = verify(tmp_path, V1)
    return report, next(case for case in report.cases if case.name == name)


def test_the_vectors_themselves_are_right():
    report = verify(V1 / "cases")  # by default the vectors of this repository
    assert report.ok
    assert report.counts == {"equal": len(report.cases), "different": 0, "missing": 0}
    assert {case.compared == case.total for case in report.cases} == {True}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", [CASE, "adamw"])
def test_right_results_are_equal(tmp_path, dtype, name):
    report, case = result_of(tmp_path, right_results(name, dtype), name)
    assert report.ok
    assert (case.status, case.dtype) == ("equal", np.dtype(dtype).name)
    assert (case.largest_error > 0) == (dtype == np.float32)
    assert report.counts["missing"] == len(report.cases) - 1
    assert f"equal     {name}: " in str(report)


def test_a_part_of_a_case_will_do(tmp_path):
    arrays = {n: a for n, a in right_results().items() if n in ("encoder.layer.0", "pooler")}
    report, case = result_of(tmp_path, arrays)
    assert report.ok
    assert case.compared == 2


def test_noise_of_float64_is_right_and_noise_of_float32_is_not(tmp_path):
    rng = np.random.default_rng(0)
    for size, ok in ((1e-14, True), (1e-7, False)):
        arrays = {
            n: a * (1 + size * rng.standard_normal(a.shape)) for n, a in right_results().items()
        }
        assert result_of(tmp_path, arrays)[0].ok == ok


def changed(name, change):
    arrays = right_results()
    arrays[name] = change(arrays[name])
    return arrays


def with_number(value):
    def change(array):
        array[0, 1] = value
        return array

    return change


WRONG = {
    "a number": ("pooler", with_number(7.0), r"7 at \[0, 1\] instead of"),
    "NaN": ("pooler", with_number(np.nan), "NaN where ours is finite"),
    "infinity": ("pooler", with_number(-np.inf), "−infinity where ours is finite"),
    "a shape": ("pooler", lambda a: a.T.copy(), r"shape \(12, 2\) where \(2, 12\) is expected"),
    "integers": ("pooler", lambda a: a.astype(np.int64), "int64 where float32 or float64"),
    "a gradient": ("encoder.layer.1.grad", np.negative, "1 of .* first encoder.layer.1.grad"),
    "a key bias": (
        "encoder.layer.0.attention.self.key.bias.grad",
        lambda a: a + 1e-3,
        "key.bias.grad",
    ),
    "the past": ("past_key_values.0.1.grad", lambda a: a * 1.001, "past_key_values.0.1.grad"),
}


@pytest.mark.parametrize("error", WRONG)
def test_a_wrong_array_is_named(tmp_path, error):
    name, change, words = WRONG[error]
    report, case = result_of(tmp_path, changed(name, change))
    assert not report.ok
    assert (case.status, case.wrong, case.divergence.name) == ("different", 1, name)
    assert re.search(words, str(report))
    content = report.to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["counts"]["different"] == 1
    divergence = next(c["divergence"] for c in content["cases"] if c["status"] == "different")
    assert divergence["name"] == name
    if error in ("NaN", "a shape"):  # the difference is not a number
        assert divergence["found"] == "NaN"


def test_the_first_wrong_array_in_execution_order_is_named(tmp_path):
    arrays = {n: a + 1 for n, a in right_results().items()}
    case = result_of(tmp_path, arrays)[1]
    assert case.wrong == case.compared
    assert case.divergence.name == "embeddings.word_embeddings"


@pytest.mark.parametrize("mistake", ["no_scale", "gelu_tanh", "distance_sign", "mask_minus_10000"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_known_mistake_is_caught(tmp_path, mistake, dtype):
    entries = json.loads((V1 / "mistakes.json").read_text(encoding="utf-8"))["mistakes"]
    entry = next(e for e in entries if e["name"] == mistake)
    stored = load_file(V1 / "mistakes" / f"{mistake}.safetensors")
    arrays = {n: a.astype(dtype) for n, a in stored.items()}
    case = result_of(tmp_path, arrays, entry["case"])[1]
    assert case.status == "different"
    assert case.divergence.name == entry["first"]


def test_scores_that_the_mask_hides_do_not_count(tmp_path):
    arrays = right_results()
    hidden = arrays[SCORES.replace("scores", "probs")] == 0
    hidden &= np.tri(4, 9, 5, dtype=bool) == 0  # later keys only
    assert hidden.any()
    arrays[SCORES][hidden] = -np.inf
    assert result_of(tmp_path, arrays)[0].ok
    arrays[SCORES][~hidden] += 1
    assert not result_of(tmp_path, arrays)[0].ok


def test_a_loss_may_have_an_axis(tmp_path):
    arrays = right_results("nsp")
    assert arrays["loss"].shape == ()
    arrays["loss"] = arrays["loss"].reshape(1)
    assert result_of(tmp_path, arrays, "nsp")[0].ok
    arrays["loss"] = arrays["loss"].repeat(2)
    assert not result_of(tmp_path, arrays, "nsp")[0].ok


def test_names_that_nobody_knows_are_reported(tmp_path):
    report, case = result_of(tmp_path, right_results() | {"encoder.layer.0.scores": np.zeros(1)})
    assert report.ok
    assert case.unknown == ("encoder.layer.0.scores",)
    assert "unknown names: encoder.layer.0.scores" in str(report)
    report, case = result_of(tmp_path, {"scores": np.zeros(1)})
    assert not report.ok
    assert "no array under a name of the case" in str(case)


def test_a_file_that_belongs_to_no_case_is_reported(tmp_path):
    save_file(right_results(), tmp_path / "decoder_past.safetensors")
    report, _ = result_of(tmp_path, right_results())
    assert report.unknown == ("decoder_past.safetensors",)
    assert "no such case: decoder_past.safetensors" in str(report)


# --- answers to the negative cases --------------------------------------------------------------


def answers(tmp_path, content):
    (tmp_path / "negative.json").write_text(json.dumps(content), encoding="utf-8")
    return verify(tmp_path, V1)


def test_right_answers_are_right(tmp_path):
    negative = json.loads((V1 / "negative.json").read_text(encoding="utf-8"))
    every = {case["name"]: "refused" for case in negative["cases"]}
    every |= {case["name"]: "accepted" for case in negative["controls"]}
    report = answers(tmp_path, every)
    assert report.ok
    assert f"{len(every)} of {len(every)} negative cases right" in str(report)


def test_wrong_answers_are_named(tmp_path):
    report = answers(
        tmp_path, {"id-negative": "accepted", "model": "refused", "no-token": "refused"}
    )
    assert not report.ok
    assert report.negative == {"id-negative": "refused", "model": "accepted"}
    assert "id-negative: must be refused" in str(report)
    assert "1 of 3 negative cases right" in str(report)


@pytest.mark.parametrize("content", [{"id-negativ": "refused"}, {"id-negative": True}, []])
def test_answers_that_are_none_are_refused(tmp_path, content):
    with pytest.raises(FileError, match=r"negative\.json: expected"):
        answers(tmp_path, content)


# --- what can't be verified ---------------------------------------------------------------------


def test_nothing_to_verify_is_an_error(tmp_path):
    with pytest.raises(FileError, match="no results"):
        verify(tmp_path, V1)
    save_file(right_results(), tmp_path / "other.safetensors")
    with pytest.raises(FileError, match="no results"):
        verify(tmp_path, V1)


def test_a_folder_that_is_none_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    for place in ("file", "missing"):
        with pytest.raises(FileError, match=f"{place}: expected a folder"):
            verify(tmp_path / place, V1)
    with pytest.raises(ArgumentError, match="expected a path"):
        verify(None, V1)
    with pytest.raises(ArgumentError, match="expected a path"):
        verify(tmp_path, 3)


def test_a_damaged_result_is_an_error(tmp_path):
    (tmp_path / f"{CASE}.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0garbage!")
    with pytest.raises(FileError, match=rf"{CASE}\.safetensors: not a valid safetensors file"):
        verify(tmp_path, V1)


def manifest(folder, **changes):
    content = {"kind": "manifest", "version": 1, "cases": ["nsp"]} | changes
    (folder / "manifest.json").write_text(json.dumps(content), encoding="utf-8")


def test_damaged_vectors_are_an_error(tmp_path):
    results, vectors = tmp_path / "results", tmp_path / "vectors"
    shutil.copytree(V1 / "cases", vectors / "cases")
    results.mkdir()
    save_file(right_results("nsp"), results / "nsp.safetensors")
    with pytest.raises(FileError, match=r"manifest\.json: can't be read"):
        verify(results, vectors)
    for changes in ({"version": 2}, {"kind": "case"}, {"cases": []}, {"cases": ["../nsp"]}):
        manifest(vectors, **changes)
        with pytest.raises(FileError, match=r"manifest\.json: expected"):
            verify(results, vectors)
    manifest(vectors)
    assert verify(results, vectors).ok
    path = vectors / "cases" / "nsp.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    for change in (
        {"expected": ["nothing"]},
        {"config": {"hidden_size": 7}},
        {"tolerance": {}},
        {"expected": 1},
        {"name": "other"},
        {"tolerance": {"float32": 1e-5, "float64": "x"}},
    ):
        path.write_text(json.dumps(about | change), encoding="utf-8")
        with pytest.raises(FileError, match=r"nsp\.json: "):
            verify(results, vectors)


def test_an_installed_package_asks_for_the_vectors(tmp_path, monkeypatch):
    import minizha.crosscheck.vectors as module

    monkeypatch.setattr(module, "__file__", str(tmp_path / "minizha" / "crosscheck" / "vectors.py"))
    with pytest.raises(ArgumentError, match="installed package does not contain it"):
        verify(tmp_path)
