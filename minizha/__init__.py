"""minizha: NEZHA as a textbook that runs. The public names, nothing else.

Each is imported when it is first used, so that ``minizha --help`` does not load NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minizha import crosscheck as crosscheck
    from minizha.config import NezhaConfig as NezhaConfig
    from minizha.errors import MinizhaError as MinizhaError
    from minizha.model.fine_tuning import NezhaForMultipleChoice as NezhaForMultipleChoice
    from minizha.model.fine_tuning import NezhaForQuestionAnswering as NezhaForQuestionAnswering
    from minizha.model.fine_tuning import (
        NezhaForSequenceClassification as NezhaForSequenceClassification,
    )
    from minizha.model.fine_tuning import NezhaForTokenClassification as NezhaForTokenClassification
    from minizha.model.nezha import NezhaModel as NezhaModel
    from minizha.model.pretraining import NezhaForMaskedLM as NezhaForMaskedLM
    from minizha.model.pretraining import (
        NezhaForNextSentencePrediction as NezhaForNextSentencePrediction,
    )
    from minizha.model.pretraining import NezhaForPreTraining as NezhaForPreTraining
    from minizha.predict import fill_mask as fill_mask
    from minizha.predict import next_sentence_probability as next_sentence_probability
    from minizha.shipped import load_shipped as load_shipped
    from minizha.text.tokenizer import NezhaTokenizer as NezhaTokenizer

__version__ = "0.2.0"

_HOMES = {
    "MinizhaError": "minizha.errors",
    "NezhaConfig": "minizha.config",
    "NezhaForMaskedLM": "minizha.model.pretraining",
    "NezhaForMultipleChoice": "minizha.model.fine_tuning",
    "NezhaForNextSentencePrediction": "minizha.model.pretraining",
    "NezhaForPreTraining": "minizha.model.pretraining",
    "NezhaForQuestionAnswering": "minizha.model.fine_tuning",
    "NezhaForSequenceClassification": "minizha.model.fine_tuning",
    "NezhaForTokenClassification": "minizha.model.fine_tuning",
    "NezhaModel": "minizha.model.nezha",
    "NezhaTokenizer": "minizha.text.tokenizer",
    "fill_mask": "minizha.predict",
    "load_shipped": "minizha.shipped",
    "next_sentence_probability": "minizha.predict",
}

__all__ = [*_HOMES, "crosscheck"]


if not TYPE_CHECKING:  # to a type checker, every name would be one of ours

    def __getattr__(name: str) -> Any:
        if name == "crosscheck":
            return import_module("minizha.crosscheck")
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module 'minizha' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
