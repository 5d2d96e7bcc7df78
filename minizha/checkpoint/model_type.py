"""Refuse the weights of other models: BERT's have nearly the names and shapes of NEZHA's."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable

from minizha.checkpoint.stored import shown
from minizha.config import MODEL_TYPE
from minizha.errors import FileError

# a learnt table; the buffer position_ids, which counts 0, 1, 2, …, is none
_ABSOLUTE = re.compile(r"(^|[./])position_embeddings(\.weight|:0)?$|(^|/)Embedding-Position/")
_RELATIVE = re.compile(r"relative_positions_e(ncoding|mbeddings)|(^|/)Embedding-Relative-Position/")
_ENCODER = re.compile(
    r"(^|[./])encoder[./]layer[._]\d+[./]attention[./]|^Transformer-\d+-MultiHeadSelfAttention/"
)
_FAMILIES = {
    "albert": "ALBERT",
    "bert": "BERT",
    "electra": "ELECTRA",
    "ernie": "ERNIE",
    "roberta": "RoBERTa",
}


class OtherModelError(FileError):
    """A valid checkpoint of another model than NEZHA."""


def refuse_other_models(names: Iterable[str], model_type: str | None, where: str) -> None:
    """Refuse a checkpoint if its tensor ``names`` or its config.json are not NEZHA's.

    =============================  ============================  ===============================
    tensors                        model_type                    refused as
    =============================  ============================  ===============================
    table of absolute positions    any                           weights of BERT or its like
    buffers of relative positions  not "nezha"                   NEZHA with a wrong model_type
    an encoder without either      "bert"                        NEZHA with a wrong model_type
    anything else                  not "nezha"                   another model
    =============================  ============================  ===============================

    ``model_type`` is config.json's, or None if it has none. ``where`` is the file or folder, for
    the message. The names may be any port's.

    Raises:
        OtherModelError: with the reason, and what to do.
    """
    names = list(names)
    said = f"config.json says model_type {reprlib.repr(model_type)}"
    if (table := _first(_ABSOLUTE, names)) is not None:
        these = f"{said}, but these are" if model_type == MODEL_TYPE else "these are"
        raise OtherModelError(
            f"{where}: {these} {_whose(table, model_type)} weights, not NEZHA's: they have a table "
            f"of absolute positions, {shown(table)}, which NEZHA does not have and they need; load "
            "them with their own model class"
        )
    if model_type is None or model_type == MODEL_TYPE:
        return
    if (buffer := _first(_RELATIVE, names)) is not None:
        evidence = f"they have its relative positions, {shown(buffer)}"
    elif model_type == "bert" and _first(_ENCODER, names) is not None:
        evidence = "they have no table of absolute positions, which BERT needs"
    else:
        raise OtherModelError(
            f"{where}: {said}, expected {MODEL_TYPE!r}: another architecture's weights don't fit"
        )
    raise OtherModelError(
        f"{where}: {said}, but the weights look like NEZHA's: {evidence}; "
        f"if they are NEZHA's, write {MODEL_TYPE!r} there"
    )


def _first(pattern: re.Pattern[str], names: list[str]) -> str | None:
    return next((name for name in names if pattern.search(name)), None)


def _whose(table: str, model_type: str | None) -> str:
    """The family by the table's prefix; a bare model's names have none, so by config.json."""
    prefix = re.split(r"[./]", table)[0]
    family = _FAMILIES.get(prefix) or _FAMILIES.get(str(model_type))
    return f"{family}'s" if family else "BERT's or a relative's"
