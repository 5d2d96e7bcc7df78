"""Any checkpoint that minizha can read, written the way that Transformers reads it too."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minizha.checkpoint.folder import write_folder
from minizha.checkpoint.hub import MODEL_FILES, local_folder
from minizha.checkpoint.names import canonical_names
from minizha.checkpoint.stored import shown
from minizha.config import CONFIG_NAME, NezhaConfig
from minizha.errors import ArgumentError, FileError, listed
from minizha.files import folder_path, path_exists
from minizha.model.auto import CLASSES, class_of
from minizha.model.loading import listed_faults, match, read_model_folder
from minizha.text.tokenizer import NezhaTokenizer
from minizha.text.tokenizer_files import SETTINGS_NAME, VOCABULARY_NAME, WHOLE_NAME

_VOCABULARIES = (VOCABULARY_NAME, WHOLE_NAME)


class Conversion(NamedTuple):
    """What was written: as which class, how many tensors, whether a vocabulary; and what the
    source had besides, or lacked."""

    kind: str
    tensors: int
    vocabulary: bool
    missing: tuple[str, ...]
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        vocabulary = "and the vocabulary" if self.vocabulary else "no vocabulary was there"
        lines = [f"{self.tensors} tensors as {self.kind}, {vocabulary}"]
        if self.missing:
            lines.append("missing, so initialised when loaded: " + listed(self.missing))
        if self.left_out:
            lines.append("left out: " + listed(list(map(shown, self.left_out))))
        return "\n".join(lines)


def convert(source: str | PathLike[str], target: str | PathLike[str]) -> Conversion:
    """Write the model in ``source``, a folder or a hub id, into the folder ``target``.

    ``target`` gets ``config.json``, ``model.safetensors`` with Transformers' names, and the
    tokenizer's files where the source has any. Parameters of every head are kept, computed
    buffers are left out, half precision becomes float32.

    Raises:
        FileError: the source is missing, damaged, of another kind of model, or its tensors do not
            fit its configuration; or the target can't be written.
    """
    target = folder_path(target)
    folder = local_folder(source, MODEL_FILES, (*_VOCABULARIES, SETTINGS_NAME))
    config, tensors = read_model_folder(folder)
    try:
        kind = class_of(config, tensors)
        config = kind.resolve_config(config)
        shapes = kind.shapes(config)
        found, missing, _, faults, _ = match(tensors, shapes)
    except ArgumentError as error:
        raise FileError(f"{folder}: {error}") from error
    if faults:
        raise FileError(f"{folder}: {listed_faults(faults)}")
    if not found:
        raise FileError(
            f"{folder}: none of its {len(tensors)} tensors belongs to a {kind.__name__}"
        )
    tokenizer = _tokenizer(folder, target, config)
    renamed = canonical_names(tensors, shapes)
    # other classes' heads are kept too; a classifier has other shapes there, so its own goes last
    known = {name: shape for other in CLASSES for name, shape in other.shapes(config).items()}
    known |= shapes
    kept = {name: t for name, t in renamed.items() if known.get(name) == t.shape}
    arrays = {name: tensor.read() for name, tensor in kept.items()}
    left_out = tuple(sorted(renamed.keys() - kept.keys()))
    wide = any(array.dtype == np.float64 for array in arrays.values())
    more = {"architectures": [kind.__name__], "torch_dtype": "float64" if wide else "float32"}
    files = None if tokenizer is None else tokenizer.files(target)
    write_folder(target, config.to_json(**more), arrays, files)
    return Conversion(kind.__name__, len(arrays), tokenizer is not None, missing, left_out)


def _tokenizer(folder: Path, target: Path, config: NezhaConfig) -> NezhaTokenizer | None:
    """The source's tokenizer, which has to fit the model; none must be left from another model."""
    if any(path_exists(folder / name) for name in _VOCABULARIES):
        tokenizer = NezhaTokenizer.from_pretrained(folder)
        if len(tokenizer) != config.vocab_size:
            raise FileError(
                f"{folder}: its vocabulary has {len(tokenizer)} tokens, expected vocab_size = "
                f"{config.vocab_size} of them, as {CONFIG_NAME} says"
            )
        return tokenizer
    if any(path_exists(target / name) for name in _VOCABULARIES):
        raise FileError(
            f"{target}: holds another model's vocabulary, and {folder} has none to replace it; "
            "name another folder"
        )
    return None
