"""Seeds: mistakes put into the package, each with the model that shows it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minizha.nezha import attention, embeddings, heads
from minizha.nezha.losses import LOSSES
from minizha.nezha.parameters import Tree
from minizha.ops.cross_entropy import IGNORED
from tests.support.tiny_heads import TinyHead
from tests.support.tiny_models import DECODERS, Tiny

BODY = {
    "hidden_size": 8,
    "intermediate_size": 6,
    "num_hidden_layers": 2,
    "max_relative_position": 2,
    "vocab_size": 13,
}
"""D = 8, N = 2, d = 4: 1/√d, 1/√D and 1/d differ. With L = 6, distances exceed K = 2 both ways."""


def _tiny(class_name="NezhaForPreTraining", B=3, L=6, config=None, **options):
    return Tiny(class_name, B=B, L=L, config=BODY | (config or {}), **options)


class Uneven(Tiny):
    """The examples have one, two and three labelled tokens."""

    def inputs(self):
        inputs = super().inputs()
        labels = inputs["labels"]
        labels[np.tri(*labels.shape) == 0] = IGNORED
        return inputs


MLM, NSP, BARE = "NezhaForMaskedLM", "NezhaForNextSentencePrediction", "NezhaModel"
DECODER = {"is_decoder": True}
CASES = {
    "plain": _tiny(types=True, ignoring=True),
    "masked": _tiny(mask="2d", types=True, pad=True),
    "hidden row": _tiny(mask="row"),
    "mask 3-D": _tiny(mask="3d"),
    "head mask": _tiny(head_mask="layers"),
    "dropout": _tiny(train=True, head_mask="layers"),
    "large eps": _tiny(config={"layer_norm_eps": 0.1}),
    "three heads": _tiny(config={"hidden_size": 12, "num_attention_heads": 3}),
    "many words": _tiny(config={"vocab_size": 130}, ignoring=True),
    "uneven": Uneven(B=3, L=6, config=BODY),
    "next sentence": _tiny(NSP, types=True),
    "masked words": _tiny(MLM, pad=True, types=True),
    "bare": _tiny(BARE, types=True, labels=()),
    "bare, dropout": _tiny(BARE, types=True, labels=(), train=True, head_mask="layers"),
    "decoder": _tiny(MLM, config=DECODER),
    "past": _tiny(MLM, config=DECODER, past=2, L=3),
    "cross": _tiny(MLM, config=DECODER | {"add_cross_attention": True}, past=2, S=5, L=4),
    **{act: _tiny(config={"hidden_act": act}) for act in ("gelu_new", "relu", "silu")},
    **{
        name: DECODERS[name]
        for name in (
            "past, mask 2-D", "past, pruned", "past of both, the encoder given again",
            "cross-attention to more than L", "cross-attention, dropout",
        )
    },
    "answer": TinyHead("NezhaForQuestionAnswering", "positions"),
    "multi label": TinyHead("NezhaForSequenceClassification", "multi"),
    "regression": TinyHead(
        "NezhaForSequenceClassification", "regression", {"problem_type": "regression"}
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Seed:
    """A mistake: ``make(monkeypatch)`` makes it, and it has an effect in the model of ``case``.

    ``first`` is the first array that differs, ``key`` the known mistake that the diagnosis must
    name, or None where it can't.
    """

    make: Callable
    first: str
    key: str | None = None
    case: str = "plain"

    @property
    def name(self):
        return f"{self.make.__name__}, {self.case}"

    def model(self):
        return CASES[self.case].model("numpy")

    def inputs(self):
        return CASES[self.case].inputs()


ATTENTION = "encoder.layer.0.attention."
SCORES, PROBS = ATTENTION + "scores", ATTENTION + "probs"
WEIGHTS, CONTEXT = ATTENTION + "weights", ATTENTION + "context"
QUERY, KEY, VALUE = (f"{ATTENTION}self.{name}" for name in ("query", "key", "value"))

# the modules that look the operations up
NORMS = (embeddings, attention, heads)


def changed_loss(monkeypatch, problem_type, change):
    """The loss of a problem type goes through ``change(loss, logits, labels, …)``."""
    pair = LOSSES[problem_type]

    def forward(*arguments):
        loss, cache = pair.forward(*arguments)
        return change(loss, *arguments), cache

    monkeypatch.setitem(LOSSES, problem_type, pair._replace(forward=forward))


def grafted(tree, name, leaf):
    """A copy of the tree with another leaf at a dotted name."""
    first, _, rest = name.partition(".")
    return Tree(tree, **{first: grafted(tree[first], rest, leaf) if rest else leaf})


def at(tree, name):
    for step in name.split("."):
        tree = tree[step]
    return tree
