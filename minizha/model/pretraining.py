"""The classes that pre-train: masked words, next sentences, and both at once.

Each runs :func:`~minizha.model.nezha.nezha` and puts its heads on top; ``backward`` walks the
same way down.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np

from minizha.backend import Array
from minizha.config import NezhaConfig
from minizha.model.heads import predictions, predictions_backward
from minizha.model.inputs import Inputs
from minizha.model.masked_lm import (
    ItemsInBatch,
    LabelledPredictionsCache,
    check_items,
    masked_lm_loss,
    masked_lm_loss_backward,
)
from minizha.model.nezha import NezhaCache, NezhaResult, add, nezha, nezha_backward
from minizha.model.outputs import (
    Deferred,
    MaskedLMOutput,
    ModelOutput,
    NextSentencePredictorOutput,
    PreTrainingOutput,
)
from minizha.model.parameters import (
    Shapes,
    Tree,
    accumulate,
    body_shapes,
    prediction_shapes,
    seq_relationship_shapes,
)
from minizha.model.pretrained import NezhaPreTrainedModel, Wanted
from minizha.ops.cross_entropy import CrossEntropyCache, cross_entropy, cross_entropy_backward
from minizha.ops.linear import LinearCache, linear, linear_backward


class PreTrainingCache(NamedTuple):
    """The record of a model with heads; None for a head or a loss that took no part. The last
    two are the terms of the loss, for whoever wants to know them apart."""

    nezha: NezhaCache
    masked_lm: LabelledPredictionsCache | None
    seq_relationship: LinearCache | None
    next_sentence: CrossEntropyCache | None
    masked_lm_loss: Array | None
    next_sentence_loss: Array | None


class _WithHeads(NezhaPreTrainedModel):
    """Body, one or both heads, one or both losses; the classes below say which."""

    _output_class: ClassVar[type[ModelOutput]]
    _masked_lm_field: ClassVar[str | None] = None
    _next_sentence_field: ClassVar[str | None] = None

    def _shapes(self, config: NezhaConfig) -> Shapes:
        pooler = self._next_sentence_field is not None
        shapes = {f"nezha.{name}": s for name, s in body_shapes(config, pooler).items()}
        if self._masked_lm_field is not None:
            shapes |= prediction_shapes(config)
        return shapes | (seq_relationship_shapes(config) if pooler else {})

    def _decoder(self, tree: Tree) -> Tree:
        """The subtree whose ``weight`` the decoder multiplies with, in parameters or gradients."""
        if self.config.tie_word_embeddings:
            return tree.nezha.embeddings.word_embeddings
        return tree.cls.predictions.decoder

    def _call(
        self,
        inputs: Inputs,
        wanted: Wanted,
        labels: np.ndarray | None,
        next_labels: np.ndarray | None,
        items: ItemsInBatch | None = None,
    ) -> ModelOutput | tuple:
        p, items = self.parameters, check_items(items)
        body = nezha(
            p.nezha, self.config, inputs, self.table, self._rng, wanted.attentions, wanted.record
        )
        values: dict[str, Any] = wanted.pick(body)
        full = masked_lm = masked_loss = relation = next_sentence = next_loss = None
        if self._masked_lm_field is not None:
            full = self._all_predictions(p, body)
            values[self._masked_lm_field] = Deferred(lambda: full.value()[0])
            if labels is not None:
                masked_loss, masked_lm = masked_lm_loss(
                    p.cls.predictions, self.config, body.last_hidden_state,
                    self._decoder(p).weight, labels, items.labels,
                )  # fmt: skip
        if self._next_sentence_field is not None:
            head = p.cls.seq_relationship
            logits, relation = linear(body.pooler_output, head.weight, head.bias)
            values[self._next_sentence_field] = logits
            if next_labels is not None:
                next_loss, next_sentence = cross_entropy(
                    logits, next_labels, items.next_sentence_label
                )
        values["loss"] = add(masked_loss, next_loss)
        record = None
        if wanted.record:
            record = PreTrainingCache(
                body.cache, masked_lm, relation, next_sentence, masked_loss, next_loss
            )

        def backward(upstream: dict[str, Any]) -> dict[str, Any]:
            return self._backward(upstream, record, full, inputs)

        return self._output(self._output_class, values, wanted, record, backward)

    def _all_predictions(self, p: Tree, body: NezhaResult) -> Deferred:
        hidden, weight = body.last_hidden_state, self._decoder(p).weight
        return Deferred(lambda: predictions(p.cls.predictions, self.config, hidden, weight))

    def _backward(
        self,
        upstream: dict[str, Any],
        record: PreTrainingCache,
        full: Deferred | None,
        inputs: Inputs,
    ) -> dict[str, Array]:
        """In the forward pass the loss was a sum of two means; each passes dloss on to its own
        head, and where logits are asked for directly, their gradients join in."""
        g, config, dloss = self._gradient_tree(), self.config, upstream.get("loss")
        dhidden, dpooled = [], None
        if dloss is not None and record.masked_lm is not None:
            dhidden.append(
                masked_lm_loss_backward(
                    dloss, record.masked_lm, config, g.cls.predictions, self._decoder(g)
                )
            )
        dlogits = upstream.get(self._masked_lm_field)
        if dlogits is not None:
            _, cache = full.value()
            dhidden.append(
                predictions_backward(dlogits, cache, config, g.cls.predictions, self._decoder(g))
            )
        dlogits = upstream.get(self._next_sentence_field)
        if dloss is not None and record.next_sentence is not None:
            from_loss = cross_entropy_backward(dloss, record.next_sentence)
            dlogits = add(dlogits, from_loss)
        if dlogits is not None:
            dpooled, dweight, dbias = linear_backward(dlogits, record.seq_relationship)
            accumulate(g.cls.seq_relationship, weight=dweight, bias=dbias)
        dx = nezha_backward(
            sum(dhidden[1:], dhidden[0]) if dhidden else None,
            dpooled,
            upstream.get("hidden_states"),
            upstream.get("attentions"),
            record.nezha,
            config,
            g.nezha,
        )
        return self._input_gradients(inputs, dx)

    def _labels(self, labels: Any, inputs: Inputs) -> np.ndarray | None:
        if labels is None:
            return None
        V = self.config.vocab_size
        return self._door.host_integers("labels", labels, inputs.shape, V, ignored=True)

    def _next_labels(self, name: str, labels: Any, inputs: Inputs) -> np.ndarray | None:
        if labels is None:
            return None
        return self._door.host_integers(name, labels, inputs.shape[:1], 2, ignored=True)


class NezhaForPreTraining(_WithHeads):
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


class NezhaForMaskedLM(_WithHeads):
    """The masked-language-model head; the body has no pooler."""

    _output_class = MaskedLMOutput
    _masked_lm_field = "logits"

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
    ) -> MaskedLMOutput | tuple:
        """``loss = mean over labelled tokens``

        Shapes: labels (B, L) in [0, V) or −100. The others as for
        :class:`~minizha.model.nezha.NezhaModel`.

        Raises:
            ArgumentError: an argument has a wrong shape, type or range.
        """
        wanted = self._wanted(
            output_attentions, output_hidden_states, return_dict, record, labels is not None
        )
        inputs = self._inputs(input_ids, attention_mask, token_type_ids, head_mask, inputs_embeds)
        return self._call(inputs, wanted, self._labels(labels, inputs), None)


class NezhaForNextSentencePrediction(_WithHeads):
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
