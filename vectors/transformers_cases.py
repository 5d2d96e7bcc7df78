"""The cases of make_transformers_vectors.py: sizes, options and inputs. NumPy only.

Letters: B batch, L length, D hidden size, N heads, K largest relative position, V vocabulary,
F intermediate size. Within a case the sizes differ from each other, so a transpose cannot hide.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

EVERYTHING = ("hidden_states", "attentions")


@dataclass(frozen=True)
class Case:
    """One model, one batch, one way of starting the backward pass.

    `upstream` names the output fields that receive a random gradient; where it is empty the
    backward pass starts from the loss of the labels named in `labels`.
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


def _config(V: int, D: int, N: int, layers: int, F: int, K: int, **more: Any) -> dict[str, Any]:
    sizes = {"vocab_size": V, "hidden_size": D, "num_attention_heads": N, "intermediate_size": F}
    depth = {"num_hidden_layers": layers, "max_relative_position": K, "max_position_embeddings": 16}
    return sizes | depth | more


def _model(name: str, seed: int, B: int, L: int, config: dict, note: str, **more: Any) -> Case:
    upstream = more.pop("upstream", ("last_hidden_state", "pooler_output"))
    return Case(name, "NezhaModel", seed, B, L, config, note, upstream=upstream, **more)


def _pretraining(
    name: str, seed: int, B: int, L: int, config: dict, note: str, **more: Any
) -> Case:
    labels = more.pop("labels", ("labels", "next_sentence_label"))
    return Case(name, "NezhaForPreTraining", seed, B, L, config, note, labels=labels, **more)


def _masked_lm(name: str, seed: int, B: int, L: int, config: dict, note: str, **more: Any) -> Case:
    labels = more.pop("labels", ("labels",))
    return Case(name, "NezhaForMaskedLM", seed, B, L, config, note, labels=labels, **more)


def _next_sentence(
    name: str, seed: int, B: int, L: int, config: dict, note: str, **more: Any
) -> Case:
    class_name = "NezhaForNextSentencePrediction"
    return Case(name, class_name, seed, B, L, config, note, labels=("labels",), **more)


# fmt: off
CASES = (
    _model("model-plain", 101, 3, 7, _config(37, 12, 2, 1, 21, 64),
           "ids alone: no mask, no token types, K above L; one layer"),
    _model("model-no-pooler", 102, 3, 11, _config(41, 16, 2, 2, 23, 4),
           "add_pooling_layer=False; K below L: clipping on both sides; right padding, token types",
           mask="right", token_types=True, upstream=("last_hidden_state",),
           class_arguments={"add_pooling_layer": False}),
    _model("model-k1-holes", 103, 2, 9, _config(43, 18, 3, 2, 25, 1, hidden_act="gelu_new"),
           "K = 1; 2-D mask with holes; gelu_new", mask="holes"),
    _model("model-empty-rows", 104, 2, 13, _config(39, 12, 3, 2, 21, 2),
           "3-D mask in which some queries may see no key: uniform attention over all keys there",
           mask="pairwise-empty-rows", token_types=True, pads=True),
    _model("model-embeds", 105, 3, 8, _config(37, 20, 2, 2, 27, 4, hidden_act="tanh"),
           "inputs_embeds instead of ids (the word embedding gets no gradient); head_mask (N,); "
           "upstream gradients on every output; tanh",
           embeds=True, head_mask="shared",
           upstream=("last_hidden_state", "pooler_output", *EVERYTHING)),
    _model("model-full-length", 106, 1, 16, _config(53, 12, 3, 2, 29, 3, hidden_act="silu"),
           "L = max_position_embeddings, B = 1, silu, clipping on both sides", pads=True),
    _model("model-boundary", 107, 2, 6, _config(47, 24, 3, 1, 26, 5),
           "K = L - 1, the smallest K that clips nothing; left padding", mask="left"),
    _pretraining("pretraining-plain", 201, 4, 12, _config(53, 24, 3, 2, 30, 64),
                 "both losses, K above L, token types, no mask", token_types=True),
    _pretraining("pretraining-clipped", 202, 2, 13, _config(47, 18, 3, 3, 22, 4),
                 "both losses, K below L, right padding, pad ids also at attended positions; "
                 "three layers", mask="right", token_types=True, pads=True),
    _pretraining("pretraining-types3", 203, 3, 10, _config(
                 41, 16, 2, 2, 29, 3, hidden_act="relu", type_vocab_size=3, layer_norm_eps=1e-5,
                 pad_token_id=5),
                 "type_vocab_size 3, relu, layer_norm_eps 1e-5, pad_token_id 5, left padding",
                 mask="left", token_types=True, pads=True),
    _pretraining("pretraining-upstream", 204, 2, 9, _config(43, 12, 3, 2, 25, 2, hidden_act="silu"),
                 "upstream gradients on both logits, every hidden state and every attention; "
                 "head_mask (layers, N); mask with holes; silu", mask="holes", labels=(),
                 head_mask="per-layer",
                 upstream=("prediction_logits", "seq_relationship_logits", *EVERYTHING)),
    _pretraining("pretraining-untied", 205, 3, 11, _config(
                 45, 20, 2, 1, 28, 3, hidden_act="tanh", tie_word_embeddings=False),
                 "decoder not tied to the word embedding: rows of unused ids and the pad row get "
                 "no gradient; tanh", mask="right", token_types=True, pads=True),
    _pretraining("pretraining-labels-only", 206, 3, 7, _config(51, 12, 2, 1, 23, 4),
                 "labels without next_sentence_label: pooler and next-sentence head get none",
                 labels=("labels",), pads=True),
    _pretraining("pretraining-next-only", 207, 3, 5, _config(49, 16, 2, 2, 27, 2),
                 "next_sentence_label without labels: the prediction head gets no gradient, the "
                 "pad row none either", labels=("next_sentence_label",), pads=True),
    _masked_lm("maskedlm-holes", 301, 2, 13, _config(39, 18, 3, 2, 24, 2, hidden_act="gelu_new"),
               "mask with holes, K = 2, gelu_new, token types", mask="holes", token_types=True),
    _masked_lm("maskedlm-embeds", 302, 4, 11, _config(
               43, 18, 3, 2, 21, 2, pad_token_id=7, layer_norm_eps=1e-5),
               "inputs_embeds with a tied decoder, head_mask (layers, N), layer_norm_eps 1e-5",
               embeds=True, head_mask="per-layer", mask="right"),
    _masked_lm("maskedlm-untied-upstream", 303, 3, 9, _config(
               37, 12, 2, 2, 20, 64, hidden_act="relu", tie_word_embeddings=False),
               "untied decoder, upstream gradients on logits, hidden states and attentions; relu",
               labels=(), upstream=("logits", *EVERYTHING), pads=True),
    _masked_lm("maskedlm-fractional", 304, 2, 10, _config(45, 12, 3, 1, 28, 3),
               "3-D mask of 0, .25, .5, .75 and 1: only the largest value of a row is seen",
               mask="pairwise-fractional"),
    _masked_lm("maskedlm-empty-example", 305, 3, 8, _config(41, 20, 2, 2, 26, 2),
               "2-D mask; one example is masked altogether", mask="empty-example", pads=True),
    _next_sentence("nsp-plain", 401, 4, 9, _config(37, 18, 3, 2, 22, 64),
                   "next-sentence loss, left padding, token types", mask="left", token_types=True),
    _next_sentence("nsp-fractional", 402, 3, 12, _config(43, 16, 2, 1, 25, 4, hidden_act="silu"),
                   "2-D float mask with fractions; head_mask (N,) with a removed head",
                   mask="fractional", head_mask="one-removed"),
    _next_sentence("nsp-one-token", 403, 2, 1, _config(39, 12, 3, 1, 23, 4), "L = 1"),
)
# fmt: on

ADAMW = _pretraining(
    "adamw",
    501,
    5,
    13,
    _config(41, 12, 3, 2, 23, 4),
    "ten AdamW steps on a fixed batch, both losses",
    mask="right",
    token_types=True,
    pads=True,
)


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


def _labels(rng: np.random.Generator, case: Case) -> np.ndarray:
    chosen = rng.random((case.B, case.L)) < 0.4
    chosen[0, 0] = chosen[-1, 1] = True
    return np.where(chosen, rng.integers(0, case.config["vocab_size"], chosen.shape), -100)


def make_inputs(rng: np.random.Generator, case: Case) -> dict[str, np.ndarray]:
    """Return the arguments of the call by name: ids and labels int64, float inputs float64."""
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
    if case.head_mask:
        inputs["head_mask"] = _head_mask(rng, case)
    for name in case.labels:
        per_example = name == "next_sentence_label" or "NextSentence" in case.class_name
        inputs[name] = rng.integers(0, 2, case.B) if per_example else _labels(rng, case)
    return {name: np.ascontiguousarray(array) for name, array in inputs.items()}
