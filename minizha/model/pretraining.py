"""The classes for pre-training: masked words, next sentences, and both."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from minizha.backend import Array
from minizha.checks import flag
from minizha.errors import ArgumentError
from minizha.model.call import Call, Task, begin, checked_items, run, shared_arguments
from minizha.model.generation import GenerationOptions, generate
from minizha.model.initialisation import linear_shapes, prediction_shapes
from minizha.model.inputs import DecoderArguments, SharedArguments
from minizha.model.outputs import MaskedLMOutput, NextSentencePredictorOutput, PreTrainingOutput
from minizha.model.pretrained import NezhaPreTrainedModel
from minizha.nezha.losses import (
    Labels,
    masked_words,
    masked_words_backward,
    next_sentence,
    next_sentence_backward,
)


class ItemsInBatch(NamedTuple):
    """The divisors of the two sums of the loss; None is the number of labels in the call.

    For calls on parts of a batch: with the counts of the whole batch, the losses and gradients of
    the parts add up to those of the batch. The mean of the parts' means would differ, since the
    parts have different numbers of labelled tokens.
    """

    labels: int | None = None
    next_sentence_label: int | None = None


class NezhaForPreTraining(NezhaPreTrainedModel):
    """Both pre-training heads. The loss is the sum of the losses whose labels are given."""

    _pooled = True
    _head_shapes = staticmethod(
        lambda c: prediction_shapes(c) | linear_shapes("cls.seq_relationship", 2, c.hidden_size)
    )

    @shared_arguments
    def __call__(
        self,
        shared: SharedArguments,
        labels: Any = None,
        next_sentence_label: Any = None,
        *,
        num_items_in_batch: ItemsInBatch | None = None,
        logits_for: Any = None,
    ) -> PreTrainingOutput | tuple:
        """``loss = mean over labelled tokens + mean over pairs``, unweighted

        Shapes: labels (B, L) in [0, V) or −100 for "ignored"; next_sentence_label (B,), 0 for
        "B follows A", 1 for "B is random", or −100. The others as for
        :class:`~minizha.model.nezha.NezhaModel`; ``num_items_in_batch`` is an
        :class:`~minizha.model.pretraining.ItemsInBatch`; ``logits_for`` as for
        :class:`NezhaForMaskedLM`.

        Convention: ``record`` None stores the activations if labels are given or in train mode.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        labelled = labels is not None or next_sentence_label is not None
        call, items = begin(self, shared, labelled=labelled), ItemsInBatch()
        if num_items_in_batch is not None:
            items = check_items(num_items_in_batch)
        (B, L), V = call.shape, self.config.vocab_size
        words = call.labels("labels", labels, (B, L), V, items.labels)
        pairs = call.labels(
            "next_sentence_label", next_sentence_label, (B,), 2, items.next_sentence_label
        )
        mlm = _words_task(call, words, logits_for, "prediction_logits")
        field = ("seq_relationship_logits",)
        nsp = Task(next_sentence, next_sentence_backward, pairs, "pooler_output", field)
        return run(call, PreTrainingOutput, mlm, nsp)


class NezhaForMaskedLM(NezhaPreTrainedModel):
    """The masked-language-model head; the body has no pooler. With ``is_decoder`` the model can
    :meth:`generate` text."""

    _pooled = False
    _head_shapes = staticmethod(prediction_shapes)

    @shared_arguments
    def __call__(
        self,
        shared: SharedArguments,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        labels: Any = None,
        *,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        num_items_in_batch: int | None = None,
        logits_for: Any = None,
    ) -> MaskedLMOutput | tuple:
        """``loss = mean over labelled tokens``

        Shapes: labels (B, L) in [0, V) or −100. The others as for
        :class:`~minizha.model.nezha.NezhaModel`. ``num_items_in_batch`` divides the sum of the loss, in
        place of the number of labelled tokens: for calls on parts of a batch
        (docs/reference/accumulation.md).

        Only the logits of the tokens where ``logits_for``, booleans (B, L), is True are computed. With
        ``logits_for=input_ids == tokenizer.mask_token_id``, the logits are those of the M masked
        words, (M, V): what ``logits[logits_for]`` is without it. None stands for all tokens. The loss
        does not depend on it.

        Convention: the label of a position is the token at that position. To train a decoder on the
        next token, pass the ids shifted by one to the left as labels. ``use_cache`` None is False here
        (Transformers' class has neither past_key_values nor use_cache).

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        use_cache = flag("use_cache", use_cache, False)
        decoder = DecoderArguments(
            encoder_hidden_states, encoder_attention_mask, past_key_values, use_cache
        )
        call = begin(self, shared, decoder, labelled=labels is not None)
        count = checked_items(num_items_in_batch)
        words = call.labels("labels", labels, call.shape, self.config.vocab_size, count)
        return run(call, MaskedLMOutput, _words_task(call, words, logits_for, "logits"))

    def generate(
        self,
        input_ids: Any,
        attention_mask: Any = None,
        *,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        max_new_tokens: int = 20,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        eos_token_id: int | None = None,
        seed: int = 0,
        use_cache: bool = True,
    ) -> Array:
        """Continue a text: ``ids[t + 1]`` is chosen from ``logits[t]``, for decoders

        Each token is the likeliest, or with ``do_sample`` one drawn from ``softmax(logits /
        temperature)`` over the ``top_k`` likeliest, or over the fewest of these whose probabilities
        sum to at least ``top_p``. After ``eos_token_id`` (None: the configuration's, −1: none) a row
        is filled with the padding token; generation ends when all rows have ended.

        Shapes: input_ids (B, L), attention_mask (B, L) with padding on the left,
        encoder_hidden_states (B, S, D), encoder_attention_mask (B, S) → (B, L + new) integers,
        new ≤ max_new_tokens.

        Convention: ``use_cache=False`` reads the whole text at each step, which is slower and gives
        the same text. In train mode dropout acts here too; call ``eval()`` first.

        Raises:
            ArgumentError: not a decoder, padding on the right, or an argument out of range.
        """
        options = GenerationOptions(
            max_new_tokens, do_sample, temperature, top_k, top_p, eos_token_id, seed, use_cache
        )
        encoder = DecoderArguments(encoder_hidden_states, encoder_attention_mask)
        return generate(self, input_ids, attention_mask, encoder, options)


class NezhaForNextSentencePrediction(NezhaPreTrainedModel):
    """The next-sentence head: column 0 says "B follows A", column 1 "B is random"."""

    _pooled = True
    _head_shapes = staticmethod(lambda c: linear_shapes("cls.seq_relationship", 2, c.hidden_size))

    @shared_arguments
    def __call__(
        self,
        shared: SharedArguments,
        labels: Any = None,
        *,
        num_items_in_batch: int | None = None,
    ) -> NextSentencePredictorOutput | tuple:
        """``loss = mean over pairs``

        Shapes: labels (B,), 0 for "B follows A", 1 for "B is random", or −100. The others as for
        :class:`~minizha.model.nezha.NezhaModel`. ``num_items_in_batch`` divides the sum of the loss, in
        place of the number of labelled pairs.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        call = begin(self, shared, labelled=labels is not None)
        pairs = call.labels("labels", labels, call.shape[:1], 2, checked_items(num_items_in_batch))
        task = Task(next_sentence, next_sentence_backward, pairs, "pooler_output")
        return run(call, NextSentencePredictorOutput, task)


def _words_task(call: Call, labels: Labels | None, logits_for: Any, field: str) -> Task:
    """The task of masked words, with the logits of the tokens where ``logits_for`` (B, L) is True."""
    forward = masked_words
    if logits_for is not None:
        wanted = call.checker.chosen("logits_for", logits_for, call.shape)
        forward = partial(masked_words, wanted=wanted)
    return Task(forward, masked_words_backward, labels, fields=(field,))


def check_items(items: Any) -> ItemsInBatch:
    """``items`` with its counts checked."""
    if not isinstance(items, ItemsInBatch):
        raise ArgumentError(
            f"num_items_in_batch: expected an ItemsInBatch or None, found {items!r}"
        )
    return ItemsInBatch(
        *(
            checked_items(count, f"num_items_in_batch.{name}")
            for name, count in zip(items._fields, items, strict=True)
        )
    )
