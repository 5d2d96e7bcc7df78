"""The files of a tokenizer's folder: vocab.txt or tokenizer.json, tokenizer_config.json, and the two
that list added and special tokens."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from minizha.errors import FileError, MinizhaError
from minizha.files import current_path, read_json_object
from minizha.text.added_tokens import (
    ADDED_NAME,
    SPECIAL_NAME,
    AddedToken,
    added_contents,
    read_added_tokens,
)
from minizha.text.vocabulary import SPECIAL_TOKENS, UNK, check_tokens, read_vocabulary

VOCABULARY_NAME = "vocab.txt"
TOKENIZER_NAME = "tokenizer.json"
SETTINGS_NAME = "tokenizer_config.json"
TOKENIZER_FILES = (VOCABULARY_NAME, TOKENIZER_NAME, SETTINGS_NAME, ADDED_NAME, SPECIAL_NAME)
"""What is read of a folder; one of the first two must be there, the others are optional."""
SETTINGS = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
_TYPES = {"model": "WordPiece", "normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer"}


def read_tokenizer_folder(
    folder: Path,
) -> tuple[list[str], list[AddedToken], dict[str, Any]]:
    """The vocabulary, the added tokens and the ``SETTINGS`` in ``folder``; vocab.txt is preferred to
    the vocabulary of a tokenizer.json.

    Raises:
        FileError: both files are missing, a file is damaged, or its tokens can't be used (see
            :func:`~minizha.text.added_tokens.read_added_tokens`).
    """
    names = (VOCABULARY_NAME, TOKENIZER_NAME, SETTINGS_NAME)
    vocab, tokenizer_json, config = (os.path.join(folder, name) for name in names)
    settings: dict[str, Any] = {}
    if os.path.lexists(current_path(vocab)):
        tokens = read_vocabulary(vocab)
        if os.path.lexists(current_path(tokenizer_json)):
            _check_same_vocabulary(tokens, tokenizer_json)
    elif os.path.lexists(current_path(tokenizer_json)):
        tokens, settings = read_tokenizer_json(tokenizer_json)
    else:
        raise FileError(f"{folder}: expected vocab.txt or tokenizer.json in it, found neither")
    if os.path.lexists(current_path(config)):
        settings |= check_settings(read_json_object(config), config)
    return tokens, read_added_tokens(folder, tokens, SETTINGS_NAME, TOKENIZER_NAME), settings


def contents(
    folder: Path,
    tokens: Sequence[str],
    added: Sequence[AddedToken],
    settings: dict[str, Any],
    tokenizer_json: str,
    max_length: int,
) -> dict[Path, bytes]:
    """The contents of the files in ``folder``, in the format of Transformers' BertTokenizerFast:
    vocab.txt with ``tokens``, tokenizer_config.json, and added_tokens.json if it says something."""
    about_added = added_contents(added, len(tokens))
    config = {"tokenizer_class": "BertTokenizer", "model_max_length": max_length, **settings}
    config |= {f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS}
    config |= about_added[""]
    files = {
        VOCABULARY_NAME: "".join(f"{token}\n" for token in tokens),
        SETTINGS_NAME: json.dumps(config, indent=2, sort_keys=True) + "\n",
    }
    # replace what an earlier tokenizer left: its tokens would be taken for those of this one
    for name in (ADDED_NAME, SPECIAL_NAME):
        wanted = name == ADDED_NAME and about_added[name]
        if wanted or os.path.lexists(current_path(folder / name)):
            files[name] = json.dumps(about_added[name], indent=2, ensure_ascii=False) + "\n"
    # replace a tokenizer.json, because Transformers reads it rather than vocab.txt
    if os.path.lexists(current_path(folder / TOKENIZER_NAME)):
        files[TOKENIZER_NAME] = tokenizer_json
    return {folder / name: content.encode("utf-8") for name, content in files.items()}


def read_tokenizer_json(path: str | PathLike[str]) -> tuple[list[str], dict[str, Any]]:
    """The tokens and the ``SETTINGS`` of a tokenizer.json, which must describe BERT's WordPiece.

    Raises:
        FileError: unreadable, a tokenizer of another type, or ids that are not 0 … V − 1.
    """
    path = os.fspath(path)
    content = read_json_object(path)
    for key, expected in _TYPES.items():
        value = content.get(key)
        found = value.get("type") if isinstance(value, dict) else value
        if not isinstance(value, dict) or found != expected:
            raise FileError(
                f"{path}: {key}: expected an object of type {expected!r}, found {reprlib.repr(found)}"
            )
    model, normalizer = content["model"], content["normalizer"]
    prefix = model.get("continuing_subword_prefix", "##")
    if (prefix, model.get("unk_token", UNK)) != ("##", UNK):
        found = f"{reprlib.repr(prefix)} and {reprlib.repr(model.get('unk_token', UNK))}"
        raise FileError(
            f"{path}: model: expected the prefix '##' and the unknown token '{UNK}', found {found}"
        )
    fixed = {
        "model.max_input_chars_per_word": (model.get("max_input_chars_per_word", 100), 100),
        "normalizer.clean_text": (normalizer.get("clean_text", True), True),
    }
    for key, (value, expected) in fixed.items():
        if type(value) is not type(expected) or value != expected:
            raise FileError(f"{path}: {key}: expected {expected}, found {reprlib.repr(value)}")
    settings = {
        "do_lower_case": normalizer.get("lowercase", True),
        "strip_accents": normalizer.get("strip_accents"),
        "tokenize_chinese_chars": normalizer.get("handle_chinese_chars", True),
    }
    return _tokens_by_id(model.get("vocab"), path), check_settings(settings, path)


def check_settings(
    content: dict[str, Any], where: str, error: type[MinizhaError] = FileError
) -> dict[str, Any]:
    """The ``SETTINGS`` in ``content``; raises ``error`` if one is not a boolean."""
    settings = {name: content[name] for name in SETTINGS if name in content}
    for name, value in settings.items():
        if not (isinstance(value, bool) or (name == "strip_accents" and value is None)):
            found = reprlib.repr(value)
            raise error(f"{where}: {name}: expected true or false, found {found}")
    return settings


def _check_same_vocabulary(tokens: list[str], tokenizer_json: str) -> None:
    """Refuse a tokenizer.json whose ids differ from those of the vocab.txt beside it."""
    model = read_json_object(tokenizer_json).get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(vocab, dict) and vocab != {token: i for i, token in enumerate(tokens)}:
        other = next((t for i, t in enumerate(tokens) if vocab.get(t) != i), None)
        found = f"{len(vocab)} tokens" if other is None else f"{reprlib.repr(other)} elsewhere"
        raise FileError(
            f"{tokenizer_json}: model.vocab: expected the ids of the {len(tokens)} tokens in the "
            f"vocab.txt beside it, found {found}; remove the file that is out of date"
        )


def _tokens_by_id(vocab: Any, path: str) -> list[str]:
    if not isinstance(vocab, dict) or not all(type(i) is int for i in vocab.values()):
        raise FileError(f"{path}: model.vocab: expected an object of token: id")
    tokens = sorted(vocab, key=vocab.__getitem__)
    if [vocab[token] for token in tokens] != list(range(len(tokens))):
        raise FileError(f"{path}: model.vocab: expected each of the ids 0 … {len(tokens) - 1} once")
    return check_tokens(tokens, lambda i: f"{path}: model.vocab, id {i}", path, FileError)
