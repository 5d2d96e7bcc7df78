"""All eight classes in one size, their inputs and labels: what the test_common_… files run on.

B, L, C, D, N, F and V are pairwise different, so that no two axes can change places unseen.
"""

import numpy as np

import minizha
from minizha import NezhaConfig
from minizha.backend import to_host

KINDS = (
    "NezhaModel",
    "NezhaForPreTraining",
    "NezhaForMaskedLM",
    "NezhaForNextSentencePrediction",
    "NezhaForSequenceClassification",
    "NezhaForMultipleChoice",
    "NezhaForTokenClassification",
    "NezhaForQuestionAnswering",
)
WITH_DECODER = ("NezhaForPreTraining", "NezhaForMaskedLM")
WITH_POOLER = tuple(
    kind
    for kind in KINDS
    if kind not in ("NezhaForMaskedLM", "NezhaForTokenClassification", "NezhaForQuestionAnswering")
)
B, L, C, D, N, F, V, LABELS = 3, 7, 2, 12, 3, 10, 13, 5
CHOICE = "NezhaForMultipleChoice"
TOLERANCE = 1e-10


def configuration(**changes):
    sizes = {
        "vocab_size": V, "hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": N,
        "intermediate_size": F, "max_relative_position": 3, "type_vocab_size": 2,
        "num_labels": LABELS,
    }  # fmt: skip
    return NezhaConfig(**(sizes | changes))


def class_of(kind):
    return getattr(minizha, kind)


def fresh(kind, backend, seed=0, dtype="float64", **changes):
    """A new model as it is initialised."""
    return class_of(kind)(configuration(**changes), seed=seed, dtype=dtype, backend=backend)


def make(kind, backend, dtype="float64", **changes):
    """A model whose parameters are large enough for mistakes to show."""
    model, rng = fresh(kind, backend, **changes), np.random.default_rng(1)
    model.load_state_dict(
        {
            name: to_host(array) + 0.3 * rng.standard_normal(array.shape)
            for name, array in model.state_dict().items()
        }
    )
    return model.astype(dtype)


def inputs_of(kind, seed=2):
    """Ids, types and a padding mask; without labels."""
    rng, shape = np.random.default_rng(seed), (B, C, L) if kind == CHOICE else (B, L)
    mask = np.ones(shape, int)
    mask[1, ..., L - 2 :] = 0
    return {
        "input_ids": rng.integers(1, V, shape),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, shape),
    }


def labels_of(kind, seed=3):
    """What the class's loss compares with; nothing for the bare model."""
    rng = np.random.default_rng(seed)
    words, pairs = rng.integers(0, V, (B, L)), rng.integers(0, 2, B)
    return {
        "NezhaModel": {},
        "NezhaForPreTraining": {"labels": words, "next_sentence_label": pairs},
        "NezhaForMaskedLM": {"labels": words},
        "NezhaForNextSentencePrediction": {"labels": pairs},
        "NezhaForSequenceClassification": {"labels": rng.integers(0, LABELS, B)},
        "NezhaForMultipleChoice": {"labels": rng.integers(0, C, B)},
        "NezhaForTokenClassification": {"labels": rng.integers(0, LABELS, (B, L))},
        "NezhaForQuestionAnswering": {
            "start_positions": rng.integers(0, L, B),
            "end_positions": rng.integers(0, L, B),
        },
    }[kind]


def everything_of(kind):
    return inputs_of(kind) | labels_of(kind)


def arrays_of(model):
    """The parameters, copied to the host."""
    return {name: to_host(array).copy() for name, array in model.state_dict().items()}


def upstream_of(out, seed=4):
    """A random gradient of every float field but the loss."""
    rng = np.random.default_rng(seed)
    return {
        name: tuple(rng.standard_normal(a.shape) for a in value)
        if isinstance(value, tuple)
        else rng.standard_normal(value.shape)
        for name, value in out.items()
        if name != "loss"
    }


def body_of(model):
    """What stands before the names of the body's parameters."""
    return "" if type(model).__name__ == "NezhaModel" else "nezha."
