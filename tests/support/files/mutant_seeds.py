"""Small valid files of every kind that minizha reads, of which mutants are made."""

import json
import struct
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minizha import NezhaConfig, NezhaForPreTraining, NezhaForSequenceClassification, NezhaTokenizer
from minizha.text.vocabulary import SPECIAL_TOKENS
from tests.support.files.hostile_torch_files import CONTROLS, legacy, that_run_code
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
    """The files of a folder; ``targets`` are those that are mutated, and how often; ``build`` is
    how they are built (of ``mutations.IN_ITS_TERMS``); ``model``: whether a model loads from it."""

    files: dict[str, bytes]
    targets: dict[str, int]
    build: str
    model: bool


def seeds(kind: str) -> list[Seed]:
    """The valid folders of a kind, and in those of pickles some that would run code."""
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


def packed(arrays: dict[str, np.ndarray], kinds: dict[str, str] = {}, **metadata: str) -> bytes:  # noqa: B006
    """A safetensors file; ``kinds`` names those that NumPy calls otherwise."""
    letters = {"f": "F", "i": "I", "u": "U", "b": "BOOL"}
    header: dict = {"__metadata__": metadata} if metadata else {}
    place = 0
    for name, array in arrays.items():
        own = letters[array.dtype.kind] + ("" if array.dtype == bool else f"{8 * array.itemsize}")
        ends = [place, place := place + array.nbytes]
        dtype = kinds.get(name, own)
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": ends}
    text = json.dumps(header).encode()
    return (
        struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for array in arrays.values())
    )


def bfloat16(array: np.ndarray) -> np.ndarray:
    return (array.view(np.uint32) >> 16).astype(np.uint16)


def tensorflow(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Under Huawei's names, where matrices lie (in, out)."""
    found = {}
    for name, array in arrays.items():
        table, norm = name.endswith("_embeddings.weight"), ".LayerNorm." in name
        path = name.replace("nezha.", "bert.").replace("layer.0", "layer_0").replace(".", "/")
        if table:
            path = path.removesuffix("/weight")
        elif norm:
            path = path.replace("/weight", "/gamma").replace("/bias", "/beta")
        elif array.ndim == 2:
            path, array = path.replace("/weight", "/kernel"), np.ascontiguousarray(array.T)
        found[path] = array
    return found


def weights(name: str, content: bytes, build: str, model: bool) -> Seed:
    return Seed({"config.json": config_json(), name: content}, {name: 1}, build, model)


def safetensors() -> Iterator[Seed]:
    p = parameters()
    brains = {name: bfloat16(array) for name, array in p.items()}
    half = {name: array.astype(np.float16) for name, array in p.items()}
    mixed = p | {next(iter(p)): p[next(iter(p))].astype(np.float64), "step": np.array([5])}
    for content in (
        packed(p, format="pt"),
        packed(half, format="pt", a="b"),
        packed(brains, dict.fromkeys(brains, "BF16")),
        packed(mixed),
        packed(tensorflow(p)),
    ):
        yield weights("model.safetensors", content, "safetensors", True)
    odd = {"x": np.array([True]), "y": np.array([1, 2], np.uint16), "z": np.array(5, np.int32)}
    paddle = {"encoder.layer.0.ffn.weight": np.zeros((4, 6), np.float32), **FEW}
    bert = {"bert.embeddings.position_embeddings.weight": np.zeros((5, 4), np.float32), **FEW}
    for content in (
        packed(paddle),
        packed(bert),
        packed(FEW, format="pt"),
        packed(FEW | odd, {"y": "BF16"}),
        packed({"c": np.zeros(2, np.float64), "8": np.zeros(3, np.uint8)}, {"c": "C64"}),
        (REAL / "expected.safetensors").read_bytes(),
    ):
        yield weights("model.safetensors", content, "safetensors", False)


def of_torch(zipped: bool) -> Iterator[Seed]:
    """Of either format: a model, in halves too; few tensors, wrapped ones, and what runs code."""
    name, build = "pytorch_model.bin", "zip" if zipped else "legacy"
    make = zip_of if zipped else legacy_of
    p = parameters()
    yield weights(name, make(p), build, True)
    yield weights(name, make({n: a.astype(np.float16) for n, a in p.items()}), build, True)
    yield weights(name, make(FEW), build, False)
    yield weights(name, make({"one": FEW["one"]}), build, False)
    yield weights(name, (REAL / f"{build}.bin").read_bytes(), build, False)
    for content in CONTROLS.values():
        if content.startswith(b"PK") == zipped:
            yield weights(name, content, build, False)
    for _, content, _ in islice(that_run_code(), 12):
        if content.startswith(b"PK" if zipped else b"\x80\2\x8a\n"):
            yield weights(name, content, build, False)
    value = {"epoch": 3, "state_dict": Ordered({"one": entry("0", FEW["one"], None)}, {"v": 1})}
    content = (
        zip_file(pickled(value), {"0": FEW["one"].tobytes()})
        if zipped
        else legacy(value, {"0": (6, FEW["one"].tobytes())})
    )
    yield weights(name, content, build, False)


def index(whole: str) -> Iterator[Seed]:
    """A model in two shards, and few tensors in two; mostly the index is mutated."""
    stem, ending = whole.split(".")
    make = packed if ending == "safetensors" else zip_of
    for arrays, model in ((parameters(), True), (FEW, False)):
        names = list(arrays)
        halves = (names[: len(names) // 2], names[len(names) // 2 :])
        shards = [f"{stem}-0000{i}-of-00002.{ending}" for i in (1, 2)]
        files = {"config.json": config_json()}
        pairs = list(zip(shards, halves, strict=True))
        files |= {shard: make({n: arrays[n] for n in half}) for shard, half in pairs}
        of = {name: shard for shard, half in pairs for name in half}
        content = {"metadata": {"total_size": 9}, "weight_map": of}
        files[f"{whole}.index.json"] = json.dumps(content, indent=2).encode()
        files |= {"config.bin": b"\x80\2}.", "other.safetensors": packed(FEW)}  # what it may find
        yield Seed(files, {f"{whole}.index.json": 6, shards[0]: 1, shards[1]: 1}, "json", model)


def configs() -> Iterator[Seed]:
    """As minizha writes it, as Transformers does (only what is no default), and a classifier's."""
    model = {"model.safetensors": packed(parameters(), format="pt")}
    plain = {
        "architectures": ["NeZhaForPreTraining"], "hidden_size": 4, "intermediate_size": 6,
        "max_relative_position": 2, "model_type": "nezha", "num_attention_heads": 2,
        "num_hidden_layers": 1, "use_relative_position": True, "vocab_size": 7, "pruned_heads": {},
        "torch_dtype": "float32", "transformers_version": "4.37.2",
    }  # fmt: skip
    classifier = NezhaForSequenceClassification(CONFIG.replace(num_labels=3), seed=1)
    arrays = {name: np.ascontiguousarray(a) for name, a in classifier.state_dict().items()}
    labelled = plain | {
        "architectures": ["NezhaForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"},
        "label2id": {"a": 0, "b": 1, "c": 2}, "problem_type": "single_label_classification",
        "is_decoder": False, "layer_norm_eps": 1e-12, "task_specific_params": {"x": [1, {"y": None}]},
    }  # fmt: skip
    target = {"config.json": 1}
    yield Seed(model | {"config.json": config_json()}, target, "json", True)
    yield Seed(model | {"config.json": json.dumps(plain).encode()}, target, "json", True)
    files = {"model.safetensors": packed(arrays), "config.json": json.dumps(labelled).encode()}
    yield Seed(files, target, "json", True)


def tokenizer_files() -> dict[str, bytes]:
    tokenizer = NezhaTokenizer(TOKENS)
    files = tokenizer.files(Path("."))
    named = {path.name: content for path, content in files.items()}
    return named | {"tokenizer.json": tokenizer._tokenizer.to_str(pretty=True).encode()}


def vocabularies() -> Iterator[Seed]:
    files = tokenizer_files()
    kept = {"vocab.txt": files["vocab.txt"]}
    settings = {"tokenizer_config.json": files["tokenizer_config.json"]}
    many = "".join(f"{token}\n" for token in [*TOKENS, *map(chr, range(0x5000, 0x5100))]).encode()
    for content in (kept["vocab.txt"], kept["vocab.txt"].replace(b"\n", b"\r\n"), many):
        yield Seed({"vocab.txt": content}, {"vocab.txt": 1}, "", False)
    yield Seed(kept | settings, {"vocab.txt": 1}, "", False)


def tokenizers() -> Iterator[Seed]:
    files = tokenizer_files()
    whole = json.loads(files["tokenizer.json"])
    small = {key: whole[key] for key in ("model", "normalizer", "pre_tokenizer")}
    for content in (
        files["tokenizer.json"],
        json.dumps(whole).encode(),
        json.dumps(small).encode(),
    ):
        yield Seed({"tokenizer.json": content}, {"tokenizer.json": 1}, "json", False)


def settings() -> Iterator[Seed]:
    files = tokenizer_files()
    kept = {"vocab.txt": files["vocab.txt"]}
    name = "tokenizer_config.json"
    for content in (files[name], b'{"do_lower_case": false, "strip_accents": null}'):
        yield Seed(kept | {name: content}, {name: 1}, "json", False)


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
