"""The four heads of fine-tuning on tiny models: a case for each head and loss."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from minizha.backend import to_host
from minizha.ops.cross_entropy import IGNORED
from tests.support import tiny_models
from tests.support.tiny_models import tiny_model

SIZES = tiny_models.SIZES | {"vocab_size": 7, "classifier_dropout": 0.4, "num_labels": 3}


@dataclass(frozen=True)
class TinyHead:
    """A case: what differs from SIZES, what the inputs hold, and what the labels look like.

    label_type: "single", "multi", "regression" (B, C), "flat regression" (B,), "choice", "tokens",
    "positions", or None for no labels; ``choices`` is C of multiple choice, 0 elsewhere.
    """

    class_name: str
    label_type: str | None
    config: dict[str, Any] = field(default_factory=dict)
    B: int = 3
    L: int = 4
    choices: int = 0
    mask: bool = False
    types: bool = False
    head_mask: bool = False
    embeds: bool = False
    ignoring: bool = False
    train: bool = False

    @property
    def shape(self):
        return (self.B, self.choices, self.L) if self.choices else (self.B, self.L)

    def model(self, backend="numpy", dtype="float64"):
        return tiny_model(self.class_name, SIZES | self.config, backend, dtype, self.train)

    def inputs(self):
        """The keyword arguments of its call."""
        sizes, rng, inputs = SIZES | self.config, np.random.default_rng(2), {}
        if self.embeds:
            inputs["inputs_embeds"] = rng.standard_normal((*self.shape, sizes["hidden_size"]))
        else:
            inputs["input_ids"] = rng.integers(1, sizes["vocab_size"], self.shape)
        if self.types:
            inputs["token_type_ids"] = rng.integers(0, sizes["type_vocab_size"], self.shape)
        if self.mask:
            inputs["attention_mask"] = np.ones(self.shape, int)
            inputs["attention_mask"][-1, ..., self.L // 2 :] = 0
        if self.head_mask:
            inputs["head_mask"] = rng.random(sizes["num_attention_heads"])
        return inputs | self._labels(rng, sizes)

    def _labels(self, rng, sizes):
        B, L, C = self.B, self.L, sizes["num_labels"]
        if self.label_type is None:
            return {}
        if self.label_type == "positions":
            # the last start is beyond the text, the first end before it
            start, end = rng.integers(0, L, B), rng.integers(0, L, B)
            if self.ignoring:
                start[-1], end[0] = L + 3, -1
            return {"start_positions": start, "end_positions": end}
        labels = {
            "single": lambda: rng.integers(0, C, B),
            "multi": lambda: rng.integers(0, 2, (B, C)).astype(float),
            "regression": lambda: rng.standard_normal((B, C)),
            "flat regression": lambda: rng.standard_normal(B),
            "choice": lambda: rng.integers(0, self.choices, B),
            "tokens": lambda: rng.integers(0, C, (B, L)),
        }[self.label_type]()
        if self.ignoring:
            labels[..., -1] = IGNORED
        return {"labels": labels}


SEQUENCE = "NezhaForSequenceClassification"
CHOICE = "NezhaForMultipleChoice"
TOKENS = "NezhaForTokenClassification"
ANSWER = "NezhaForQuestionAnswering"


def _regression(labels):
    return {"problem_type": "regression", "num_labels": labels}


HEADS = {
    "single label": TinyHead(SEQUENCE, "single"),
    "single label, partly ignored": TinyHead(SEQUENCE, "single", ignoring=True, mask=True),
    "multi label": TinyHead(SEQUENCE, "multi"),
    "regression of one": TinyHead(SEQUENCE, "flat regression", {"num_labels": 1}),
    "regression of three": TinyHead(SEQUENCE, "regression", _regression(3), types=True),
    "choice": TinyHead(CHOICE, "choice", choices=3, B=2),
    "choice, partly ignored": TinyHead(CHOICE, "choice", choices=2, ignoring=True, mask=True),
    "choice, inputs_embeds": TinyHead(CHOICE, "choice", choices=2, B=2, embeds=True),
    "tokens": TinyHead(TOKENS, "tokens"),
    "tokens, partly ignored": TinyHead(TOKENS, "tokens", ignoring=True, mask=True),
    "tokens, inputs_embeds": TinyHead(TOKENS, "tokens", embeds=True, head_mask=True),
    "answer": TinyHead(ANSWER, "positions"),
    "answer, partly outside": TinyHead(ANSWER, "positions", ignoring=True, mask=True),
    "single label, dropout": TinyHead(SEQUENCE, "single", train=True, head_mask=True),
    "multi label, dropout": TinyHead(SEQUENCE, "multi", train=True),
    "regression, dropout": TinyHead(SEQUENCE, "regression", _regression(2), train=True),
    "choice, dropout": TinyHead(CHOICE, "choice", choices=2, B=2, train=True),
    "tokens, dropout": TinyHead(TOKENS, "tokens", train=True, ignoring=True),
    "answer, dropout": TinyHead(ANSWER, "positions", train=True, embeds=True),
}  # fmt: skip


# --- what the tests of losses and fields share ----------------------------------------------------

PLAIN = {
    SEQUENCE: TinyHead(SEQUENCE, "single"),
    CHOICE: TinyHead(CHOICE, "choice", choices=5, B=2),
    TOKENS: TinyHead(TOKENS, "tokens"),
    ANSWER: TinyHead(ANSWER, "positions"),
}
FIELDS = {class_name: ["logits"] for class_name in PLAIN} | {ANSWER: ["start_logits", "end_logits"]}


def loss_of(head, backend, **changes):
    """The loss, as a number, and the logits, of inputs of which some are changed."""
    model, inputs = head.model(backend), head.inputs() | changes
    out = model(**inputs)
    return float(out.loss), to_host(out[FIELDS[head.class_name][0]])


def mean_nll(logits, labels):
    """Cross-entropy by its definition, one labelled row at a time."""
    labelled = [(z, y) for z, y in zip(logits, labels, strict=True) if y != IGNORED]
    return np.mean([-np.log(np.exp(z[y]) / np.exp(z).sum()) for z, y in labelled])
