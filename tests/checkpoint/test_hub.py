"""Hub ids: huggingface_hub and its cache, with a hub on this machine."""

import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import huggingface_hub
import pytest

from minizha import NezhaTokenizer
from minizha.checkpoint.hub import MODEL_FILES, local_folder
from minizha.errors import ArgumentError, CheckpointWarning, FileError
from minizha.text.vocabulary import SPECIAL_TOKENS
from tests.support.files.hub_server import BIG, HubServer

NAME = "someone/nezha"
CONFIG = b'{"model_type": "nezha"}'
WEIGHTS = b"weights " * BIG  # large enough to be redirected
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = json.dumps({"metadata": {}, "weight_map": dict(zip("ab", SHARDS, strict=True))}).encode()
# before version 1, huggingface_hub requests a file's metadata six times, does not resume a download,
# and leaves sockets open
OLD = huggingface_hub.__version__.startswith("0.")
PATIENCE = 30 if OLD else 0
pytestmark = (
    [pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")] if OLD else []
)


@pytest.fixture(scope="module", autouse=True)
def leave_no_sockets():
    yield
    gc.collect()  # sockets left open are reported here, not in the tests of another file


VOCABULARY = "\n".join([*SPECIAL_TOKENS, *"中国天下"]).encode()


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """Without this machine's variables and cache."""
    for name in os.environ:
        if name.startswith("HF_") or name == "TRANSFORMERS_OFFLINE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def hub(monkeypatch):
    with HubServer() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def no_waiting(monkeypatch):
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    return waits


def model(name=NAME, **options):
    return local_folder(name, MODEL_FILES, **options)


def names(folder):
    return sorted(os.listdir(folder))


# --- what is fetched ----------------------------------------------------------------------------


def test_a_folder_is_taken_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "org").mkdir()
    (tmp_path / "org" / "name").mkdir()
    for name in ("org/name", tmp_path / "org", str(tmp_path), "."):
        assert os.path.samefile(model(name), name)
    code = (
        "import sys; from minizha.checkpoint.hub import local_folder; local_folder('.', ());"
        "sys.exit('huggingface_hub' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


FILES = {
    "safetensors": {"model.safetensors": WEIGHTS},
    "shards": {
        "model.safetensors.index.json": INDEX,
        SHARDS[0]: WEIGHTS,
        SHARDS[1]: b"little",
    },
    "bin": {"pytorch_model.bin": WEIGHTS},
    "shards of bin": {
        "pytorch_model.bin.index.json": INDEX.replace(b"safetensors", b"bin"),
        SHARDS[0].replace("safetensors", "bin"): b"x",
        SHARDS[1].replace("safetensors", "bin"): WEIGHTS,
    },
}


class Broken:
    """A stderr whose reader is gone."""

    encoding = "utf-8"

    def write(self, _):
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self):
        self.write("")

    def isatty(self):
        return False


@pytest.mark.parametrize("stream", [None, Broken()], ids=["none", "broken"])
def test_a_download_needs_no_stderr(stream, hub, monkeypatch):
    hub.commit(NAME, {"config.json": CONFIG, "model.safetensors": WEIGHTS})
    monkeypatch.setattr(sys, "stderr", stream)
    assert (model() / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("layout", FILES)
def test_the_files_of_a_model(hub, layout):
    files = {"config.json": CONFIG, **FILES[layout]}
    commit = hub.commit(NAME, {**files, "README.md": b"not wanted", "tf_model.h5": WEIGHTS})
    folder = model()
    assert folder.name == commit
    assert {name: (folder / name).read_bytes() for name in names(folder)} == files
    assert sorted(
        file.split("/")[-1] for file in hub.requested("GET") if "storage" not in file
    ) == [name for name in sorted(files) if len(files[name]) <= BIG]


def test_the_first_of_the_alternatives(hub):
    files = {name: b"1" for row in MODEL_FILES for name in row}
    for name in MODEL_FILES[1]:
        if not name.endswith("index.json"):
            hub.commit(NAME, files)
            assert names(model()) == sorted(["config.json", name])
        del files[name]


def test_a_name_without_an_organisation(hub):
    hub.commit("nezha", {"config.json": CONFIG, "model.safetensors": b"1"})
    assert names(model("nezha")) == ["config.json", "model.safetensors"]


def test_optional_files(hub):
    hub.commit(NAME, {"a.txt": b"1", "c.txt": b"3"})
    assert names(local_folder(NAME, [["a.txt"]], ["b.txt", "c.txt"])) == ["a.txt", "c.txt"]
    assert names(local_folder(NAME, [["no.txt", "a.txt"]])) == ["a.txt", "c.txt"]


def test_revisions(hub):
    old = hub.commit(NAME, {"config.json": CONFIG, "pytorch_model.bin": b"old"}, "v1")
    hub.commit(NAME, {"config.json": CONFIG, "pytorch_model.bin": b"pull"}, "refs/pr/1")
    new = hub.commit(NAME, {"config.json": CONFIG, "pytorch_model.bin": b"new"})
    for revision, content in {
        None: b"new",
        "main": b"new",
        "v1": b"old",
        "refs/pr/1": b"pull",
    }.items():
        assert (model(revision=revision) / "pytorch_model.bin").read_bytes() == content
        offline = model(revision=revision, local_files_only=True)
        assert (offline / "pytorch_model.bin").read_bytes() == content
    assert model(revision=old).name == old != new


def test_all_files_are_of_one_commit(hub, monkeypatch):
    """The branch gets a new commit while the files are fetched."""
    old = hub.commit(NAME, {"config.json": b"old", "model.safetensors": b"old"})
    from minizha.checkpoint.repository import Repository

    download = Repository._download

    def download_and_commit(self, file, revision):
        path = download(self, file, revision)
        hub.commit(NAME, {"config.json": b"new", "model.safetensors": b"new"})
        return path

    monkeypatch.setattr(Repository, "_download", download_and_commit)
    folder = model()
    assert folder.name == old
    assert [(folder / name).read_bytes() for name in names(folder)] == [b"old", b"old"]
    # the control: the next call fetches the new commit
    assert (model() / "config.json").read_bytes() == b"new"


def test_a_new_commit_is_seen_and_only_what_changed_is_fetched(hub):
    hub.commit(NAME, {"config.json": CONFIG, "model.safetensors": b"old"})
    model()
    hub.requests.clear()
    hub.commit(NAME, {"config.json": CONFIG, "model.safetensors": b"new"})
    assert (model() / "model.safetensors").read_bytes() == b"new"
    assert [file.split("/")[-1] for file in hub.requested("GET")] == ["model.safetensors"]


def test_a_repository_that_was_renamed(hub):
    hub.faults = dict.fromkeys(["config.json", "model.safetensors"], "moved")
    hub.commit("moved/ezha", {"config.json": CONFIG, "model.safetensors": b"1"})
    assert names(model()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("variable", [None, "hf_other"])
def test_a_token_that_is_passed_is_sent(variable, hub, monkeypatch):
    """Before that of the variable; False sends none."""
    if variable:
        monkeypatch.setenv("HF_TOKEN", variable)
    hub.commit(NAME, {"config.json": CONFIG, "model.safetensors": WEIGHTS})
    model(token=False)
    assert hub.tokens == set()
    hub.commit(NAME, {"config.json": CONFIG + b" ", "model.safetensors": WEIGHTS + b" "})
    model(token="hf_secret")
    assert hub.tokens == {"hub"}


def test_the_token_stays_with_the_hub(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.commit(NAME, {"config.json": CONFIG, "model.safetensors": WEIGHTS})
    model()
    assert "storage model.safetensors" in hub.requested("GET")
    assert hub.tokens == {"hub"}


# --- the cache ----------------------------------------------------------------------------------


def fetched(hub):
    """Fetch a pytorch_model.bin, as released checkpoints have it, into the cache."""
    hub.commit(NAME, {"config.json": CONFIG, "pytorch_model.bin": WEIGHTS})
    folder = model()
    hub.requests.clear()
    return folder


def test_the_second_time_only_the_revision_is_asked(hub):
    folder = fetched(hub)
    assert model() == folder
    assert hub.requests == [("HEAD", f"{NAME}@main/config.json")]
    assert model(revision=folder.name) == folder
    assert len(hub.requests) == 1  # a commit never changes


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", None])
def test_offline(hub, variable, monkeypatch):
    with pytest.raises(FileError, match=r"someone/nezha: .*config\.json .* in the cache"):
        model(local_files_only=True)
    folder = fetched(hub)
    hub.stop()
    options = {}
    if variable:
        monkeypatch.setenv(variable, "1")
    else:
        options["local_files_only"] = True
    assert model(**options) == folder
    assert model(**options, revision=folder.name) == folder
    because = f"offline: {variable} is set" if variable else "local_files_only=True"
    with pytest.raises(FileError, match=f"no such folder, .*revision 'v2' .*{because}"):
        model(**options, revision="v2")
    with pytest.raises(FileError, match=f"other/x: no such folder, .*{because}"):
        model("other/x", **options)
    assert hub.requests == []


def test_off_is_not_offline(hub, monkeypatch):
    hub.commit(NAME, {"config.json": CONFIG, "pytorch_model.bin": WEIGHTS})
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert names(model()) == ["config.json", "pytorch_model.bin"]


@pytest.mark.parametrize("trouble", ["down", 500, 503, 429, "short answer", "web page", "no etag"])
def test_out_of_reach_the_cache_serves_and_says_so(hub, trouble, no_waiting):
    folder = fetched(hub)
    if trouble == "down":
        hub.stop()
    else:
        hub.faults["config.json"] = trouble
    with pytest.warns(CheckpointWarning, match=rf"{hub.url}.*in the cache, commit {folder.name}"):
        assert model() == folder


def test_a_download_that_broke_off_leaves_the_older_copy(hub, no_waiting):
    older = fetched(hub)
    hub.commit(NAME, {"config.json": b"{}", "pytorch_model.bin": b"newer"})
    hub.faults["pytorch_model.bin"] = 500
    with pytest.warns(CheckpointWarning, match=r"pytorch_model\.bin can't be fetched .*status 500"):
        assert model() == older
    assert model(local_files_only=True) == older
    hub.faults.clear()
    assert (model() / "pytorch_model.bin").read_bytes() == b"newer"
    assert (model(local_files_only=True) / "pytorch_model.bin").read_bytes() == b"newer"


def test_a_cache_of_its_own(hub, tmp_path, monkeypatch):
    hub.commit(NAME, {"config.json": CONFIG, "model.safetensors": b"1"})
    for cache in (tmp_path / "a", str(tmp_path / "b")):
        assert model(cache_dir=cache).is_relative_to(cache)
        assert model(cache_dir=cache, local_files_only=True).is_relative_to(cache)
    assert not (tmp_path / "cache").exists()
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert model().is_relative_to(tmp_path / "home" / "hub")


def test_a_cache_that_can_not_be_written(hub, tmp_path):
    hub.commit(NAME, {"config.json": CONFIG, "model.safetensors": b"1"})
    (tmp_path / "file").write_text("x")
    for options in ({}, {"local_files_only": True}):
        with pytest.raises(FileError, match="someone/nezha: "):
            model(cache_dir=tmp_path / "file", **options)


def test_the_mirror_is_that_of_the_call(hub, monkeypatch):
    """huggingface_hub reads the variable when it is imported; a program may set it later."""
    hub.commit(NAME, {"config.json": b"1", "model.safetensors": b"1"})
    model()
    with HubServer() as other:
        other.commit(NAME, {"config.json": b"2", "model.safetensors": b"2"})
        monkeypatch.setenv("HF_ENDPOINT", other.url + "/")
        assert (model() / "config.json").read_bytes() == b"2"
        assert {file.split("@")[0] for file in other.requested("GET")} == {NAME}


# --- what goes wrong ----------------------------------------------------------------------------


def refused(match, name=NAME, required=MODEL_FILES, **options):
    with pytest.raises(FileError, match=match) as caught:
        local_folder(name, required, **options)
    text = str(caught.value)
    assert name in text
    assert "\n" not in text
    assert len(text) < 1000
    return text


@pytest.mark.parametrize(
    "name",
    [
        *(
            "a/b/c",
            "./x",
            "/x",
            "../x",
            "x/",
            "/x/",
            "~/x",
            "x//y",
            "a..b",
            "a--b",
            ".x",
            "x.",
            "-x",
        ),
        *("x.git", "a b", "a\n", "a\\b", "C:\\x", "模型", "someone/模型", "a" * 97, "a" * 5000),
        *("https://huggingface.co/a/b", "a@b", "a?b", "a#b", "a%2fb", "a/../b", "hf://a/b"),
    ],
)
def test_names_that_are_no_ids_never_go_to_the_network(hub, name):
    with pytest.raises(FileError, match="no such folder, and not a hub id") as caught:
        model(name)
    assert len(str(caught.value)) < 400
    assert hub.requests == []


def test_paths_never_go_to_the_network(hub, tmp_path):
    hub.commit("nezha", {"config.json": CONFIG, "model.safetensors": b"1"})
    assert names(model("nezha"))  # the control: as a string it is an id
    hub.requests.clear()
    for path in (tmp_path / "nezha", tmp_path.relative_to(tmp_path) / "nezha"):
        with pytest.raises(FileError, match="nezha: no such folder"):
            model(path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link"):
        with pytest.raises(FileError, match=f"{name}: expected a folder, found something else"):
            model(name)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"revision": 3}, "revision: expected a branch, a tag or a commit, found 3"),
        ({"revision": ""}, "revision: expected"),
        ({"revision": "../../etc"}, "revision: expected"),
        ({"revision": "a/../b"}, "revision: expected"),
        ({"revision": "/a"}, "revision: expected"),
        ({"revision": "a b"}, "revision: expected"),
        ({"revision": ".a"}, "revision: expected"),
        ({"revision": "a\n"}, "revision: expected"),
        ({"cache_dir": 3}, "cache_dir: expected a path, found 3"),
        ({"cache_dir": ""}, "cache_dir: expected a path, found ''"),
        ({"local_files_only": "yes"}, "local_files_only: expected True or False, found 'yes'"),
    ],
)
def test_bad_arguments(hub, tmp_path, options, message):
    for name in (NAME, tmp_path):
        with pytest.raises(ArgumentError, match=message):
            model(name, **options)
    assert hub.requests == []


def test_no_such_repository_revision_or_file(hub):
    hub.commit(NAME, {"config.json": CONFIG, "other": b"1"})
    refused(f"no such folder, and no such repository at {hub.url}", "someone/else")
    refused(f"the repository has no revision 'v9' at {hub.url}", revision="v9")
    refused("the repository has no revision '0{40}'", revision="0" * 40)
    refused("found no model.safetensors or .* or pytorch_model.bin.index.json in revision 'main'")
    refused("found no a.txt or b.txt in revision 'main'", required=[["a.txt", "b.txt"]])
    hub.faults["config.json"] = "plain 404"
    refused("found no config.json or bert_config.json in revision 'main'")


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (401, r"no access to revision 'main' .*\(status 401\): set HF_TOKEN"),
        (403, r"no access .*\(status 403\)"),
        ("gated", "accept its terms there, then log in"),
        (400, r"refuses it \(status 400\)"),
        (418, r"refuses it \(status 418\)"),
        (500, r"can't be fetched from .*\(status 500\)"),
        (503, r"can't be fetched from .*\(status 503\)"),
        (429, r"can't be fetched from .*\(status 429\)"),
        ("web page", "answers, but not as a hub does"),
        ("no commit", "answers, but not as a hub does"),
        ("bad commit", "answers, but not as a hub does"),
        ("no etag", "answers, but not as a hub does"),
        ("short answer", "can't be fetched from"),
        ("loop", "can't be fetched from"),
    ],
)
@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_bad_answers(hub, file, fault, message, no_waiting):
    """For the first file and for a later one, refused at once: nothing is retried for long."""
    hub.commit(NAME, {"config.json": CONFIG, "model.safetensors": b"1"})
    hub.faults[file] = fault
    refused(message)
    assert sum(no_waiting) <= PATIENCE
    hub.faults.clear()
    assert names(model()) == ["config.json", "model.safetensors"]  # the control


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:9", "nonsense", "ftp://127.0.0.1", "http://"]
)
def test_no_hub_there(monkeypatch, endpoint, no_waiting):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    refused(
        f"no such folder; .*can't be fetched from {endpoint.rstrip('/')}.* has no complete copy"
    )


def test_a_hub_that_does_not_answer(hub, monkeypatch, no_waiting):
    monkeypatch.setattr("minizha.checkpoint.repository.TIMEOUT", 0.2)
    hub.commit(NAME, {"config.json": CONFIG, "model.safetensors": b"1"})
    for file in ("config.json", "model.safetensors"):
        hub.faults = {file: "hang"}
        start = time.monotonic()
        refused(r"can't be fetched from .*Time")
        assert time.monotonic() - start < 3


@pytest.mark.parametrize("size", [1000, len(WEIGHTS)], ids=["from the hub", "from the storage"])
@pytest.mark.parametrize("fault", ["cut", "cut anew", "longer", "shorter"])
def test_bodies_of_the_wrong_length(hub, fault, size, no_waiting, monkeypatch):
    hub.commit(NAME, {"config.json": CONFIG, "model.safetensors": WEIGHTS[:size]})
    hub.faults["GET model.safetensors"] = fault
    # small chunks, as if the files were large: what came before the cut is stored
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    if fault == "cut" and not OLD:  # resumed until the file is complete
        assert (model() / "model.safetensors").read_bytes() == WEIGHTS[:size]
        return
    refused(r"model\.safetensors can't be fetched from")
    assert sum(no_waiting) < 20
    assert not list(hub_cache().glob("snapshots/*/model.safetensors"))
    if OLD:  # a partial file stays for the next time
        return
    for path in (hub_cache() / "blobs").iterdir():
        assert path.stat().st_size == len(CONFIG)  # no partial file is left
    hub.faults.clear()
    assert (model() / "model.safetensors").read_bytes() == WEIGHTS[:size]


@pytest.mark.skipif(OLD, reason="huggingface_hub before its version 1 gives up by itself")
def test_a_download_that_always_begins_anew_is_given_up(hub, no_waiting, monkeypatch):
    """huggingface_hub alone would never give up, because each time some bytes arrive."""
    hub.commit(NAME, {"config.json": CONFIG, "model.safetensors": WEIGHTS[:1000]})
    hub.faults["GET model.safetensors"] = "cut anew"
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)
    requests = {}
    for limit in (5, 40):
        monkeypatch.setattr("minizha.checkpoint.repository.RESTARTS", limit)
        hub.requests.clear()
        refused(r"model\.safetensors can't be fetched from .*broke off")
        requests[limit] = len(hub.requested("GET"))
    assert requests[5] < 10 < 40 < requests[40]


def hub_cache():
    return Path(os.environ["HF_HUB_CACHE"], "models--" + NAME.replace("/", "--"))


def test_a_server_that_fails_after_its_head(hub, no_waiting):
    hub.commit(NAME, {"config.json": CONFIG, "model.safetensors": b"1"})
    hub.faults["model.safetensors"] = "head only"
    refused(r"model\.safetensors can't be fetched from .*\(status 500\)")


# --- shards -------------------------------------------------------------------------------------

UNTRUSTED = ["../x.safetensors", "/x.safetensors", "a/b.safetensors", "a\\b.safetensors", "..", ""]
UNTRUSTED += [".x.safetensors", "x.bin", "C:x.safetensors", "x\0.safetensors", 3, None, ["x"], {}]
UNTRUSTED += ["x" * 300 + ".safetensors", "x.safetensors\n", " x.safetensors"]


@pytest.mark.parametrize("shard", UNTRUSTED, ids=repr)
def test_names_of_shards_are_not_trusted(hub, shard):
    index = json.dumps({"weight_map": {"a": "good.safetensors", "b": shard}}).encode()
    files = {"config.json": CONFIG, "model.safetensors.index.json": index}
    hub.commit(NAME, {**files, "good.safetensors": b"1"})
    with pytest.raises(
        FileError, match=r"index\.json: .*expected \.safetensors files in the same folder"
    ):
        model()
    # not even the valid shard is requested
    assert not [file for _, file in hub.requests if "good" in file]


@pytest.mark.parametrize(
    "index", [b"{}", b"[]", b"{", b"", b'{"weight_map": []}', b'{"weight_map": {}}']
)
def test_broken_indexes(hub, index):
    hub.commit(NAME, {"config.json": CONFIG, "pytorch_model.bin.index.json": index})
    with pytest.raises(FileError, match=r"pytorch_model\.bin\.index\.json: "):
        model()


def test_a_shard_that_is_missing(hub):
    files = {"config.json": CONFIG, "model.safetensors.index.json": INDEX, SHARDS[0]: b"1"}
    hub.commit(NAME, files)
    refused(f"found no {SHARDS[1]}, which model.safetensors.index.json names, in revision 'main'")
    with pytest.raises(FileError, match="in the cache"):
        model(local_files_only=True)  # an incomplete copy is not taken from the cache either


# --- the tokenizer ------------------------------------------------------------------------------


def test_the_tokenizer(hub, tmp_path):
    hub.commit(
        NAME, {"vocab.txt": VOCABULARY, "tokenizer_config.json": b'{"do_lower_case": false}'}
    )
    tokenizer = NezhaTokenizer.from_pretrained(NAME)
    assert tokenizer.do_lower_case is False
    assert tokenizer("中国")["input_ids"].tolist() == [[2, 5, 6, 3]]
    hub.stop()
    again = NezhaTokenizer.from_pretrained(NAME, local_files_only=True)
    assert len(again) == len(tokenizer) == 9
    with pytest.warns(CheckpointWarning, match="in the cache") as warned:
        NezhaTokenizer.from_pretrained(NAME)
    assert warned[0].filename == __file__
    with pytest.raises(FileError, match=r"someone/nezha: .*revision 'v1'"):
        NezhaTokenizer.from_pretrained(NAME, revision="v1", local_files_only=True)
    with pytest.raises(FileError, match="in the cache"):
        NezhaTokenizer.from_pretrained(NAME, cache_dir=tmp_path / "x", local_files_only=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("added_tokens.json", b'{"[E1]": 9}'),
        ("tokenizer.json", b'{"added_tokens": [{"id": 9, "content": "[E1]"}]}'),
    ],
)
def test_files_of_added_tokens_are_fetched(hub, name, content):
    special = b'{"additional_special_tokens": ["[E1]"]}'
    files = {"vocab.txt": VOCABULARY, "special_tokens_map.json": special, name: content}
    hub.commit(NAME, files)
    tokenizer = NezhaTokenizer.from_pretrained(NAME)
    assert tokenizer("中[E1]")["input_ids"].tolist() == [[2, 5, 9, 3]]
    assert 9 in tokenizer.special_ids
    hub.stop()
    again = NezhaTokenizer.from_pretrained(NAME, local_files_only=True)
    assert again("中[E1]")["input_ids"].tolist() == [[2, 5, 9, 3]]


def test_the_tokenizer_of_one_file(hub, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    NezhaTokenizer(VOCABULARY.decode().split("\n")).save_pretrained(tmp_path)
    content = (tmp_path / "tokenizer.json").read_bytes()
    hub.commit(NAME, {"tokenizer.json": content}, "v1")
    tokenizer = NezhaTokenizer.from_pretrained(NAME, revision="v1")
    assert tokenizer.convert_tokens_to_ids(["中", "下"]) == [5, 8]
    hub.commit(NAME, {"README.md": b""})
    with pytest.raises(FileError, match=r"found no vocab\.txt or tokenizer\.json in revision"):
        NezhaTokenizer.from_pretrained(NAME)


def test_a_broken_file_of_the_hub_is_named(hub):
    hub.commit(NAME, {"vocab.txt": b"\xff"})
    with pytest.raises(FileError, match=r"vocab\.txt, line 1: expected UTF-8"):
        NezhaTokenizer.from_pretrained(NAME)
