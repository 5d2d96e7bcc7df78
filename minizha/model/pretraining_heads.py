"""Masked words, next sentences, and both at once: the part that the classes of pre-training share.

Each runs :func:`~minizha.model.nezha.nezha` and puts its heads on top; ``backward`` walks the
same way down.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np

from minizha.backend import Array
from minizha.config import NezhaConfig
from minizha.model.encoder import add
from minizha.model.heads import predictions, predictions_backward
from minizha.model.inputs import Inputs
from minizha.model.masked_lm import (
    ItemsInBatch,
    LabelledPredictionsCache,
    check_items,
    masked_lm_loss,
    masked_lm_loss_backward,
)
from minizha.model.nezha import NezhaCache, NezhaResult, nezha, nezha_backward
from minizha.model.outputs import (
    Deferred,
    ModelOutput,
)
from minizha.model.parameters import (
    Shapes,
    Tree,
    accumulate,
    body_shapes,
    linear_head_shapes,
    prediction_shapes,
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


class PreTrainingHeads(NezhaPreTrainedModel):
    """Body, one or both heads, one or both losses; the classes in pretraining.py say which."""

    _output_class: ClassVar[type[ModelOutput]]
    _masked_lm_field: ClassVar[str | None] = None
    _next_sentence_field: ClassVar[str | None] = None

    @classmethod
    def shapes(cls, config: NezhaConfig) -> Shapes:
        """Names and shapes of the parameters of a model of this class, in checkpoint order."""
        pooler = cls._next_sentence_field is not None
        shapes = {f"nezha.{name}": s for name, s in body_shapes(config, pooler).items()}
        if cls._masked_lm_field is not None:
            shapes |= prediction_shapes(config)
        return shapes | (linear_head_shapes(config, "cls.seq_relationship", 2) if pooler else {})

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
        body = nezha(p.nezha, self.config, inputs, self.table, self._rng, wanted)
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
        asked = upstream | {
            "last_hidden_state": sum(dhidden[1:], dhidden[0]) if dhidden else None,
            "pooler_output": dpooled,
        }
        return self._input_gradients(inputs, nezha_backward(asked, record.nezha, config, g.nezha))

    def _labels(self, labels: Any, inputs: Inputs) -> np.ndarray | None:
        if labels is None:
            return None
        V = self.config.vocab_size
        return self._door.host_integers("labels", labels, inputs.shape, V, ignored=True)

    def _next_labels(self, name: str, labels: Any, inputs: Inputs) -> np.ndarray | None:
        if labels is None:
            return None
        return self._door.host_integers(name, labels, inputs.shape[:1], 2, ignored=True)
