"""A process that dies at a given moment of a save, and a look at what it leaves behind."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from minizha.errors import FileError
from minizha.files import read_bytes, write_together

NAMES = ["config.json", "model.safetensors", "vocab.txt"]
NEVER = 10**9


class Killed(BaseException):
    """Nothing runs any more: what cleans up after it gets it again, from its first call on."""


class Kill:
    """From moment ``moment`` on no call does anything: there are two to a call, before and after
    it (for a write: before it, and when half of it is done)."""

    calls = ("mkdir", "open", "fsync", "replace", "unlink", "rmdir")

    def __init__(self, moment):
        self.left, self.trace = moment, []

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for name in self.calls:
            self.patch.setattr(os, name, self.counted(name, getattr(os, name)))
        fdopen = os.fdopen
        self.patch.setattr(os, "fdopen", lambda *arguments: Dying(fdopen(*arguments), self))
        return self

    def __exit__(self, kind, *_):
        self.patch.undo()
        return kind is Killed

    def counted(self, name, function):
        def call(*arguments, **options):
            self.pass_moment()
            self.trace.append((name, *map(str, arguments)))
            result = None if name == "fsync" else function(*arguments, **options)
            if name == "open" and self.left == 0:
                os.close(result)
            self.pass_moment()
            return result

        return call

    def pass_moment(self):
        if self.left == 0:
            raise Killed
        self.left -= 1

    def steps(self):
        """What was done, without the locks; of paths the last part."""
        return [
            (name, *map(os.path.basename, arguments[-1:] if name == "replace" else arguments[:1]))
            for name, *arguments in self.trace
            if name in ("mkdir", "replace", "rmdir", "unlink")
        ]


class Dying:
    def __init__(self, file, kill):
        self.file, self.kill = file, kill

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.kill.trace.append(("write",))
        self.kill.pass_moment()
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        self.kill.pass_moment()
        self.file.write(data[len(data) // 2 :])


def content(which, name):
    return which.encode() * (5000 if name == "model.safetensors" else 7)


def save(which, folder, names=("model.safetensors", "config.json", "vocab.txt")):
    write_together({folder / name: content(which, name) for name in names})


@contextlib.contextmanager
def folder_of_a():
    """A folder with the files of A; in memory where that can be, as a disk is slow at renaming."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as place:
        folder = Path(place, "old")
        folder.mkdir()
        save("A", folder)
        yield folder


def state(folder, read=read_bytes):
    """Whose files they are: "BBB", or "BAB" for a mixture; "-" is none, "?" a part of one."""
    letters = ""
    for name in NAMES:
        try:
            found = read(folder / name)
        except (FileError, FileNotFoundError):
            letters += "-"
        else:
            which = found[:1].decode()
            letters += which if found == content(which, name) else "?"
    return letters


def moments(folder, step):
    """How many there are in ``step(folder)``, which is done on a copy."""
    copy = shutil.copytree(folder, folder.with_name(f"{folder.name} counted"), symlinks=True)
    with Kill(NEVER) as kill:
        step(copy)
    shutil.rmtree(copy)
    return NEVER - kill.left


def killed_everywhere(folder, step):
    """For each moment of ``step(folder)`` a copy of the folder as the kill at it leaves it."""
    for moment in range(moments(folder, step)):
        copy = shutil.copytree(folder, folder.with_name(f"{folder.name} killed"), symlinks=True)
        with Kill(moment):
            step(copy)
        yield copy
        shutil.rmtree(copy)
