"""A committed save whose files are not moved yet; several writers; leftovers of killed writers."""

import errno
import itertools
import os
import threading
from pathlib import Path

import pytest

from minizha import NezhaTokenizer, files, transaction
from minizha.errors import FileError
from minizha.files import current_path, read_bytes, read_current, write_atomic, write_together
from minizha.transaction import COMMITTED
from tests.support.files.killing import (
    NAMES,
    NEVER,
    Kill,
    content,
    folder_of_a,
    killed_everywhere,
    save,
    state,
)

LEFTOVER = ".minizha-0123456789abcdef.tmp"


@pytest.fixture
def old():
    with folder_of_a() as folder:
        yield folder


@pytest.fixture
def committed(old):
    """Model B, committed; none of its files has been moved to its path."""
    with Kill(NEVER) as kill:
        save("B", old)
    save("A", old)
    calls_before = [name for name, *_ in kill.trace].index("replace")
    with Kill(2 * calls_before + 1):  # right after the commit
        save("B", old)
    assert sorted(os.listdir(old)) == [COMMITTED, *NAMES]
    assert (state(old), state(old, Path.read_bytes)) == ("BBB", "AAA")
    return old


def test_readers_only_read(committed):
    with Kill(0):
        assert state(committed) == "BBB"
        assert current_path(committed / "vocab.txt") == committed / COMMITTED / "vocab.txt"
        assert current_path(str(committed / "other")) == committed / "other"
        files.check_file(committed / "vocab.txt")
    os.remove(committed / "vocab.txt")
    assert state(committed) == "BBB"
    os.remove(committed / COMMITTED / "vocab.txt")
    assert state(committed) == "BB-"


def test_a_relative_path(committed, monkeypatch):
    monkeypatch.chdir(committed)
    assert read_bytes("vocab.txt") == content("B", "vocab.txt")
    write_atomic("vocab.txt", content("C", "vocab.txt"))
    assert state(committed) == "BBC"


def test_a_file_moved_between_look_and_open(committed, monkeypatch):
    def find_and_move(path):
        current = transaction.find_current(path)
        transaction.complete_save(str(committed))
        return current

    before = current_path(committed / "vocab.txt")
    monkeypatch.setattr(files, "find_current", find_and_move)
    assert (
        read_current(committed / "vocab.txt", lambda current: Path(current).read_bytes())
        == b"B" * 7
    )
    assert not before.exists()  # opening what current_path() returned would fail now


def test_a_file_that_can_not_be_opened_ends_the_search(committed, monkeypatch):
    def missing(_):
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        read_current(committed / "vocab.txt", missing)
    with pytest.raises(FileNotFoundError):
        read_current(committed / "other", missing)


def test_one_newer_file_is_not_hidden_by_the_save_that_waits(committed, monkeypatch):
    def step(folder):
        write_atomic(folder / "config.json", content("C", "config.json"))

    found = [state(folder) for folder in killed_everywhere(committed, step)]
    assert [key for key, _ in itertools.groupby(found)] == ["BBB", "CBB"]
    # negative control: a writer that does not complete the committed save, a reader without dates
    monkeypatch.setattr(files, "complete_save", lambda _: None)
    monkeypatch.setattr(transaction, "_newer", lambda *_: False)
    step(committed)
    assert state(committed) == "BBB"


# --- files that another program wrote while a save waits -------------------------------------------


def date(path, other, nanoseconds):
    """Give ``path`` the date of ``other``, and some nanoseconds."""
    time = os.stat(other).st_mtime_ns + nanoseconds
    os.utime(path, ns=(time, time))


@pytest.mark.parametrize(("nanoseconds", "expected"), [(-1, "BBB"), (0, "BBB"), (1, "CBB")])
def test_a_file_that_another_program_wrote_is_the_current_one(nanoseconds, expected, committed):
    (committed / "config.json").write_bytes(content("C", "config.json"))
    date(committed / "config.json", committed / COMMITTED / "config.json", nanoseconds)
    assert state(committed) == expected
    # and it survives the next save
    write_atomic(committed / "vocab.txt", content("D", "vocab.txt"))
    assert state(committed, Path.read_bytes) == f"{expected[:2]}D"
    assert sorted(os.listdir(committed)) == NAMES


def test_a_save_is_newer_than_what_it_replaces_even_if_that_is_from_the_future(old):
    for name in NAMES:
        date(old / name, old / name, 10**18)
    found = [state(folder) for folder in killed_everywhere(old, lambda folder: save("B", folder))]
    assert [key for key, _ in itertools.groupby(found)] == ["AAA", "BBB"]
    save("B", old)
    assert state(old, Path.read_bytes) == "BBB"


def test_a_save_of_another_writer_is_not_taken_for_the_older_one(committed, monkeypatch):
    """Between the look at the date and the removal, the save that waits becomes another one."""
    (committed / "config.json").write_bytes(content("C", "config.json"))
    date(committed / "config.json", committed / COMMITTED / "config.json", 1)
    newer, changed = transaction._newer, []

    def look_and_lose(path, than):
        found = newer(path, than)
        if found and not changed:
            changed.append(os.rename(committed / COMMITTED, committed / "elsewhere"))
            (committed / COMMITTED).mkdir()
            (committed / COMMITTED / "config.json").write_bytes(content("D", "config.json"))
            date(committed / COMMITTED / "config.json", committed / "config.json", 1)
        return found

    monkeypatch.setattr(transaction, "_newer", look_and_lose)
    transaction.complete_save(str(committed))
    assert changed
    assert state(committed)[0] == "D"


def test_files_of_several_folders(committed, tmp_path):
    write_together({committed / "vocab.txt": content("C", "vocab.txt"), tmp_path / "f": b"x"})
    assert (state(committed), (tmp_path / "f").read_bytes()) == ("BBC", b"x")
    assert sorted(os.listdir(committed)) == NAMES
    assert os.listdir(tmp_path) == ["f"]


def test_the_tokenizer_too_is_read_from_a_save_that_waits(tmp_path):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "魏"]
    NezhaTokenizer(tokens, do_lower_case=False).save_pretrained(tmp_path / "first")
    (tmp_path / "second").mkdir()
    os.rename(tmp_path / "first", tmp_path / "second" / COMMITTED)
    found = NezhaTokenizer.from_pretrained(tmp_path / "second")
    assert (found.convert_tokens_to_ids("魏"), found.do_lower_case) == (5, False)


def test_a_file_that_can_not_take_its_place(old, monkeypatch):
    """As on Windows, while a program has the old file open."""
    replace = os.replace

    def refuse(source, target):
        if os.path.basename(target) == "model.safetensors":
            raise PermissionError(errno.EACCES, "Permission denied")
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", refuse)
        with pytest.raises(FileError, match=r"model\.safetensors: can't be written: Permission"):
            save("B", old)
        assert (state(old), state(old, Path.read_bytes)) == ("BBB", "BAB")
        with pytest.raises(FileError, match=r"model\.safetensors: can't be written: Permission"):
            save("C", old)
        assert state(old) == "BBB"
    save("C", old)
    assert (state(old), sorted(os.listdir(old))) == ("CCC", NAMES)


def test_a_folder_of_that_name_that_is_no_save(old):
    (old / COMMITTED / "folder" / "in it").mkdir(parents=True)
    (old / "folder").mkdir()
    (old / "folder" / "f").write_bytes(b"untouched")
    with pytest.raises(FileError, match="folder: can't be written"):
        save("B", old)
    assert (state(old), (old / "folder" / "f").read_bytes()) == ("AAA", b"untouched")


def test_a_link_is_no_save(old, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "vocab.txt").write_bytes(b"untouched")
    (old / COMMITTED).symlink_to(tmp_path / "elsewhere")
    assert state(old) == "AAA"
    with pytest.raises(FileError, match=f"{COMMITTED}: can't be written: Not a directory"):
        save("B", old)
    assert state(old) == "AAA"
    assert os.listdir(tmp_path / "elsewhere") == ["vocab.txt"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs two users")
def test_in_a_folder_open_to_all_nobody_saves_for_another(committed):
    os.chown(committed / COMMITTED, 12345, -1)
    assert state(committed) == "BBB"  # a folder that colleagues share
    os.chmod(committed, 0o1777)  # as /tmp
    assert state(committed) == "AAA"
    with pytest.raises(FileError, match=f"{COMMITTED}: can't be written"):
        save("C", committed)
    write_atomic(committed / "vocab.txt", content("C", "vocab.txt"))
    assert (state(committed), state(committed, Path.read_bytes)) == ("AAC", "AAC")


# --- several writers, and leftovers of killed writers ---------------------------------------------


def test_leftovers_of_the_dead_are_removed_and_nothing_else(old, tmp_path):
    (old / LEFTOVER).mkdir()
    (old / LEFTOVER / "model.safetensors").write_bytes(b"half")
    theirs = [".minizha-notes.tmp", LEFTOVER.replace("0", "1"), LEFTOVER.replace("0", "2")]
    (old / theirs[0]).mkdir()
    (old / theirs[1]).symlink_to(tmp_path / "elsewhere")
    (old / theirs[2]).write_bytes(b"a file")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f").touch()
    save("B", old)
    assert sorted(os.listdir(old)) == sorted([*theirs, *NAMES])
    assert os.listdir(tmp_path / "elsewhere") == ["f"]


def test_the_staging_of_the_living_stays(old):
    with transaction.staging(str(old)) as staged:
        transaction.write_synced(os.path.join(staged, "vocab.txt"), content("C", "vocab.txt"))
        save("B", old)
        write_atomic(old / "config.json", content("B", "config.json"))
        assert os.listdir(staged) == ["vocab.txt"]
        transaction.commit(staged, str(old))
    assert (state(old), sorted(os.listdir(old))) == ("BBC", NAMES)


def test_staging_cleared_before_the_lock_was_on_it_is_made_again(old, monkeypatch):
    made, mkdir = [], os.mkdir

    def make_and_lose(path):
        mkdir(path)
        made.append(path)
        if len(made) == 1:
            transaction.clear_leftovers(str(old))
            assert not os.path.exists(path)

    monkeypatch.setattr(os, "mkdir", make_and_lose)
    save("B", old)
    assert (len(made), state(old), sorted(os.listdir(old))) == (2, "BBB", NAMES)


def test_without_locks_nothing_is_taken_for_dead(old, monkeypatch):
    (old / LEFTOVER).mkdir()
    monkeypatch.setattr(transaction, "fcntl", None)
    save("B", old)
    assert (state(old), sorted(os.listdir(old))) == ("BBB", [LEFTOVER, *NAMES])


def test_another_writer_commits_first(old, monkeypatch):
    """The other writer completes its save before this one finds out why its commit failed."""
    replace, lost = os.replace, []

    def lose_once(source, target):
        if os.path.basename(target) != COMMITTED or lost:
            return replace(source, target)
        lost.append(target)
        save("C", old)
        os.mkdir(target)
        Path(target, "vocab.txt").write_bytes(content("C", "vocab.txt"))
        try:
            return replace(source, target)
        finally:
            transaction.complete_save(str(old))
            assert state(old) == "CCC"

    monkeypatch.setattr(os, "replace", lose_once)
    save("B", old)
    assert (len(lost), state(old), sorted(os.listdir(old))) == (1, "BBB", NAMES)


def test_many_writers_at_once(old, monkeypatch):
    """All files are those of the last commit; no reader ever misses a file."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    failures, done = [], threading.Event()

    def run(step):
        try:
            step()
        except BaseException as error:  # noqa: BLE001 (shown below)
            failures.append(error)

    def write(which):
        for _ in range(40):
            save(which, old)

    def read():
        while not done.is_set():
            assert set(state(old)) <= set("ABCD")

    writers = [threading.Thread(target=run, args=[lambda w=w: write(w)]) for w in "BCD"]
    reader = threading.Thread(target=run, args=[read])
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert failures == []
    assert state(old) in ("BBB", "CCC", "DDD")
    assert sorted(os.listdir(old)) == NAMES
