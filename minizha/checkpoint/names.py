"""One name for each parameter, whichever port exported the checkpoint."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

from minizha.checkpoint.foreign_names import translate
from minizha.checkpoint.stored import shown
from minizha.checkpoint.wrappers import without_wrappers
from minizha.errors import ArgumentError

BODY = ("embeddings.", "encoder.", "pooler.")
# buffers, not parameters: minizha computes positions
_BUFFERS = ("positions_encoding", "relative_positions_embeddings", "position_ids")


def canonical_names(arrays: Mapping[str, Any], expected: Iterable[str]) -> dict[str, Any]:
    """``arrays`` under the names in ``expected``, if only spelling or orientation differ.

    =======================================  ==============================================
    name in ``arrays``                       becomes
    =======================================  ==============================================
    names of TensorFlow, Keras or PaddleNLP  PyTorch's, see ``foreign_names``; a matrix
                                             stored (in, out) becomes its transpose
    ``….LayerNorm.gamma``, ``….beta``        ``….LayerNorm.weight``, ``….bias``
    ``module.…``, ``model._orig_mod.…``, …   without what wrappers add, see ``wrappers``
    ``bert.…`` (Huawei, lonePatient)         ``nezha.…``
    body names without ``nezha.``            with it, if the class expects it
    ``nezha.…``                              without it, if the class is the bare model
    ``….positions_encoding``                 dropped: computed, not learnt
    ``cls.predictions.decoder.bias``         ``cls.predictions.bias``
    ``cls.predictions.decoder.weight``       the word embeddings, if the two are tied
    =======================================  ==============================================

    Convention: if a tied decoder and the word embeddings differ, both get the decoder's values,
    as in Transformers. The values are arrays or anything else with a shape and a ``T``; none is
    read or copied here.

    Raises:
        ArgumentError: not a mapping with names as keys, two spellings of one name, names of PyTorch
            and PaddleNLP in one mapping, or a matrix whose orientation contradicts its name.
    """
    if not isinstance(arrays, Mapping) or not all(isinstance(name, str) for name in arrays):
        found = reprlib.repr(arrays)
        raise ArgumentError(f"state dict: expected a mapping of names to arrays, found {found}")
    expected = set(expected)
    prefixed = any(name.startswith("nezha.") for name in expected)
    renamed, spellings, matrices = {}, {}, []
    own_names = {spelling: without_wrappers(spelling) for spelling in arrays}
    translations = translate(dict.fromkeys(own_names.values()), expected)
    for spelling, own_name in own_names.items():
        translation, transposed = translations[own_name]
        if translation is None or translation.endswith(_BUFFERS):
            continue
        name = _canonical_name(translation, prefixed)
        if name in renamed:
            first, second = shown(spellings[name]), shown(spelling)
            raise ArgumentError(f"state dict: {first} and {second} are both {shown(name)}")
        renamed[name], spellings[name] = arrays[spelling], spelling
        if transposed and len(_shape(arrays[spelling])) == 2:
            matrices.append(name)
    for name in matrices:
        _refuse_contradiction(name, renamed, spellings)
        renamed[name] = renamed[name].T
    _resolve_decoder(renamed, expected)
    return renamed


def _canonical_name(name: str, prefixed: bool) -> str:
    name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
    name = name.replace("LayerNorm.beta", "LayerNorm.bias")
    if name.startswith("bert."):
        name = "nezha." + name.removeprefix("bert.")
    if prefixed and name.startswith(BODY):
        return "nezha." + name
    return name if prefixed else name.removeprefix("nezha.")


def _shape(array: Any) -> tuple[int, ...]:
    shape = getattr(array, "shape", ())
    return shape if isinstance(shape, tuple) else ()


def _refuse_contradiction(name: str, arrays: Mapping[str, Any], spellings: dict[str, str]) -> None:
    """The bias has one number for each output, so it tells the orientation of its matrix."""
    bias = name.removesuffix("weight") + "bias"
    rows, columns = _shape(arrays[name])
    if bias in arrays and _shape(arrays[bias]) == (rows,) != (columns,):
        raise ArgumentError(
            f"state dict: {shown(spellings[name])}: by its name a matrix (in, out), but found shape "
            f"{(rows, columns)} beside a bias of {rows}, which is (out, in)"
        )


def _resolve_decoder(arrays: dict[str, Any], expected: set[str]) -> None:
    head, words = "cls.predictions.", "nezha.embeddings.word_embeddings.weight"
    if head + "bias" in expected and head + "decoder.bias" in arrays:
        arrays[head + "bias"] = arrays.pop(head + "decoder.bias")
    tied = head + "bias" in expected and head + "decoder.weight" not in expected
    if tied and head + "decoder.weight" in arrays:
        arrays[words] = arrays.pop(head + "decoder.weight")
