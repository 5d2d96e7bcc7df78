"""The files that a host of repositories reads: the citation, the issue forms, the workflow, the hooks."""

import re
import tomllib
from pathlib import Path

import pytest

import minizha

yaml = pytest.importorskip("yaml")  # huggingface_hub brings it

ROOT = Path(minizha.__file__).parents[1]
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"))
FIELDS = {"markdown", "textarea", "input", "dropdown", "checkboxes"}


def read(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_citation_is_of_this_version_and_names_the_paper():
    citation = read("CITATION.cff")
    assert citation.keys() >= {"cff-version", "message", "title", "authors"}  # the required ones
    assert citation["version"] == minizha.__version__
    assert citation["authors"] == project()["authors"]
    (paper,) = citation["references"]
    assert paper["title"].startswith("NEZHA: Neural Contextualized Representation")
    assert (paper["authors"][0]["family-names"], paper["year"]) == ("Wei", 2019)
    assert "1909.00204" in paper["journal"]


def test_the_workflow_runs_every_python_that_is_promised():
    jobs = read(".github/workflows/ci.yml")["jobs"]
    versions = jobs["linux"]["strategy"]["matrix"]["python"]
    assert project()["requires-python"] == f">={versions[0]}"
    assert versions == [f"3.{minor}" for minor in range(11, 15)]
    assert {"run": "bash .ci/run"} in jobs["linux"]["steps"]
    assert "continue-on-error" not in jobs["linux"]


def test_other_systems_may_fail_until_they_were_seen_to_pass():
    job = read(".github/workflows/ci.yml")["jobs"]["short"]
    assert job["continue-on-error"] is True
    assert job["strategy"]["matrix"]["system"] == ["macos-latest", "windows-latest"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "macOS and Windows are not tested yet" in " ".join(readme.split())


@pytest.mark.skipif(not (ROOT / "tests" / "ops").is_dir(), reason="tests/ is one folder")
def test_the_short_suite_is_in_folders_that_exist():
    steps = read(".github/workflows/ci.yml")["jobs"]["short"]["steps"]
    (command,) = [step["run"] for step in steps if "pytest" in step.get("run", "")]
    folders = re.findall(r"tests/\w+", command)
    assert folders
    assert [folder for folder in folders if not list((ROOT / folder).glob("test_*.py"))] == []


def wrong_fields(form):
    """What a host of repositories would refuse of an issue form."""
    if form.keys() - {"labels"} != {"name", "description", "body"}:
        return ["keys"]
    asked = [field for field in form["body"] if field["type"] != "markdown"]
    names = [field.get("id") for field in asked]
    return (
        [field["type"] for field in form["body"] if field["type"] not in FIELDS]
        + [name for name in names if names.count(name) > 1 or not name]
        + [field["id"] for field in asked if not field["attributes"].get("label")]
    )


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_one(path):
    form = read(path)
    assert wrong_fields(form) == []
    assert wrong_fields(form | {"body": [*form["body"], form["body"][-1]]}) != []
    assert wrong_fields({"name": form["name"], "body": form["body"]}) == ["keys"]


def test_there_is_a_form_for_each_kind_of_report():
    assert [path.stem for path in FORMS] == ["documentation", "file", "wrong_number"]
    for name in ("file", "wrong_number"):
        labels = [
            f["attributes"].get("label", "")
            for f in read(f".github/ISSUE_TEMPLATE/{name}.yml")["body"]
        ]
        assert any("minizha --version" in label for label in labels)


def test_the_hooks_run_the_installed_linter():
    (repository,) = read(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert [hook["entry"].split()[:2] for hook in repository["hooks"]] == [
        ["ruff", "check"],
        ["ruff", "format"],
    ]
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
