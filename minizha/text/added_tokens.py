"""Tokens that a tokenizer's files add to its vocabulary, or mark as special.

An added token is whole: it is found in a text before the text is normalised and split. Transformers
writes these tokens beside an unchanged vocab.txt, into as many as four files.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from minizha.errors import ArgumentError, FileError, MinizhaError
from minizha.files import path_exists, read_json_object
from minizha.text.vocabulary import SPECIAL_TOKENS

ADDED_NAME = "added_tokens.json"
SPECIAL_NAME = "special_tokens_map.json"
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized", "special")
_ROLES = {f"{token[1:-1].lower()}_token": token for token in SPECIAL_TOKENS}
_OTHER_ROLES = ("bos_token", "eos_token")


class AddedToken(NamedTuple):
    """A whole token and its id; its flags are those of the ``tokenizers`` library.

    ``lstrip`` and ``rstrip`` take in the white space on that side, ``single_word`` matches only
    between other than word characters, ``normalized`` matches after lower-casing, and a ``special``
    token is neither masked nor, on request, decoded.
    """

    content: str
    id: int
    lstrip: bool = False
    rstrip: bool = False
    single_word: bool = False
    normalized: bool = True
    special: bool = False


def check_added(
    tokens: Sequence[str],
    added: Iterable[AddedToken],
    where: Callable[[str], str] = lambda _: "added_tokens",
    error: type[MinizhaError] = ArgumentError,
) -> list[AddedToken]:
    """``added`` in the order of their ids, checked: each is in ``tokens`` under its id, or has one of
    the next ids, without a gap; ``SPECIAL_TOKENS`` that are missing among them are put in.

    Raises:
        MinizhaError: of the type ``error``; names where(token), the token and the id.
    """
    ids = {token: i for i, token in enumerate(tokens)}
    by_content = {
        token: AddedToken(token, ids[token], normalized=False, special=True)
        for token in SPECIAL_TOKENS
    }
    following = len(tokens)
    for token in sorted(added, key=lambda token: token.id):
        name, source = reprlib.repr(token.content), where(token.content)
        if not token.content.strip() or any(
            c in "\n\r" or "\ud800" <= c <= "\udfff" for c in token.content
        ):
            raise error(f"{source}: expected tokens of valid Unicode on one line, found {name}")
        if token.content not in ids:
            if token.id != following:
                raise error(
                    f"{source}: {name}: expected the id {following}, the next one after the "
                    f"vocabulary, found {token.id}"
                )
            ids[token.content] = following
            following += 1
        elif token.id != ids[token.content]:
            raise error(
                f"{source}: {name}: expected the id {ids[token.content]}, as elsewhere in the "
                f"tokenizer, found {token.id}"
            )
        by_content[token.content] = token
    return sorted(by_content.values(), key=lambda token: token.id)


def read_added_tokens(
    folder: Path, tokens: Sequence[str], settings_name: str, tokenizer_name: str
) -> list[AddedToken]:
    """The added and special tokens of the four files in ``folder``, beside the vocabulary ``tokens``.

    Convention: the flags of a token are those of tokenizer_config.json, or else of tokenizer.json, or
    else of special_tokens_map.json; a token in added_tokens.json alone is not special, and is
    matched after normalisation. Ids must agree in all files.

    Raises:
        FileError: a file is damaged, two files disagree, a token has no id, ids leave a gap, or
            another token has the role of one of ``SPECIAL_TOKENS``.
    """
    ids: dict[str, int] = {token: i for i, token in enumerate(tokens)}
    found: dict[str, dict[str, Any]] = {}
    sources: dict[str, str] = {}
    readers = {
        ADDED_NAME: _of_added,
        SPECIAL_NAME: _of_roles,
        tokenizer_name: _of_tokenizer,
        settings_name: _of_settings,
    }
    for file_name, reader in readers.items():  # later files overrule the flags of earlier ones
        path = os.path.join(folder, file_name)
        if not path_exists(path):
            continue
        for token, i, flags in reader(read_json_object(path), path):
            if i is not None and ids.setdefault(token, i) != i:
                raise FileError(
                    f"{path}: {reprlib.repr(token)}: expected the id {ids[token]}, as elsewhere in "
                    f"the folder, found {i}"
                )
            sources[token] = path
            found[token] = found.get(token, {}) | flags
    for token, path in sources.items():
        if token not in ids:
            raise FileError(
                f"{path}: {reprlib.repr(token)}: expected its id in {ADDED_NAME} or {settings_name}, "
                "found none"
            )
    added = [AddedToken(token, ids[token], **_complete(flags)) for token, flags in found.items()]
    return check_added(tokens, added, sources.__getitem__, FileError)


def added_contents(added: Sequence[AddedToken], base: int) -> dict[str, dict[str, Any]]:
    """What the tokenizer's files say about ``added``, for a vocab.txt of ``base`` lines.

    added_tokens.json has the tokens after the vocabulary, special_tokens_map.json the special ones.
    The third value, under the name "", is for tokenizer_config.json; without any tokens besides
    ``SPECIAL_TOKENS`` it is empty.
    """
    special = [t.content for t in added if t.special and t.content not in SPECIAL_TOKENS]
    more = {"additional_special_tokens": special} if special else {}
    decoder = {
        str(t.id): {"content": t.content} | {f: getattr(t, f) for f in _FLAGS} for t in added
    }
    plain = all(t == AddedToken(t.content, t.id, normalized=False, special=True) for t in added)
    own = plain and len(added) == len(SPECIAL_TOKENS)
    return {
        ADDED_NAME: {t.content: t.id for t in added if t.id >= base},
        SPECIAL_NAME: _ROLES | more,
        "": {} if own else {"added_tokens_decoder": decoder} | more,
    }


_Entry = tuple[str, int | None, dict[str, Any]]


def _of_added(content: dict[str, Any], path: str) -> Iterator[_Entry]:
    for token, i in content.items():
        yield token, _id(i, f"{path}: {reprlib.repr(token)}"), {}


def _of_roles(content: dict[str, Any], path: str) -> Iterator[_Entry]:
    for role, token in _ROLES.items():
        value = content.get(role)
        if value is None:
            continue
        name, flags = _token(value, f"{path}: {role}")
        if name != token:
            raise FileError(f"{path}: {role}: expected {token!r}, found {reprlib.repr(name)}")
        yield name, None, {"normalized": False} | flags | {"special": True}
    others = [content[role] for role in _OTHER_ROLES if content.get(role) is not None]
    additional = content.get("additional_special_tokens") or []
    if not isinstance(additional, list):
        raise FileError(
            f"{path}: additional_special_tokens: expected a list, found {reprlib.repr(additional)}"
        )
    for value in [*others, *additional]:
        name, flags = _token(value, f"{path}: additional_special_tokens")
        yield name, None, {"normalized": False} | flags | {"special": True}


def _of_tokenizer(content: dict[str, Any], path: str) -> Iterator[_Entry]:
    added = content.get("added_tokens") or []
    if not isinstance(added, list):
        raise FileError(f"{path}: added_tokens: expected a list, found {reprlib.repr(added)}")
    for value in added:
        name, flags = _token(value, f"{path}: added_tokens")
        i = value.get("id") if isinstance(value, dict) else None
        yield name, _id(i, f"{path}: added_tokens: {reprlib.repr(name)}"), flags


def _of_settings(content: dict[str, Any], path: str) -> Iterator[_Entry]:
    decoder = content.get("added_tokens_decoder") or {}
    where = f"{path}: added_tokens_decoder"
    if not isinstance(decoder, dict):
        raise FileError(f"{where}: expected an object, found {reprlib.repr(decoder)}")
    yield from _of_roles(content, path)
    for key, value in decoder.items():
        if not (key.isascii() and key.isdigit() and len(key) < 10):
            raise FileError(f"{where}: expected an id, found {reprlib.repr(key)}")
        name, flags = _token(value, f"{where}: {key}")
        yield name, int(key), flags


def _token(value: Any, where: str) -> tuple[str, dict[str, Any]]:
    """The text and the flags of a token, which a file gives as a string or as an object."""
    entry = value if isinstance(value, dict) else {"content": value}
    flags = {flag: entry[flag] for flag in _FLAGS if flag in entry}
    if not isinstance(entry.get("content"), str) or not all(
        isinstance(f, bool) for f in flags.values()
    ):
        raise FileError(f"{where}: expected a token, found {reprlib.repr(value)}")
    return entry["content"], flags


def _complete(flags: dict[str, Any]) -> dict[str, Any]:
    """As in Transformers, a special token is matched before normalisation, unless a file says else."""
    return {"normalized": not flags.get("special", False)} | flags


def _id(value: Any, where: str) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise FileError(f"{where}: expected an id, found {reprlib.repr(value)}")
    return value
