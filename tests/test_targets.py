"""Targets: judged before the work, links followed, and never what is read."""

import os

import pytest

from minizha.errors import ArgumentError, FileError
from minizha.files import write_atomic
from minizha.targets import check_target, check_target_folder, free_folder, refuse_to_overwrite
from minizha.transaction import COMMITTED

links = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")


def test_good_targets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "broken").symlink_to("nothing")
    for name in ("file", "link", "broken", "new", tmp_path / "new"):
        check_target(name)
        write_atomic(name, b"y")
    check_target_folder("a/b/c", ["x"])
    check_target_folder(tmp_path, ["file", "other"])
    assert sorted(os.listdir()) == ["broken", "file", "link", "new"]


def test_bad_targets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "to folder").symlink_to("folder")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo("pipe")
    for name, reason in {
        "no/x": "No such file or directory: no",
        "file/x": "Not a directory",
        "folder": "it is a folder",
        "to folder": "it is a folder",
        "loop": "too many levels of symbolic links",
        "pipe": "it is a pipe or a device",
        "x\0": "null",
    }.items():
        for refuse in (check_target, lambda path: write_atomic(path, b"y")):
            with pytest.raises(FileError, match=reason) as caught:
                refuse(name)
            assert str(caught.value).startswith(f"{name}: can't be written: ")
    assert sorted(os.listdir()) == ["file", "folder", "loop", "pipe", "to folder"]
    for name in ("file", "file/a/b"):
        with pytest.raises(
            FileError, match=f"^{name}: expected a folder, can't make it: file is a"
        ):
            check_target_folder(name)
    with pytest.raises(FileError, match=r"^pipe: can't be written"):
        check_target_folder(".", ["new", "pipe"])


def test_a_folder_that_may_only_be_read(tmp_path, monkeypatch):
    """The superuser may write everywhere, so the system's answer is simulated."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(FileError, match=r"x: can't be written: the folder .* is read-only"):
        check_target(tmp_path / "x")
    with pytest.raises(FileError, match=r"x/y: can't be written: the folder .* is read-only"):
        check_target_folder(tmp_path / "x" / "y")


@links
@pytest.mark.parametrize("redirected", ["to a file", "to a pipe"])
@pytest.mark.parametrize("chain", [1, 2])
def test_links_to_streams_are_refused_wherever_they_lead(chain, redirected, tmp_path):
    """As /dev/stdout is a link to /proc/self/fd/1; the tests leave the real one alone."""
    reading, writing = os.pipe()
    if redirected == "to a file":
        os.dup2(os.open(tmp_path / "output", os.O_WRONLY | os.O_CREAT), writing)
    (tmp_path / "1").symlink_to(f"/proc/self/fd/{writing}")
    (tmp_path / "2").symlink_to("1")
    try:
        with pytest.raises(FileError, match="a pipe or a device"):
            write_atomic(tmp_path / str(chain), b"x")
    finally:
        os.close(reading)
        os.close(writing)
    assert (tmp_path / "1").is_symlink()
    assert (tmp_path / "2").is_symlink()


@links
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/stderr", "/dev/fd/1", "/proc/self/fd/1"])
def test_the_streams_of_the_machine(name):
    if os.path.islink(name):
        with pytest.raises(FileError, match=f"^{name}: can't be written: "):
            check_target(name)


def test_a_link_to_a_device_stays(tmp_path):
    (tmp_path / "x").symlink_to(os.devnull)
    with pytest.raises(FileError, match="it is a pipe or a device"):
        write_atomic(tmp_path / "x", b"y")
    assert (tmp_path / "x").is_symlink()


def test_what_is_read_is_known_under_every_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "read").write_text("x")
    (tmp_path / "link").symlink_to("read")
    (tmp_path / "folder").symlink_to(tmp_path)
    os.link("read", "hard link")
    for name in ("read", "./read", "link", "folder/read", "hard link", tmp_path / "read"):
        with pytest.raises(ArgumentError, match=r"--out: expected another file, found .*which the"):
            refuse_to_overwrite("--out", name, "else", "read")
    for name in ("other", "no/read", "folder/other"):
        refuse_to_overwrite("--out", name, "read", "nothing", "nowhere/read")


def test_what_is_read_from_a_save_that_waits(tmp_path):
    (tmp_path / COMMITTED).mkdir()
    (tmp_path / COMMITTED / "x").write_text("x")
    with pytest.raises(ArgumentError, match="expected another file"):
        refuse_to_overwrite("--out", tmp_path / "x", tmp_path / "x")
    with pytest.raises(ArgumentError, match="expected another file"):
        refuse_to_overwrite("--out", tmp_path / COMMITTED / "x", tmp_path / "x")


def test_a_free_name_beside_a_folder(tmp_path, monkeypatch):
    assert free_folder(tmp_path / "m", "new") == tmp_path / "m-new"
    (tmp_path / "m-new").symlink_to("nothing")
    assert free_folder(f"{tmp_path}/m/", "new") == tmp_path / "m-new-2"
    monkeypatch.chdir(tmp_path)
    assert free_folder(".", "new") == tmp_path.with_name(f"{tmp_path.name}-new")
