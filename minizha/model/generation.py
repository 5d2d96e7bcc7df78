"""Generating text token by token: a decoder predicts the next token, then reads it, and so on.

The keys and values of earlier tokens are cached, so each step reads one token, not the whole text.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minizha.backend import Array, to_backend, to_host
from minizha.checks import flag, integer, number
from minizha.errors import ArgumentError, MinizhaError
from minizha.model.arguments import ArgumentChecker
from minizha.model.inputs import DecoderArguments


class GenerationOptions(NamedTuple):
    """The options of :meth:`~minizha.model.pretraining.NezhaForMaskedLM.generate`, which explains
    them."""

    max_new_tokens: int = 20
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    eos_token_id: int | None = None
    seed: int = 0
    use_cache: bool = True

    def check(self, vocab_size: int) -> GenerationOptions:
        """The checked options; ArgumentError for an invalid one."""
        return GenerationOptions(
            integer("max_new_tokens", self.max_new_tokens, 1),
            flag("do_sample", self.do_sample, False),
            number("temperature", self.temperature, "(0, inf)"),
            integer("top_k", self.top_k, 1, optional=True),
            number("top_p", self.top_p, "(0, 1]", optional=True),
            # −1: no token ends a text
            integer("eos_token_id", self.eos_token_id, -1, vocab_size - 1, optional=True),
            integer("seed", self.seed, 0),
            flag("use_cache", self.use_cache, True),
        )


def next_tokens(
    logits: np.ndarray, options: GenerationOptions, rng: np.random.Generator
) -> np.ndarray:
    """One token for each row: the likeliest, or with ``do_sample`` one drawn from
    ``softmax(logits / temperature)``

    over the ``top_k`` likeliest tokens, or over the fewest of these whose probabilities sum to at
    least ``top_p``.

    Shapes: logits (B, V) → tokens (B) integers.

    Convention: among equal logits, the token with the smaller id counts as likelier.
    """
    if not options.do_sample:
        return logits.argmax(axis=-1)
    temperature, top_k, top_p = options.temperature, options.top_k, options.top_p
    order = np.argsort(-logits, axis=-1, kind="stable")[:, :top_k]
    scores = np.take_along_axis(logits, order, axis=-1).astype(np.float64)
    with np.errstate(over="ignore"):  # near temperature 0, all but the largest become −∞
        probs = np.exp((scores - scores[:, :1]) / temperature)
    probs /= probs.sum(axis=-1, keepdims=True)
    if top_p is not None:
        likelier = probs.cumsum(axis=-1) - probs  # the probability of all likelier tokens
        probs = np.where(likelier < top_p, probs, 0.0)
        probs /= probs.sum(axis=-1, keepdims=True)
    # the index at which the cumulative probability exceeds a number drawn from [0, 1)
    drawn = rng.random((len(probs), 1))
    index = (probs.cumsum(axis=-1) <= drawn).sum(axis=-1, keepdims=True)
    last = (probs > 0.0).sum(axis=-1, keepdims=True) - 1  # if rounding leaves the sum below 1
    return np.take_along_axis(order, np.minimum(index, last), axis=-1)[:, 0]


def generate(
    model: Any,
    input_ids: Any,
    attention_mask: Any,
    encoder: DecoderArguments,
    options: GenerationOptions,
) -> Array:
    """The ids followed by the generated ones, (B, L + new); see the model's method of this name."""
    config = model.config
    options = options.check(config.vocab_size)
    if not config.is_decoder:
        raise ArgumentError(
            "generate: expected a decoder (is_decoder=True), found an encoder, which does not "
            "predict the next token"
        )
    checker = ArgumentChecker(config, model.xp, model.dtype)
    ids, mask = _prompt(checker, input_ids, attention_mask)
    _check_encoder_mask(checker, encoder.encoder_attention_mask)
    eos = config.eos_token_id if options.eos_token_id is None else options.eos_token_id
    pad = eos if config.padding_row is None else config.padding_row
    rng = np.random.default_rng(options.seed)
    unfinished, past, unread = np.ones(len(ids), dtype=bool), None, ids
    for _ in range(options.max_new_tokens):
        decoder = encoder._replace(past_key_values=past, use_cache=options.use_cache)._asdict()
        last = np.broadcast_to(np.arange(unread.shape[1]) == unread.shape[1] - 1, unread.shape)
        out = model(unread, mask, **decoder, logits_for=last, record=False, return_dict=True)
        logits = to_host(out.logits).real  # (B, V)
        # −∞ may forbid some tokens, but not all
        if np.isnan(logits).any() or not np.isfinite(logits.max(axis=-1)).all():
            raise MinizhaError("generate: the logits are no longer numbers; the model is damaged")
        tokens = next_tokens(logits, options, rng)
        tokens = np.where(unfinished, tokens, pad if pad is not None else 0)
        ids = np.concatenate((ids, tokens[:, None]), axis=1)
        mask = np.concatenate((mask, np.ones((len(ids), 1))), axis=1)
        unfinished &= tokens != (-1 if eos is None else eos)
        if not unfinished.any():
            break
        past, unread = (out.past_key_values, ids[:, -1:]) if options.use_cache else (None, ids)
    return to_backend(ids, model.xp)


def _prompt(
    checker: ArgumentChecker, input_ids: Any, attention_mask: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The ids to continue and their mask, both (B, L) and on the host."""
    ids = checker.host_integers("input_ids", input_ids, ("B", "L"), checker.config.vocab_size)
    if attention_mask is None:
        return ids, np.ones(ids.shape)
    mask = checker.mask("attention_mask", attention_mask, {"(B, L)": ids.shape})
    last = mask[:, -1:]
    if not (last == 1).all():
        raise ArgumentError(
            "attention_mask: expected 1 for the last token of each row, where generation continues "
            f"(pad on the left), found {last.min():g}"
        )
    return ids, mask


def _check_encoder_mask(checker: ArgumentChecker, mask: Any) -> None:
    """Refuse a mask with a row for each query: it has none for the tokens to be generated."""
    shape = (0, 0) if mask is None else checker.array("encoder_attention_mask", mask).shape
    if len(shape) != 2:
        raise ArgumentError(f"encoder_attention_mask: expected shape (B, S), found {shape}")
