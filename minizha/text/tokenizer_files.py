"""The files of a tokenizer's folder: vocab.txt or tokenizer.json, and tokenizer_config.json."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from os import PathLike
from typing import Any

from minizha.errors import FileError, MinizhaError
from minizha.files import folder_path, make_folder, read_json_object, write_together
from minizha.text.vocabulary import SPECIAL_TOKENS, UNK, check_tokens, read_vocabulary

VOCABULARY_NAME, SETTINGS_NAME = "vocab.txt", "tokenizer_config.json"
SETTINGS = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
_PARTS = {"model": "WordPiece", "normalizer": "BertNormalizer", "pre_tokenizer": "BertPreTokenizer"}


def read_folder(folder: str | PathLike[str]) -> tuple[list[str], dict[str, Any]]:
    """The tokens and the ``SETTINGS`` found in ``folder``; vocab.txt goes before tokenizer.json.

    Raises:
        FileError: no such folder, neither file in it, or a broken one.
    """
    folder = folder_path(folder)
    if not os.path.isdir(folder):
        raise FileError(
            f"{folder}: expected a local folder with a vocab.txt, found no such folder "
            "(downloading by a hub name is not supported yet)"
        )
    names = (VOCABULARY_NAME, "tokenizer.json", SETTINGS_NAME)
    vocab, whole, config = (os.path.join(folder, name) for name in names)
    settings: dict[str, Any] = {}
    if os.path.lexists(vocab):
        tokens = read_vocabulary(vocab)
    elif os.path.lexists(whole):
        tokens, settings = read_tokenizer_json(whole)
    else:
        raise FileError(f"{folder}: expected vocab.txt or tokenizer.json in it, found neither")
    if os.path.lexists(config):
        settings |= check_settings(read_json_object(config), config)
    return tokens, settings


def write_folder(
    folder: str | PathLike[str],
    tokens: Sequence[str],
    settings: dict[str, Any],
    tokenizer_json: str,
    max_length: int,
) -> None:
    """Write vocab.txt and tokenizer_config.json, as Transformers' BertTokenizerFast reads them.

    Raises:
        FileError: the folder or a file can't be written.
    """
    folder = folder_path(folder)
    make_folder(folder)
    config = {"tokenizer_class": "BertTokenizer", "model_max_length": max_length, **settings}
    config |= {f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS}
    files = {
        VOCABULARY_NAME: "".join(f"{token}\n" for token in tokens),
        SETTINGS_NAME: json.dumps(config, indent=2, sort_keys=True) + "\n",
    }
    # where a tokenizer.json lies already, Transformers would read that one, not vocab.txt
    if os.path.lexists(os.path.join(folder, "tokenizer.json")):
        files["tokenizer.json"] = tokenizer_json
    write_together(
        {os.path.join(folder, name): content.encode("utf-8") for name, content in files.items()}
    )


def read_tokenizer_json(path: str | PathLike[str]) -> tuple[list[str], dict[str, Any]]:
    """The tokens and the ``SETTINGS`` of a tokenizer.json, provided it describes BERT's WordPiece.

    Raises:
        FileError: unreadable, another kind of tokenizer, ids that are not 0 … V − 1, or added
            tokens besides ``SPECIAL_TOKENS``.
    """
    path = os.fspath(path)
    content = read_json_object(path)
    for part, expected in _PARTS.items():
        found = content.get(part)
        kind = found.get("type") if isinstance(found, dict) else found
        if kind != expected:
            raise FileError(f"{path}: {part}: expected {expected!r}, found {kind!r}")
    model, normalizer = content["model"], content["normalizer"]
    prefix = model.get("continuing_subword_prefix", "##")
    if (prefix, model.get("unk_token", UNK)) != ("##", UNK):
        raise FileError(f"{path}: model: expected the prefix '##' and the unknown token {UNK}")
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or any(
        not isinstance(token, dict) or token.get("content") not in SPECIAL_TOKENS for token in added
    ):
        raise FileError(f"{path}: added_tokens: only {', '.join(SPECIAL_TOKENS)} are supported")
    settings = {
        "do_lower_case": normalizer.get("lowercase", True),
        "strip_accents": normalizer.get("strip_accents"),
        "tokenize_chinese_chars": normalizer.get("handle_chinese_chars", True),
    }
    return _tokens_by_id(model.get("vocab"), path), check_settings(settings, path)


def check_settings(
    content: dict[str, Any], where: str, error: type[MinizhaError] = FileError
) -> dict[str, Any]:
    """Those entries of ``content`` that are ``SETTINGS``; ``error`` where one is no boolean."""
    settings = {name: content[name] for name in SETTINGS if name in content}
    for name, value in settings.items():
        if not (isinstance(value, bool) or (name == "strip_accents" and value is None)):
            raise error(f"{where}: {name}: expected true or false, found {value!r}")
    return settings


def _tokens_by_id(vocab: Any, path: str) -> list[str]:
    if not isinstance(vocab, dict) or not all(type(i) is int for i in vocab.values()):
        raise FileError(f"{path}: model.vocab: expected an object of token: id")
    tokens = sorted(vocab, key=vocab.__getitem__)
    if [vocab[token] for token in tokens] != list(range(len(tokens))):
        raise FileError(f"{path}: model.vocab: expected each of the ids 0 … {len(tokens) - 1} once")
    return check_tokens(tokens, lambda i: f"{path}: model.vocab, id {i}", path, FileError)
