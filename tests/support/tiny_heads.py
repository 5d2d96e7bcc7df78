"""The four heads of fine-tuning on models of some hundred parameters: a case for each head and loss."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import minizha
from minizha import NezhaConfig
from minizha.backend import to_host

SIZES = {
    "vocab_size": 7, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 5, "max_relative_position": 1, "type_vocab_size": 2,
    "initializer_range": 0.3, "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.3,
    "classifier_dropout": 0.4, "num_labels": 3,
}  # fmt: skip
IGNORED = -100


@dataclass(frozen=True)
class TinyHead:
    """A case: what differs from SIZES, what the inputs hold, and what the labels look like.

    asks: "single", "multi", "regression" (B, C), "flat regression" (B,), "choice", "tokens",
    "positions", or None for no labels; ``choices`` is C of multiple choice, 0 elsewhere.
    """

    kind: str
    asks: str | None
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

    @property
    def labels(self):
        return (SIZES | self.config)["num_labels"]

    def model(self, backend="numpy", dtype="float64"):
        """Its parameters are moved off 0 and 1, where a mistake might not show."""
        config = NezhaConfig(**(SIZES | self.config))
        model = getattr(minizha, self.kind)(config, dtype="float64", backend=backend)
        rng = np.random.default_rng(1)
        model.load_state_dict(
            {
                name: to_host(array) + 0.3 * rng.standard_normal(array.shape)
                for name, array in model.state_dict().items()
            }
        )
        model = model.astype(dtype)
        return model.train(seed=0) if self.train else model

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
        return inputs | self.asked(rng)

    def asked(self, rng):
        """The labels alone."""
        B, L, C = self.B, self.L, self.labels
        if self.asks is None:
            return {}
        if self.asks == "positions":
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
        }[self.asks]()
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
FIELDS = {kind: ["logits"] for kind in PLAIN} | {ANSWER: ["start_logits", "end_logits"]}


def close(found, expected, tolerance=1e-13):
    np.testing.assert_allclose(to_host(found), expected, rtol=tolerance, atol=tolerance)


def loss_of(head, backend, **changes):
    """The loss of other labels than the case's own, as a number; and the logits."""
    model, inputs = head.model(backend), head.inputs() | changes
    out = model(**inputs)
    return float(out.loss), to_host(out[FIELDS[head.kind][0]])


def mean_nll(logits, labels):
    """Cross-entropy as one writes it down: the rows asked for, one at a time."""
    rows = [(z, y) for z, y in zip(logits, labels, strict=True) if y != IGNORED]
    return np.mean([-np.log(np.exp(z[y]) / np.exp(z).sum()) for z, y in rows])
