"""Valid files of the kinds that only accidents happen to: corpora, the inputs of a trace, traces."""

import json
from collections.abc import Iterator

import numpy as np

from minizha import NezhaForPreTraining, NezhaModel
from minizha.crosscheck.inputs_file import read_inputs_file
from minizha.crosscheck.trace_file import METADATA, open_trace
from minizha.crosscheck.tracing import trace
from minizha.text.corpus import read_corpus, split_sentences
from tests.support.files.mutant_seeds import CONFIG, FEW, Seed
from tests.support.files.safetensors_files import safetensors_of

IDS = np.array([[2, 5, 6, 3], [2, 6, 3, 0]])


def corpora() -> Iterator[Seed]:
    chinese = "第一回\n却说曹操引兵来攻。玄德大惊。\n\n第二回\n"
    chinese += "“何故？”操曰：“不可！”\n次日，又战……\n\n终。完。\n"
    for text in (
        chinese,
        chinese.replace("\n", "\r\n"),
        "a b c.\nd e f\n\ng h\n\ni.\n",
        "一\n" * 60,
    ):
        yield Seed({"corpus.txt": text.encode()}, {"corpus.txt": 1}, "", False)


def inputs() -> Iterator[Seed]:
    ids = IDS.tolist()
    for content in ({"input_ids": ids}, {"input_ids": ids, "labels": ids, "next_sentence_label": [0, 1],
                    "attention_mask": [[1, 1, 1, 1], [1, 1, 1, 0]], "head_mask": [0.5, 1]}):  # fmt: skip
        yield Seed(
            {"inputs.json": json.dumps(content, indent=1).encode()},
            {"inputs.json": 1},
            "json",
            False,
        )


def input_arrays() -> Iterator[Seed]:
    for content in ({"input_ids": IDS}, {"input_ids": IDS, "attention_mask": np.ones((2, 4))}):
        yield Seed(
            {"inputs.safetensors": safetensors_of(content)},
            {"inputs.safetensors": 1},
            "safetensors",
            False,
        )


def traces() -> Iterator[Seed]:
    arrays = trace(NezhaModel(CONFIG), {"input_ids": IDS})
    stored = {n: np.ascontiguousarray(a) for n, a in arrays.items()}
    metadata = {"version": 1, "class": "NezhaModel", "config": CONFIG.to_dict(), "dtype": "float32",
                "training": False, "names": list(stored)}  # fmt: skip
    for content in (
        safetensors_of(stored, **{METADATA: json.dumps(metadata)}),
        safetensors_of(stored),
        safetensors_of(FEW),
    ):
        yield Seed({"trace.safetensors": content}, {"trace.safetensors": 1}, "safetensors", False)


KINDS = {"corpus": corpora, "inputs": inputs, "input arrays": input_arrays, "trace": traces}


# --- their readers ------------------------------------------------------------------------------


def corpus(folder):
    for document in read_corpus(folder / "corpus.txt", 1):
        for paragraph in document.paragraphs:
            split_sentences(paragraph)


def inputs_file(folder):
    read_inputs_file(folder / "inputs.json", NezhaForPreTraining)


def input_arrays_file(folder):
    read_inputs_file(folder / "inputs.safetensors", NezhaForPreTraining)


def trace_file(folder):
    found = open_trace(folder / "trace.safetensors")
    for arrays in (found, found.inputs, found.parameters):
        for name in arrays:
            arrays[name]


READERS = {
    "corpus": corpus,
    "inputs": inputs_file,
    "input arrays": input_arrays_file,
    "trace": trace_file,
}
