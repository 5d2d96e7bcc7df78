"""The check of the distributions sees what is missing, too much, or changed."""

import importlib.util
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

import minizha

SCRIPT = Path(minizha.__file__).parents[1] / ".ci" / "check_dist.py"
TRACKED = {
    "minizha/__init__.py": b"1", "minizha/py.typed": b"", "tests/test_a.py": b"2",
    "vectors/v1/a.safetensors": b"3", ".github/workflows/ci.yml": b"4", "LICENSE": b"5",
}  # fmt: skip
WHEEL = {name: content for name, content in TRACKED.items() if name.startswith("minizha/")}
WHEEL |= {
    f"minizha-1.dist-info/{name}": b""
    for name in (
        "METADATA",
        "licenses/LICENSE",
        "licenses/NOTICE",
        "licenses/docs/examples/LICENSE",
        "licenses/tutorials/fonts/OFL.txt",
    )
}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("check_dist", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(folder, sdist, wheel):
    """Both files, as ``python -m build`` writes them."""
    with tarfile.open(folder / "minizha-1.tar.gz", "w:gz") as archive:
        for name, content in sdist.items():
            member = tarfile.TarInfo(f"minizha-1/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with zipfile.ZipFile(folder / "minizha-1-py3-none-any.whl", "w") as archive:
        for name, content in wheel.items():
            archive.writestr(name, content)


@pytest.fixture
def check(script, tmp_path, monkeypatch, capsys):
    """The status and the lines for an sdist and a wheel, where git tracks TRACKED."""
    monkeypatch.setattr(script, "tracked_files", lambda: TRACKED)

    def run(sdist, wheel):
        written(tmp_path, sdist, wheel)
        status = script.main(tmp_path)
        return status, capsys.readouterr().out.splitlines()

    return run


def test_what_is_complete_passes(check):
    status, lines = check(TRACKED | {"PKG-INFO": b"made"}, WHEEL)
    assert status == 0
    assert lines == ["minizha-1.tar.gz and minizha-1-py3-none-any.whl are complete"]


def without(files, name):
    return {n: content for n, content in files.items() if n != name}


@pytest.mark.parametrize(
    ("sdist", "wheel", "line"),
    [
        (
            without(TRACKED, "vectors/v1/a.safetensors"),
            WHEEL,
            "sdist lacks vectors/v1/a.safetensors",
        ),
        (
            without(TRACKED, ".github/workflows/ci.yml"),
            WHEEL,
            "sdist lacks .github/workflows/ci.yml",
        ),
        (TRACKED | {"model.bin": b""}, WHEEL, "sdist should not have model.bin"),
        (TRACKED | {"LICENSE": b""}, WHEEL, "sdist has another content of LICENSE"),
        (TRACKED, without(WHEEL, "minizha/py.typed"), "wheel lacks minizha/py.typed"),
        (TRACKED, WHEEL | {"vectors/v1/a": b""}, "wheel should not have vectors/v1/a"),
        (
            TRACKED,
            WHEEL | {"minizha/py.typed": b"x"},
            "wheel has another content of minizha/py.typed",
        ),
        (
            TRACKED,
            without(WHEEL, "minizha-1.dist-info/licenses/NOTICE"),
            "wheel: no licence NOTICE",
        ),
    ],
)
def test_what_is_not_complete_is_named(sdist, wheel, line, check):
    assert check(sdist, wheel) == (1, [line])
