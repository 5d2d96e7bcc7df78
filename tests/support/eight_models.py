"""All eight classes in one size, their inputs and labels: what tests of every class run on.

B, L, C, D, N, F and V are pairwise different, so that exchanged axes do not go unseen.
"""

import numpy as np

import minizha
from minizha import NezhaConfig
from tests.support.running import copied, perturb

CLASS_NAMES = (
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
    name
    for name in CLASS_NAMES
    if name not in ("NezhaForMaskedLM", "NezhaForTokenClassification", "NezhaForQuestionAnswering")
)
B, L, C, D, N, F, V, LABELS = 3, 7, 2, 12, 3, 10, 13, 5
CHOICE = "NezhaForMultipleChoice"
TOLERANCE = 1e-10


def configuration(**changes):
    sizes = {
        "vocab_size": V,
        "hidden_size": D,
        "num_hidden_layers": 2,
        "num_attention_heads": N,
        "intermediate_size": F,
        "max_relative_position": 3,
        "type_vocab_size": 2,
        "num_labels": LABELS,
    }
    return NezhaConfig(**(sizes | changes))


def class_of(class_name):
    return getattr(minizha, class_name)


def fresh(class_name, backend, seed=0, dtype="float64", **changes):
    """A new model as it is initialised."""
    return class_of(class_name)(configuration(**changes), seed=seed, dtype=dtype, backend=backend)


def perturbed(class_name, backend, dtype="float64", **changes):
    """A model whose parameters are large enough for mistakes to show."""
    model = fresh(class_name, backend, **changes)
    perturb(model)
    return model.astype(dtype)


def load(class_name, folder, backend, **options):
    return class_of(class_name).from_pretrained(folder, backend=backend, **options)


def inputs_of(class_name, seed=2):
    """Ids, types and a padding mask; without labels."""
    rng, shape = np.random.default_rng(seed), (B, C, L) if class_name == CHOICE else (B, L)
    mask = np.ones(shape, int)
    mask[1, ..., L - 2 :] = 0
    return {
        "input_ids": rng.integers(1, V, shape),
        "attention_mask": mask,
        "token_type_ids": rng.integers(0, 2, shape),
    }


def labels_of(class_name, seed=3):
    """The labels of the class; none for the bare model."""
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
    }[class_name]


def inputs_and_labels_of(class_name):
    return inputs_of(class_name) | labels_of(class_name)


def parameters_of(model):
    """The parameters, copied to the host."""
    return copied(model.state_dict())


def body_prefix(model):
    """What the names of the body's parameters begin with."""
    return "" if type(model).__name__ == "NezhaModel" else "nezha."


def assert_initialised(arrays, spread):
    """Vectors are 0, or 1 in LayerNorm; matrices are normal around 0 but for the padding row.

    Mean and deviation within five standard errors; returns all the numbers drawn, divided by the
    deviation.
    """
    drawn = []
    for name, array in arrays.items():
        if array.ndim == 1:
            assert (array == (1.0 if name.endswith("LayerNorm.weight") else 0.0)).all(), name
            continue
        if name.endswith("word_embeddings.weight"):
            assert (array[0] == 0).all(), "the padding row"
            array = array[1:]
        drawn.append(array.ravel() / spread)
        assert abs(drawn[-1].mean()) <= 5.0 / np.sqrt(array.size), name
        assert abs(drawn[-1].std() - 1.0) <= 5.0 / np.sqrt(2.0 * array.size), name
    return np.concatenate(drawn)
