"""``python -m minizha`` is the command, and ``--version`` says what a report needs."""

import os
import platform
import subprocess
import sys
import tomllib
from importlib import metadata

import numpy as np
import pytest

import minizha
from minizha.cli import main
from minizha.versions import describe_blas, describe_versions
from tests.support.paths import ROOT

MODULE = [sys.executable, "-m", "minizha"]


def run(*arguments, path=()):
    """``python -m minizha`` in a process of its own; modules of ``path`` are found first."""
    paths = [*map(str, path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "error"}
    return subprocess.run(
        [*MODULE, *arguments], capture_output=True, text=True, timeout=60, env=environment
    )


def installed(folder, name, version, module):
    """A distribution as pip would leave it in ``folder``, whose module has the given source."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / f"{name.split('-')[0]}.py").write_text(module)


# --- python -m minizha ----------------------------------------------------------------------------


def test_the_module_is_the_command():
    done = run("fill-mask", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: minizha fill-mask [-h]")
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: minizha [-h] [--version] COMMAND")


def test_the_module_hands_on_the_exit_status_and_the_error(tmp_path):
    done = run("info", str(tmp_path / "none"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("minizha: error: ")
    done = run("fill-mask")
    line = "minizha: error: the following arguments are required: TEXT (see minizha fill-mask --help)\n"
    assert (done.returncode, done.stderr) == (2, line)


# --- --version ------------------------------------------------------------------------------------


def test_the_version_names_everything_that_computes_and_reads():
    done = run("--version")
    assert (done.returncode, done.stderr) == (0, "")
    ours, python, numpy, cupy, tokenizers, safetensors = done.stdout.splitlines()
    assert ours == f"minizha {minizha.__version__}"
    assert python.startswith(f"Python {platform.python_version()} (")
    assert numpy.startswith(f"NumPy {np.__version__} (BLAS: ")
    assert cupy.startswith("CuPy ")
    assert tokenizers == f"tokenizers {metadata.version('tokenizers')}"
    assert safetensors == f"safetensors {metadata.version('safetensors')}"


def test_the_version_of_cupy_needs_no_driver(tmp_path):
    source = "raise ImportError('libcuda.so.1: cannot open shared object file')"
    installed(tmp_path, "cupy-cuda12x", "13.4.0", source)
    done = run("--version", path=[tmp_path])
    assert (done.returncode, done.stderr) == (0, "")
    assert "CuPy 13.4.0 (cupy-cuda12x)" in done.stdout


def test_two_installations_of_cupy_are_both_named(tmp_path, monkeypatch):
    installed(tmp_path, "cupy-cuda12x", "13.4.0", "")
    installed(tmp_path, "cupy-cuda13x", "13.6.0", "")
    installed(tmp_path, "cupy-xarray", "0.1.4", "")  # another package
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert "CuPy 13.4.0 (cupy-cuda12x) and 13.6.0 (cupy-cuda13x)\n" in describe_versions()


def test_without_its_libraries_the_version_is_still_said(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    text = describe_versions()
    for line in ("CuPy not installed", "tokenizers not installed", "safetensors not installed"):
        assert line in text.splitlines()
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert "NumPy not installed (can't be imported)" in describe_versions()


@pytest.mark.parametrize(
    ("blas", "expected"),
    [
        (
            {
                "name": "scipy-openblas",
                "version": "0.3.31",
                "openblas configuration": "OpenBLAS 0.3.31 DYNAMIC_ARCH MAX_THREADS=64",
            },
            "BLAS: scipy-openblas 0.3.31, at most 64 threads",
        ),
        ({"name": "accelerate", "version": "unknown"}, "BLAS: accelerate"),
        ({"name": "mkl-sdl", "version": "2023.1"}, "BLAS: mkl-sdl 2023.1"),
        ({}, "BLAS: unknown"),
    ],
)
def test_every_blas_is_described_as_far_as_numpy_knows_it(blas, expected):
    assert describe_blas({"Build Dependencies": {"blas": blas}}) == expected
    assert describe_blas({}) == "BLAS: unknown"


def test_only_the_version_pays_for_finding_versions(capsys):
    code = (
        "import sys, minizha.cli\n"
        "try: minizha.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print({'minizha.versions', 'numpy', 'cupy'} & set(sys.modules), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "set()\n")
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == describe_versions() + "\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_version_that_can_not_be_written_is_an_error():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*MODULE, "--version"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    line = "minizha: error: can't write the output: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, line)


def test_tox_tests_the_lower_bounds_of_the_dependencies():
    content = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    bounds = [bound.replace(">=", "==") for bound in content["project"]["dependencies"]]
    assert content["tool"]["tox"]["env"]["lower"]["deps"] == bounds
