"""Masked language modelling: which tokens are masked, and what replaces them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

from minizha.checks import flag, integer, number
from minizha.errors import ArgumentError
from minizha.ops.cross_entropy import IGNORED
from minizha.text.arguments import MOST_TOKENS, as_integers, check_generator, check_range


def mask_tokens(
    input_ids: Any,
    special_ids: Collection[int],
    rng: np.random.Generator,
    *,
    mask_token_id: int,
    vocab_size: int,
    probability: float = 0.15,
    at_least_one: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Mask tokens as BERT does: of those chosen, 80 % become [MASK], 10 % a random token.

    Each token is chosen independently with ``probability``. A special token is never chosen and
    never replaces another token. The remaining 10 % keep their token and have a label like the rest,
    so the input does not tell the model which tokens are labelled.

    Args:
        input_ids: (..., L) integers in 0 … V − 1; not changed.
        special_ids: ids that are never masked, padding among them.
        rng: the generator; equal states give equal results.
        mask_token_id: the id of [MASK].
        vocab_size: V.
        probability: the share of the tokens that is chosen, in [0, 1].
        at_least_one: choose at least one token in every row that has an ordinary token, so that
            short rows have a label too. Each ordinary token of the row is equally likely.

    Returns:
        The masked ids and the labels (the original id of a chosen token, −100 elsewhere), both of
        input_ids' shape, int64.

    Source: Devlin et al. 2018, section 3.1, task 1.

    Raises:
        ArgumentError: an id out of range, a probability outside [0, 1], only special tokens in the
            vocabulary, or an ``rng`` that is not a Generator.
    """
    ids, ordinary = _check(input_ids, special_ids, mask_token_id, vocab_size, probability)
    check_generator(rng)
    at_least_one = flag("at_least_one", at_least_one)
    is_special = np.ones(vocab_size, dtype=bool)
    is_special[ordinary] = False
    candidate = ~is_special[ids]

    # special tokens get 1, more than any draw from [0, 1)
    draw = np.where(candidate, rng.random(ids.shape), 1.0)
    chosen = draw < probability
    if at_least_one and ids.size:
        # if any draw of a row is below the probability, the smallest one is
        chosen |= draw == draw.min(axis=-1, keepdims=True)
    chosen &= candidate

    replacement = rng.random(ids.shape)
    random_ids = ordinary[rng.integers(len(ordinary), size=ids.shape)]
    masked = np.where(chosen & (replacement < 0.8), mask_token_id, ids)
    masked = np.where(chosen & (replacement >= 0.9), random_ids, masked)
    return masked, np.where(chosen, ids, IGNORED)


def _check(
    input_ids: Any,
    special_ids: Collection[int],
    mask_token_id: int,
    vocab_size: int,
    probability: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The ids and the ordinary (not special) ids of the vocabulary, as int64 arrays."""
    vocab_size = integer("vocab_size", integer("vocab_size", vocab_size, 1), high=MOST_TOKENS)
    ids = as_integers("input_ids", input_ids)
    if ids.ndim == 0:
        raise ArgumentError("input_ids: expected integers of shape (..., L), found one integer")
    check_range("input_ids", ids, vocab_size)
    if isinstance(special_ids, str) or not isinstance(special_ids, Iterable):
        raise ArgumentError(f"special_ids: expected a set of ids, found {special_ids!r:.80}")
    special = [integer("special_ids", i, 0, vocab_size - 1) for i in special_ids]
    integer("mask_token_id", mask_token_id, 0, vocab_size - 1)
    number("probability", probability, "[0, 1]")
    ordinary = np.delete(np.arange(vocab_size), np.array(special, dtype=np.int64))
    if not ordinary.size:
        raise ArgumentError(
            f"special_ids: expected an id that is not special, but all of the {vocab_size} ids are special"
        )
    return ids.astype(np.int64), ordinary
