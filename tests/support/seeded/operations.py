"""Each wrong backward function of an operation, in a model that uses the operation."""

from minizha.nezha.losses import LOSSES
from minizha.ops import attention
from minizha.ops.activation import ACTIVATIONS
from minizha.ops.replaceable import KERNELS
from tests.support.op_cases import FORWARDS
from tests.support.patching import changed_pair, replaced
from tests.support.seeded.gradients import EVERYWHERE
from tests.support.seeded.seeding import Seed
from tests.support.wrong_backwards import WRONG

# the model, and the first gradient that the operation returns in its backward pass
FIRST_GRADIENTS = {
    "linear": ("plain", "cls.seq_relationship.bias"),
    "embedding": ("plain", "embeddings.token_type_embeddings.weight"),
    "layer_norm": ("plain", "cls.predictions.transform.activation"),
    "gelu": ("plain", "cls.predictions.transform.dense"),
    "gelu_new": ("gelu_new", "cls.predictions.transform.dense"),
    "relu": ("relu", "cls.predictions.transform.dense"),
    "silu": ("silu", "cls.predictions.transform.dense"),
    "tanh": ("plain", "pooler.dense"),
    "softmax": ("plain", "encoder.layer.1.attention.scores"),
    "dropout": ("bare, dropout", "encoder.layer.1.output.dense"),
    "relative_key": ("past", "encoder.layer.1.attention.self.query"),
    "relative_value": ("past", "encoder.layer.1.attention.probs"),
    "attention": ("bare, dropout", "encoder.layer.1.attention."),
    "cross_entropy": ("plain", "cls.seq_relationship"),
    "squared_error": ("regression", "classifier"),
    "binary_cross_entropy": ("multi label", "classifier"),
}
ELSEWHERE = {
    ("layer_norm", "weight's gradient with centred, not normalised, x"):
        "cls.predictions.transform.LayerNorm.weight",
    ("attention", "query's 1/√d missing"): "encoder.layer.1.attention.self.query",
    ("attention", "relative key term dropped"): "encoder.layer.1.attention.self.query",
    ("attention", "key's 1/√d missing"): "encoder.layer.1.attention.self.key",
    ("attention", "relative value term dropped"): "encoder.layer.1.attention.probs",
    ("attention", "value by the probabilities before dropout"):
        "encoder.layer.1.attention.self.value",
    ("attention", "head mask forgotten"): "encoder.layer.1.attention.probs",
    ("attention", "dropout forgotten"): "encoder.layer.1.attention.probs",
    ("attention", "key and value exchanged"): "encoder.layer.1.attention.self.value",
}  # fmt: skip


def installed(op, what):
    """The wrong backward function, wherever the right one is looked up."""

    def backward(dy, cache, *_):
        return WRONG[op][what](dy, cache)

    def make(monkeypatch):
        if (op, "numpy") in KERNELS:  # the wrong backward function reads the plain cache
            right = KERNELS[op, "numpy"].forward
            wrong = KERNELS[op, "numpy"]._replace(
                forward=lambda *a, **named: (right(*a, **named)[0], FORWARDS[op](*a, **named)[1])
            )
            monkeypatch.setitem(KERNELS, (op, "numpy"), wrong)
        if op in ACTIVATIONS and op != "tanh":
            monkeypatch.setitem(ACTIVATIONS, op, changed_pair(ACTIVATIONS[op], backward=backward))
        for problem_type, pair in LOSSES.items():
            if pair.forward.__name__ == op:
                monkeypatch.setitem(LOSSES, problem_type, pair._replace(backward=backward))
        name = op + "_backward"
        callers = tuple(module for module in (*EVERYWHERE, attention) if hasattr(module, name))
        if callers:  # activations and losses are called by way of the tables above
            replaced(monkeypatch, callers, name, lambda right: backward)

    make.__name__ = f"{op}: {what}"
    return make


def _seed(op, what):
    case, first = FIRST_GRADIENTS[op]
    return Seed(installed(op, what), ELSEWHERE.get((op, what), first) + ".grad", None, case)


# that mistake needs x with three axes
SEEDS = [
    _seed(op, what)
    for op in FIRST_GRADIENTS
    for what in WRONG[op]
    if what != "weight learns from the last example alone"
]
