"""Conversion: a checkpoint that minizha can read, written in the format that Transformers reads."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minizha.checkpoint.folder import WEIGHTS_NAME, WEIGHTS_NAMES, write_folder
from minizha.checkpoint.hub import MODEL_FILES, local_folder
from minizha.checkpoint.names import canonical_names
from minizha.checkpoint.stored import shown
from minizha.config import NezhaConfig
from minizha.config_files import CONFIG_NAME, CONFIG_NAMES
from minizha.errors import ArgumentError, FileError, listed
from minizha.files import folder_path, names_present, read_together
from minizha.model.auto import CLASSES, class_of
from minizha.model.loading import (
    check_vocabulary_size,
    listed_faults,
    match,
    read_model_folder,
    refuse_missing_body,
)
from minizha.targets import check_target_folder, refuse_to_overwrite
from minizha.text.tokenizer import NezhaTokenizer
from minizha.text.tokenizer_files import TOKENIZER_FILES

_VOCABULARIES = TOKENIZER_FILES[:2]


class Conversion(NamedTuple):
    """The name of the class written, how many tensors, whether a vocabulary; and the names of the
    tensors that the source lacks and of those that were left out."""

    model_class: str
    tensors: int
    vocabulary: bool
    missing: tuple[str, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        vocabulary = "and the vocabulary" if self.vocabulary else "without a vocabulary"
        lines = [f"{self.tensors} tensors as {self.model_class}, {vocabulary}"]
        if self.missing:
            lines.append("missing, so initialised when loaded: " + listed(self.missing))
        if self.left_out:
            lines.append("left out: " + listed(list(map(shown, self.left_out))))
        return "\n".join(lines)


def convert(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    overwrite: bool = False,
    half: bool = False,
) -> Conversion:
    """Write the model in ``source``, a folder or a hub id, into the folder ``target``.

    ``target`` gets ``config.json``, ``model.safetensors`` with Transformers' names, and the
    tokenizer's files if the source has any. The parameters of every head are converted, computed
    buffers are left out, and half precision becomes float32; with ``half``, everything becomes
    float16, which has three digits. With ``overwrite``, ``target`` may hold another model, which stays
    until the new one is complete.

    Raises:
        FileError: the source is missing, damaged or of another architecture, or its tensors do not
            fit its configuration; or the target holds a model, or can't be written; or, with
            ``half``, a number is too large for float16.
        ArgumentError: the target is the source.
    """
    target = folder_path(target)
    check_target_folder(target, (CONFIG_NAME, WEIGHTS_NAME, *TOKENIZER_FILES))
    folder = local_folder(source, MODEL_FILES, TOKENIZER_FILES)
    names = (*CONFIG_NAMES, *WEIGHTS_NAMES, *TOKENIZER_FILES)
    read = [folder / name for name in names]
    for name in names:
        refuse_to_overwrite("DIR", target / name, *read)
    if (found := names_present(target, names)) and not overwrite:
        raise FileError(
            f"{target}: already holds {listed(found)}; --overwrite (overwrite=True) replaces the "
            "model, or name another folder"
        )
    (config, tensors), tokenizer = read_together(
        read, lambda: (read_model_folder(folder), _tokenizer(folder))
    )
    try:
        model_class = class_of(config, tensors)
        config = model_class.resolve_config(config)
        shapes = model_class.shapes(config)
        matched, missing, _, faults, _ = match(tensors, shapes)
    except ArgumentError as error:
        raise FileError(f"{folder}: {error}") from error
    if faults:
        raise FileError(f"{folder}: {listed_faults(faults)}")
    refuse_missing_body(str(folder), model_class.__name__, tensors, matched)
    _refuse_incomplete_body(folder, model_class.__name__, missing)
    _check_tokenizer(tokenizer, folder, target, config)
    renamed = canonical_names(tensors, shapes)
    # the heads of other classes are converted too; where two classes give one name different
    # shapes, as classifiers do, those of this class count
    known = {name: shape for other in CLASSES for name, shape in other.shapes(config).items()}
    known |= shapes
    converted = {name: t for name, t in renamed.items() if known.get(name) == t.shape}
    arrays = {name: tensor.read() for name, tensor in converted.items()}
    left_out = tuple(sorted(renamed.keys() - converted.keys()))
    has_float64 = any(array.dtype == np.float64 for array in arrays.values())
    dtype = "float64" if has_float64 else "float32"
    if half:
        dtype = "float16"
        arrays = {name: _to_half(folder, name, array) for name, array in arrays.items()}
    text = config.to_json(architectures=[model_class.__name__], torch_dtype=dtype)
    files = None if tokenizer is None else tokenizer.files(target)
    write_folder(target, text, arrays, files)
    return Conversion(model_class.__name__, len(arrays), tokenizer is not None, missing, left_out)


def _to_half(folder: Path, name: str, array: np.ndarray) -> np.ndarray:
    largest = np.abs(array).max(initial=0)
    if not largest <= np.finfo(np.float16).max:
        raise FileError(
            f"{folder}: {name}: expected numbers up to 65504, the largest of float16, found {largest:g}"
        )
    return array.astype(np.float16)


def _refuse_incomplete_body(folder: Path, class_name: str, missing: tuple[str, ...]) -> None:
    """A head or the pooler may be missing; a model without a part of its encoder is none."""
    lacking = [
        n for n in missing if n.removeprefix("nezha.").startswith(("embeddings.", "encoder."))
    ]
    if lacking:
        raise FileError(
            f"{folder}: expected the complete encoder of a {class_name}, found no {listed(lacking, most=3)}"
        )


def _tokenizer(folder: Path) -> NezhaTokenizer | None:
    """The source's tokenizer, if it has one."""
    if names_present(folder, _VOCABULARIES):
        return NezhaTokenizer.from_pretrained(folder)
    return None


def _check_tokenizer(
    tokenizer: NezhaTokenizer | None, folder: Path, target: Path, config: NezhaConfig
) -> None:
    """Raise if it does not fit the model; without one, ``target`` must not hold another model's."""
    if tokenizer is not None:
        check_vocabulary_size(folder, len(tokenizer), config.vocab_size)
    if tokenizer is None and names_present(target, _VOCABULARIES):
        raise FileError(
            f"{target}: holds another model's vocabulary, and {folder} has none to replace it; "
            "name another folder"
        )
