"""What the good arguments are made of: a tiny model and its files, in a folder of the process."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

import minizha
from minizha import NezhaConfig, NezhaForPreTraining, NezhaModel, NezhaTokenizer, crosscheck
from minizha.text.corpus import read_corpus
from minizha.text.vocabulary import SPECIAL_TOKENS
from tests.support.careless.kinds import Kind

V, B, L, D, N = 11, 2, 5, 8, 2
CONFIG = NezhaConfig(
    vocab_size=V,
    hidden_size=D,
    num_hidden_layers=1,
    num_attention_heads=N,
    intermediate_size=12,
    max_relative_position=3,
)
IDS = np.array([[2, 6, 7, 8, 3], [2, 9, 3, 0, 0]])
CLASSES = {
    name: getattr(minizha, name)
    for name in minizha.__all__
    if name.startswith("NezhaFor") or name == "NezhaModel"
}
BATCH = {
    "input_ids": IDS,
    "attention_mask": (IDS != 0).astype(np.int64),
    "labels": np.where(IDS > 5, IDS, -100),
    "next_sentence_label": np.array([0, 1]),
}


class Door(NamedTuple):
    """A public function: ``call(**arguments)`` with the arguments of ``good(world)``, made anew.

    ``kinds`` has the kind of each argument that may be replaced; ``required`` are the arguments that have
    no default; with ``open_keywords`` an unknown keyword is kept by design; values of ``avoid`` are
    not tried, since they take too much.
    """

    name: str
    call: Any
    good: Any
    kinds: dict[str, Kind]
    required: tuple[str, ...] = ()
    open_keywords: bool = False
    avoid: Mapping[str, Kind] = MappingProxyType({})


class World:
    """Files in ``folder``, and arguments that are slow to make."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model_folder = folder, folder / "model"
        self.tokenizer = NezhaTokenizer([*SPECIAL_TOKENS, *"一二三四五六"])
        self.model().save_pretrained(self.model_folder, tokenizer=self.tokenizer)
        self.corpus = folder / "corpus.txt"
        self.corpus.write_text(
            "一二三。四五六。\n\n一三五。二四六。\n\n六五四。三二一。\n", encoding="utf-8"
        )
        self.documents = read_corpus(self.corpus)
        self.inputs = folder / "inputs.json"
        self.inputs.write_text(json.dumps({"input_ids": IDS.tolist()}), encoding="utf-8")
        self.trace = crosscheck.trace(NezhaModel(CONFIG), {"input_ids": IDS})
        self.trace_file = folder / "trace.safetensors"
        self.trace.save(self.trace_file)
        self.count = 0

    def model(self, name: str = "NezhaForPreTraining", **options: Any) -> Any:
        return CLASSES[name](CONFIG, **options)

    def parameters(self) -> dict[str, np.ndarray]:
        return {n: np.array(p) for n, p in self.model().state_dict().items()}

    def target(self, suffix: str = "") -> Path:
        """A path at which there is nothing yet."""
        self.count += 1
        return self.folder / f"new-{self.count}{suffix}"


SHAPES = {n: p.shape for n, p in NezhaForPreTraining(CONFIG).state_dict().items()}
