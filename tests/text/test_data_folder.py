"""A folder that is damaged, foreign or of another version is refused by the name of the file."""

import hashlib
import json

import numpy as np
import pytest

from minizha.errors import FileError
from minizha.text import data_folder
from minizha.text.data_folder import WRITTEN, read_data
from minizha.transaction import COMMITTED
from tests.support.prepared import prepared


@pytest.fixture
def folder(tmp_path):
    return prepared(tmp_path)


def rewrite(folder, **changed):
    record = json.loads((folder / "data.json").read_text("utf-8")) | changed
    (folder / "data.json").write_text(json.dumps(record), "utf-8")


def forge(folder, name, change):
    """Change a file's numbers, and its hash in data.json with them."""
    kind = "u1" if name == "tokens.bin" else "<i8"
    data = np.asarray(change(np.fromfile(folder / name, kind))).astype(kind).tobytes()
    (folder / name).write_bytes(data)
    files = json.loads((folder / "data.json").read_text("utf-8"))["files"]
    rewrite(
        folder,
        files=files | {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}},
    )


@pytest.mark.parametrize("name", [name for name in WRITTEN if name != "data.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "longer", "changed", "empty"])
def test_a_damaged_file_is_named(name, damage, folder):
    read_data(folder)  # the control
    path = folder / name
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = len(data) // 2
        changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        wrong = {"cut": data[:-1], "longer": data + b"\0", "changed": changed, "empty": b""}
        path.write_bytes(wrong[damage])
    with pytest.raises(FileError) as caught:
        read_data(folder)
    assert str(caught.value).startswith(f"{path}")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tokens.bin", lambda a: np.full_like(a, 255), "expected ids below .*, found 255"),
        ("sentences.bin", lambda a: a[::-1], "expected rising numbers"),
        ("sentences.bin", lambda a: a + 1, "expected numbers from 0 to"),
        ("sentences.bin", lambda a: a[:-1], "expected numbers from 0 to"),
        ("documents.bin", lambda a: np.sort(np.append(a, 1)), "expected rising numbers"),
        ("documents.bin", lambda a: a - 1, "expected (numbers from 0|rising)"),
        ("openers.bin", lambda a: a + 1, "expected what follows from documents.bin"),
        ("openers.bin", lambda a: a[:-1], "expected what follows from documents.bin"),
    ],
)
def test_numbers_that_lead_nowhere_are_refused(name, change, message, folder):
    forge(folder, name, lambda a: a)
    read_data(folder)  # the control
    forge(folder, name, change)
    with pytest.raises(FileError, match=f"{name}: {message}"):
        read_data(folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": "another"}, "expected the format 'minizha prepared corpus', found 'another'"),
        ({"version": 2}, "expected version 1, found 2; prepare the corpus again"),
        ({"version": None}, "expected version 1, found None"),
        ({"counts": {"documents": 1}}, "counts: expected what"),
        ({"counts": None, "files": [], "left_out": 3}, "counts, left_out, files: expected what"),
        ({"files": {}}, "files: expected what"),
        ({"held_out": -1}, "held_out: expected what"),
        ({"held_out": True}, "held_out: expected what"),
        ({"held_out_sentences": [1]}, "held_out_sentences: expected what"),
        ({"options": []}, "options: expected what"),
        ({"train_documents": 0}, "train_documents: expected a number in"),
        ({"train_documents": 10}, "train_documents: expected a number in"),
    ],
)
def test_a_wrong_record(changed, message, folder):
    rewrite(folder)
    read_data(folder)  # the control
    rewrite(folder, **changed)
    with pytest.raises(FileError, match=f"data.json: {message}"):
        read_data(folder)


def test_folders_of_others(tmp_path, folder):
    with pytest.raises(
        FileError, match="a folder that `minizha prepare` wrote; found a folder with"
    ):
        read_data(tmp_path)
    for content in ("", "[]", "{", '{"architectures": 1}'):
        (folder / "data.json").write_text(content)
        with pytest.raises(FileError, match=r"data\.json: "):
            read_data(folder)


def test_a_folder_that_a_kill_left_committed_but_not_moved(folder):
    packed = read_data(folder)[0].packed
    committed = folder / COMMITTED
    committed.mkdir()
    for name in WRITTEN:
        (folder / name).rename(committed / name)
    found = read_data(folder)[0].packed
    assert all(np.array_equal(a, b) for a, b in zip(found, packed, strict=True))


def test_the_parts_in_which_it_is_checked_change_nothing(folder, monkeypatch):
    monkeypatch.setattr(data_folder, "_CHUNK", 3)
    read_data(folder)
    forge(folder, "sentences.bin", lambda a: np.concatenate([a[:3], a[3:] - (a[3] - a[2])]))
    with pytest.raises(FileError, match=r"sentences\.bin: expected rising numbers"):
        read_data(folder)
