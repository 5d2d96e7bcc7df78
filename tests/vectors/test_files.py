"""The files in vectors/v1 agree with the schema and the manifest; bad inputs are refused; the files of
known mistakes hold what these mistakes compute."""

import copy
import hashlib
import json
import re
import tomllib

import numpy as np
import pytest
from safetensors.numpy import load_file

import minizha
from minizha import NezhaConfig
from minizha.crosscheck.diagnosis import CATALOGUE, mistaken
from minizha.crosscheck.vectors import read_case
from minizha.errors import ArgumentError
from tests.support.json_schema import faults
from tests.support.paths import ROOT

FOLDER = ROOT / "vectors" / "v1"

import v1_mistakes

LIMIT = 10 * 1000**2


def read(name):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


MANIFEST, NEGATIVE, MISTAKES = map(read, ("manifest.json", "negative.json", "mistakes.json"))
NAMES = MANIFEST["cases"]


# --- the files ----------------------------------------------------------------------------------


def test_the_manifest_lists_every_file_with_its_hash():
    listed = {entry["path"]: entry for entry in MANIFEST["files"]}
    there = {p.relative_to(FOLDER).as_posix() for p in FOLDER.rglob("*") if p.is_file()}
    assert there - {"manifest.json", "README.md"} == listed.keys()
    for path, entry in listed.items():
        data = (FOLDER / path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
    assert {f"cases/{n}.{end}" for n in NAMES for end in ("json", "safetensors")} <= listed.keys()


def test_all_together_they_are_small():
    sizes = [path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(sizes) <= LIMIT
    assert max(sizes) <= LIMIT / 20


def test_they_are_not_in_the_wheel():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["minizha"]
    (model,) = (ROOT / "minizha").rglob("*.safetensors")
    assert model.parent.name == "shipped"


SCHEMA = read("schema.json")
DESCRIBED = ["manifest.json", "negative.json", "mistakes.json", *(f"cases/{n}.json" for n in NAMES)]


@pytest.mark.parametrize("path", DESCRIBED)
def test_the_schema_describes_every_file(path):
    assert faults(read(path), SCHEMA) == []


DAMAGES = {
    "no class": lambda case: case.pop("class"),
    "another version": lambda case: case.update(version=2),
    "a version that is no number": lambda case: case.update(version=True),
    "a class that is none": lambda case: case.update({"class": "BertModel"}),
    "a key too many": lambda case: case.update(date="today"),
    "a name twice": lambda case: case["expected"].append(case["expected"][0]),
    "no tolerance for float32": lambda case: case["tolerance"].pop("float32"),
    "a tolerance of 0": lambda case: case["tolerance"].update(float64=0),
    "a name with a slash": lambda case: case.update(name="../x"),
    "an outcome without an optimizer": lambda case: case.update(outcome=["x"]),
    "a dtype": lambda case: case["inputs"][0].update(dtype="bool"),
    "heads that are no numbers": lambda case: case["config"].update(pruned_heads={"0": ["1"]}),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_schema_refuses_what_is_wrong(damage):
    """Negative control."""
    case = copy.deepcopy(read("cases/nsp.json"))
    DAMAGES[damage](case)
    assert faults(case, SCHEMA)


def test_the_readme_tells_the_truth(monkeypatch):
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    monkeypatch.chdir(ROOT)
    for block in re.findall(r"```python\n(.*?)```", text, re.S):
        exec(block, {})
    assert f"{len(NAMES)} tiny models" in text
    tests = (ROOT / "tests" / "vectors" / "test_v1.py").read_text(encoding="utf-8")
    assert all(f"def {name}(" in tests for name in re.findall(r"`(test_\w+)`", text))
    assert all((FOLDER / link).exists() for link in re.findall(r"\]\((\.[^)]+)\)", text))


# --- what must be refused -----------------------------------------------------------------------


def accept(case):
    model = getattr(minizha, case["class"])(NezhaConfig(**case["config"]))
    return lambda: model(**case["inputs"])


@pytest.mark.parametrize("case", NEGATIVE["cases"], ids=lambda case: case["name"])
def test_a_bad_input_is_refused(case):
    if case["fails"] == "model":
        with pytest.raises(ArgumentError):
            accept(case)
        return
    call = accept(case)
    with pytest.raises(ArgumentError):
        call()


@pytest.mark.parametrize("case", NEGATIVE["controls"], ids=lambda case: case["name"])
def test_the_control_beside_it_is_accepted(case):
    accept(case)()


def test_a_negative_case_differs_from_its_control_in_one_place():
    controls = {case["name"]: case for case in NEGATIVE["controls"]}
    for case in NEGATIVE["cases"]:
        control = controls[case["control"]]
        assert case["class"] == control["class"]
        assert (case["config"] == control["config"]) != (case["inputs"] == control["inputs"])
    names = [case["name"] for case in (*NEGATIVE["cases"], *NEGATIVE["controls"])]
    assert len(NEGATIVE["cases"]) >= 20
    assert len(set(names)) == len(names)


# --- what known mistakes make of them -----------------------------------------------------------


@pytest.fixture(scope="module")
def traces():
    found = {}
    for name in {entry["case"] for entry in MISTAKES["mistakes"]}:
        case = read_case(FOLDER, name)
        arrays = {n: tensor.read() for n, tensor in case.stored.items()}
        found[name] = v1_mistakes.as_trace(case.description, arrays)
    return found


@pytest.mark.parametrize("entry", MISTAKES["mistakes"], ids=lambda entry: entry["name"])
def test_a_known_mistake_gives_these_arrays(entry, traces):
    stored = load_file(FOLDER / "mistakes" / f"{entry['name']}.safetensors")
    trace = traces[entry["case"]]
    with np.errstate(all="ignore"):
        found = mistaken(trace, entry["name"])
    assert set(stored) == set(entry["arrays"])
    for name, array in stored.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-9, atol=1e-11)
    error = v1_mistakes.relative_error(entry["first"], stored[entry["first"]], trace)
    assert error == pytest.approx(entry["error"] or float("nan"), nan_ok=True)
    assert not error <= v1_mistakes.VISIBLE_ERROR  # the control: NaN is found too


def test_the_vectors_show_the_known_mistakes():
    names = {entry["name"] for entry in MISTAKES["mistakes"]}
    assert names <= CATALOGUE.keys()
    assert len(names) >= 100
