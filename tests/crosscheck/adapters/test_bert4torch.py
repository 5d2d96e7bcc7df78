"""The real bert4torch 0.6.2, if it is installed: it lacks 1/√d and has no other mistake."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("bert4torch", reason="bert4torch is not installed")

from minizha import MinizhaError, crosscheck
from minizha.crosscheck.adapters import bert4torch as peer
from tests.crosscheck.adapters.test_adapters import (
    difference,
    first_divergence,
    inputs_of,
    model_of,
)

# bert4torch never closes the file of its config
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
CLASSES = (
    "NezhaModel",
    "NezhaForPreTraining",
    "NezhaForMaskedLM",
    "NezhaForNextSentencePrediction",
)
WORDS = np.where(np.arange(14).reshape(2, 7) % 3, -100, 5)
LABELS = {
    "NezhaForPreTraining": {"labels": WORDS, "next_sentence_label": np.array([0, 1])},
    "NezhaForMaskedLM": {"labels": WORDS},
    "NezhaForNextSentencePrediction": {"labels": np.array([0, 1])},
}
SCORES = "encoder.layer.0.attention.scores"


@pytest.fixture
def repaired(monkeypatch):
    """Multiply the scores by 1/√d, which is missing."""
    from bert4torch.layers.attention.attention_layer import NezhaTypicalRelativeAttention as Theirs

    whole = Theirs.apply_relative_pos_emb
    monkeypatch.setattr(
        Theirs, "apply_relative_pos_emb", lambda self, *given: whole(self, *given) * self.scaling
    )


def both(class_name, labels, **values):
    ours = model_of(class_name, "float32", **values)
    theirs = peer.load(peer.build(ours.config, class_name), ours.state_dict())
    inputs = inputs_of() | (LABELS.get(class_name, {}) if labels else {})
    return crosscheck.trace(ours, inputs), peer.record(theirs, inputs)


@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("class_name", CLASSES)
def test_it_lost_the_scale_of_the_scores(class_name, labels):
    ours, theirs = both(class_name, labels)
    assert first_divergence(ours, theirs, 1e-4) == SCORES
    assert difference(ours[SCORES] * 8**0.5, theirs[SCORES]) < 1e-5


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("class_name", CLASSES)
def test_and_nothing_else(class_name, labels, tied, repaired):
    ours, theirs = both(class_name, labels, tie_word_embeddings=tied)
    assert set(ours) - set(theirs) <= {"masked_lm_loss", "next_sentence_loss"}
    assert set(theirs) <= set(ours)
    for name in theirs:
        zero = name.endswith("key.bias.grad")  # in theory
        assert zero or difference(ours[name], theirs[name]) < 1e-4, name


def test_what_it_does_not_have():
    with pytest.raises(MinizhaError, match="expected one of NezhaModel"):
        peer.build(model_of("NezhaModel").config, "NezhaForTokenClassification")
    model = model_of("NezhaModel")
    theirs = peer.build(model.config, "NezhaModel")
    with pytest.raises(
        MinizhaError, match=r"pooler.dense.weight: expected the shape .*, found nothing"
    ):
        peer.load(theirs, {k: v for k, v in model.state_dict().items() if "pooler" not in k})
    with pytest.raises(MinizhaError, match=r"expected some of input_ids, .* found inputs_embeds"):
        peer.record(theirs, {"inputs_embeds": np.ones((1, 2, 24))})


def test_the_report_names_the_mistake():
    report = crosscheck.compare(*both("NezhaForPreTraining", labels=True))
    assert report.first_divergence == SCORES
    assert report.findings[0].mistake == "no_scale"
    assert "layer 0 scores match: 1/√d missing" in str(report)
