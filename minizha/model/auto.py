"""The model class of a checkpoint."""

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
    """The class that ``config`` names as its architecture, or else the class of the stored heads.

    Convention: names are compared without regard to case (an old export says NeZhaForMaskedLM).
    Without a name, a ``classifier`` is one of texts if there is a pooler, and else one of tokens.
    """
    architectures = getattr(config, "architectures", None)
    for name in architectures if isinstance(architectures, list) else ():
        for model_class in CLASSES:
            if isinstance(name, str) and name.lower() == model_class.__name__.lower():
                return model_class
    names = canonical_names(tensors, ("nezha.embeddings.LayerNorm.weight", "cls.predictions.bias"))
    if "classifier.weight" in names:
        pooled = "nezha.pooler.dense.weight" in names
        return NezhaForSequenceClassification if pooled else NezhaForTokenClassification
    classes = [model_class for head, model_class in _HEADS.items() if head in names]
    if len(classes) > 1:
        return NezhaForPreTraining
    return classes[0] if classes else NezhaModel
