"""Files: a reader never finds half a file, and every error names the path."""

import errno
import os

import pytest

from minizha.errors import FileError
from minizha.files import decode_utf8, read_bytes, read_json_object, write_atomic


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "f"
    write_atomic(path, b"old")
    write_atomic(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["f"]


def test_relative_name_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomic("f", b"x")
    assert (tmp_path / "f").read_bytes() == b"x"


def test_mode_follows_the_umask(tmp_path):
    previous = os.umask(0o027)
    try:
        write_atomic(tmp_path / "f", b"x")
    finally:
        os.umask(previous)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o640


def test_name_as_long_as_the_file_system_allows(tmp_path):
    write_atomic(tmp_path / ("n" * 255), b"x")
    assert os.listdir(tmp_path) == ["n" * 255]


def test_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "target").write_bytes(b"untouched")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomic(tmp_path / "link", b"x")
    assert (tmp_path / "target").read_bytes() == b"untouched"
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_bytes() == b"x"


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_failure_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, step, error):
    path = tmp_path / "f"
    path.write_bytes(b"old")

    def fail(*_):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(os, step, fail)
        with pytest.raises((FileError, KeyboardInterrupt)) as caught:
            write_atomic(path, b"new")
    if isinstance(error, OSError):
        assert str(caught.value) == f"{path}: can't be written: No space left on device"
    assert os.listdir(tmp_path) == ["f"]
    assert path.read_bytes() == b"old"


def test_data_and_folder_reach_the_disk_in_order(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (events.append("fsync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (events.append("replace"), replace(a, b)))
    write_atomic(tmp_path / "f", b"x")
    assert events == ["fsync", "replace", "fsync"]


def test_bad_targets(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, reason in {
        "missing/f": "No such file",
        "folder": "it is a folder",
        "pipe": "a pipe or a device",
        "nul\0": "null",
    }.items():
        path = os.path.join(tmp_path, name)
        with pytest.raises(FileError, match=reason) as caught:
            write_atomic(path, b"x")
        assert path in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["folder", "pipe"]


def test_devices_are_not_replaced():
    with pytest.raises(FileError, match="a pipe or a device"):
        write_atomic(os.devnull, b"x")
    with pytest.raises(FileError, match="a pipe or a device"):
        read_bytes(os.devnull)


def test_text_instead_of_bytes_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        write_atomic(tmp_path / "f", "text")
    assert os.listdir(tmp_path) == []


def test_reading(tmp_path):
    path = tmp_path / "f"
    path.write_bytes("一\n二".encode() + b"\xff")
    with pytest.raises(FileError, match="f, line 2: expected UTF-8 text, found the byte 0xff"):
        decode_utf8(read_bytes(path), path)
    assert decode_utf8(read_bytes(path)[:-1], path) == "一\n二"
    with pytest.raises(FileError, match=r"missing: can't be read: No such file"):
        read_bytes(tmp_path / "missing")
    with pytest.raises(FileError, match="expected a file, found a folder"):
        read_bytes(tmp_path)


def test_a_file_of_more_bytes_than_allowed(tmp_path):
    path = tmp_path / "f.json"
    path.write_bytes(b'{"a": 1}')
    assert read_bytes(path, 8) == path.read_bytes()
    assert read_json_object(path, 8) == {"a": 1}
    for read in (read_bytes, read_json_object):
        with pytest.raises(FileError, match=r"f\.json: expected at most 7 bytes, found 8$"):
            read(path, 7)
    os.truncate(path, 2**40)  # the file takes no space on the disk
    with pytest.raises(
        FileError, match="expected at most 67,108,864 bytes, found 1,099,511,627,776"
    ):
        read_json_object(path)
