"""Checks of the arguments of this package, and the messages about bad ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from minizha.backend import is_array, refuse_masked, to_host
from minizha.checks import integer
from minizha.errors import ArgumentError

MOST_TOKENS = 2**31 - 1
"""The largest vocabulary and the longest row of tokens."""


def check_tokenizer(tokenizer: Any) -> None:
    """Raise an ArgumentError unless ``tokenizer`` is a tokenizer: it has the methods of
    :class:`~minizha.text.tokenizer.NezhaTokenizer`."""
    methods = ("plain_ids", "convert_tokens_to_ids", "convert_ids_to_tokens")
    if isinstance(tokenizer, type) or not all(hasattr(tokenizer, name) for name in methods):
        raise ArgumentError(
            f"tokenizer: expected a NezhaTokenizer, found {type(tokenizer).__name__}"
        )


def check_texts(text: Any, pair: Any = None) -> list[str] | list[tuple[str, str]]:
    """``text`` and ``pair`` as a list of B texts or of B (text, pair) tuples."""
    texts = _text_list("text", text)
    if pair is None:
        return texts
    pairs = _text_list("pair", pair)
    if isinstance(text, str) != isinstance(pair, str) or len(texts) != len(pairs):
        raise ArgumentError(
            f"pair: expected as many texts as in text ({len(texts)}), found {len(pairs)}"
            if len(texts) != len(pairs)
            else "pair: expected a string where text is one, a list where text is a list"
        )
    return list(zip(texts, pairs, strict=True))


def check_max_length(max_length: Any, default: int, least: int) -> int:
    """``max_length`` as an int of at least ``least``; ``default`` where it is None."""
    if max_length is None:
        return default
    value = integer("max_length", integer("max_length", max_length), high=MOST_TOKENS)
    if value < least:
        raise ArgumentError(
            f"max_length: expected at least {least} (the special tokens and one token of each "
            f"segment), found {value}"
        )
    return value


def check_truncation(truncation: Any) -> bool:
    """Whether to truncate; "longest_first" is the only strategy."""
    if isinstance(truncation, bool) or _is_text(truncation, "longest_first"):
        return bool(truncation)
    raise ArgumentError(
        f"truncation: expected True, False or 'longest_first', found {truncation!r:.80}"
    )


def row_length(lengths: list[int], padding: Any, max_length: int) -> int:
    """The row length L of a batch; ``lengths`` are those of the rows before padding."""
    longest = max(lengths)
    if padding is True or _is_text(padding, "longest"):
        return longest
    if padding is False:
        if min(lengths) < longest:
            raise ArgumentError(
                f"padding: False needs rows of one length, found {min(lengths)} to {longest} "
                "tokens; use padding=True"
            )
        return longest
    if not _is_text(padding, "max_length"):
        raise ArgumentError(
            f"padding: expected True, False, 'longest' or 'max_length', found {padding!r:.80}"
        )
    if longest > max_length:
        raise ArgumentError(
            f"padding: 'max_length' is {max_length}, found a row of {longest} tokens; "
            "use truncation=True"
        )
    return max_length


def check_ids(ids: Any, vocab_size: int) -> int | list[int]:
    """One token id as an int, a row of them as a list, each in 0 … V − 1. A CuPy array is copied to
    the host."""
    refuse_masked(ids, "ids")
    array = as_integers("ids", to_host(ids) if is_array(ids) else ids)
    if array.ndim > 1:
        hint = "; batch_decode takes rows" if array.ndim == 2 else ""
        raise ArgumentError(
            f"ids: expected an integer or a one-dimensional list of integers, found shape "
            f"{array.shape}{hint}"
        )
    check_range("ids", array, vocab_size)
    return array.tolist()


def check_return_tensors(return_tensors: Any) -> Callable[[np.ndarray], Any]:
    """The function that converts each array of a batch."""
    if callable(return_tensors):
        return return_tensors
    if return_tensors is None or (isinstance(return_tensors, str) and return_tensors == "np"):
        return lambda array: array
    raise ArgumentError(
        "return_tensors: expected None, 'np' or a function of an array such as torch.from_numpy "
        f"or cupy.asarray, found {return_tensors!r}"
    )


def check_range(name: str, ids: np.ndarray, vocab_size: int) -> None:
    """Raise an ArgumentError unless all integers ``ids`` are in 0 … V − 1."""
    if ids.size == 0:
        return
    for extreme in (int(ids.min()), int(ids.max())):
        if not 0 <= extreme < vocab_size:
            raise ArgumentError(f"{name}: expected ids in 0 … {vocab_size - 1}, found {extreme}")


def as_integers(name: str, values: Any) -> np.ndarray:
    """``values`` (nested lists or an array) as an array of integers."""
    refuse_masked(values, name)
    try:
        array = np.asarray(values)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"{name}: expected integers in rows of one length: {error}") from error
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise ArgumentError(f"{name}: expected integers, found {array.dtype}")
    return array


def check_generator(rng: Any) -> None:
    """Raise an ArgumentError unless ``rng`` is a ``numpy.random.Generator``."""
    if not isinstance(rng, np.random.Generator):
        raise ArgumentError(
            f"rng: expected a numpy.random.Generator (numpy.random.default_rng(seed)), "
            f"found {type(rng).__name__}"
        )


def _is_text(value: Any, text: str) -> bool:
    """Whether ``value`` is this text; an array would answer for each of its entries."""
    return isinstance(value, str) and value == text


def _text_list(name: str, texts: Any) -> list[str]:
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, (list, tuple)):
        raise ArgumentError(
            f"{name}: expected a string or a list of strings, found {type(texts).__name__}"
        )
    if not texts:
        raise ArgumentError(f"{name}: expected at least one string, found an empty list")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ArgumentError(f"{name}[{i}]: expected a string, found {type(text).__name__}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ArgumentError(f"{name}[{i}]: not valid Unicode: {error}") from error
    return list(texts)
