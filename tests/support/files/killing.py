"""Simulate a kill at a given moment of a save, and examine the files that it leaves."""

import contextlib
import os
import shutil
from pathlib import Path

import pytest

from minizha.errors import FileError
from minizha.files import read_bytes, write_together
from tests.support.files.scratch import FileProxy, temporary_folder

NAMES = ["config.json", "model.safetensors", "vocab.txt"]
NEVER = 10**9


class Killed(BaseException):
    """Simulates a killed process: every later call to the system raises it again."""


class Kill:
    """From moment number ``moment`` on, no call to the system does anything.

    A call has two moments, before and after it; a write has them before it and halfway through.
    """

    calls = ("mkdir", "open", "fsync", "replace", "unlink", "rmdir")

    def __init__(self, moment):
        self.moments_left, self.trace = moment, []

    def __enter__(self):
        self.patch = pytest.MonkeyPatch()
        for name in self.calls:
            self.patch.setattr(os, name, self.counted(name, getattr(os, name)))
        fdopen = os.fdopen
        self.patch.setattr(os, "fdopen", lambda *arguments: DyingFile(fdopen(*arguments), self))
        return self

    def __exit__(self, kind, *_):
        self.patch.undo()
        return kind is Killed

    def counted(self, name, function):
        def call(*arguments, **options):
            self.pass_moment()
            self.trace.append((name, *map(str, arguments)))
            result = None if name == "fsync" else function(*arguments, **options)
            if name == "open" and self.moments_left == 0:
                os.close(result)
            self.pass_moment()
            return result

        return call

    def pass_moment(self):
        if self.moments_left == 0:
            raise Killed
        self.moments_left -= 1

    def steps(self):
        """The calls that change the folder, with the last part of each path."""
        return [
            (name, *map(os.path.basename, arguments[-1:] if name == "replace" else arguments[:1]))
            for name, *arguments in self.trace
            if name in ("mkdir", "replace", "rmdir", "unlink")
        ]


class DyingFile(FileProxy):
    def __init__(self, file, kill):
        super().__init__(file)
        self.kill = kill

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
    """A folder with the files of A."""
    with temporary_folder() as parent:
        folder = Path(parent, "old")
        folder.mkdir()
        save("A", folder)
        yield folder


def state(folder, read=read_bytes):
    """The save that each file is from: "BBB", or "BAB" for a mixture; "-" no file, "?" half a file."""
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
    """The number of moments in ``step(folder)``, counted on a copy."""
    copy = shutil.copytree(folder, folder.with_name(f"{folder.name} counted"), symlinks=True)
    with Kill(NEVER) as kill:
        step(copy)
    shutil.rmtree(copy)
    return NEVER - kill.moments_left


def killed_everywhere(folder, step):
    """For each moment of ``step(folder)``, a copy of the folder as a kill at that moment leaves it."""
    for moment in range(moments(folder, step)):
        copy = shutil.copytree(folder, folder.with_name(f"{folder.name} killed"), symlinks=True)
        with Kill(moment):
            step(copy)
        yield copy
        shutil.rmtree(copy)
