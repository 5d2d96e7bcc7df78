"""A save is complete or changes nothing, whatever disk, user or memory layout do."""

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from minizha import NezhaConfig, NezhaForPreTraining
from minizha.backend import to_host
from minizha.checkpoint.safetensors_file import to_safetensors
from minizha.errors import FileError, MinizhaError
from tests.support.files.scratch import FileProxy
from tests.support.tiny_models import SMALL

FILES = ["config.json", "model.safetensors"]


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def old(tmp_path):
    """A folder with a model whose files no failure may change."""
    NezhaForPreTraining(SMALL, seed=1).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def new():
    return NezhaForPreTraining(SMALL.replace(vocab_size=13), seed=2)


class FullDisk(FileProxy):
    """Files that take ``room`` bytes in all, and then no more."""

    room = 0

    def write(self, data):
        FullDisk.room -= len(data)
        if FullDisk.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(data)


@pytest.mark.parametrize("room", [0, 100, 7000])
def test_a_full_disk(room, old, new, monkeypatch):
    """The last disk has room for the larger of the two files only."""
    before, fdopen = content(old), os.fdopen
    FullDisk.room = room
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdopen", lambda *a, **k: FullDisk(fdopen(*a, **k)))
        with pytest.raises(
            FileError, match=r"can't be written: No space left on device$"
        ) as caught:
            new.save_pretrained(old)
    assert str(old / FILES[room < 7000]) in str(caught.value)
    assert content(old) == before
    new.save_pretrained(old)
    assert content(old) != before


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_disk_that_fails(call, error, old, new, monkeypatch):
    before = content(old)

    def fail(*_, **__):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(os, call, fail)
        with pytest.raises((FileError, KeyboardInterrupt)):
            new.save_pretrained(old)
    assert content(old) == before


FILL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from minizha import NezhaForPreTraining, NezhaConfig, MinizhaError
model = NezhaForPreTraining.from_pretrained(sys.argv[1]).astype("float64")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    model.save_pretrained(sys.argv[1])
except MinizhaError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_real_limit_of_the_system(old):
    before = content(old)
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(old), "4000"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    path = old / "model.safetensors"
    assert done.stdout == f"FileError {path}: can't be written: File too large\n"
    assert content(old) == before
    done = subprocess.run(
        [sys.executable, "-c", FILL, str(old), "4000000"], capture_output=True, text=True
    )
    assert done.stdout == done.stderr == ""
    assert content(old) != before


@pytest.mark.parametrize("moves", [1, 2, 3])
def test_ctrl_c_between_the_two_files_waits_for_the_second(moves, old, new, monkeypatch):
    replaced, replace = [], os.replace

    def interrupt_after(source, target):
        replace(source, target)
        replaced.append(os.path.basename(target))
        if len(replaced) == moves:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(os, "replace", interrupt_after)
    with pytest.raises(KeyboardInterrupt):
        new.save_pretrained(old)
    assert replaced == [".minizha-save", *FILES]
    loaded = NezhaForPreTraining.from_pretrained(old)
    assert loaded.config.vocab_size == 13
    assert sorted(os.listdir(old)) == FILES
    # the old handler is restored
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_places_that_can_not_be_written(old, new):
    (old / "folder.safetensors").mkdir()
    os.remove(old / "model.safetensors")
    (old / "folder.safetensors").rename(old / "model.safetensors")
    config = (old / "config.json").read_bytes()
    with pytest.raises(FileError, match=r"model\.safetensors: can't be written: it is a folder"):
        new.save_pretrained(old)
    assert sorted(os.listdir(old)) == FILES
    assert (old / "config.json").read_bytes() == config
    for path, reason in (
        (old / "config.json", "File exists"),
        (old / "config.json" / "x", "Not a directory"),
        ("/proc/minizha", "No such file|Permission|Read-only"),
    ):
        with pytest.raises(FileError, match=f"^{path}: expected a folder, can't make it: {reason}"):
            new.save_pretrained(path)


def test_a_folder_that_may_not_be_written(old, new, monkeypatch):
    """The superuser may write everywhere, so the system's answer is simulated."""
    before = content(old)
    real = os.open

    def forbidden(path, flags, *arguments, **options):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(FileError, match=r"model\.safetensors: can't be written: Permission denied"):
        new.save_pretrained(old)
    assert content(old) == before


def test_a_value_that_can_not_be_written_leaves_the_old_files(old):
    before = content(old)
    model = NezhaForPreTraining(NezhaConfig.from_dict(SMALL.to_dict() | {"note": object()}))
    with pytest.raises(MinizhaError, match="can't be written as JSON"):
        model.save_pretrained(old)
    with pytest.raises(MinizhaError, match="a complex128 model is for differentiation only"):
        NezhaForPreTraining(SMALL, dtype="complex128").save_pretrained(old)
    assert content(old) == before


def test_mode_and_links(tmp_path, new):
    (tmp_path / "elsewhere").write_bytes(b"untouched")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    previous = os.umask(0o027)
    try:
        new.save_pretrained(tmp_path)
    finally:
        os.umask(previous)
    assert (tmp_path / "elsewhere").read_bytes() == b"untouched"
    for name in FILES:
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o640
        assert not (tmp_path / name).is_symlink()


def test_a_linked_folder_is_followed(tmp_path, new):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    new.save_pretrained(tmp_path / "link")
    assert sorted(os.listdir(tmp_path / "real")) == FILES


LAYOUTS = {
    "transposed": lambda a: a.T.copy().T,
    "every other column": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "from the back": lambda a: a[::-1].copy()[::-1],
    "read-only": lambda a: (copy := a.copy(), copy.setflags(write=False))[0],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_are_saved_by_value_not_as_they_lie(layout, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"a": rng.standard_normal((3, 5)), "b": rng.standard_normal(4)}
    odd = {name: LAYOUTS[layout](array) for name, array in arrays.items()}
    (tmp_path / "f").write_bytes(to_safetensors(odd))
    found = load_file(tmp_path / "f")
    assert all(np.array_equal(found[name], array) for name, array in arrays.items())


def test_odd_parameters_of_a_model_are_saved_right(tmp_path, backend):
    model = NezhaForPreTraining(SMALL, dtype="float64", backend=backend, seed=3)
    name = "nezha.pooler.dense.weight"
    model.parameters.nezha.pooler.dense.weight = model.state_dict()[name].T
    expected = to_host(model.state_dict()[name]).copy()
    model.save_pretrained(tmp_path)
    loaded = NezhaForPreTraining.from_pretrained(tmp_path, backend=backend)
    assert np.array_equal(to_host(loaded.state_dict()[name]), expected)


def test_the_same_model_gives_the_same_bytes(tmp_path, new):
    new.save_pretrained(tmp_path / "a")
    new.save_pretrained(tmp_path / "b" / "c")
    assert content(tmp_path / "a") == content(tmp_path / "b" / "c")
