"""The cases of make_transformers_vectors.py as a data class, and their inputs. NumPy only.

Letters: B batch, L length, D hidden size, N heads, K largest relative position, V vocabulary,
F intermediate size, C choices. Within a case the sizes differ from each other, so a transpose
cannot hide.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

MODEL_OUTPUTS = ("last_hidden_state", "pooler_output")
EVERYTHING = ("hidden_states", "attentions")


@dataclass(frozen=True)
class Case:
    """One model, one batch, and the start of its backward pass.

    `upstream` names the output fields that get a random upstream gradient; if it is empty, the
    backward pass starts from the loss of the arguments in `labels`. `encoder` adds an encoder's
    states of the same length, `encoder_mask` a mask over them. `problem` says which labels sequence
    classification gets, even if `problem_type` is to be inferred.
    """

    name: str
    class_name: str
    seed: int
    B: int
    L: int
    config: dict[str, Any]
    note: str
    mask: str | None = None
    head_mask: str | None = None
    token_types: bool = False
    embeds: bool = False
    pads: bool = False
    labels: tuple[str, ...] = ()
    upstream: tuple[str, ...] = ()
    class_arguments: dict[str, Any] = field(default_factory=dict)
    encoder: bool = False
    encoder_mask: str | None = None
    choices: int = 0
    problem: str = "single_label_classification"


def model_case(
    name: str, seed: int, B: int, L: int, config: dict, note: str, **options: Any
) -> Case:
    """Return a case of NezhaModel, by default with upstream gradients on both its outputs."""
    upstream = options.pop("upstream", MODEL_OUTPUTS)
    return Case(name, "NezhaModel", seed, B, L, config, note, upstream=upstream, **options)


def masked_lm_case(
    name: str, seed: int, B: int, L: int, config: dict, note: str, **options: Any
) -> Case:
    """Return a case of NezhaForMaskedLM, by default with labels."""
    labels = options.pop("labels", ("labels",))
    return Case(name, "NezhaForMaskedLM", seed, B, L, config, note, labels=labels, **options)


def sizes(V: int, D: int, N: int, layers: int, F: int, K: int, **options: Any) -> dict[str, Any]:
    """Return the values of a NezhaConfig by letter; `options` are other values by name."""
    widths = {"vocab_size": V, "hidden_size": D, "num_attention_heads": N, "intermediate_size": F}
    depth = {"num_hidden_layers": layers, "max_relative_position": K, "max_position_embeddings": 16}
    return widths | depth | options


def _padded(case: Case) -> np.ndarray:
    lengths = np.maximum(2, case.L - 2 * np.arange(case.B))
    return (np.arange(case.L) < lengths[:, None]).astype(np.int64)


def _right(rng: np.random.Generator, case: Case) -> np.ndarray:
    return _padded(case)


def _left(rng: np.random.Generator, case: Case) -> np.ndarray:
    return _padded(case)[:, ::-1]


def _holes(rng: np.random.Generator, case: Case) -> np.ndarray:
    mask = rng.integers(0, 2, (case.B, case.L))
    mask[:, case.L // 2] = 1
    mask[0, 1] = mask[-1, 0] = 0
    return mask


def _empty_example(rng: np.random.Generator, case: Case) -> np.ndarray:
    mask = _padded(case)
    mask[-1] = 0
    return mask


def _pairwise_empty_rows(rng: np.random.Generator, case: Case) -> np.ndarray:
    mask = rng.integers(0, 2, (case.B, case.L, case.L)) | np.eye(case.L, dtype=np.int64)
    mask[0, 2] = mask[-1, 0] = mask[-1, -1] = 0
    return mask


def _pairwise_fractional(rng: np.random.Generator, case: Case) -> np.ndarray:
    mask = rng.integers(0, 5, (case.B, case.L, case.L)) / 4
    mask[0, 1] = rng.integers(0, 4, case.L) / 4
    return mask


def _fractional(rng: np.random.Generator, case: Case) -> np.ndarray:
    mask = rng.integers(0, 5, (case.B, case.L)) / 4
    mask[0, 1] = mask[0, 4] = 1.0
    mask[1] = np.minimum(mask[1], 0.5)
    mask[1, [0, 3]] = 0.75
    return mask


MASKS: dict[str, Callable[[np.random.Generator, Case], np.ndarray]] = {
    "right": _right,
    "left": _left,
    "holes": _holes,
    "empty-example": _empty_example,
    "pairwise-empty-rows": _pairwise_empty_rows,
    "pairwise-fractional": _pairwise_fractional,
    "fractional": _fractional,
}


def _input_ids(rng: np.random.Generator, case: Case, mask: np.ndarray | None) -> np.ndarray:
    V, pad = case.config["vocab_size"], case.config.get("pad_token_id", 0)
    ids = (pad + rng.integers(1, V, (case.B, case.L))) % V
    if case.L > 1:
        ids[0, 1] = ids[-1, 0] = ids[0, 0]
    if mask is not None and mask.ndim == 2:
        ids[mask == 0] = pad
    if case.pads:
        ids[0, 3] = ids[-1, 1] = pad
    return ids


def _head_mask(rng: np.random.Generator, case: Case) -> np.ndarray:
    N, layers = case.config["num_attention_heads"], case.config["num_hidden_layers"]
    values = np.round(rng.uniform(0.1, 1.5, (layers, N) if case.head_mask == "per-layer" else N), 2)
    if case.head_mask == "one-removed":
        values[-1] = 0.0
    return values


def _token_labels(rng: np.random.Generator, case: Case, classes: int) -> np.ndarray:
    chosen = rng.random((case.B, case.L)) < 0.4
    chosen[0, 0] = chosen[-1, 1] = True
    return np.where(chosen, rng.integers(0, classes, chosen.shape), -100)


def _sequence_labels(rng: np.random.Generator, case: Case) -> np.ndarray:
    n = case.config["num_labels"]
    if case.problem == "regression":
        return rng.normal(size=case.B if n == 1 else (case.B, n))
    if case.problem == "multi_label_classification":
        return rng.integers(0, 3, (case.B, n)) / 2
    labels = rng.integers(0, n, case.B)
    labels[1] = -100
    return labels


def _positions(rng: np.random.Generator, case: Case, name: str) -> np.ndarray:
    positions = rng.integers(0, case.L, case.B)
    if case.B > 2:  # outside: the token after the last for a start, one far away for an end
        example, position = (0, case.L) if name == "start_positions" else (-1, case.L + 4)
        positions[example] = position
    return positions


def _labels(rng: np.random.Generator, case: Case, name: str) -> np.ndarray:
    if name == "next_sentence_label" or "NextSentence" in case.class_name:
        return rng.integers(0, 2, case.B)
    match case.class_name:
        case "NezhaForSequenceClassification":
            return _sequence_labels(rng, case)
        case "NezhaForMultipleChoice":
            return rng.integers(0, case.choices, case.B)
        case "NezhaForQuestionAnswering":
            return _positions(rng, case, name)
        case "NezhaForTokenClassification":
            return _token_labels(rng, case, case.config["num_labels"])
    return _token_labels(rng, case, case.config["vocab_size"])


def _text_inputs(rng: np.random.Generator, case: Case) -> dict[str, np.ndarray]:
    inputs = {}
    mask = MASKS[case.mask](rng, case) if case.mask else None
    if case.embeds:
        inputs["inputs_embeds"] = rng.normal(0, 0.5, (case.B, case.L, case.config["hidden_size"]))
    else:
        inputs["input_ids"] = _input_ids(rng, case, mask)
    if mask is not None:
        inputs["attention_mask"] = mask
    if case.token_types:
        types = case.config.get("type_vocab_size", 2)
        inputs["token_type_ids"] = rng.integers(0, types, (case.B, case.L))
    return inputs


def _choices(rng: np.random.Generator, case: Case) -> dict[str, np.ndarray]:
    B, C = case.B, case.choices
    inputs = _text_inputs(rng, replace(case, B=B * C))
    return {name: array.reshape(B, C, *array.shape[1:]) for name, array in inputs.items()}


def make_inputs(rng: np.random.Generator, case: Case) -> dict[str, np.ndarray]:
    """Return the arguments of the call by name: ids int64, float inputs float64."""
    inputs = _choices(rng, case) if case.choices else _text_inputs(rng, case)
    if case.head_mask:
        inputs["head_mask"] = _head_mask(rng, case)
    for name in case.labels:
        inputs[name] = _labels(rng, case, name)
    if case.encoder:
        shape = (case.B, case.L, case.config["hidden_size"])
        inputs["encoder_hidden_states"] = rng.normal(size=shape)
    if case.encoder_mask:
        inputs["encoder_attention_mask"] = MASKS[case.encoder_mask](rng, case)
    return {name: np.ascontiguousarray(array) for name, array in inputs.items()}
