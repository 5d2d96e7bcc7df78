"""What a folder may hold before a run, and where a model is saved if its folder can't be used."""

import os
import tempfile

import pytest

from minizha.errors import ArgumentError, FileError
from minizha.training.keeping import (
    WRITTEN,
    check_out,
    save_somewhere,
)
from minizha.transaction import COMMITTED


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The temporary folder and the home directory."""
    for name in ("temporary", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def full(*words):
    """A save that fails in folders whose paths hold one of these words, or end with it."""

    def save(place):
        if any(f"/{word}/" in f"{place}/" for word in words):
            raise FileError(f"{place}: no space")
        place.mkdir(exist_ok=True)
        (place / "config.json").write_text("new")

    return save


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("holds", [None, "config.json", "pytorch_model.bin", "vocab.txt"])
def test_a_model_is_replaced_only_if_that_is_wanted(holds, replace, tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    if holds:
        (folder / holds).write_text("old")
    place, fault = save_somewhere(folder, full(), replace=replace)
    replaced = holds is None or replace
    assert (place, fault) == (folder if replaced else tmp_path / "m-interrupted", "")
    if holds and not replaced:
        assert [(p.name, p.read_text()) for p in folder.iterdir()] == [(holds, "old")]
        # and a second one spares the first
        place, _ = save_somewhere(folder, full(), replace=replace)
        assert place == tmp_path / "m-interrupted-2"


@pytest.mark.usefixtures("elsewhere")
def test_a_full_disk_sends_the_model_to_another(tmp_path):
    save = full("m")
    place, fault = save_somewhere(tmp_path / "m", save, replace=False)
    assert place.parent == tmp_path / "temporary"
    assert (place / "config.json").read_text() == "new"
    assert fault == f"{tmp_path / 'm'}: no space"
    save = full("m", "temporary")
    place, fault = save_somewhere(tmp_path / "m", save, replace=False)
    assert place.parent == tmp_path / "home"
    assert fault.count("no space") == 2
    with pytest.raises(FileError, match=r"no space; .*no space; .*no space"):
        save_somewhere(tmp_path / "m", full("m", "temporary", "home"), replace=False)
    assert len(os.listdir(tmp_path / "temporary")) == 1  # nothing empty is left
    assert len(os.listdir(tmp_path / "home")) == 1


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json", "loss.csv"])
@pytest.mark.parametrize("waiting", [False, True])
def test_a_folder_that_holds_a_part_of_a_run(waiting, name, tmp_path):
    folder = tmp_path / "m"
    check_out(folder, None, overwrite=False)
    inner = folder / COMMITTED if waiting else folder
    inner.mkdir(parents=True)
    (inner / name).write_text("old")
    with pytest.raises(FileError, match=f"m: already holds {name}; --overwrite .* --out names"):
        check_out(folder, None, overwrite=False)
    check_out(folder, None, overwrite=True)
    assert not (tmp_path / "m-interrupted").exists()


@pytest.mark.parametrize("name", WRITTEN)
def test_the_corpus_is_not_overwritten(name, tmp_path):
    with pytest.raises(ArgumentError, match="--out: expected another file"):
        check_out(tmp_path, str(tmp_path / name), overwrite=True)
    check_out(tmp_path, str(tmp_path / "corpus.txt"), overwrite=True)
