"""The classes that pre-train: masked words, next sentences, and both at once."""

from __future__ import annotations

from typing import Any

from minizha.backend import Array
from minizha.model.door import flag
from minizha.model.generation import Sampling, generate
from minizha.model.masked_lm import ItemsInBatch
from minizha.model.outputs import MaskedLMOutput, NextSentencePredictorOutput, PreTrainingOutput
from minizha.model.pretraining_heads import PreTrainingHeads


class NezhaForPreTraining(PreTrainingHeads):
    """Both heads. The loss is the sum of the losses whose labels are given."""

    _output_class = PreTrainingOutput
    _masked_lm_field = "prediction_logits"
    _next_sentence_field = "seq_relationship_logits"

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        next_sentence_label: Any = None,
        *,
        num_items_in_batch: ItemsInBatch | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        record: bool | None = None,
    ) -> PreTrainingOutput | tuple:
        """``loss = mean over labelled tokens + mean over pairs``, unweighted

        Shapes: labels (B, L) in [0, V) or −100 for "not asked"; next_sentence_label (B,), 0 for
        "B follows A", 1 for "B is random", or −100. The others as for
        :class:`~minizha.model.nezha.NezhaModel`; ``num_items_in_batch`` is an
        :class:`~minizha.model.masked_lm.ItemsInBatch`.

        Convention: ``record`` None keeps the activations where labels are given or in train mode.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        labelled = labels is not None or next_sentence_label is not None
        wanted = self._wanted(
            output_attentions, output_hidden_states, return_dict, record, labelled
        )
        inputs = self._inputs(input_ids, attention_mask, token_type_ids, head_mask, inputs_embeds)
        return self._call(
            inputs,
            wanted,
            self._labels(labels, inputs),
            self._next_labels("next_sentence_label", next_sentence_label, inputs),
            num_items_in_batch,
        )


class NezhaForMaskedLM(PreTrainingHeads):
    """The masked-language-model head; the body has no pooler. With ``is_decoder`` it can
    :meth:`generate`."""

    _output_class = MaskedLMOutput
    _masked_lm_field = "logits"

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        encoder_hidden_states: Any = None,
        encoder_attention_mask: Any = None,
        labels: Any = None,
        *,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        record: bool | None = None,
    ) -> MaskedLMOutput | tuple:
        """``loss = mean over labelled tokens``

        Shapes: labels (B, L) in [0, V) or −100. The others as for
        :class:`~minizha.model.nezha.NezhaModel`.

        Convention: labels stand where they are guessed. A decoder that is to guess the next
        token gets the ids moved one to the left. ``use_cache`` None is False here: this
        class's documentation names no such field.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        wanted = self._wanted(
            output_attentions, output_hidden_states, return_dict, record, labels is not None,
            flag("use_cache", use_cache, False),
        )  # fmt: skip
        inputs = self._inputs(
            input_ids, attention_mask, token_type_ids, head_mask, inputs_embeds,
            encoder_hidden_states, encoder_attention_mask, past_key_values,
        )  # fmt: skip
        return self._call(inputs, wanted, self._labels(labels, inputs), None)

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
        """Go on with a text: ``ids[t + 1]`` is chosen from ``logits[t]``, for decoders

        The likeliest token each time, or with ``do_sample`` one drawn from ``softmax(logits /
        temperature)`` of the ``top_k`` likeliest and of the fewest that have ``top_p`` of the
        probability together. A row that has met ``eos_token_id`` (None: the configuration's, −1:
        none ends a text) is filled with the padding token; when all have, it ends.

        Shapes: input_ids (B, L), attention_mask (B, L) with padding on the left,
        encoder_hidden_states (B, S, D), encoder_attention_mask (B, S) → (B, L + new) integers,
        new ≤ max_new_tokens.

        Convention: ``use_cache=False`` reads the whole text at each step: slower, the same text.
        In train mode dropout acts here too; call ``eval()`` first.

        Raises:
            ArgumentError: not a decoder, padding on the right, or an argument out of range.
        """
        sampling = Sampling(temperature, top_k, top_p).check()
        encoder = {
            "encoder_hidden_states": encoder_hidden_states,
            "encoder_attention_mask": encoder_attention_mask,
        }
        return generate(
            self, input_ids, attention_mask, encoder, max_new_tokens,
            sampling if flag("do_sample", do_sample, False) else None,
            eos_token_id, seed, flag("use_cache", use_cache, True),
        )  # fmt: skip


class NezhaForNextSentencePrediction(PreTrainingHeads):
    """The next-sentence head: column 0 says "B follows A", column 1 "B is random"."""

    _output_class = NextSentencePredictorOutput
    _next_sentence_field = "logits"

    def __call__(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        token_type_ids: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        *,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        record: bool | None = None,
    ) -> NextSentencePredictorOutput | tuple:
        """``loss = mean over pairs``

        Shapes: labels (B,), 0 for "B follows A", 1 for "B is random". The others as for
        :class:`~minizha.model.nezha.NezhaModel`.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        wanted = self._wanted(
            output_attentions, output_hidden_states, return_dict, record, labels is not None
        )
        inputs = self._inputs(input_ids, attention_mask, token_type_ids, head_mask, inputs_embeds)
        return self._call(inputs, wanted, None, self._next_labels("labels", labels, inputs))
