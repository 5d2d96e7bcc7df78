"""Names and dictionaries that a trainer puts around a model's own."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from minizha.checkpoint.stored import shown

# what torch.compile, FSDP, activation checkpointing, DeepSpeed and fairscale put between two modules
_PARTS = {
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
    "_fpw_module",
}
# the attributes in which trainers and users keep a model
_PREFIXES = {
    "module",
    "model",
    "_model",
    "_layers",
    "net",
    "network",
    "backbone",
    "encoder",
    "bert",
    "nezha",
    "base_model",
    "auto_model",
    "0",
}
_OURS = re.compile(
    r"((nezha|bert)\.)?(embeddings\.\w|encoder\.layer\.\d|pooler\.\w)|(cls|classifier|qa_outputs)\.\w",
    re.ASCII,
)
_WORDS = re.compile(r"(^|\.)embeddings\.word_embeddings\.weight$")
_INNER = re.compile(
    r"\.((nezha|bert)\.)?(embeddings\.word_embeddings\.|encoder\.layer\.\d+\.(attention|intermediate|output)\.)",
    re.ASCII,
)
DICTIONARIES = ("state_dict", "model", "model_state_dict", "module", "net", "network", "weights")
"""The keys under which trainers save a state dict, in the order in which they are looked for."""
_DEEPEST = 4  # dictionaries within each other


def without_wrappers(name: str) -> str:
    """``name`` without the prefixes and parts that wrappers add, where NEZHA's name is left.

    ``model._orig_mod.nezha.pooler.dense.bias`` → ``nezha.pooler.dense.bias``; any other name stays
    as it is.
    """
    parts = [part for part in name.split(".") if part not in _PARTS]
    for i, part in enumerate(parts):
        rest = ".".join(parts[i:])
        if _OURS.match(rest):
            return rest
        if part not in _PREFIXES:
            break
    return name


def explain_names(names: Collection[str]) -> str:
    """Why a model finds none of its parameters under these names, and what would help."""
    if not names:
        return "it is empty"
    for pattern, reason in (
        (
            r"\.lora_[AB]\b",
            "a part of a LoRA adapter: merge the adapter into its model, and save that",
        ),
        (r"(^|\.)_?flat_param", "flattened by FSDP: save the full state dict instead"),
    ):
        found = next((name for name in names if re.search(pattern, name)), None)
        if found is not None:
            return f"{shown(found)} is {reason}"
    of_prefix: dict[str, str] = {}
    for name in names:
        inner = _INNER.search(name)
        if inner and not _OURS.match(name):
            of_prefix.setdefault(name[: inner.start() + 1], name)
    if of_prefix:
        prefix, name = next(iter(of_prefix.items()))
        others = [shown(other) for other in of_prefix if not other.startswith(prefix)]
        also = f" (and others have {others[0]})" if others else ""
        return (
            f"{shown(name)} has the prefix {shown(prefix)} before a name of NEZHA{also}: if these are "
            "NEZHA's, save the tensors of one model without it"
        )
    return (
        f"the first is called {shown(next(iter(names)))}, expected names such as "
        "nezha.embeddings.word_embeddings.weight"
    )


class NamedTensors(NamedTuple):
    """The named tensors of a dictionary, and the keys that lead to it."""

    keys: tuple[str, ...]
    tensors: dict[str, Any]

    @property
    def rank(self) -> tuple[int, list[int]]:
        """How many keys are no trainer's, and the places of the others in the order of the search."""
        known = [DICTIONARIES.index(key) for key in self.keys if key in DICTIONARIES]
        return len(self.keys) - len(known), known


def find_model(value: dict, tensor_type: type) -> list[NamedTensors]:
    """The state dicts in ``value`` that may be the model; one if there is no doubt.

    Convention: a dictionary with word embeddings, however deep it is, is preferred to others; of
    several, the one with the first of the keys in ``DICTIONARIES``. Without word embeddings only
    these keys are followed.
    """
    found = list(_dictionaries(value, (), tensor_type, set()))
    models = [f for f in found if any(_WORDS.search(name) for name in f.tensors)]
    candidates = models or [f for f in found if not f.rank[0]]
    best = min((f.rank for f in candidates), default=None)
    if best is not None and best[0] == 0:
        return [next(f for f in candidates if f.rank == best)]
    return candidates


def _dictionaries(
    value: dict, keys: tuple[str, ...], tensor_type: type, seen: set[int]
) -> Iterator[NamedTensors]:
    if id(value) in seen:
        return
    seen.add(id(value))
    tensors = {name: item for name, item in value.items() if type(item) is tensor_type}
    if tensors and all(type(name) is str for name in tensors):
        yield NamedTensors(keys, tensors)
    if len(keys) < _DEEPEST:
        for key, item in _inner(value):
            yield from _dictionaries(item, (*keys, key), tensor_type, seen)


def _inner(value: dict) -> Iterable[tuple[str, dict]]:
    return ((key, item) for key, item in value.items() if type(item) is dict and type(key) is str)
