"""One spelling for every parameter name, whoever exported the checkpoint."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

from minizha.errors import ArgumentError

_BODY = ("embeddings.", "encoder.", "pooler.")
# buffers, not parameters: positions are a function here
_BUFFERS = ("positions_encoding", "position_ids")


def canonical_names(arrays: Mapping[str, Any], expected: Iterable[str]) -> dict[str, Any]:
    """``arrays`` under the names of ``expected``, where only the spelling differs.

    ======================================  =============================================
    found                                   becomes
    ======================================  =============================================
    ``….LayerNorm.gamma``, ``….beta``       ``….LayerNorm.weight``, ``….bias``
    ``bert.…`` (Huawei, lonePatient)        ``nezha.…``
    body names without ``nezha.``           with it, where the class expects it
    ``nezha.…``                             without it, where the class is the bare model
    ``….positions_encoding``                dropped: computed, never learnt
    ``cls.predictions.decoder.bias``        ``cls.predictions.bias``
    ``cls.predictions.decoder.weight``      the word embeddings, where the two are tied
    ======================================  =============================================

    Convention: where a tied decoder and the word embeddings differ, the decoder's values are
    taken for both, as Transformers does.

    Raises:
        ArgumentError: no mapping with names as keys, or two spellings of one name.
    """
    if not isinstance(arrays, Mapping) or not all(isinstance(name, str) for name in arrays):
        found = reprlib.repr(arrays)
        raise ArgumentError(f"state dict: expected a mapping of names to arrays, found {found}")
    expected = set(expected)
    headed = any(name.startswith("nezha.") for name in expected)
    renamed, spellings = {}, {}
    for spelling, array in arrays.items():
        name = spelling
        if name.endswith(_BUFFERS):
            continue
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        name = name.replace("LayerNorm.beta", "LayerNorm.bias")
        if name.startswith("bert."):
            name = "nezha." + name.removeprefix("bert.")
        if headed and name.startswith(_BODY):
            name = "nezha." + name
        elif not headed:
            name = name.removeprefix("nezha.")
        if name in renamed:
            raise ArgumentError(f"state dict: {spellings[name]} and {spelling} are both {name}")
        renamed[name], spellings[name] = array, spelling
    _settle_decoder(renamed, expected)
    return renamed


def _settle_decoder(arrays: dict[str, Any], expected: set[str]) -> None:
    head, words = "cls.predictions.", "nezha.embeddings.word_embeddings.weight"
    if head + "bias" in expected and head + "decoder.bias" in arrays:
        arrays[head + "bias"] = arrays.pop(head + "decoder.bias")
    tied = head + "bias" in expected and head + "decoder.weight" not in expected
    if tied and head + "decoder.weight" in arrays:
        arrays[words] = arrays.pop(head + "decoder.weight")
