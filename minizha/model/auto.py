"""Which of the classes a checkpoint belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minizha.checkpoint.names import canonical_names
from minizha.config import NezhaConfig
from minizha.model.fine_tuning import (
    NezhaForMultipleChoice,
    NezhaForQuestionAnswering,
    NezhaForSequenceClassification,
    NezhaForTokenClassification,
)
from minizha.model.nezha import NezhaModel
from minizha.model.pretrained import NezhaPreTrainedModel
from minizha.model.pretraining import (
    NezhaForMaskedLM,
    NezhaForNextSentencePrediction,
    NezhaForPreTraining,
)

CLASSES: tuple[type[NezhaPreTrainedModel], ...] = (
    NezhaModel,
    NezhaForPreTraining,
    NezhaForMaskedLM,
    NezhaForNextSentencePrediction,
    NezhaForSequenceClassification,
    NezhaForMultipleChoice,
    NezhaForTokenClassification,
    NezhaForQuestionAnswering,
)
_HEADS = {
    "cls.predictions.bias": NezhaForMaskedLM,
    "cls.seq_relationship.weight": NezhaForNextSentencePrediction,
    "qa_outputs.weight": NezhaForQuestionAnswering,
}


def class_of(config: NezhaConfig, tensors: Mapping[str, Any]) -> type[NezhaPreTrainedModel]:
    """The class that ``config`` names as its architecture, or else the one whose heads are there.

    Convention: names are compared without regard to case (an old export says NeZhaForMaskedLM).
    A lone ``classifier`` reads whole texts where there is a pooler, and tokens where there is none.
    """
    named = getattr(config, "architectures", None)
    for name in named if isinstance(named, list) else ():
        for kind in CLASSES:
            if isinstance(name, str) and name.lower() == kind.__name__.lower():
                return kind
    names = canonical_names(tensors, ("nezha.embeddings.LayerNorm.weight", "cls.predictions.bias"))
    if "classifier.weight" in names:
        pooled = "nezha.pooler.dense.weight" in names
        return NezhaForSequenceClassification if pooled else NezhaForTokenClassification
    found = [kind for head, kind in _HEADS.items() if head in names]
    if len(found) > 1:
        return NezhaForPreTraining
    return found[0] if found else NezhaModel
