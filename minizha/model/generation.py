"""Text, one token after the other: a decoder guesses the next token, reads it, and guesses on.

Keys and values of what has been read are kept, so each step reads one token, not the whole text.
"""

from __future__ import annotations

import math
import reprlib
from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array, to_backend, to_host
from minizha.errors import ArgumentError, MinizhaError
from minizha.model.base import check_seed
from minizha.model.door import Door


class Sampling(NamedTuple):
    """How a token is drawn; :func:`next_tokens` says what the numbers mean."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def check(self) -> Sampling:
        """Itself; ArgumentError where a value makes no sense."""
        t, k, p = self
        if not 0.0 < _number(t) < math.inf:
            raise ArgumentError(
                f"temperature: expected a finite number above 0, found {reprlib.repr(t)}"
            )
        if k is not None and not _is_integer(k, 1):
            raise ArgumentError(
                f"top_k: expected an integer of at least 1 or None, found {reprlib.repr(k)}"
            )
        if p is not None and not 0.0 < _number(p) <= 1.0:
            raise ArgumentError(
                f"top_p: expected a number in (0, 1] or None, found {reprlib.repr(p)}"
            )
        return self


def next_tokens(
    logits: np.ndarray, sampling: Sampling | None, rng: np.random.Generator
) -> np.ndarray:
    """One token a row: the likeliest, or with ``sampling`` one drawn from
    ``softmax(logits / temperature)``

    of the ``top_k`` likeliest tokens, and of these the fewest that have ``top_p`` of the
    probability together.

    Shapes: logits (B, V) → tokens (B) integers.

    Convention: of equals the one with the smaller id is the likelier.
    """
    if sampling is None:
        return logits.argmax(axis=-1)
    temperature, top_k, top_p = sampling
    order = np.argsort(-logits, axis=-1, kind="stable")[:, :top_k]
    scores = np.take_along_axis(logits, order, axis=-1).astype(np.float64)
    with np.errstate(over="ignore"):  # near temperature 0, all but the likeliest go to −∞
        probs = np.exp((scores - scores[:, :1]) / temperature)
    probs /= probs.sum(axis=-1, keepdims=True)
    if top_p is not None:
        before = probs.cumsum(axis=-1) - probs
        probs = np.where(before < top_p, probs, 0.0)
        probs /= probs.sum(axis=-1, keepdims=True)
    # the place where the cumulated probability passes a number drawn from [0, 1)
    drawn = rng.random((len(probs), 1))
    place = (probs.cumsum(axis=-1) <= drawn).sum(axis=-1, keepdims=True)
    last = (probs > 0.0).sum(axis=-1, keepdims=True) - 1  # should rounding leave the sum below 1
    return np.take_along_axis(order, np.minimum(place, last), axis=-1)[:, 0]


def generate(
    model: Any,
    input_ids: Any,
    attention_mask: Any,
    encoder: dict[str, Any],
    max_new_tokens: int,
    sampling: Sampling | None,
    eos_token_id: int | None,
    seed: int,
    use_cache: bool,
) -> Array:
    """The ids and what follows them, (B, L + new); see the model's method of this name."""
    config, door = model.config, model._door
    if not config.is_decoder:
        raise ArgumentError(
            "generate: expected a decoder (is_decoder=True), found an encoder: it was never asked "
            "to guess what comes next"
        )
    if not _is_integer(max_new_tokens, 1):
        found = reprlib.repr(max_new_tokens)
        raise ArgumentError(f"max_new_tokens: expected an integer of at least 1, found {found}")
    ids, mask = _prompt(door, input_ids, attention_mask)
    _check_encoder_mask(door, encoder["encoder_attention_mask"])
    eos = config.eos_token_id if eos_token_id is None else _token(door, eos_token_id)
    pad = eos if config.pad_token_id is None else config.pad_token_id
    rng = np.random.default_rng(check_seed(seed))
    running, past, unread = np.ones(len(ids), dtype=bool), None, ids
    for _ in range(max_new_tokens):
        out = model(
            unread, mask, past_key_values=past, use_cache=use_cache, record=False,
            return_dict=True, **encoder,
        )  # fmt: skip
        logits = to_host(out.logits[:, -1]).real
        # −∞ forbids a token, and may do so; at least one has to be left
        if np.isnan(logits).any() or not np.isfinite(logits.max(axis=-1)).all():
            raise MinizhaError("generate: the logits are no longer numbers; the model is damaged")
        tokens = next_tokens(logits, sampling, rng)
        tokens = np.where(running, tokens, pad if pad is not None else 0)
        ids = np.concatenate((ids, tokens[:, None]), axis=1)
        mask = np.concatenate((mask, np.ones((len(ids), 1))), axis=1)
        running &= tokens != (-1 if eos is None else eos)
        if not running.any():
            break
        past, unread = (out.past_key_values, ids[:, -1:]) if use_cache else (None, ids)
    return to_backend(ids, model.xp)


def _prompt(door: Door, input_ids: Any, attention_mask: Any) -> tuple[np.ndarray, np.ndarray]:
    """The ids to go on from and their mask, both (B, L) and on the host."""
    ids = door.host_integers("input_ids", input_ids, ("B", "L"), door.config.vocab_size)
    if attention_mask is None:
        return ids, np.ones(ids.shape)
    mask = door.mask("attention_mask", attention_mask, {"(B, L)": ids.shape})
    if not (mask[:, -1:] == 1).all():
        raise ArgumentError(
            "attention_mask: expected 1 for the last token of each row (pad on the left): "
            "the text goes on from there"
        )
    return ids, mask


def _check_encoder_mask(door: Door, mask: Any) -> None:
    """A mask with a row for each query can't be one of queries that are not there yet."""
    shape = (0, 0) if mask is None else door.array("encoder_attention_mask", mask).shape
    if len(shape) != 2:
        raise ArgumentError(f"encoder_attention_mask: expected shape (B, S), found {shape}")


def _token(door: Door, value: Any) -> int:
    V = door.config.vocab_size
    if not _is_integer(value, -1) or value >= V:
        raise ArgumentError(
            f"eos_token_id: expected an integer in [0, {V}), None, or -1 for no end, "
            f"found {reprlib.repr(value)}"
        )
    return int(value)


def _is_integer(value: Any, least: int) -> bool:
    integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    return bool(integer and value >= least)


def _number(value: Any) -> float:
    """``value``, or NaN where it is no number."""
    real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    try:
        return float(value) if real else math.nan
    except OverflowError:
        return math.inf
