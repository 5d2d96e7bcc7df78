"""Small valid files of every kind that minizha reads, from which mutants are made."""

import json
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minizha import NezhaConfig, NezhaForPreTraining, NezhaForSequenceClassification, NezhaTokenizer
from minizha.text.vocabulary import SPECIAL_TOKENS
from tests.support.files.hostile_torch_files import CONTROLS, legacy, that_run_code
from tests.support.files.safetensors_files import bfloat16, safetensors_of
from tests.support.files.torch_files import Ordered, entry, legacy_of, pickled, zip_file, zip_of
from tests.support.paths import DATA

CONFIG = NezhaConfig(
    vocab_size=7,
    hidden_size=4,
    num_hidden_layers=1,
    num_attention_heads=2,
    intermediate_size=6,
    max_relative_position=2,
)
REAL = DATA / "torch-files"
TOKENS = [*SPECIAL_TOKENS, "中", "国", "nba", "##ba", "a\u2028b", "é", "，"]


class Seed(NamedTuple):
    """The files of a folder.

    ``targets`` are the files to mutate, with their weights in the random choice; ``file_format`` is
    theirs (a key of ``mutations.FORMAT_AWARE``); ``is_model`` says whether a model loads from the folder.
    """

    files: dict[str, bytes]
    targets: dict[str, int]
    file_format: str
    is_model: bool


def seeds(kind: str) -> list[Seed]:
    """The valid folders of a kind; among those of pickles some that would run code."""
    return list(KINDS[kind]())


@cache
def parameters() -> dict[str, np.ndarray]:
    state = NezhaForPreTraining(CONFIG, seed=1).state_dict()
    return {name: np.ascontiguousarray(array) for name, array in state.items()}


@cache
def config_json(**more: object) -> bytes:
    return CONFIG.to_json(**more).encode()


FEW = {
    "nezha.embeddings.LayerNorm.weight": np.arange(4, dtype=np.float32),
    "one": np.arange(6, dtype=np.float32).reshape(2, 3),
    "two": np.array([7, -7], np.int64),
    "half": np.array([[1.5, -65504.0]], np.float16),
    "none": np.empty((0, 3), np.int8),
}


def tensorflow(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays under Huawei's names, with matrices (in, out)."""
    renamed = {}
    for name, array in arrays.items():
        table, norm = name.endswith("_embeddings.weight"), ".LayerNorm." in name
        path = name.replace("nezha.", "bert.").replace("layer.0", "layer_0").replace(".", "/")
        if table:
            path = path.removesuffix("/weight")
        elif norm:
            path = path.replace("/weight", "/gamma").replace("/bias", "/beta")
        elif array.ndim == 2:
            path, array = path.replace("/weight", "/kernel"), np.ascontiguousarray(array.T)
        renamed[path] = array
    return renamed


def weights(name: str, content: bytes, file_format: str, is_model: bool) -> Seed:
    return Seed({"config.json": config_json(), name: content}, {name: 1}, file_format, is_model)


def safetensors() -> Iterator[Seed]:
    p = parameters()
    upper_halves = {name: bfloat16(array) for name, array in p.items()}
    half = {name: array.astype(np.float16) for name, array in p.items()}
    mixed = p | {next(iter(p)): p[next(iter(p))].astype(np.float64), "step": np.array([5])}
    for content in (
        safetensors_of(p, format="pt"),
        safetensors_of(half, format="pt", a="b"),
        safetensors_of(upper_halves, dict.fromkeys(upper_halves, "BF16")),
        safetensors_of(mixed),
        safetensors_of(tensorflow(p)),
    ):
        yield weights("model.safetensors", content, "safetensors", True)
    odd = {"x": np.array([True]), "y": np.array([1, 2], np.uint16), "z": np.array(5, np.int32)}
    paddle = {"encoder.layer.0.ffn.weight": np.zeros((4, 6), np.float32), **FEW}
    bert = {"bert.embeddings.position_embeddings.weight": np.zeros((5, 4), np.float32), **FEW}
    for content in (
        safetensors_of(paddle),
        safetensors_of(bert),
        safetensors_of(FEW, format="pt"),
        safetensors_of(FEW | odd, {"y": "BF16"}),
        safetensors_of({"c": np.zeros(2, np.float64), "8": np.zeros(3, np.uint8)}, {"c": "C64"}),
        (REAL / "expected.safetensors").read_bytes(),
    ):
        yield weights("model.safetensors", content, "safetensors", False)


def of_torch(zipped: bool) -> Iterator[Seed]:
    """In one of torch's formats: a model, also in float16; few tensors; wrapped ones; runs of code."""
    name, file_format = "pytorch_model.bin", "zip" if zipped else "legacy"
    make = zip_of if zipped else legacy_of
    p = parameters()
    yield weights(name, make(p), file_format, True)
    yield weights(name, make({n: a.astype(np.float16) for n, a in p.items()}), file_format, True)
    yield weights(name, make(FEW), file_format, False)
    yield weights(name, make({"one": FEW["one"]}), file_format, False)
    yield weights(name, (REAL / f"{file_format}.bin").read_bytes(), file_format, False)
    for content in CONTROLS.values():
        if content.startswith(b"PK") == zipped:
            yield weights(name, content, file_format, False)
    for _, content, _ in islice(that_run_code(), 12):
        if content.startswith(b"PK" if zipped else b"\x80\2\x8a\n"):
            yield weights(name, content, file_format, False)
    value = {"epoch": 3, "state_dict": Ordered({"one": entry("0", FEW["one"], None)}, {"v": 1})}
    content = (
        zip_file(pickled(value), {"0": FEW["one"].tobytes()})
        if zipped
        else legacy(value, {"0": (6, FEW["one"].tobytes())})
    )
    yield weights(name, content, file_format, False)


def index(single_file: str) -> Iterator[Seed]:
    """A model in two shards, and few tensors in two; mostly the index is mutated."""
    stem, suffix = single_file.split(".")
    make = safetensors_of if suffix == "safetensors" else zip_of
    for arrays, is_model in ((parameters(), True), (FEW, False)):
        names = list(arrays)
        halves = (names[: len(names) // 2], names[len(names) // 2 :])
        shards = [f"{stem}-0000{i}-of-00002.{suffix}" for i in (1, 2)]
        files = {"config.json": config_json()}
        pairs = list(zip(shards, halves, strict=True))
        files |= {shard: make({n: arrays[n] for n in half}) for shard, half in pairs}
        weight_map = {name: shard for shard, half in pairs for name in half}
        content = {"metadata": {"total_size": 9}, "weight_map": weight_map}
        files[f"{single_file}.index.json"] = json.dumps(content, indent=2).encode()
        # a mutant of the index may name these
        files |= {"config.bin": b"\x80\2}.", "other.safetensors": safetensors_of(FEW)}
        targets = {f"{single_file}.index.json": 6, shards[0]: 1, shards[1]: 1}
        yield Seed(files, targets, "json", is_model)


def configs() -> Iterator[Seed]:
    """A config.json of minizha, one of Transformers (without default values), and a classifier's."""
    model = {"model.safetensors": safetensors_of(parameters(), format="pt")}
    plain = {
        "architectures": ["NeZhaForPreTraining"],
        "hidden_size": 4,
        "intermediate_size": 6,
        "max_relative_position": 2,
        "model_type": "nezha",
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "use_relative_position": True,
        "vocab_size": 7,
        "pruned_heads": {},
        "torch_dtype": "float32",
        "transformers_version": "4.37.2",
    }
    classifier = NezhaForSequenceClassification(CONFIG.replace(num_labels=3), seed=1)
    arrays = {name: np.ascontiguousarray(a) for name, a in classifier.state_dict().items()}
    labelled = plain | {
        "architectures": ["NezhaForSequenceClassification"],
        "id2label": {"0": "a", "1": "b", "2": "c"},
        "label2id": {"a": 0, "b": 1, "c": 2},
        "problem_type": "single_label_classification",
        "is_decoder": False,
        "layer_norm_eps": 1e-12,
        "task_specific_params": {"x": [1, {"y": None}]},
    }
    target = {"config.json": 1}
    yield Seed(model | {"config.json": config_json()}, target, "json", True)
    yield Seed(model | {"config.json": json.dumps(plain).encode()}, target, "json", True)
    files = {
        "model.safetensors": safetensors_of(arrays),
        "config.json": json.dumps(labelled).encode(),
    }
    yield Seed(files, target, "json", True)


def tokenizer_files() -> dict[str, bytes]:
    tokenizer = NezhaTokenizer(TOKENS)
    files = tokenizer.files(Path("."))
    named = {path.name: content for path, content in files.items()}
    return named | {"tokenizer.json": tokenizer._tokenizer.to_str(pretty=True).encode()}


def vocabularies() -> Iterator[Seed]:
    files = tokenizer_files()
    vocabulary = files["vocab.txt"]
    settings = {"tokenizer_config.json": files["tokenizer_config.json"]}
    many = "".join(f"{token}\n" for token in [*TOKENS, *map(chr, range(0x5000, 0x5100))]).encode()
    for content in (vocabulary, vocabulary.replace(b"\n", b"\r\n"), many):
        yield Seed({"vocab.txt": content}, {"vocab.txt": 1}, "", False)
    yield Seed({"vocab.txt": vocabulary} | settings, {"vocab.txt": 1}, "", False)


def tokenizers() -> Iterator[Seed]:
    files = tokenizer_files()
    complete = json.loads(files["tokenizer.json"])
    small = {key: complete[key] for key in ("model", "normalizer", "pre_tokenizer")}
    for content in (
        files["tokenizer.json"],
        json.dumps(complete).encode(),
        json.dumps(small).encode(),
    ):
        yield Seed({"tokenizer.json": content}, {"tokenizer.json": 1}, "json", False)


def settings() -> Iterator[Seed]:
    files = tokenizer_files()
    vocabulary = {"vocab.txt": files["vocab.txt"]}
    name = "tokenizer_config.json"
    for content in (files[name], b'{"do_lower_case": false, "strip_accents": null}'):
        yield Seed(vocabulary | {name: content}, {name: 1}, "json", False)


KINDS = {
    "safetensors": safetensors,
    "zip": lambda: of_torch(True),
    "legacy": lambda: of_torch(False),
    "safetensors index": lambda: index("model.safetensors"),
    "torch index": lambda: index("pytorch_model.bin"),
    "config": configs,
    "vocabulary": vocabularies,
    "tokenizer": tokenizers,
    "tokenizer settings": settings,
}
